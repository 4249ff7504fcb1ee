"""The door for machines: AWS's own sign-in protocols, so that unmodified AWS clients get credentials here.

It owns terminals (what a person let a client on a computer do, and until when), the tokens that hang on them, and the
wire forms of AWS's services `sso-oidc`, `sso` and `signin`. It refuses to know how a decision is made or how
credentials come about: it asks `entitlements` and `handover` like the portal does, on every call anew.
"""
