"""OpenID Connect as a relying party: what an ID token must be before anything in it is believed.

The signature is checked on every token, also on those that came over TLS from the token endpoint, with a key of the
provider's stored JWKS and the one algorithm that the provider is pinned to (threats.md R5, R6).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from accounts import outbound
from accounts.rules import VerifiedAttributes
from broker.errors import BadInput, SignInRefused

SKEW = 60
MAX_TOKEN = 128 * 1024
MAX_LIFETIME = 24 * 3600
MAX_AGE = 600
"""Seconds since `iat`: the token was made for this very exchange."""

ALGORITHMS = ("RS256", "ES256")
ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "userinfo_endpoint",
    "end_session_endpoint",
)
_KEPT = (
    "issuer",
    *ENDPOINTS,
    "token_endpoint_auth_methods_supported",
    "authorization_response_iss_parameter_supported",
    "id_token_signing_alg_values_supported",
    "scopes_supported",
)


def refused(cause: str, remedy: str = "", *, code: str = "oidc_refused") -> SignInRefused:
    return SignInRefused(code=code, cause=cause, remedy=remedy)


# --- Discovery and keys


def discover(issuer: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fetch and check a provider's discovery document and its keys.

    Raises BadInput for what is wrong with them, ProviderUnavailable when they cannot be had.
    """
    outbound.check_url(issuer, "The issuer")
    address = issuer.rstrip("/") + "/.well-known/openid-configuration"
    discovery = check_discovery(outbound.get_json(address, "The discovery document"), issuer)
    return discovery, fetch_keys(discovery)


def fetch_keys(discovery: Mapping[str, Any]) -> dict[str, Any]:
    """The provider's keys as they are now. Raises like `discover`."""
    return check_keys(outbound.get_json(str(discovery["jwks_uri"]), "The key set"))


def check_discovery(unverified: Mapping[str, Any], issuer: str) -> dict[str, Any]:
    """What is kept of a discovery document. Raises BadInput."""
    if unverified.get("issuer") != issuer:
        raise BadInput(
            f"The discovery document names the issuer {str(unverified.get('issuer'))[:200]!r}, which is not "
            f"exactly {issuer!r}. Write the issuer as the provider does, to the last slash."
        )
    for name in ENDPOINTS:
        value = unverified.get(name)
        if value is None and name in ("userinfo_endpoint", "end_session_endpoint"):
            continue
        if not isinstance(value, str):
            raise BadInput(f"The discovery document has no {name}.")
        outbound.check_url(value, f"The discovery document's {name}")
    return {name: unverified[name] for name in _KEPT if name in unverified}


def check_keys(unverified: Mapping[str, Any]) -> dict[str, Any]:
    """The public signing keys of a key set that can be used. Raises BadInput when there is none."""
    found = unverified.get("keys")
    if not isinstance(found, list) or len(found) > 50:
        raise BadInput("The key set is not a list of keys.")
    parts = ("kty", "kid", "use", "alg", "n", "e", "crv", "x", "y")
    kept = []
    for key in found:
        if not isinstance(key, Mapping) or key.get("kty") not in ("RSA", "EC"):
            continue
        public = {part: key[part] for part in parts if isinstance(key.get(part), str)}
        if public.get("use", "sig") == "sig" and _usable(public) is not None:
            kept.append(public)
    if not kept:
        raise BadInput("The key set has no RSA key of 2048 bits or more and no P-256 key.")
    return {"keys": kept}


def _usable(key: Mapping[str, str]) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None:
    kind: Any = {"RSA": jwt.algorithms.RSAAlgorithm, "EC": jwt.algorithms.ECAlgorithm}[key["kty"]]
    try:
        public: Any = kind.from_jwk(json.dumps(dict(key)))
    except (jwt.InvalidKeyError, ValueError, KeyError):
        return None
    if isinstance(public, rsa.RSAPublicKey) and public.key_size >= 2048:
        return public
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        return public
    return None


class UnknownKey(SignInRefused):
    """The token names a key that is not in the stored key set: the provider may have changed its keys."""


def choose_key(
    keys: Mapping[str, Any], *, kid: str | None, algorithm: str
) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    """The one key that fits. Raises UnknownKey when there is none, SignInRefused when it is not clear which."""
    kind = {"RS256": "RSA", "ES256": "EC"}[algorithm]
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
            cause=f"The ID token is signed with a key {kid!r} that is not among the provider's {kind} keys.",
            remedy="Refresh the provider. If its keys are of the other kind, change its signing algorithm.",
        )
    if len(fitting) > 1:
        raise refused("It is not clear which of the provider's keys signed the ID token.")
    public = _usable(fitting[0])
    if public is None:
        raise refused("The key that signed the ID token is too weak.")
    return public


# --- The ID token


@dataclass(frozen=True, slots=True)
class Expected:
    """What an ID token has to answer to."""

    issuer: str
    client_id: str
    algorithm: str
    nonce: str
    access_token: str
    auth_time_demanded: bool = False


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """An ID token whose signature and contents were checked."""

    claims: Mapping[str, Any]
    consume: str
    expires_at: datetime


def verify_id_token(
    unverified_token: object, *, keys: Mapping[str, Any], expected: Expected, now: datetime
) -> VerifiedToken:
    """Everything about an ID token, or SignInRefused with the reason in `cause` (UnknownKey: refresh and try again)."""
    if not isinstance(unverified_token, str) or not unverified_token:
        raise refused("The token endpoint gave no ID token.", "The scopes have to contain openid.")
    if len(unverified_token) > MAX_TOKEN or unverified_token.count(".") != 2:
        raise refused("The ID token is too long or not a compact JWS.")
    parts = unverified_token.split(".")
    header = _segment(parts[0], "header")
    if header.get("alg") != expected.algorithm:
        raise refused(
            f"The ID token is signed with {str(header.get('alg'))[:20]!r}; this provider is pinned to "
            f"{expected.algorithm}.",
            "Choose the algorithm that the provider uses. Unsigned tokens and shared secrets are never accepted.",
        )
    if header.get("typ", "JWT") != "JWT":
        raise refused("The token is of another type than an ID token.")
    for forbidden in ("crit", "jku", "x5u", "jwk", "x5c", "b64"):
        if forbidden in header:
            raise refused(f"The ID token's header has “{forbidden}”, which is not followed.")
    kid = header.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise refused("The ID token's kid is not text.")
    key = choose_key(keys, kid=kid, algorithm=expected.algorithm)
    claims = _segment(parts[1], "payload")
    try:
        jwt.decode(
            unverified_token,
            key=key,
            algorithms=[expected.algorithm],
            options={
                # The signature here, every claim below: whole numbers, own limits, `now` as an argument.
                "verify_signature": True,
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_aud": False,
                "verify_iss": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except jwt.PyJWTError:
        raise refused("The ID token's signature does not fit the provider's key.") from None
    _check_claims(claims, expected, now)
    digest = hashlib.sha256(unverified_token.encode()).hexdigest()
    return VerifiedToken(
        claims=claims,
        consume=digest,
        expires_at=datetime.fromtimestamp(claims["exp"] + 2 * SKEW, UTC),
    )


def _check_claims(claims: Mapping[str, Any], expected: Expected, now: datetime) -> None:
    moment = now.timestamp()
    if claims.get("iss") != expected.issuer:
        raise refused(f"The ID token's issuer is {str(claims.get('iss'))[:200]!r}.")
    audience = claims.get("aud")
    if audience not in (expected.client_id, [expected.client_id]):
        raise refused("The ID token is for another client, or for several.")
    if claims.get("azp", expected.client_id) != expected.client_id:
        raise refused("The ID token was given to another client (azp).")
    expires = _seconds(claims, "exp")
    issued = _seconds(claims, "iat")
    if expires <= moment - SKEW:
        raise refused("The ID token has expired.", "Check the clocks of both sides.")
    if expires > moment + MAX_LIFETIME:
        raise refused("The ID token is valid for more than a day.")
    if not moment - MAX_AGE <= issued <= moment + SKEW:
        raise refused(
            "The ID token was issued too long ago or in the future.",
            "Check the clocks of both sides.",
        )
    if "nbf" in claims and _seconds(claims, "nbf") > moment + SKEW:
        raise refused("The ID token is not valid yet.", "Check the clocks of both sides.")
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(
        nonce.encode("utf-8", "surrogatepass"), expected.nonce.encode()
    ):
        raise refused("The ID token's nonce is not the one that was sent.")
    if "at_hash" in claims:
        half = hashlib.sha256(expected.access_token.encode()).digest()[:16]
        if claims["at_hash"] != base64.urlsafe_b64encode(half).rstrip(b"=").decode():
            raise refused("The ID token's at_hash does not fit the access token.")
    if "auth_time" in claims:
        authenticated = _seconds(claims, "auth_time")
        if authenticated > moment + SKEW:
            raise refused("auth_time is in the future.", "Check the clocks of both sides.")
        if expected.auth_time_demanded and authenticated < moment - MAX_AGE:
            raise refused("The provider did not let the person authenticate anew.")
    elif expected.auth_time_demanded:
        raise refused("The provider did not say when the person authenticated.")
    if not isinstance(claims.get("sub"), str):
        raise refused("The ID token's sub is missing or not text.", code="subject_unusable")


def _segment(text: str, what: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return outbound.strict_json(raw.decode("utf-8"))
    except (binascii.Error, ValueError) as error:
        raise refused(f"The ID token's {what} cannot be read: {str(error)[:100]}.") from None


def _seconds(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**40:
        raise refused(f"The ID token's {name} is missing or not a whole number.")
    return value


def attributes(
    token: VerifiedToken, *, userinfo: Mapping[str, Any] | None, now: datetime
) -> VerifiedAttributes:
    """What is believed: the ID token. Userinfo about the same subject is where groups are read, nothing else."""
    claims = token.claims
    if userinfo is not None and (
        not isinstance(userinfo.get("sub"), str) or userinfo["sub"] != claims["sub"]
    ):
        raise refused("The userinfo answer is about somebody else.")
    methods = claims.get("amr")
    context = claims.get("acr")
    auth_time = claims.get("auth_time")
    at = datetime.fromtimestamp(auth_time, UTC) if auth_time else None
    evidence = {
        "sha256": token.consume,
        "jti": claims.get("jti"),
        "sid": claims.get("sid"),
    }
    return VerifiedAttributes(
        protocol="oidc",
        subject=claims["sub"],
        attributes=claims,
        group_claims=userinfo,
        context=context if isinstance(context, str) else "",
        methods=tuple(m for m in methods if isinstance(m, str))
        if isinstance(methods, list)
        else (),
        at=min(at, now) if at else None,
        session_ends=None,
        evidence={k: v[:128] for k, v in evidence.items() if isinstance(v, str) and v},
    )


def fetch_userinfo(discovery: Mapping[str, Any], access_token: str) -> dict[str, Any]:
    """The userinfo answer, unverified: `attributes` compares its subject. Raises ProviderUnavailable."""
    endpoint = discovery.get("userinfo_endpoint")
    if not isinstance(endpoint, str):
        raise refused(
            "Groups are to be read from userinfo, but the provider has no userinfo endpoint.",
            "Switch “Groups from userinfo” off, or refresh the provider.",
        )
    return outbound.get_json(
        endpoint, "Userinfo", headers={"Authorization": f"Bearer {access_token}"}
    )
