"""Verified SAML attributes or OIDC claims + a claim map -> a person and groups, or a refusal. Pure."""
