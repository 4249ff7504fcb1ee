"""Structure-aware fuzzing of the doors of sign-in, through the real views and the processes that read XML.

Every round begins with an honest message that a provider really signed, made anew, and changes it: a tree before or
after it is signed, claims and headers of a token, the text of either. `python -m tests.fuzz` runs for as long as it is
told; a short run is a test.
"""
