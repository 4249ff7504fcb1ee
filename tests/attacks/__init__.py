"""Attacks on our own doors: every one has to be refused, quietly and quickly, and the honest ones beside them let in.

`registry` knows what an attack is and judges how it ended; `saml` and `oidc` are the corpora; the tests run them one by
one, and `python -m tests.attacks --record` runs all of them in one process and writes docs/attacks.md.
"""
