"""OpenID Connect as a relying party: what a provider says of itself, what it is asked, and what its answers must be.

Every ID token is verified, also one that came over TLS from the token endpoint, with a stored key and the one
algorithm that the provider is pinned to (accounts/jose.py; threats.md R5, R6). Nothing is fetched but from the origins
of the stored discovery document.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

from accounts import jose, outbound
from accounts.jose import UnknownKey, check_keys, refused
from accounts.rules import VerifiedAttributes, check_subject
from broker.errors import BadInput, ProviderUnavailable

__all__ = ["UnknownKey", "check_keys", "refused"]

SKEW = 60
MAX_LIFETIME = 24 * 3600
MAX_AGE = 600
"""Seconds since `iat`: the token was made for this very exchange."""

MAX_ACCESS_TOKEN = 64 * 1024
"""Characters. Some providers write every role of a person into it, as many as into the ID token."""
MAX_SID = 255

ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "userinfo_endpoint",
    "end_session_endpoint",
)
_OPTIONAL = ("userinfo_endpoint", "end_session_endpoint")
_LISTS = (
    "token_endpoint_auth_methods_supported",
    "id_token_signing_alg_values_supported",
    "scopes_supported",
)
_PROMISES_ISSUER = "authorization_response_iss_parameter_supported"
_ASKED = frozenset(
    [
        "client_id",
        "redirect_uri",
        "scope",
        "response_type",
        "response_mode",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
        "prompt",
        "max_age",
        "request",
        "request_uri",
        "id_token_hint",
        "login_hint",
        "registration",
        "claims",
    ]
)
"""Parameters of an authorization request: none may stand in the endpoint's own address already."""

BACK_CHANNEL_EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_MAX_AGE = 300
LOGOUT_MAX_LIFETIME = 3600


# --- Discovery and keys


def discover(issuer: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fetch and check a provider's discovery document and its keys.

    Raises BadInput for what is wrong with them, ProviderUnavailable when they cannot be had.
    """
    discovery = fetch_discovery(issuer)
    return discovery, fetch_keys(discovery)


def fetch_discovery(issuer: str) -> dict[str, Any]:
    """The discovery document as it is now, checked (OpenID Connect Discovery 4). Raises like `discover`."""
    outbound.check_url(issuer, "The issuer")
    if "?" in issuer:
        raise BadInput("The issuer must not have a query.")
    address = issuer.rstrip("/") + "/.well-known/openid-configuration"
    try:
        document = outbound.get_json(
            address, "The discovery document", origins=frozenset({outbound.origin(issuer)})
        )
    except ProviderUnavailable as error:
        error.remedy = f"Check the issuer: Daypass asked at {address}."
        raise
    return check_discovery(document, issuer)


def fetch_keys(discovery: Mapping[str, Any]) -> dict[str, Any]:
    """The provider's keys as they are now. Raises like `discover`."""
    document = outbound.get_json(
        _endpoint(discovery, "jwks_uri"), "The key set", origins=origins(discovery)
    )
    return check_keys(document)


def origins(discovery: Mapping[str, Any]) -> frozenset[str]:
    """The origins that a discovery document names: the only ones that are called while it is the stored one.

    A provider may have several (Google's keys, tokens and pages are on three hosts), so the list is what an
    administrator saved. One that is not in it means that somebody has to look.
    """
    named = [discovery.get("issuer"), *(discovery.get(name) for name in ENDPOINTS)]
    return frozenset(outbound.origin(url) for url in named if isinstance(url, str) and url)


def check_discovery(unverified: Mapping[str, Any], issuer: str) -> dict[str, Any]:
    """What is kept of a discovery document. Raises BadInput."""
    if unverified.get("issuer") != issuer:
        raise BadInput(
            f"The discovery document names the issuer {str(unverified.get('issuer'))[:200]!r}, which is not "
            f"exactly {issuer!r}. Write the issuer as the provider does, to the last slash."
        )
    kept: dict[str, Any] = {"issuer": issuer}
    for name in ENDPOINTS:
        value = unverified.get(name)
        if value is None and name in _OPTIONAL:
            continue
        if not isinstance(value, str):
            raise BadInput(f"The discovery document has no {name}.")
        kept[name] = outbound.check_url(value, f"The discovery document's {name}")
    query = parse_qsl(urlsplit(kept["authorization_endpoint"]).query, keep_blank_values=True)
    if not _ASKED.isdisjoint(name for name, _ in query):
        raise BadInput("The authorization endpoint's address already holds a part of the request.")
    for name in _LISTS:
        if name in unverified:
            kept[name] = _words(unverified[name], name)
    promised = unverified.get(_PROMISES_ISSUER, False)
    if not isinstance(promised, bool):
        raise BadInput(f"The discovery document's {_PROMISES_ISSUER} is neither true nor false.")
    if promised:
        kept[_PROMISES_ISSUER] = True
    _client_authentication(kept)
    return kept


def _words(value: object, name: str) -> list[str]:
    if not isinstance(value, list) or len(value) > 200:
        raise BadInput(f"The discovery document's {name} is not a list.")
    if not all(isinstance(word, str) and len(word) <= 256 for word in value):
        raise BadInput(f"The discovery document's {name} is not a list of words.")
    return list(value)


def _client_authentication(discovery: Mapping[str, Any]) -> tuple[str, ...]:
    """How the client secret may be sent: first in the body, where nothing has to be escaped twice.

    A provider that says nothing takes HTTP Basic (OpenID Connect Discovery 3).
    """
    methods = discovery.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    known = ("client_secret_post", "client_secret_basic", "none")
    taken = tuple(method for method in known if method in methods)
    if not taken:
        raise BadInput(
            "The provider takes client secrets neither in the body (client_secret_post) nor by HTTP Basic "
            "(client_secret_basic)."
        )
    return taken


def _endpoint(discovery: Mapping[str, Any], name: str) -> str:
    found = discovery.get(name)
    if not isinstance(found, str) or not found:
        raise ProviderUnavailable(
            cause=f"The provider's {name} is not known.",
            remedy="Save or refresh the provider, so that its discovery document is read.",
        )
    return found


# --- The authorization request


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one sign-in sends out and has to get back: kept on our side, for the browser that began it.

    verifier: of the proof key (RFC 7636). Base64url, like the others.
    """

    state: str
    nonce: str
    verifier: str

    @property
    def challenge(self) -> str:
        return jose.base64url(hashlib.sha256(self.verifier.encode("ascii")).digest())


def authorization_url(
    discovery: Mapping[str, Any],
    exchange: Exchange,
    *,
    client_id: str,
    redirect_uri: str,
    scopes: Iterable[str],
    fresh: bool = False,
) -> str:
    """Where the browser asks to be signed in: code flow, state, nonce and S256, always.

    fresh: the person has to authenticate anew, and the provider has to say when they did.
    """
    endpoint = _endpoint(discovery, "authorization_endpoint")
    parameters = {
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "scope": " ".join(scopes),
        "state": exchange.state,
        "nonce": exchange.nonce,
        "code_challenge": exchange.challenge,
        "code_challenge_method": "S256",
    }
    if fresh:
        parameters |= {"prompt": "login", "max_age": "0"}
    joint = "&" if urlsplit(endpoint).query else "?"
    return f"{endpoint.rstrip('?')}{joint}{urlencode(parameters)}"


# --- The authorization response

_CODE = re.compile(r"[\x20-\x7e]{1,4096}")
_STATE = re.compile(r"[A-Za-z0-9._-]{16,128}")
_OF_ANOTHER_FLOW = ("id_token", "access_token", "token_type", "refresh_token", "response")


def check_parameters(unverified: Mapping[str, list[str]]) -> str:
    """The state of an authorization response whose parameters stand once and are those of the code flow.

    Raises SignInRefused. Nothing is believed yet: whose state it is, is for the caller to find out.
    """
    if len(unverified) > 20 or any(len(values) != 1 for values in unverified.values()):
        raise refused("A part of the authorization response stands twice, or there are too many.")
    if any(name in unverified for name in _OF_ANOTHER_FLOW):
        raise refused("The authorization response carries tokens, which were not asked for.")
    (state,) = unverified.get("state", [""])
    if not _STATE.fullmatch(state):
        raise refused("The authorization response has no state of ours.", code="state_unknown")
    return state


def check_authorization(
    unverified: Mapping[str, list[str]], *, issuer: str, discovery: Mapping[str, Any]
) -> str:
    """The code of an authorization response from the provider that was asked (RFC 9207). Raises SignInRefused."""
    said = {name: values[0] for name, values in unverified.items()}
    promised = discovery.get(_PROMISES_ISSUER) is True
    if ("iss" in said or promised) and said.get("iss") != issuer:
        raise refused(
            "The authorization response is from another issuer, or does not say from which."
        )
    if "error" in said:
        error = "".join(c for c in said["error"][:60] if " " <= c <= "~")
        raise refused(
            f"The provider answered that it did not sign the person in: {error}.",
            "Look at the provider's own sign-in log; the person may not be assigned to Daypass.",
            code="provider_said_no",
        )
    if not _CODE.fullmatch(said.get("code", "")):
        raise refused("The authorization response has no code.", code="provider_said_no")
    return said["code"]


# --- The token endpoint


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the token endpoint gave for a code. unverified_id_token: "" when it gave none."""

    unverified_id_token: str
    access_token: str

    def __repr__(self) -> str:
        return "Tokens(…)"


def redeem(
    discovery: Mapping[str, Any],
    *,
    code: str,
    verifier: str,
    client_id: str,
    client_secret: str,
    redirect_uri: str,
) -> Tokens:
    """Exchange a code at the pinned token endpoint (RFC 6749 4.1.3). Raises SignInRefused, ProviderUnavailable.

    Discovery says what the provider takes from anybody; many hold each client to the one way it was registered for. So
    where there are two, a secret that was not taken is shown in the other way: nobody has looked at the code by then.
    """
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": verifier,
    }
    methods = [way for way in _client_authentication(discovery) if way != "none" and client_secret]
    for method in methods or ["none"]:
        answer = outbound.call(
            "POST",
            _endpoint(discovery, "token_endpoint"),
            "The token endpoint",
            origins=origins(discovery),
            **_shown(method, form, client_id, client_secret),
        )
        error = _error_of(answer)
        if answer.status not in (400, 401) or error != "invalid_client":
            break
    told = f" ({error})" if error else ""
    if answer.status in (400, 401, 403):
        raise refused(
            f"The token endpoint did not take the code{told}.",
            f"Check client id, client secret and redirect URI at the provider: {redirect_uri}",
            code="token_endpoint_refused",
        )
    if answer.status != 200:
        raise ProviderUnavailable(
            cause=f"The token endpoint answered with HTTP {answer.status}{told}."
        )
    if answer.media_type != "application/json":
        raise refused(
            f"The token endpoint's answer is not JSON: its type is {answer.media_type or 'nothing'}."
        )
    try:
        return _tokens(outbound.strict_json(answer.body))
    except ValueError as error:
        raise refused(f"The token endpoint's answer cannot be read: {str(error)[:100]}.") from None


def _shown(method: str, form: Mapping[str, str], client_id: str, secret: str) -> dict[str, Any]:
    """Headers and form of a request that shows the client's secret in this way, or has none to show."""
    headers = {"Accept": "application/json"}
    if method == "client_secret_basic":
        # RFC 6749 2.3.1: both are written as in a form before they are joined.
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        return {"headers": headers, "form": dict(form)}
    own = {"client_id": client_id} | ({"client_secret": secret} if secret else {})
    return {"headers": headers, "form": {**form, **own}}


def _tokens(answer: Mapping[str, Any]) -> Tokens:
    """RFC 6749 5.1, OpenID Connect Core 3.1.3.3."""
    if "error" in answer:
        raise refused("The token endpoint answered with tokens and an error.")
    kind, access_token = answer.get("token_type"), answer.get("access_token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise refused("The token endpoint's token_type is missing or not Bearer.")
    if not isinstance(access_token, str) or not re.fullmatch(r"[\x21-\x7e]+", access_token):
        raise refused("The token endpoint's access_token is missing or not a word.")
    if len(access_token) > MAX_ACCESS_TOKEN:
        raise refused("The token endpoint's access_token is too long.")
    id_token = answer.get("id_token", "")
    if not isinstance(id_token, str):
        raise refused("The token endpoint's id_token is not text.")
    return Tokens(unverified_id_token=id_token, access_token=access_token)


def _error_of(answer: outbound.Answer) -> str:
    """The error code that RFC 6749 5.2 has in an answer, "" when there is none."""
    try:
        error = outbound.strict_json(answer.body).get("error")
    except ValueError:
        return ""
    return error if isinstance(error, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", error) else ""


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
    """An ID token whose signature and contents were checked. checks: what was looked at, and what was seen."""

    claims: Mapping[str, Any]
    consume: str
    expires_at: datetime
    checks: tuple[tuple[str, str], ...] = ()


def verify_id_token(
    unverified_token: str, *, keys: Mapping[str, Any], expected: Expected, now: datetime
) -> VerifiedToken:
    """Everything about an ID token, or SignInRefused with the reason in `cause` (UnknownKey: refresh and try again)."""
    if not unverified_token:
        raise refused("The token endpoint gave no ID token.", "The scopes have to contain openid.")
    signed = jose.open_signed(unverified_token, keys=keys, algorithm=expected.algorithm)
    claims = signed.claims
    _check_party(claims, issuer=expected.issuer, client_id=expected.client_id, what="ID token")
    issued, expires = _check_times(claims, now)
    _check_exchange(claims, expected)
    _check_authentication(claims, expected, now)
    if not isinstance(claims.get("sub"), str):
        raise refused("The ID token's sub is missing or not text.", code="subject_unusable")
    for name, longest in (("sid", MAX_SID), ("jti", 1024), ("acr", 1024)):
        if name in claims and not _is_text(claims[name], longest):
            raise refused(f"The ID token's {name} is not a short text.")
    _methods(claims)
    return VerifiedToken(
        claims=claims,
        consume=signed.digest,
        expires_at=datetime.fromtimestamp(expires + 2 * SKEW, UTC),
        checks=(
            (
                "Signature",
                f"{expected.algorithm}, by the stored key {signed.kid or 'without a name'}",
            ),
            ("Issuer", expected.issuer),
            ("Audience", f"{expected.client_id}, and nobody else"),
            ("Authorised party (azp)", str(claims.get("azp", "not said"))),
            ("Nonce", "the one that this sign-in sent"),
            ("Issued", _moment(issued)),
            ("Expires", _moment(expires)),
            ("Access token (at_hash)", "fits" if "at_hash" in claims else "not said"),
            (
                "Authenticated (auth_time)",
                _moment(claims["auth_time"]) if "auth_time" in claims else "not said",
            ),
        ),
    )


def _check_party(claims: Mapping[str, Any], *, issuer: str, client_id: str, what: str) -> None:
    """From whom and for whom. A list with nobody but us in it is as good as our name alone, so azp stays optional."""
    if claims.get("iss") != issuer:
        raise refused(
            f"The {what}'s issuer is {str(claims.get('iss'))[:200]!r}; expected {issuer!r}.",
            "Write the issuer here as the provider writes it into its tokens and its discovery document.",
        )
    if claims.get("aud") not in (client_id, [client_id]):
        raise refused(
            f"The {what} is for another client, or for several: {str(claims.get('aud'))[:200]}.",
            "Let the provider issue it for this client alone, without further audiences.",
        )
    if claims.get("azp", client_id) != client_id:
        raise refused(f"The {what} was given to another client (azp).")


def _check_times(claims: Mapping[str, Any], now: datetime) -> tuple[int, int]:
    moment = now.timestamp()
    expires = _seconds(claims, "exp")
    issued = _seconds(claims, "iat")
    if expires <= moment - SKEW:
        raise refused("The ID token has expired.", "Check the clocks of both sides.")
    if expires > moment + MAX_LIFETIME:
        raise refused(
            "The ID token is valid for more than a day.",
            "Set the lifetime of this client's ID tokens to a day or less at the provider.",
        )
    if not moment - MAX_AGE <= issued <= moment + SKEW:
        raise refused(
            "The ID token was issued too long ago or in the future.",
            "Check the clocks of both sides.",
        )
    if "nbf" in claims and _seconds(claims, "nbf") > moment + SKEW:
        raise refused("The ID token is not valid yet.", "Check the clocks of both sides.")
    return issued, expires


def _check_exchange(claims: Mapping[str, Any], expected: Expected) -> None:
    """That the token belongs to this sign-in and this access token. The other hashes are of other flows."""
    nonce = claims.get("nonce")
    if (
        not isinstance(nonce, str)
        or not expected.nonce
        or not hmac.compare_digest(nonce.encode("utf-8"), expected.nonce.encode("utf-8"))
    ):
        raise refused("The ID token's nonce is not the one that was sent.")
    if "at_hash" in claims:
        # Both algorithms that a provider can be pinned to are with SHA-256.
        half = hashlib.sha256(expected.access_token.encode("ascii")).digest()[:16]
        if claims["at_hash"] != jose.base64url(half):
            raise refused("The ID token's at_hash does not fit the access token.")


def _check_authentication(claims: Mapping[str, Any], expected: Expected, now: datetime) -> None:
    if "auth_time" in claims:
        authenticated = _auth_time(claims["auth_time"])
        if authenticated > now.timestamp() + SKEW:
            raise refused("auth_time is in the future.", "Check the clocks of both sides.")
        if expected.auth_time_demanded and authenticated < now.timestamp() - MAX_AGE:
            raise refused(
                "The provider did not let the person authenticate anew.",
                "It has to follow prompt=login and max_age in the request; look for a setting that keeps it from that.",
            )
    elif expected.auth_time_demanded:
        raise refused(
            "The provider did not say when the person authenticated, which a role demands to know.",
            "Let it put auth_time into ID tokens; in Entra ID that is an optional claim, under Token configuration.",
        )


def _auth_time(value: object) -> float:
    """Some providers have fractions of a second here; nothing is decided by them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(
            "The ID token's auth_time is not a number.",
            "Let the provider write it as OpenID Connect says, in seconds since 1970, or leave it out.",
        )
    if not math.isfinite(value) or not 0 < value < 2**40:
        raise refused("The ID token's auth_time is not a moment.")
    return float(value)


def _methods(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """`amr`: a list of texts; some libraries write a list of one as the text alone."""
    value = claims.get("amr", [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(_is_text(one, 256) for one in values):
        raise refused("The ID token's amr is not a list of short texts.")
    return tuple(values)


def _is_text(value: object, longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest


def _seconds(claims: Mapping[str, Any], name: str, what: str = "ID token") -> int:
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**40:
        raise refused(f"The {what}'s {name} is missing or not a whole number.")
    return value


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def attributes(
    token: VerifiedToken,
    *,
    userinfo: Mapping[str, Any] | None,
    now: datetime,
    checks: Iterable[tuple[str, str]] = (),
) -> VerifiedAttributes:
    """What is believed: the ID token. Userinfo about the same subject is where groups are read, nothing else.

    checks: what the caller checked besides, and what was seen.
    """
    claims = token.claims
    if userinfo is not None and (
        not isinstance(userinfo.get("sub"), str) or userinfo["sub"] != claims["sub"]
    ):
        raise refused("The userinfo answer is about somebody else.")
    at = (
        datetime.fromtimestamp(_auth_time(claims["auth_time"]), UTC)
        if "auth_time" in claims
        else None
    )
    evidence = {"sha256": token.consume, "jti": claims.get("jti"), "sid": claims.get("sid")}
    about = "about the same subject; groups are read here" if userinfo is not None else "not asked"
    return VerifiedAttributes(
        protocol="oidc",
        subject=claims["sub"],
        attributes=claims,
        group_claims=userinfo,
        context=claims.get("acr", ""),
        methods=_methods(claims),
        at=min(at, now) if at else None,
        session_ends=None,
        evidence={k: v[:128] for k, v in evidence.items() if v},
        logout={"subject": claims["sub"], "index": claims.get("sid", "")},
        checks=(*checks, *token.checks, ("Userinfo", about)),
    )


def fetch_userinfo(discovery: Mapping[str, Any], access_token: str) -> dict[str, Any]:
    """The userinfo answer, unverified: `attributes` compares its subject. Raises ProviderUnavailable.

    A signed answer (application/jwt) is refused: what is signed already is the ID token.
    """
    if not isinstance(discovery.get("userinfo_endpoint"), str):
        raise refused(
            "Groups are to be read from userinfo, but the provider has no userinfo endpoint.",
            "Switch “Groups from userinfo” off, or refresh the provider.",
        )
    answer = outbound.call(
        "GET",
        discovery["userinfo_endpoint"],
        "Userinfo",
        headers={"Authorization": f"Bearer {access_token}", "Accept": "application/json"},
        origins=origins(discovery),
    )
    if answer.media_type == "application/jwt":
        raise refused(
            "The userinfo answer is signed (application/jwt), which Daypass does not read.",
            "At the provider, let userinfo answer in plain JSON for this client, or put the groups into the ID token.",
        )
    if answer.status != 200:
        raise ProviderUnavailable(cause=f"Userinfo was answered with HTTP {answer.status}.")
    return outbound.json_of(answer, "Userinfo")


# --- Back-channel logout


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """A verified logout token: whose sessions end, or which one. `id` may be used once, until `expires_at`."""

    subject: str | None
    index: str | None
    id: str
    expires_at: datetime


def verify_logout_token(
    unverified_token: str,
    *,
    keys: Mapping[str, Any],
    issuer: str,
    client_id: str,
    algorithm: str,
    now: datetime,
) -> LoggedOut:
    """A logout token (OpenID Connect Back-Channel Logout 1.0, section 2.6). Raises SignInRefused, UnknownKey."""
    what = "logout token"
    signed = jose.open_signed(
        unverified_token, keys=keys, algorithm=algorithm, what=what, types=("logout+jwt", "JWT")
    )
    claims, moment = signed.claims, now.timestamp()
    _check_party(claims, issuer=issuer, client_id=client_id, what=what)
    issued, expires = _seconds(claims, "iat", what), _seconds(claims, "exp", what)
    if not moment - LOGOUT_MAX_AGE <= issued <= moment + SKEW:
        raise refused("The logout token was issued too long ago or in the future.")
    if not moment - SKEW < expires <= moment + LOGOUT_MAX_LIFETIME:
        raise refused("The logout token has expired, or is valid for more than an hour.")
    if "nbf" in claims and _seconds(claims, "nbf", what) > moment + SKEW:
        raise refused("The logout token is not valid yet.")
    if claims.get("events") != {BACK_CHANNEL_EVENT: {}}:
        raise refused("The logout token's events are not exactly the one of a back-channel logout.")
    if "nonce" in claims:
        raise refused("The logout token has a nonce: it may be an ID token.")
    jti, index = claims.get("jti"), claims.get("sid")
    if not _is_text(jti, 255) or not jti:
        raise refused("The logout token's jti is missing or not a short text.")
    if "sid" in claims and (not _is_text(index, MAX_SID) or not index):
        raise refused("The logout token's sid is not a short text.")
    subject = check_subject(claims["sub"]) if "sub" in claims else None
    if subject is None and index is None:
        raise refused("The logout token says neither whose session nor which one.")
    return LoggedOut(
        subject=subject,
        index=index,
        id=str(jti),
        expires_at=datetime.fromtimestamp(expires, UTC) + timedelta(seconds=2 * SKEW),
    )
