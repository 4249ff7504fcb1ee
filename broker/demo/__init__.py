"""The stage set: a made-up company with real SAML and OIDC sign-in, and a stand-in for AWS. Never in production."""
