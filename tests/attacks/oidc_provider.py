"""OpenID Connect attacks by, or in the name of, the provider's other answers: tokens, userinfo, discovery, keys."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

from accounts import outbound, services
from accounts.models import IdentityProvider
from broker.errors import DaypassError
from tests.attacks.registry import attack
from tests.attacks.stages import OidcStage

TOKENS = {"protocol": "oidc", "door": "callback", "statuses": (403, 503)}
REFRESH = {"protocol": "oidc", "door": "refresh", "statuses": (403, 503)}

Answer = Callable[[BaseHTTPRequestHandler], None]


def says(
    body: bytes, *, status: int = 200, kind: str = "application/json", **headers: str
) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def raw(*pieces: bytes, ever: bytes = b"", pause: float = 0.0) -> Answer:
    """Bytes as they are; `ever` is repeated until the other side has had enough."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        with contextlib.suppress(OSError):
            for piece in pieces:
                request.wfile.write(piece)
            while ever:
                request.wfile.write(ever)
                time.sleep(pause)

    return answer


@contextlib.contextmanager
def hurried() -> Iterator[None]:
    """Calls to providers may take half a second instead of eight, so that slow answers are over sooner."""
    before = outbound.DEADLINE
    outbound.DEADLINE = 0.5
    try:
        yield
    finally:
        outbound.DEADLINE = before


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
HOSTILE: dict[str, Answer] = {
    "a redirect": says(b"", status=302, Location="http://169.254.169.254/"),
    "a redirect that keeps the method": says(b"", status=307, Location="https://evil.example/"),
    "a page": says(b"<html>Sign in</html>", kind="text/html"),
    "JSON under another type": says(b"{}", kind="text/plain"),
    "nothing": says(b""),
    "a list": says(b"[]"),
    "null": says(b"null"),
    "compressed": says(gzip.compress(b"{}"), Content_Encoding="gzip"),
    "a compressed bomb": says(gzip.compress(b" " * 20_000_000), Content_Encoding="gzip"),
    "a bomb without saying so": says(gzip.compress(b" " * 20_000_000)),
    "two megabytes": says(b'{"x":"' + b"y" * 2_000_000 + b'"}'),
    "an enormous length": raw(OK + b"Content-Length: 9999999999999\r\n\r\n{"),
    "no end": raw(OK + b"\r\n", ever=b" " * 65536),
    "chunks without end": raw(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", ever=b"1\r\n \r\n" * 5000
    ),
    "headers without end": raw(b"HTTP/1.1 200 OK\r\n", ever=b"X: y\r\n" * 5000),
    "an enormous header": raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n{}"),
    "interim answers without end": raw(ever=b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "another protocol": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "an error of its own": says(b"{}", status=500),
    "deeply nested": says(b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
}
SLOW: dict[str, Answer] = {
    "silent": raw(ever=b"", pause=0.1),
    "a letter at a time": raw(OK + b"Content-Length: 1000\r\n\r\n", ever=b" ", pause=0.05),
    "a header at a time": raw(b"HTTP/1.1 200 OK\r\n", ever=b"X: y\r\n", pause=0.05),
}
SLOW["silent"] = lambda request: time.sleep(2)


# --- The token endpoint


@attack("slow and endless answers", "R22 R27", **TOKENS, cases=HOSTILE)
def the_token_endpoint_answers_with(stage: OidcStage, answer: Answer) -> Any:
    stage.op.instead["/token"] = answer
    return stage.sign_in()


@attack("slow and endless answers", "R22", **TOKENS, cases=SLOW, waits=True)
def the_token_endpoint_is(stage: OidcStage, answer: Answer) -> Any:
    stage.op.instead["/token"] = answer
    with hurried():
        return stage.sign_in()


def changed(**members: Any) -> Callable[[dict[str, Any]], None]:
    return lambda answer: answer.update(members)


@attack(
    "token endpoint",
    "R6 R52",
    **TOKENS,
    cases={
        "no ID token": lambda a: a.pop("id_token"),
        "an empty ID token": changed(id_token=""),
        "null as the ID token": changed(id_token=None),
        "a number as the ID token": changed(id_token=1),
        "a list of ID tokens": lambda a: a.update(id_token=[a["id_token"]]),
        "an object as the ID token": lambda a: a.update(
            id_token=dict(
                zip(("protected", "payload", "signature"), a["id_token"].split("."), strict=True)
            )
        ),
        "claims as the ID token": changed(id_token={"sub": "248289761001"}),
        "no token type": lambda a: a.pop("token_type"),
        "another token type": changed(token_type="mac"),
        "a list of token types": changed(token_type=["Bearer"]),
        "no access token": lambda a: a.pop("access_token"),
        "null as the access token": changed(access_token=None),
        "a list of access tokens": changed(access_token=["x"]),
        "an empty access token": changed(access_token=""),
        "an access token with a line end": changed(access_token="x\r\nX-Admin: 1"),
        "a very long access token": changed(access_token="x" * 100_000),
        "tokens and an error": changed(error="server_error"),
    },
)
def the_token_answer_has(stage: OidcStage, bend: Callable) -> Any:
    stage.op.bend_answer = bend
    return stage.sign_in()


@attack("token endpoint", "R6 R52", **TOKENS)
def the_token_answer_has_two_id_tokens(stage: OidcStage) -> Any:
    made: list[dict[str, Any]] = []
    stage.op.bend_answer = lambda answer: made.append(dict(answer))
    honest = stage.op._json

    def twice(request: BaseHTTPRequestHandler, document: Any, status: int = 200) -> None:
        if not made:
            return honest(request, document, status)
        text = json.dumps(made[0])
        says(f'{text[:-1]},"id_token":"a.b.c"}}'.encode())(request)

    stage.op._json = twice  # type: ignore[method-assign]
    return stage.sign_in()


# --- Userinfo


def from_userinfo(stage: OidcStage) -> None:
    IdentityProvider.objects.filter(pk=stage.row.pk).update(groups_from_userinfo=True)
    stage.settled()


@attack(
    "userinfo",
    "R6",
    **TOKENS,
    cases={
        "another subject": changed(sub="somebody-else"),
        "no subject": lambda c: c.pop("sub"),
        "null as the subject": changed(sub=None),
        "true as the subject": changed(sub=True),
        "the subject as a number": changed(sub=248289761001),
        "a list of subjects": changed(sub=["248289761001"]),
        "the subject and a blank": changed(sub="248289761001 "),
        "groups that are no texts": changed(groups={"aws-owners": True}),
        "too many groups": changed(groups=[f"g{n}" for n in range(2001)]),
    },
)
def userinfo_with(stage: OidcStage, bend: Callable) -> Any:
    from_userinfo(stage)
    stage.op.bend_userinfo = bend
    return stage.sign_in()


@attack(
    "userinfo",
    "R6 R22",
    **TOKENS,
    cases=HOSTILE
    | {
        "signed": says(b"x.y.z", kind="application/jwt"),
        "two subjects": says(b'{"sub":"248289761001","sub":"somebody-else"}'),
        "no": says(b'{"error":"invalid_token"}', status=401),
    },
)
def userinfo_that_is(stage: OidcStage, answer: Answer) -> Any:
    from_userinfo(stage)
    stage.op.instead["/userinfo"] = answer
    return stage.sign_in()


@attack("userinfo", "R22", **TOKENS, cases=SLOW, waits=True)
def userinfo_that_is_slow(stage: OidcStage, answer: Answer) -> Any:
    from_userinfo(stage)
    stage.op.instead["/userinfo"] = answer
    with hurried():
        return stage.sign_in()


@attack("userinfo", "R6", **TOKENS)
def userinfo_in_place_of_an_id_token(stage: OidcStage) -> Any:
    """Without an ID token nobody is signed in, whatever userinfo says."""
    from_userinfo(stage)
    stage.op.bend_token = lambda token: None
    return stage.sign_in()


@attack("userinfo", "R6", **TOKENS)
def userinfo_where_the_provider_has_none(stage: OidcStage) -> Any:
    discovery = {k: v for k, v in stage.row.discovery.items() if k != "userinfo_endpoint"}
    IdentityProvider.objects.filter(pk=stage.row.pk).update(discovery=discovery)
    from_userinfo(stage)
    return stage.sign_in()


# --- Discovery and keys, when the worker refreshes them


def refreshed(stage: OidcStage) -> Any:
    """The worker refreshes; then the attacker's own key signs a token, which has to be refused."""
    key = stage.op.new_key(kid="attacker")
    stage.op.person = dict(stage.op.person) | {"groups": ["aws-owners"]}
    with hurried():
        services.refresh_provider(stage.row.pk)
    honest = stage.op.key
    stage.op.key = key
    try:
        return stage.sign_in()
    finally:
        stage.op.key = honest


def moved(**members: str) -> Callable[[OidcStage, dict[str, Any]], None]:
    return lambda stage, document: document.update(
        {name: value.replace("{op}", stage.op.issuer) for name, value in members.items()}
    )


DISCOVERY: dict[str, Callable[[OidcStage, dict[str, Any]], Any]] = {
    "another issuer": moved(issuer="https://evil.example"),
    "no issuer": lambda stage, document: document.pop("issuer"),
    "a list of issuers": lambda stage, document: document.update(issuer=[stage.op.issuer]),
    "a token endpoint elsewhere": moved(token_endpoint="https://evil.example/token"),
    "another token endpoint here": moved(token_endpoint="{op}/token2"),
    "a token endpoint without TLS": moved(token_endpoint="http://evil.example/token"),
    "an authorization endpoint elsewhere": moved(
        authorization_endpoint="https://evil.example/authorize"
    ),
    "a script as authorization endpoint": moved(authorization_endpoint="javascript:alert(1)"),
    "keys elsewhere": moved(jwks_uri="https://evil.example/jwks"),
    "keys at a private address": moved(jwks_uri="https://169.254.169.254/jwks"),
    "keys in a file": moved(jwks_uri="file:///etc/passwd"),
    "keys at an address with a password": moved(jwks_uri="https://user:password@login.example/"),
    "userinfo elsewhere": moved(userinfo_endpoint="https://evil.example/userinfo"),
    "an end of session elsewhere": moved(end_session_endpoint="https://evil.example/logout"),
    "an authorization endpoint with our parameters": moved(
        authorization_endpoint="{op}/authorize?redirect_uri=https://evil.example/"
    ),
    "a number for an address": lambda stage, document: document.update(token_endpoint=1),
    "no keys": lambda stage, document: document.pop("jwks_uri"),
}


@attack("discovery", "R6 R22 R33", **REFRESH, cases=DISCOVERY)
def a_refresh_brings(stage: OidcStage, bend: Callable) -> Any:
    stage.op.bend_discovery = lambda document: bend(stage, document)
    return refreshed(stage)


@attack("discovery", "R22", **REFRESH, cases=HOSTILE | SLOW)
def a_refresh_finds_the_document(stage: OidcStage, answer: Answer) -> Any:
    stage.op.instead["/.well-known/openid-configuration"] = answer
    return refreshed(stage)


@attack("keys", "R5 R22", **REFRESH, cases=HOSTILE | SLOW)
def a_refresh_finds_the_keys(stage: OidcStage, answer: Answer) -> Any:
    stage.op.instead["/jwks"] = answer
    return refreshed(stage)


@attack(
    "keys",
    "R5 R52",
    **REFRESH,
    cases={
        "no keys": changed(keys=[]),
        "no list": changed(keys={}),
        "null": changed(keys=None),
        "keys that are texts": changed(keys=["x"]),
        "only shared secrets": changed(keys=[{"kty": "oct", "k": "c2VjcmV0", "kid": "attacker"}]),
        "too many keys": lambda document: document.update(keys=document["keys"] * 60),
        "a private key": lambda document: document["keys"].append(
            {**document["keys"][0], "d": "AQAB", "kid": "attacker"}
        ),
        "the same id twice": lambda document: document["keys"].append(
            {**document["keys"][0], "e": "AQAD"}
        ),
    },
)
def a_refresh_brings_a_key_set_with(stage: OidcStage, bend: Callable) -> Any:
    stage.op.bend_keys = bend
    return refreshed(stage)


# --- Discovery, when an administrator saves


def saved(stage: OidcStage) -> Any:
    """An administrator tries to connect this provider; nothing is saved, so there is no door to it."""
    with hurried(), contextlib.suppress(DaypassError):
        stage.connect("new", client_id="new")
    return stage.browser().post("/sign-in/new/", {}, secure=True)


SAVED = {"protocol": "oidc", "door": "start", "statuses": (404,), "recorded": False}
AT_SAVE = {
    name: bend
    for name, bend in DISCOVERY.items()
    if name
    in (
        "another issuer",
        "no issuer",
        "a list of issuers",
        "a token endpoint without TLS",
        "a script as authorization endpoint",
        "keys elsewhere",
        "keys at a private address",
        "keys in a file",
        "keys at an address with a password",
        "an authorization endpoint with our parameters",
        "a number for an address",
        "no keys",
    )
}


@attack("discovery", "R6 R22", **SAVED, cases=AT_SAVE)
def a_provider_is_connected_whose_document_has(stage: OidcStage, bend: Callable) -> Any:
    stage.op.bend_discovery = lambda document: bend(stage, document)
    return saved(stage)


@attack("discovery", "R22", **SAVED, cases=HOSTILE | SLOW)
def a_provider_is_connected_whose_document_is(stage: OidcStage, answer: Answer) -> Any:
    stage.op.instead["/.well-known/openid-configuration"] = answer
    return saved(stage)


@attack(
    "discovery",
    "R22",
    **SAVED,
    cases={
        "without TLS": "http://login.example",
        "at a private address": "https://10.0.0.1",
        "at this machine": "https://127.0.0.1:1",
        "at a cloud's metadata": "https://169.254.169.254",
        "at an address in IPv6 that wraps another": "https://[::ffff:169.254.169.254]",
        "at a number": "https://2852039166",
        "with a query": "{op}/?x=",
        "with a user": "https://user@login.example",
        "a file": "file:///etc/passwd",
    },
)
def a_provider_is_connected_whose_issuer_is(stage: OidcStage, issuer: str) -> Any:
    with hurried(), contextlib.suppress(DaypassError):
        stage.connect("new", client_id="new", issuer=issuer.replace("{op}", stage.op.issuer))
    return stage.browser().post("/sign-in/new/", {}, secure=True)
