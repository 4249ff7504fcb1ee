"""Proofs of a key by AWS's clients (`aws login`), and the identity token that those clients read. No network.

A proof says: whoever asks this moment, at this address, holds the private half of this key. It is a narrow reader of
RFC 9449, of the one form that AWS's clients make. It stands here because only this stage may touch signatures; what a
proof is good for is decided by whoever asks for it. That no proof is taken twice is the caller's part too: `digest`
names it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from django.views.decorators.debug import sensitive_variables

from accounts.jose import base64url, public_key, unbase64url
from accounts.outbound import strict_json
from broker.arns import parse_role_arn
from broker.errors import BadInput
from broker.sealing import derived_keys

MAX_PROOF = 4096
MAX_ID = 256
OLDEST = timedelta(minutes=5)
"""How old a proof may be; a client makes a new one for every request, and repeats a failed request with the same."""
AHEAD = timedelta(minutes=5)
"""How far the client's clock may be ahead: as far as behind, and as far as AWS lets it be for signed requests."""
KEPT_FOR = OLDEST + AHEAD
"""From its own time on, no proof can be taken again after this."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}", re.ASCII)
_HEADER = frozenset({"typ", "alg", "jwk"})
_PUBLIC = frozenset({"kty", "crv", "x", "y"})
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_DEFAULT_PORTS = {"https": 443, "http": 80}


class ProofRefused(BadInput):
    """The request does not show that it comes from the holder of a key. `message` is for the client's user."""

    code = "bad_proof"
    message = "The request carries no valid DPoP proof. Update the AWS client and sign in again."


@dataclass(frozen=True, slots=True)
class KeyProof:
    """A proof that holds. thumbprint: RFC 7638, of the client's key. digest: names the proof, for taking it once.

    forget_at: when it is refused as too old anyway.
    """

    thumbprint: str
    digest: str
    forget_at: datetime


def verify_proof(
    unverified: str, *, method: str, url: str, now: datetime, also: Collection[str] = ()
) -> KeyProof:
    """The key behind a request with this `DPoP` header. Raises ProofRefused. RFC 9449 section 4.3, ES256 only.

    method and url: of the request, the url as the client knows it. also: what a client may call this very address
    instead. The proof names exactly them; its time is now, give or take minutes; its key is a public P-256 key in its
    own header, of which nothing else is followed.
    """
    if len(unverified) > MAX_PROOF or _COMPACT.fullmatch(unverified) is None:
        raise _refused("The DPoP header is not one compact JWS with an ES256 signature.")
    head, body, signature = unverified.split(".")
    header = _document(head, "header")
    if header.get("typ") != "dpop+jwt" or header.get("alg") != "ES256":
        raise _refused("The proof is not of type dpop+jwt with ES256.")
    if extra := sorted(header.keys() - _HEADER):
        raise _refused(f"The proof's header has {extra[0][:20]!r}, which is not followed.")
    members, key = _key(header.get("jwk"))
    _check_signature(key, f"{head}.{body}", signature)
    claims = _document(body, "payload")
    known = any(_same_url(claims.get("htu"), one) for one in (url, *also))
    if claims.get("htm") != method or not known:
        raise _refused("The proof is for another request.", message=_ELSEWHERE)
    issued_at = _time(claims.get("iat"))
    if not now - OLDEST <= issued_at <= now + AHEAD:
        raise _refused("The proof was not made just now.", message=_CLOCK, code="proof_time")
    token_id = claims.get("jti")
    if not isinstance(token_id, str) or not 1 <= len(token_id) <= MAX_ID:
        raise _refused("The proof has no jti of a sensible length.")
    thumbprint = _thumbprint(members)
    return KeyProof(
        thumbprint=thumbprint,
        digest=hashlib.sha256(f"{thumbprint}\0{token_id}".encode()).hexdigest(),
        forget_at=issued_at + KEPT_FOR,
    )


_ELSEWHERE = (
    "The request was signed for another address than this one. The endpoint_url of signin in the AWS config has to "
    "be Daypass's own address with /aws behind it."
)
_CLOCK = (
    "The clock of this computer differs from Daypass's by minutes, so its signature cannot be taken. Set the clock "
    "and try again."
)


def _refused(cause: str, *, message: str | None = None, code: str | None = None) -> ProofRefused:
    return ProofRefused(message, code=code, cause=cause)


def _document(text: str, part: str) -> dict[str, Any]:
    try:
        return strict_json(unbase64url(text))
    except ValueError as error:
        raise _refused(f"The proof's {part} cannot be read: {str(error)[:100]}.") from None


def _key(unverified: object) -> tuple[dict[str, str], ec.EllipticCurvePublicKey]:
    """The public key in the header and those of its members that its thumbprint is made of."""
    if not isinstance(unverified, Mapping):
        raise _refused("The proof's header has no key.")
    if _PRIVATE & unverified.keys():
        raise _refused("The proof's header shows a private key.")
    if unverified.get("kty") != "EC" or any(
        not isinstance(unverified.get(part), str) for part in _PUBLIC
    ):
        raise _refused("The proof's key is not a P-256 key.")
    members = {part: unverified[part] for part in sorted(_PUBLIC)}
    members |= {part: _coordinate(members[part]) for part in ("x", "y")}
    key = public_key(members)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _refused("The proof's key is not a P-256 key.")
    return members, key


def _coordinate(text: str) -> str:
    """In full length (RFC 7518 section 6.2.1.2): awscrt leaves leading zeros out, in one key of 120."""
    try:
        return base64url(unbase64url(text).rjust(32, b"\0"))
    except ValueError:
        raise _refused("The proof's key is not a P-256 key.") from None


def _check_signature(key: ec.EllipticCurvePublicKey, signed: str, signature: str) -> None:
    """ES256: two numbers of 32 bytes (RFC 7518 section 3.4)."""
    try:
        raw = unbase64url(signature)
        der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        key.verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        raise _refused("The proof's signature does not fit its key.") from None


def _thumbprint(members: Mapping[str, str]) -> str:
    """RFC 7638: SHA-256 over the key's required members in lexical order, without blanks.

    The members are base64url and the names of curve and kind, so none needs escaping.
    """
    text = ",".join(f'"{name}":"{members[name]}"' for name in sorted(members))
    return base64url(hashlib.sha256(f"{{{text}}}".encode()).digest())


def _time(unverified: object) -> datetime:
    if isinstance(unverified, bool) or not isinstance(unverified, int | float):
        raise _refused("The proof has no iat.")
    try:
        return datetime.fromtimestamp(unverified, UTC)
    except (OverflowError, OSError, ValueError):
        raise _refused("The proof's iat is no time.") from None


def _same_url(unverified: object, url: str) -> bool:
    """RFC 9449 section 4.3: without query and fragment, and as RFC 3986 has it, the case of the host aside."""
    if not isinstance(unverified, str) or len(unverified) > 2048:
        return False
    return (known := _address(url)) is not None and _address(unverified) == known


def _address(url: str) -> tuple[str, str, int | None, str] | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.username is not None or parts.password is not None:
        return None
    default = _DEFAULT_PORTS.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port or default, parts.path


# --- The identity token

_HANDLE = 55
"""As much of a handle as leaves room for what keeps people apart in the 64 characters of a session name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginIdentity:
    """Who an `aws login` is for: one person in one role. person: an id that is never given to somebody else."""

    role_arn: str
    person: str
    handle: str


def identity_arn(identity: LoginIdentity) -> str:
    """The ARN that clients keep as the profile's `login_session`, and name their cache of keys by.

    It has the form of the session that AWS will name. Where a handle has characters that such an ARN has not got, a
    part that follows from the person's id keeps two people apart. Raises BadInput for what is no role.
    """
    role = parse_role_arn(identity.role_arn)
    handle = re.sub(r"[^\w+=,.@-]", "-", identity.handle, flags=re.ASCII)[:_HANDLE]
    if handle != identity.handle or not handle:
        handle += "-" + hashlib.sha256(identity.person.encode()).hexdigest()[:8]
    return f"arn:{role.partition}:sts::{role.account_id}:assumed-role/{role.name}/{handle}"


@sensitive_variables()
def mint_identity_token(identity: LoginIdentity, *, client_id: str, now: datetime) -> str:
    """The `idToken` of an `aws login`: clients read its `sub`, and nobody verifies it.

    AWS can never take it for a token of our issuer: it names another issuer, its audience is the client, and it is
    signed with a secret (HS256), which no key set shows. Raises KeyUnavailable without a sealing key.
    """
    key = derived_keys("aws login identity token")[0]
    issued_at = int(now.timestamp())
    return jwt.encode(
        {
            "iss": "urn:daypass:aws-login",
            "sub": identity_arn(identity),
            "aud": client_id,
            "iat": issued_at,
            "exp": issued_at + 900,
        },
        key,
        algorithm="HS256",
    )
