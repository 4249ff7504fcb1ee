"""Reference numbers: what a person reads out on the telephone, and what leads an administrator to what happened."""

from __future__ import annotations

import secrets

_LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_reference() -> str:
    """A new one: eight letters and digits, none easily mistaken for another."""
    return "".join(secrets.choice(_LETTERS) for _ in range(8))
