"""What the protocols leave to be decided: addresses, proofs of a code's owner, when a token may come again. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum
from ipaddress import ip_address, ip_network
from unicodedata import category

from accounts.identity import GroupRef
from broker.errors import BadInput

REDIRECT_PATH = "/oauth/callback"


class CannotGoOn(BadInput):
    """A request to a page for clients that is never answered by a redirect. todo: what its sender does about it."""

    def __init__(self, message: str, todo: str, *, code: str) -> None:
        super().__init__(message, code=code)
        self.todo = todo


_LOOPBACK = re.compile(
    r"http://(127\.0\.0\.1|\[::1\])(?::([1-9][0-9]{0,4}))?" + re.escape(REDIRECT_PATH), re.ASCII
)


def loopback(uri: object) -> str | None:
    """The address without its port, when it is a listener of AWS's clients on the same computer; None for all else.

    RFC 8252 section 7.3: the host is written as a number, and the port may be any.
    """
    found = _LOOPBACK.fullmatch(uri) if isinstance(uri, str) else None
    if found is None or int(found[2] or 1) > 65535:
        return None
    return f"http://{found[1]}{REDIRECT_PATH}"


def may_redirect(uri: str, registered: Sequence[str]) -> bool:
    """Whether a code may be sent there: loopback, and registered with whatever port."""
    plain = loopback(uri)
    return plain is not None and any(loopback(one) == plain for one in registered)


# --- PKCE (RFC 7636)

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)

METHODS = ("S256", "SHA-256")
"""The one method there is, as sso-oidc and as signin call it. `plain` is none."""


def is_challenge(challenge: object, method: object) -> bool:
    """Whether a client proves later that a code is its own, by SHA-256 and by nothing weaker."""
    return (
        isinstance(challenge, str)
        and _CHALLENGE.fullmatch(challenge) is not None
        and method in METHODS
    )


def proves(verifier: str, challenge: str) -> bool:
    """Whether this is what the challenge was made from."""
    if not _VERIFIER.fullmatch(verifier):
        return False
    made = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    return hmac.compare_digest(made, challenge.encode())


# --- How many

MOST_LIVE = 100
"""Terminals and script tokens of one person that may live at once. Each is a way to AWS as that person, and the page
Terminal has to show all of them. AWS's CLI makes a new one at every sign-in and forgets the one before, which lives on
until the browser session ends: three sign-ins a day in sessions of thirty days are 90."""

ROOM = 10
"""How many of those unused for longest are offered to be ended when there is no room."""


# --- Codes and tokens

USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""Twenty letters, no vowels (RFC 8628 section 6.1): eight of them are 34.5 bits, and make no word."""

USER_CODE_LENGTH = 8


def new_user_code() -> str:
    """A code that a person types: XXXX-XXXX."""
    letters = "".join(secrets.choice(USER_CODE_LETTERS) for _ in range(USER_CODE_LENGTH))
    return f"{letters[:4]}-{letters[4:]}"


def read_user_code(typed: str) -> str | None:
    """The code that somebody typed, in whatever case and with whatever between; None when it cannot be one."""
    letters = "".join(re.findall(r"[A-Z]", typed[:64].upper(), re.ASCII))
    whole = not re.search(r"[^A-Za-z\s._-]", typed[:64])
    if not whole or len(typed) > 64 or len(letters) != USER_CODE_LENGTH:
        return None
    if not set(letters) <= set(USER_CODE_LETTERS):
        return None
    return f"{letters[:4]}-{letters[4:]}"


def new_token(kind: str) -> str:
    """256 random bits, with a mark by which scanners for leaked secrets can know it."""
    return f"daypass_{kind}_{secrets.token_urlsafe(32)}"


def digest(token: str) -> str:
    """What is kept of a token. It is random enough to need no key."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


# --- A refresh token that comes again

GRACE = timedelta(seconds=60)
"""Processes side by side refresh with the same token; for so long after the first all of them are served."""

SIBLINGS = 100
"""How many pairs one refresh token gives at most, all within the grace. A build that runs a command on each of 64
cores comes with the same token 64 times in one second; a thief needs one."""


class Rotation(Enum):
    FIRST = "first"
    SIBLING = "sibling"
    ENOUGH = "enough"
    """Refused for now, and no sign of theft: too many at once, or a clock that was set back."""
    REUSED = "reused"
    """It was exchanged long ago, so there are two who have it."""


def rotation(used_at: datetime | None, used: int, now: datetime) -> Rotation:
    """What a refresh token that was exchanged `used` times, first at `used_at`, is worth now."""
    if used_at is None:
        return Rotation.FIRST
    age = now - used_at
    if age > GRACE:
        return Rotation.REUSED
    if age < -GRACE or used >= SIBLINGS:
        return Rotation.ENOUGH
    return Rotation.SIBLING


# --- Polling

POLL_TOLERANCE = timedelta(seconds=1)
"""The way to us is not always equally long."""


def polls_too_fast(polls: int, polled_at: datetime | None, interval: int, now: datetime) -> bool:
    """Whether this poll comes too early. `polls`: those before it.

    AWS's CLI asks twice at once, before and after it shows the code, and only then begins to wait: those are well.
    """
    if polls < 2 or polled_at is None:
        return False
    return timedelta() <= now - polled_at < timedelta(seconds=interval) - POLL_TOLERANCE


# --- Groups, networks and texts


def all_stale(groups: Sequence[GroupRef], now: datetime) -> bool:
    """Whether everything that is known of somebody's groups was confirmed too long ago to count."""
    return bool(groups) and all(
        group.fresh_until is not None and group.fresh_until <= now for group in groups
    )


def in_networks(address: str, networks: Sequence[str]) -> bool:
    """Whether the address is in one of the networks (CIDR). None listed: any. Unknown or unreadable: no."""
    if not networks:
        return True
    try:
        found = ip_address(address)
        return any(found in ip_network(one, strict=False) for one in networks)
    except ValueError:
        return False


def clean(text: str, most: int) -> str:
    """A stranger's text to show and keep: one line, no control or direction characters, cut."""
    kept = "".join(
        " " if category(c) in ("Zs", "Zl", "Zp", "Cc") else c
        for c in text[: most * 4]
        if category(c) not in ("Cf", "Cs", "Co", "Cn")
    )
    return " ".join(kept.split())[:most].rstrip()
