"""Looking after trust over time: keys that take turns, the published copy, the SAML providers that must follow.

Decides when a key changes, never how one signs; knows which accounts must know a key, never who may enter them.
"""
