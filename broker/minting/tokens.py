"""What leaves this stage: a signed token that shows itself only to those who hand it to AWS."""

from __future__ import annotations

from datetime import datetime
from typing import NoReturn, SupportsIndex


class MintedToken:
    """A bearer secret for a few minutes: a JWT, or a SAML response in base64.

    id: the token's own identifier (`jti`, or the assertion's ID), fit for logs and for the audit.
    key_id: the key that signed it. expires_at: nobody takes it afterwards.
    Its text never shows in a repr, a log line, a pickle or a copy; `reveal` is called by `broker.assume`, and by
    `broker.handover` for the form that a browser posts to AWS, and a test keeps it so.
    """

    __slots__ = ("_text", "expires_at", "id", "key_id")

    def __init__(self, text: str, *, id: str, key_id: str, expires_at: datetime) -> None:
        self._text = text
        self.id = id
        self.key_id = key_id
        self.expires_at = expires_at

    def reveal(self) -> str:
        """The token itself, for AWS and for nobody else."""
        return self._text

    def __repr__(self) -> str:
        return f"<minted token {self.id}, masked>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a minted token is neither pickled nor copied")
