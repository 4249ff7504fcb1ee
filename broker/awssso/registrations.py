"""Clients that registered themselves. Nothing of them is kept: their ids say all, under a MAC of ours.

AWS's clients keep a registration for as long as it lasts and do not heal when it is forgotten, so none can be: not with
a new database, not after a restore. Anybody may register, so it proves nothing but that id and secret were made here;
a client's name is whatever it says.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.views.decorators.debug import sensitive_variables

from broker.awssso import rules
from broker.awssso.wire import Failure, Fault, WireError
from broker.sealing import derived_keys

LIFETIME = timedelta(days=90)
NAME_LENGTH = 100
MOST_SCOPES = 4
LONGEST_ID = 4096

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
AUTHORIZATION_CODE = "authorization_code"
REFRESH_TOKEN = "refresh_token"  # noqa: S105  (the name of a grant)
GRANTS = (DEVICE_CODE, AUTHORIZATION_CODE, REFRESH_TOKEN)

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,64}", re.ASCII)
_VERSION = "1"

FORGOTTEN = (
    "This computer's registration with Daypass is not valid. Delete the files in ~/.aws/sso/cache on this computer and "
    "sign in again."
)
OVER = (
    "This computer's registration with Daypass is over. Delete the files in ~/.aws/sso/cache on this computer and sign "
    "in again."
)


@dataclass(frozen=True, slots=True)
class Registration:
    """A client that registered itself. digest: SHA-256 of its id, by which codes and tokens are bound to it.

    redirect_uris: loopback, without ports. grants: as it asked; none asked for is the device grant with refresh.
    """

    id: str
    digest: str
    name: str
    scopes: tuple[str, ...]
    grants: tuple[str, ...]
    redirect_uris: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime


@sensitive_variables()
def register(request: Mapping[str, object], *, now: datetime) -> tuple[Registration, str]:
    """A registration and its secret, made from what RegisterClient brought. Raises WireError for what cannot be."""
    name = request.get("clientName")
    if not isinstance(name, str) or not rules.clean(name, NAME_LENGTH):
        raise _failure(Fault.INVALID_CLIENT_METADATA, "clientName has to be a name.")
    if request.get("clientType") != "public":
        raise _failure(
            Fault.INVALID_CLIENT_METADATA,
            'clientType has to be "public": Daypass has no other clients.',
        )
    said: dict[str, Any] = {
        "v": _VERSION,
        "n": rules.clean(name, NAME_LENGTH),
        "s": _scopes(request.get("scopes")),
        "g": _grants(request.get("grantTypes")),
        "r": _redirects(request.get("redirectUris")),
        "t": int(now.timestamp()),
        "x": secrets.token_urlsafe(12),
    }
    if AUTHORIZATION_CODE in said["g"] and not said["r"]:
        raise _failure(
            Fault.INVALID_REDIRECT_URI,
            "A client that signs in by the browser has to register where the browser brings the code back.",
        )
    body = _encoded(json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode())
    id = f"{body}.{_encoded(_marks('client id', body)[0])}"
    return _registration(id, said), _encoded(_marks("client secret", id)[0])


def read(client_id: str, *, now: datetime) -> Registration:
    """A registration by its id alone, for /authorize, where a client shows no secret. Raises WireError."""
    body, _, mark = client_id.partition(".")
    if len(client_id) > LONGEST_ID or not _is_mark(mark, "client id", body):
        raise _failure(Fault.INVALID_CLIENT, FORGOTTEN)
    try:
        said: dict[str, Any] = json.loads(_decoded(body))
        found = _registration(client_id, said)
    except (ValueError, KeyError, TypeError):  # one of another version
        raise _failure(Fault.INVALID_CLIENT, FORGOTTEN) from None
    if now >= found.expires_at:
        raise _failure(Fault.INVALID_CLIENT, OVER)
    return found


@sensitive_variables()
def verified(client_id: str, client_secret: str, *, now: datetime) -> Registration:
    """The registration of a client that shows its id and its secret. Raises WireError."""
    found = read(client_id, now=now)
    if not _is_mark(client_secret, "client secret", client_id):
        raise _failure(Fault.INVALID_CLIENT, FORGOTTEN)
    return found


def _scopes(asked: object) -> list[str]:
    """What clients ask for differs and means nothing here: everything is decided by the mappings."""
    if asked is None:
        return []
    if not isinstance(asked, list) or not all(
        isinstance(one, str) and _SCOPE.fullmatch(one) for one in asked
    ):
        raise _failure(Fault.INVALID_SCOPE, "scopes has to be a list of short words.")
    return list(dict.fromkeys(asked))[:MOST_SCOPES]


def _grants(asked: object) -> list[str]:
    if asked is None or asked == []:
        return [DEVICE_CODE, REFRESH_TOKEN]
    if not isinstance(asked, list) or not all(one in GRANTS for one in asked):
        raise _failure(
            Fault.UNSUPPORTED_GRANT_TYPE, f"grantTypes may hold {', '.join(GRANTS)}, nothing else."
        )
    return list(dict.fromkeys(asked))


def _redirects(asked: object) -> list[str]:
    if asked is None:
        return []
    plain = [rules.loopback(one) for one in asked] if isinstance(asked, list) else [None]
    if None in plain:
        raise _failure(
            Fault.INVALID_REDIRECT_URI,
            "Codes are brought to http://127.0.0.1/oauth/callback or http://[::1]/oauth/callback on this computer, "
            "on any port, and nowhere else.",
        )
    return list(dict.fromkeys(one for one in plain if one is not None))


def _registration(id: str, said: Mapping[str, Any]) -> Registration:
    if said["v"] != _VERSION:
        raise ValueError("of another version")
    issued_at = datetime.fromtimestamp(said["t"], UTC)
    return Registration(
        id=id,
        digest=hashlib.sha256(id.encode()).hexdigest(),
        name=said["n"],
        scopes=tuple(said["s"]),
        grants=tuple(said["g"]),
        redirect_uris=tuple(said["r"]),
        issued_at=issued_at,
        expires_at=issued_at + LIFETIME,
    )


def _marks(purpose: str, text: str) -> Sequence[bytes]:
    return [hmac.digest(key, text.encode(), "sha256") for key in derived_keys(purpose)]


def _is_mark(mark: str, purpose: str, text: str) -> bool:
    shown = mark.encode("utf-8", "replace")
    if not text.isascii():
        return False
    return any(hmac.compare_digest(_encoded(one).encode(), shown) for one in _marks(purpose, text))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("no base64url") from error


def _failure(fault: Fault, message: str) -> WireError:
    return WireError(Failure(fault, message))
