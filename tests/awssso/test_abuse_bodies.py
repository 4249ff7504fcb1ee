"""What no client would send: each door answers in its own words; no page, no redirect, no cookie, no failure."""

from __future__ import annotations

import json
import random

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from broker.awssso.models import DeviceRequest, Terminal, TerminalToken
from tests.awssso.abuse import OPERATIONS, Cli, stranger, through
from tests.awssso.conftest import signed_in_terminal
from tests.portal.conftest import sign_in

pytestmark = pytest.mark.django_db

POSTED = [name for name, (_, method, _) in OPERATIONS.items() if method == "POST"]
READ = [name for name, (_, method, _) in OPERATIONS.items() if method == "GET"]
WITH_A_BODY = [name for name in POSTED if name != "Logout"]

ODD = {
    "nothing": b"",
    "a space": b" ",
    "no JSON": b"clientId=x&clientSecret=y&grantType=refresh_token",
    "a list": b"[]",
    "a list of it": b'[{"clientName":"x","clientType":"public"}]',
    "a text": b'"{}"',
    "a number": b"7",
    "null": b"null",
    "true": b"true",
    "no number": b'{"clientId":NaN}',
    "without end": b'{"clientId":-Infinity}',
    "cut off": b'{"clientId":"x"',
    "two objects": b"{}{}",
    "deep": b'{"clientId":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "deeper": b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "a long number": b'{"clientId":' + b"9" * 60_000 + b"}",
    "a large exponent": b'{"clientId":1e999999}',
    "no UTF-8": b'{"clientId":"\xff\xfe"}',
    "UTF-16": '{"clientId":"x"}'.encode("utf-16"),
    "UTF-32": '{"clientId":"x"}'.encode("utf-32"),
    "a mark in front": b'\xef\xbb\xbf{"clientId":"x"}',
    "half a character": b'{"clientId":"\\ud800","clientSecret":"\\udfff","grantType":"\\ud800"}',
    "NUL": b'{"clientId":"\\u0000","clientSecret":"\\u0000","grantType":"refresh_token\\u0000"}',
    "raw NUL": b'{"clientId":"\x00"}',
    "control": b'{"clientId":"\x01\n"}',
    "many members": json.dumps({f"m{n}": n for n in range(4000)}).encode(),
    "long names": json.dumps({"n" * 60_000: 1}).encode(),
    "prototype": b'{"__proto__":{"clientId":"x"},"constructor":1,"__class__":"x"}',
    "65 KiB": b'{"clientId":"' + b"x" * 66_000 + b'"}',
    "1 MB": b'{"clientId":"' + b"x" * 1_000_000 + b'"}',
    "5 MB of space": b" " * 5_000_000,
}


@pytest.fixture
def cli() -> Cli:
    return Cli(through(stranger()))


@pytest.mark.parametrize("operation", WITH_A_BODY)
@pytest.mark.parametrize("body", ODD.values(), ids=ODD.keys())
def test_an_odd_body_is_refused(cli, operation, body):
    cli.odd(operation, body)

    assert not DeviceRequest.objects.exists() and not TerminalToken.objects.exists()


@pytest.mark.parametrize("operation", WITH_A_BODY)
def test_a_member_of_any_other_kind_is_refused(cli, operation):
    """Every member that any operation has, as everything that JSON can say; no call is complete, so none succeeds."""
    names = (
        *("clientId", "clientSecret", "clientName", "clientType", "scopes", "grantTypes"),
        *("redirectUris", "startUrl", "grantType", "deviceCode", "code", "codeVerifier"),
        *("redirectUri", "refreshToken", "issuerUrl", "scope"),
    )
    values = [None, True, 0, -1, 1.5, "", "x" * 9000, "\ud800", [], [[]], {}, {"a": 1}, [None]]
    dice = random.Random(7)
    for _ in range(150):
        members = {name: dice.choice(values) for name in dice.sample(names, 9)}
        members |= {"grantType": dice.choice(values)}
        cli.odd(operation, json.dumps(members).encode())


def test_a_member_that_comes_twice_is_refused(cli):
    """Two readers could take it for two things, and the proxy in front may be one of them."""
    cli.register_for_device()
    for body in (
        b'{"clientName":"x","clientType":"public","clientType":"public"}',
        json.dumps({**cli.itself, "startUrl": "x"})[:-1].encode() + b',"clientId":"other"}',
    ):
        for operation in WITH_A_BODY:
            assert cli.odd(operation, body).status == 400


@pytest.mark.parametrize(
    "kind",
    [
        *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"),
        *("text/html", "application/xml", "", "application/json; charset=utf-16", "x" * 300, "/"),
    ],
)
def test_another_content_type_is_read_as_json_or_not_at_all(cli, kind):
    """No form that a web page can post becomes a call, and none of these fails here."""
    cli.odd("CreateToken", b"grantType=refresh_token&clientId=x", headers={"Content-Type": kind})
    cli.odd("RegisterClient", b"--x\r\n\r\n--x--", headers={"Content-Type": kind})


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_another_method_is_refused(cli, operation, method):
    if method == OPERATIONS[operation][1]:
        return
    reply = cli.ask(method, OPERATIONS[operation][2], b"{}", {"Content-Type": "application/json"})

    assert reply.status == 405
    assert OPERATIONS[operation][1] in reply.headers["allow"]
    assert "set-cookie" not in reply.headers and "location" not in reply.headers
    assert "no-store" in reply.headers["cache-control"]
    assert b"<" not in reply.body


@pytest.mark.parametrize(
    "path",
    [
        *("/aws/", "/aws/token/", "/aws/client", "/aws/client/register/x", "/aws/TOKEN"),
        *("/aws/%74oken/x", "/aws/token;x"),
        *("/aws/federation/", "/aws/.well-known/openid-configuration", "/aws/v1/authorize"),
        "/aws/" + "x" * 3000,
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_address_that_is_none_is_answered_like_the_others(cli, method, path):
    reply = cli.odd("CreateToken", b"{}", method=method, path=path)

    assert reply.status in (400, 404, 405)


@pytest.mark.parametrize("path", ["/aws//token", "/aws/../token", "/aws/token%00"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_address_that_proxies_read_differently_is_refused_in_a_word(cli, method, path):
    """Before anything of it is looked at, for all of Daypass; also here without a page."""
    reply = cli.ask(method, path, b"{}", {"Content-Type": "application/json"})

    assert reply.status == 400
    assert reply.headers["content-type"].startswith("text/plain")
    assert "set-cookie" not in reply.headers and "location" not in reply.headers


BAD_TOKENS = {
    "none": None,
    "empty": "",
    "a space": " ",
    "Bearer": "Bearer x",
    "long": "x" * 60_000,
    "two": "a, b",
    "no ASCII": "daypass_access_\u00e9",
    "control": "daypass_access_\x01",
    "a quote": "' OR 1=1 --",
    "a path": "../../etc/passwd",
    "zero": "0",
}


@pytest.mark.parametrize("operation", [*READ, "Logout"])
@pytest.mark.parametrize("token", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
def test_an_odd_bearer_makes_the_client_sign_in_again(cli, operation, token):
    members = {"account_id": "111122223333", "role_name": "Developer"}

    reply = cli.call(operation, members if operation in READ else None, bearer=token)

    assert reply.fault == "UnauthorizedException"


@pytest.mark.parametrize("operation", READ)
def test_a_bearer_anywhere_else_is_none(cli, ada, operation):
    """Not in the address, where it would be logged; not as a cookie; not under another header's name."""
    _, tokens, _, _ = signed_in_terminal(ada)
    token = tokens.access
    good = cli.call("ListAccounts", bearer=token)
    assert good.status == 200
    members = {"account_id": "111122223333", "role_name": "Developer"}
    for name in ("access_token", "accessToken", "x-amz-sso_bearer_token"):
        reply = cli.call(operation, {**members, name: token})
        assert reply.fault == "UnauthorizedException"
    for header in ("Authorization", "x-amz-sso-bearer", "Cookie"):
        value = f"x-amz-sso_bearer_token={token}" if header == "Cookie" else f"Bearer {token}"
        reply = cli.call(operation, members, headers={header: value})
        assert reply.fault == "UnauthorizedException"


ODD_PARAMETERS = [
    {"account_id": ""},
    {"account_id": "1" * 13},
    {"account_id": "11112222333x"},
    {"account_id": "\u0661" * 12},
    {"account_id": "\x00"},
    {"account_id": "111122223333", "role_name": ""},
    {"account_id": "111122223333", "role_name": "x" * 5000},
    {"account_id": "111122223333", "role_name": "\x00"},
    {"account_id": "111122223333", "role_name": "' OR 1=1 --"},
    {"account_id": "111122223333", "role_name": "%"},
    {"account_id": "111122223333", "role_name": "../Developer"},
    {"account_id": "111122223333", "role_name": "\ud7ff\u202e"},
    {"account_id": "arn:aws:iam::111122223333:root", "role_name": "Developer"},
]


@pytest.mark.parametrize("members", ODD_PARAMETERS)
@pytest.mark.parametrize("operation", ["GetRoleCredentials", "ListAccountRoles"])
def test_odd_parameters_bring_no_role(cli, ada, operation, members):
    token = signed_in_terminal(ada)[1].access

    reply = cli.call(operation, members, bearer=token)

    if operation == "GetRoleCredentials":
        assert reply.fault in (
            "InvalidRequestException",
            "ResourceNotFoundException",
            "ForbiddenException",
        )
    else:
        assert reply.fault or reply.json["roleList"] == []


@pytest.mark.parametrize(
    "members",
    [
        *({"max_result": value} for value in ("0", "-1", "x", "1e3", "99999999999999999999", "")),
        *({"next_token": value} for value in ("x", "\x00", "é", "eyJ9", "1" * 600, "..", "null")),
    ],
)
def test_odd_pages_are_refused_or_the_first(cli, ada, members):
    token = signed_in_terminal(ada)[1].access

    for operation, more in (("ListAccounts", {}), ("ListAccountRoles", {"account_id": "1" * 12})):
        reply = cli.call(operation, {**more, **members}, bearer=token)
        assert reply.fault in ("", "InvalidRequestException", "ResourceNotFoundException")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-For", "evil, \x01, 1.2.3.4"),
        ("X-Forwarded-For", "1.2.3.4," * 500),
        ("User-Agent", "\u00e9\x1b[31m" * 500),
        ("User-Agent", ""),
        ("Accept", "text/html"),
        ("Accept-Language", "x" * 5000),
        ("Origin", "https://evil.example"),
        ("Referer", "https://evil.example/"),
        ("Content-Encoding", "gzip"),
        ("X-HTTP-Method-Override", "GET"),
        ("If-None-Match", "*"),
        ("Range", "bytes=0-1"),
        ("Expect", "100-continue"),
    ],
)
def test_odd_headers_change_nothing(cli, ada, name, value):
    """Also none that lets a page of another origin read an answer."""
    registered = cli.call(
        "RegisterClient", {"clientName": "x", "clientType": "public"}, headers={name: value}
    )
    token = signed_in_terminal(ada)[1].access
    listed = cli.call("ListAccounts", bearer=token, headers={name: value})

    assert registered.status == listed.status == 200
    for reply in (registered, listed):
        assert not [header for header in reply.headers if header.startswith("access-control-")]


# --- Browser sessions are none of these doors' business


def cookies(browser: Client) -> dict[str, str]:
    return {name: morsel.value for name, morsel in browser.cookies.items()}


def test_a_signed_in_browser_is_nobody_here(ada):
    """Else a page of another origin could have it call; and a proof by cookie is no proof by token."""
    with_session = Cli(through(stranger(**cookies(sign_in(ada)))))

    for operation in (*READ, "Logout"):
        members = {"account_id": "111122223333", "role_name": "Developer"}
        reply = with_session.call(operation, members if operation in READ else None)
        assert reply.fault == "UnauthorizedException"


@pytest.mark.parametrize("kind", ["live", "idle", "made up", "ended"])
def test_cookies_that_come_along_are_neither_used_nor_changed(ada, kind):
    browser = sign_in(ada)
    name = settings.SESSION_COOKIE_NAME
    if kind == "idle":
        session = browser.session
        session["daypass"] = {**session["daypass"], "seen": 0, "began": 0}
        session.save()
    if kind == "ended":
        browser.session.flush()
    sent = {name: "x" * 32} if kind == "made up" else cookies(browser)
    before = browser.session.get("daypass") if kind == "live" else None
    cli = Cli(through(stranger(**sent)))
    _, tokens, _, _ = signed_in_terminal(ada)

    assert cli.register_for_device().status == 200  # `faults` sees a cookie that is set
    assert cli.start().status == 200
    assert cli.accounts(tokens.access).status == 200
    assert cli.accounts("x").fault == "UnauthorizedException"
    assert cli.logout(tokens.access).status in (200, 204)

    if before:
        assert browser.session.get("daypass") == before
    assert Terminal.objects.get().ended_because == Terminal.Ended.CLIENT


def test_the_time_of_a_reply_is_not_taken_from_the_client(cli):
    registered = cli.register(clientIdIssuedAt=1, clientSecretExpiresAt=99999999999).json

    assert abs(registered["clientIdIssuedAt"] - timezone.now().timestamp()) < 300
    assert registered["clientSecretExpiresAt"] - registered["clientIdIssuedAt"] == 90 * 86400
