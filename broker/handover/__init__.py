"""How credentials leave: a console link, a SAML form, or keys in every form that clients read.

The only stage that may see a secret in clear, for one response. Refuses to keep one.
"""
