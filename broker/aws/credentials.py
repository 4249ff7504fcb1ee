"""Temporary credentials in a wrapper that does not give them away by accident.

Logs, error trackers, templates, pickles and copies see the access key id and a mask. `reveal()` is called in
`broker.handover`, and in `broker.aws` for what Daypass itself does in an account; tests/aws/test_credentials.py reads
the whole tree to keep it so.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NoReturn

_MASK = "********"


class Masked:
    """What shows nothing of itself: not printed, formatted, copied, pickled or serialised."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_MASK}>"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, format_spec: str) -> str:
        return repr(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is neither copied nor pickled")

    def __copy__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is not copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is not copied")


class RevealedCredentials(Masked):
    """The three values in clear, for the length of one response. Still masked when printed whole."""

    __slots__ = ("access_key_id", "expires_at", "secret_access_key", "session_token")

    def __init__(
        self, access_key_id: str, secret_access_key: str, session_token: str, expires_at: datetime
    ) -> None:
        self.access_key_id = access_key_id
        self.secret_access_key = secret_access_key
        self.session_token = session_token
        self.expires_at = expires_at


class Credentials(Masked):
    """What STS answered: key id and expiry to read, secret and session token behind `reveal()`.

    The secret is held by a closure, so that no attribute, slot or dictionary of the object shows it.
    """

    __slots__ = ("_open", "access_key_id", "expires_at")

    access_key_id: str
    expires_at: datetime

    def __init__(
        self,
        access_key_id: str,
        secret_access_key: str,
        session_token: str,
        expires_at: datetime,
    ) -> None:
        revealed = RevealedCredentials(access_key_id, secret_access_key, session_token, expires_at)
        object.__setattr__(self, "access_key_id", access_key_id)
        object.__setattr__(self, "expires_at", expires_at)
        object.__setattr__(self, "_open", lambda: revealed)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("credentials do not change")

    def __repr__(self) -> str:
        until = self.expires_at.astimezone(UTC).isoformat(timespec="seconds")
        return f"<Credentials {self.access_key_id} {_MASK} until {until}>"

    def reveal(self) -> RevealedCredentials:
        """The values in clear. For `broker.handover` only, for one response."""
        revealed: RevealedCredentials = object.__getattribute__(self, "_open")()
        return revealed
