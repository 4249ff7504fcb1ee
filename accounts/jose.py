"""Signed tokens (JWS) and the keys that sign them, read so strictly that there is one way to read each. No network.

A token is compact, its algorithm is the one the provider is pinned to, its key is one of the provider's stored keys,
and nothing in its header is followed (RFC 8725; threats.md R5). Its payload is parsed only after the signature fits.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from accounts.outbound import strict_json
from broker.errors import BadInput, SignInRefused

ALGORITHMS: Mapping[str, str] = {"RS256": "RSA", "ES256": "EC"}
"""What a provider may be pinned to, and the kind of key it takes."""

MAX_TOKEN = 128 * 1024
MAX_KEYS = 50
MAX_KID = 256
RSA_BITS = (2048, 8192)
EXPONENTS = range(65537, 2**32)

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_BRINGS_ITS_OWN = ("crit", "jku", "x5u", "jwk", "x5c", "b64", "enc", "zip")
_KEY_PARTS = ("kty", "kid", "use", "alg", "n", "e", "crv", "x", "y")


class UnknownKey(SignInRefused):
    """The token's key is not among the stored ones: the provider may have changed its keys."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A token whose signature fits. Its claims are the provider's words, and not yet looked at.

    digest: of what was signed. A signature may be written in more than one way; what it is about may not.
    """

    claims: Mapping[str, Any]
    kid: str
    digest: str


def refused(cause: str, remedy: str = "", *, code: str = "oidc_refused") -> SignInRefused:
    return SignInRefused(code=code, cause=cause, remedy=remedy)


# --- base64url


def unbase64url(text: str) -> bytes:
    """RFC 7515's base64url: no padding, no foreign letters, no stray bits in the last one. Raises ValueError."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise ValueError("it is not base64url")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64url(raw) != text:
        raise ValueError("it is not base64url in its one form")
    return raw


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


# --- Keys


def check_keys(unverified: Mapping[str, Any]) -> dict[str, Any]:
    """The public signing keys of a key set that Daypass can use; the others are left out.

    Raises BadInput when there is none, when two of them go by one name, and when a private key lies open.
    """
    found = unverified.get("keys")
    if not isinstance(found, list) or len(found) > MAX_KEYS:
        raise BadInput(f"The key set is not a list of at most {MAX_KEYS} keys.")
    kept: list[dict[str, str]] = []
    for key in found:
        if not isinstance(key, Mapping):
            raise BadInput("The key set holds something that is not a key.")
        if key.get("kty") in ("RSA", "EC") and "d" in key:
            raise BadInput(
                "The key set holds a private key: whoever reads it can sign. The provider has to take it away."
            )
        public = _signing(key)
        if public is not None and public not in kept:
            kept.append(public)
    names = [(key["kty"], key.get("kid", "")) for key in kept]
    if len(set(names)) != len(names):
        raise BadInput("Two different keys of the key set have the same kid, or none.")
    if not kept:
        raise BadInput(
            "The key set has no RSA key of 2048 bits or more and no P-256 key for signatures."
        )
    return {"keys": kept}


def _signing(key: Mapping[str, Any]) -> dict[str, str] | None:
    """What is kept of a key, None when it is not one that signs tokens here."""
    if any(part in key and not isinstance(key[part], str) for part in _KEY_PARTS):
        return None
    if key.get("use", "sig") != "sig" or not 1 <= len(key.get("kid", "-")) <= MAX_KID:
        return None
    operations = key.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    fitting = [name for name, kind in ALGORITHMS.items() if kind == key.get("kty")]
    if not fitting or key.get("alg", fitting[0]) not in fitting or public_key(key) is None:
        return None
    return {part: key[part] for part in _KEY_PARTS if part in key}


def public_key(key: Mapping[str, Any]) -> PublicKey | None:
    """The public key of a JWK (RFC 7518 section 6), None when it is malformed, weak or unreasonable."""
    try:
        if key["kty"] == "RSA":
            modulus, exponent = _number(key["n"]), _number(key["e"])
            if not RSA_BITS[0] <= modulus.bit_length() <= RSA_BITS[1] or not modulus % 2:
                return None
            if exponent not in EXPONENTS or not exponent % 2:
                return None
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        if key["kty"] == "EC" and key["crv"] == "P-256":
            x, y = unbase64url(key["x"]), unbase64url(key["y"])
            if len(x) != 32 or len(y) != 32:
                return None
            numbers = ec.EllipticCurvePublicNumbers(
                int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
            )
            return numbers.public_key()  # raises ValueError when the point is not on the curve
    except (KeyError, ValueError, TypeError):
        pass
    return None


def _number(text: str) -> int:
    if len(text) > 2 * RSA_BITS[1] // 8:
        raise ValueError("it is too long")
    return int.from_bytes(unbase64url(text), "big")


def choose_key(
    keys: Mapping[str, Any], *, kid: str | None, algorithm: str, what: str = "ID token"
) -> PublicKey:
    """The one key that fits. Raises UnknownKey when there is none, SignInRefused when it is not clear which."""
    kind = ALGORITHMS[algorithm]
    fitting = [
        key
        for key in keys.get("keys", ())
        if key.get("kty") == kind
        and key.get("alg", algorithm) == algorithm
        and (kid is None or key.get("kid") == kid)
    ]
    if not fitting:
        raise UnknownKey(
            code="key_unknown",
            cause=f"The {what} is signed with a key {kid!r} that is not among the provider's {kind} keys.",
            remedy="Refresh the provider. If its keys are of the other kind, change its signing algorithm.",
        )
    if len(fitting) > 1:
        raise refused(f"It is not clear which of the provider's keys signed the {what}.")
    public = public_key(fitting[0])
    if public is None:
        raise refused(f"The key that signed the {what} is too weak.")
    return public


# --- Tokens


def open_signed(
    unverified_token: str,
    *,
    keys: Mapping[str, Any],
    algorithm: str,
    what: str = "ID token",
    types: tuple[str, ...] = ("JWT",),
) -> Signed:
    """The claims of a compact JWS whose signature fits. A header without typ is taken; with another than `types` not.

    Raises UnknownKey (the keys may have changed: refresh, try again), else SignInRefused with the reason in `cause`.
    """
    if len(unverified_token) > MAX_TOKEN or not _COMPACT.fullmatch(unverified_token):
        raise refused(f"The {what} is too long or not a compact JWS.")
    head, body, signature = unverified_token.split(".")
    header = _document(head, what, "header")
    if header.get("alg") != algorithm:
        raise refused(
            f"The {what} is signed with {str(header.get('alg'))[:20]!r}; this provider is pinned to {algorithm}.",
            "Choose the algorithm that the provider uses. Unsigned tokens and shared secrets are never accepted.",
        )
    if header.get("typ", types[0]) not in types:
        raise refused(f"The {what}'s header says that it is another type of token.")
    for name in _BRINGS_ITS_OWN:
        if name in header:
            raise refused(f"The {what}'s header has “{name}”, which is not followed.")
    kid = header.get("kid")
    if "kid" in header and not (isinstance(kid, str) and 1 <= len(kid) <= MAX_KID):
        raise refused(f"The {what}'s kid is not a short text.")
    key = choose_key(keys, kid=kid, algorithm=algorithm, what=what)
    try:
        unbase64url(signature)
        jwt.PyJWS(algorithms=[algorithm]).decode_complete(
            unverified_token, key=key, algorithms=[algorithm]
        )
    except (jwt.PyJWTError, ValueError):
        if kid is None:  # whoever names no key can change it without saying so
            raise UnknownKey(
                code="key_unknown",
                cause=f"The {what} names no key, and its signature does not fit the provider's.",
                remedy="Refresh the provider, in case it changed its key.",
            ) from None
        raise refused(f"The {what}'s signature does not fit the provider's key.") from None
    return Signed(
        claims=_document(body, what, "payload"),
        kid=kid or "",
        digest=hashlib.sha256(f"{head}.{body}".encode()).hexdigest(),
    )


def _document(text: str, what: str, part: str) -> dict[str, Any]:
    try:
        return strict_json(unbase64url(text))
    except ValueError as error:
        raise refused(f"The {what}'s {part} cannot be read: {str(error)[:100]}.") from None
