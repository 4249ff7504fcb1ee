"""sso-oidc over real HTTP: as botocore's own client speaks it, and every answer held against botocore's own model."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.awssso import oidc_views, registrations, services
from broker.awssso.models import DeviceRequest, Terminal, TerminalPolicy, TerminalToken
from tests.awssso.conformity import Reply, faults
from tests.awssso.conftest import (
    REDIRECT,
    browser_of,
    let_in,
    pkce,
    principal,
    register,
    register_for_device,
    signed_in_terminal,
)

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
REGISTER, START, TOKEN = "/client/register", "/device_authorization", "/token"
OPERATIONS = {
    REGISTER: "RegisterClient",
    START: "StartDeviceAuthorization",
    TOKEN: "CreateToken",
}


def ask(base: str, method: str, path: str, body: object = None, **headers: str) -> Reply:
    """One request over real HTTP; a body that is no bytes is sent as JSON."""
    url = urlsplit(base)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body else b""
    connection = HTTPConnection(url.hostname or "", url.port, timeout=20)
    connection.request(method, url.path + path, raw or None, headers)
    response = connection.getresponse()
    read = response.read()
    connection.close()
    return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, read)


def say(daypass, path, body, **headers) -> Reply:
    """One request, whose answer fits the model in any case."""
    reply = ask(daypass.aws, "POST", path, body, **headers)
    assert faults("sso-oidc", OPERATIONS[path], reply) == []
    return reply


def approve(started, person, browser) -> Terminal:
    """What the person does in a browser."""
    line, relay, ends = browser_of(browser)
    asker = services.Asker("198.51.100.7")
    request = services.find_device(
        started["userCode"].lower(), principal(person), asker, now=timezone.now()
    )
    return services.approve_device(
        request.pk,
        principal(person),
        asker,
        line=line,
        relay=relay,
        browser_ends=ends,
        now=timezone.now(),
    )


# --- botocore's own client


def test_a_device_is_let_in_by_botocore_s_own_client(daypass, ada):
    oidc = daypass.oidc()
    client = oidc.register_client(clientName="botocore-client-dev", clientType="public")
    mine = {"clientId": client["clientId"], "clientSecret": client["clientSecret"]}
    started = oidc.start_device_authorization(**mine, startUrl=f"{daypass.url}/start")
    request = dict(**mine, grantType=DEVICE, deviceCode=started["deviceCode"])
    for _ in range(2):
        with pytest.raises(oidc.exceptions.AuthorizationPendingException):
            oidc.create_token(**request)
    with pytest.raises(oidc.exceptions.SlowDownException):
        oidc.create_token(**request)

    approve(started, ada, daypass.sign_in(ada))
    tokens = oidc.create_token(**request)

    assert tokens["tokenType"] == "Bearer"
    assert 3500 < tokens["expiresIn"] <= 3600
    again = oidc.create_token(
        **mine, grantType="refresh_token", refreshToken=tokens["refreshToken"]
    )
    assert again["refreshToken"] not in ("", tokens["refreshToken"])
    with pytest.raises(oidc.exceptions.InvalidGrantException) as refused:
        oidc.create_token(**request)
    assert "used before" in refused.value.response["Error"]["Message"]


def test_a_client_with_a_browser_exchanges_its_code_with_botocore_s_own_client(daypass, ada):
    oidc = daypass.oidc()
    client = oidc.register_client(
        clientName="botocore-client-dev",
        clientType="public",
        grantTypes=["authorization_code", "refresh_token"],
        redirectUris=["http://127.0.0.1/oauth/callback"],
        issuerUrl="https://identitycenter.amazonaws.com/ssoins-daypass",
        scopes=["sso:account:access"],
    )
    registration = registrations.read(client["clientId"], now=timezone.now())
    verifier, challenge = pkce()
    code = services.give_code(
        let_in(ada, registration),
        redirect_uri=REDIRECT,
        challenge=challenge,
        method="S256",
        now=timezone.now(),
    )
    request = {
        "clientId": client["clientId"],
        "clientSecret": client["clientSecret"],
        "grantType": "authorization_code",
        "code": code,
        "codeVerifier": verifier,
        "redirectUri": REDIRECT,
    }

    assert oidc.create_token(**request)["refreshToken"]
    kept = Terminal.objects.get()
    assert (kept.asked_from, kept.approved_from) == ("127.0.0.1", "198.51.100.7")
    assert kept.user_agent.startswith("Boto3/")
    with pytest.raises(oidc.exceptions.InvalidGrantException) as refused:
        oidc.create_token(**request)
    assert "was used before" in refused.value.response["Error"]["Message"]


def test_a_registration_says_when_it_ends_in_seconds(daypass):
    now = timezone.now().timestamp()
    said = say(daypass, REGISTER, {"clientName": "x", "clientType": "public"}).json

    assert abs(said["clientIdIssuedAt"] - now) < 60
    assert said["clientSecretExpiresAt"] - said["clientIdIssuedAt"] == 90 * 86400


def test_the_page_to_open_is_ours_and_does_not_carry_the_code(daypass):
    registration, secret = register_for_device()
    said = say(daypass, START, id_of(registration, secret) | {"startUrl": "https://x"}).json

    assert said["verificationUri"] == f"{daypass.url}/device"
    assert said["userCode"] not in said["verificationUriComplete"]
    assert re.fullmatch(r"[B-Z]{4}-[B-Z]{4}", said["userCode"])
    assert (said["expiresIn"], said["interval"]) == (600, 5)


def test_a_restart_with_an_emptied_cache_between_all_steps_loses_nothing(daypass, ada):
    from django.core.cache import cache

    from accounts import throttle

    def restart() -> None:
        cache.clear()
        throttle.forget()

    oidc = daypass.oidc()
    client = oidc.register_client(clientName="botocore-client-dev", clientType="public")
    mine = {"clientId": client["clientId"], "clientSecret": client["clientSecret"]}
    restart()
    started = oidc.start_device_authorization(**mine, startUrl="https://x")
    restart()
    approve(started, ada, daypass.sign_in(ada))
    restart()
    tokens = oidc.create_token(**mine, grantType=DEVICE, deviceCode=started["deviceCode"])
    restart()
    renew = {**mine, "grantType": "refresh_token"}
    tokens = oidc.create_token(**renew, refreshToken=tokens["refreshToken"])
    restart()
    assert oidc.create_token(**renew, refreshToken=tokens["refreshToken"])["accessToken"]


# --- Every error, held against the model


def id_of(registration, secret) -> dict[str, object]:
    return {"clientId": registration.id, "clientSecret": secret}


def test_every_end_of_a_device_code_has_its_name(daypass, ada):
    registration, secret = register_for_device()
    mine = id_of(registration, secret)

    def started():
        return say(daypass, START, mine | {"startUrl": "https://x"}).json

    def told(code: str) -> tuple[str, int]:
        reply = say(daypass, TOKEN, mine | {"grantType": DEVICE, "deviceCode": code})
        return reply.fault, reply.status

    pending = started()
    assert told(pending["deviceCode"]) == ("AuthorizationPendingException", 400)
    told(pending["deviceCode"])
    assert told(pending["deviceCode"]) == ("SlowDownException", 400)

    denied = started()
    asker = services.Asker("198.51.100.7")
    request = services.find_device(denied["userCode"], principal(ada), asker, now=timezone.now())
    services.deny_device(request.pk, principal(ada), asker, now=timezone.now())
    assert told(denied["deviceCode"]) == ("AccessDeniedException", 400)

    DeviceRequest.objects.update(expires_at=timezone.now())
    assert told(pending["deviceCode"]) == ("ExpiredTokenException", 400)
    assert told("made up") == ("InvalidGrantException", 400)


def test_a_token_of_a_terminal_that_ended_says_why(daypass, ada):
    terminal, tokens, registration, secret = signed_in_terminal(ada)
    services.end_lines([terminal.line], timezone.now())
    reply = say(
        daypass,
        TOKEN,
        id_of(registration, secret)
        | {"grantType": "refresh_token", "refreshToken": tokens.refresh},
    )

    assert (reply.fault, reply.status) == ("InvalidGrantException", 400)
    assert reply.json["error"] == "invalid_grant"
    assert "signed out" in reply.json["message"]
    assert "aws sso login" in reply.json["message"]


@pytest.mark.parametrize(
    ("path", "body", "fault"),
    [
        (REGISTER, {}, "InvalidClientMetadataException"),
        (REGISTER, {"clientName": "x", "clientType": "web"}, "InvalidClientMetadataException"),
        (
            REGISTER,
            {"clientName": "x", "clientType": "public", "redirectUris": ["https://evil.example"]},
            "InvalidRedirectUriException",
        ),
        (
            REGISTER,
            {"clientName": "x", "clientType": "public", "grantTypes": ["password"]},
            "UnsupportedGrantTypeException",
        ),
        (
            REGISTER,
            {"clientName": "x", "clientType": "public", "scopes": [1]},
            "InvalidScopeException",
        ),
        (START, {}, "InvalidRequestException"),
        (START, {"clientId": "x", "clientSecret": "y", "startUrl": "z"}, "InvalidClientException"),
        (START, {"clientId": 1, "clientSecret": [], "startUrl": {}}, "InvalidRequestException"),
        (TOKEN, {}, "InvalidRequestException"),
        (TOKEN, {"grantType": "password"}, "UnsupportedGrantTypeException"),
        (TOKEN, {"grantType": "refresh_token"}, "InvalidRequestException"),
        (
            TOKEN,
            {"grantType": DEVICE, "clientId": "x.y", "clientSecret": "z"},
            "InvalidClientException",
        ),
        (
            TOKEN,
            {"grantType": DEVICE, "clientId": "\ud800\x00", "clientSecret": "z"},
            "InvalidRequestException",
        ),
    ],
)
def test_what_cannot_be_done_is_told_by_its_name(daypass, path, body, fault):
    reply = say(daypass, path, body)

    assert reply.fault == fault
    assert reply.json["message"].endswith(".")


@pytest.mark.parametrize("missing", ["deviceCode"])
def test_what_is_missing_is_named(daypass, missing):
    registration, secret = register_for_device()
    reply = say(daypass, TOKEN, id_of(registration, secret) | {"grantType": DEVICE})

    assert reply.json["message"] == f"{missing} is missing."


def test_a_client_uses_only_the_grants_it_registered_for(daypass):
    registration, secret = register()
    mine = id_of(registration, secret)

    for path, body in (
        (START, mine | {"startUrl": "https://x"}),
        (TOKEN, mine | {"grantType": DEVICE, "deviceCode": "x"}),
    ):
        reply = say(daypass, path, body)
        assert (reply.fault, reply.status) == ("UnauthorizedClientException", 400)
    assert not DeviceRequest.objects.exists()


def test_administrators_who_switch_device_codes_off_are_named_in_the_answer(daypass):
    TerminalPolicy.objects.create(device_codes=False)
    registration, secret = register_for_device()
    reply = say(daypass, START, id_of(registration, secret) | {"startUrl": "https://x"})

    assert (reply.fault, reply.status) == ("UnauthorizedClientException", 400)
    assert "administrators do not allow sign-in by device code" in reply.json["message"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b"clientName=x&clientType=public",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"clientName": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_json_object_gets_an_answer_like_all_others(daypass, raw):
    for path in OPERATIONS:
        reply = say(daypass, path, raw)
        assert reply.status == 400


def test_unknown_members_are_ignored(daypass):
    reply = say(
        daypass,
        REGISTER,
        {"clientName": "x", "clientType": "public", "entitledApplicationArn": "a", "new": {"x": 1}},
    )

    assert reply.status == 200


def test_a_body_of_more_than_64_kib_is_not_read(daypass):
    for path in OPERATIONS:
        reply = ask(daypass.aws, "POST", path, b'{"x": "' + b"x" * 70_000 + b'"}')

        assert reply.status == 413
        assert reply.fault == "InvalidRequestException"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_another_method_is_told_which_one_it_is(daypass, method):
    reply = ask(daypass.aws, method, TOKEN)

    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-amzn-errortype"] == "InvalidRequestException"
    if method != "HEAD":
        assert reply.json["error"] == "invalid_request"
        assert "asked by POST" in reply.json["message"]


@pytest.mark.parametrize("path", ["", "/", "/token/", "/client", "/clients/register", "/v1/x/y"])
def test_nothing_under_our_address_is_a_page_or_a_redirect(daypass, path):
    for method in ("GET", "POST"):
        reply = ask(daypass.aws, method, path, b"{}" if method == "POST" else None)

        assert reply.status == 404
        assert reply.headers["content-type"] == "application/json"
        assert reply.json["message"]


def test_no_browser_s_session_is_looked_at(daypass, ada):
    browser = daypass.sign_in(ada)
    cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in browser.cookies.items())
    reply = say(daypass, REGISTER, {"clientName": "x", "clientType": "public"}, Cookie=cookie)

    assert reply.status == 200
    assert daypass.sign_in(ada)


# --- How often


def test_a_network_that_asks_too_much_is_told_to_slow_down(daypass, monkeypatch):
    for name in ("REGISTRATIONS", "STARTS", "TOKENS"):
        monkeypatch.setattr(oidc_views, name, 2)
    registration, secret = register_for_device()
    bodies = {
        REGISTER: {"clientName": "x", "clientType": "public"},
        START: id_of(registration, secret) | {"startUrl": "https://x"},
    }
    for path, body in bodies.items():
        assert [say(daypass, path, body).status for _ in range(2)] == [200, 200]
        reply = say(daypass, path, body)
        assert (reply.fault, reply.status) == ("SlowDownException", 400)
        assert reply.headers["retry-after"] == "60"


def test_all_together_may_wait_for_so_many_codes_only(daypass, monkeypatch):
    monkeypatch.setattr(oidc_views, "STARTS_OF_ALL", 1)
    registration, secret = register_for_device()
    body = id_of(registration, secret) | {"startUrl": "https://x"}

    assert say(daypass, START, body).status == 200
    assert say(daypass, START, body).fault == "SlowDownException"


# --- When something is wrong with us


def test_what_goes_wrong_inside_is_told_by_a_number_and_nothing_else(daypass, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr("broker.awssso.registrations.register", broken)
    reply = say(daypass, REGISTER, {"clientName": "x", "clientType": "public"})

    assert (reply.fault, reply.status) == ("InternalServerException", 500)
    assert reply.headers["x-amzn-requestid"] in reply.json["message"]
    assert b"hunter2" not in reply.body
    assert any(
        getattr(record, "reference", "") == reply.headers["x-amzn-requestid"]
        for record in caplog.records
    )


def test_a_missing_key_of_ours_is_told_in_our_words(daypass, settings):
    settings.DAYPASS_SEALING_KEYS = []
    reply = say(daypass, REGISTER, {"clientName": "x", "clientType": "public"})

    assert (reply.fault, reply.status) == ("InternalServerException", 500)
    assert "administrator" in reply.json["message"]


def test_the_number_of_an_answer_leads_to_what_was_recorded(daypass, ada):
    _t, tokens, registration, secret = signed_in_terminal(ada)
    mine = id_of(registration, secret) | {
        "grantType": "refresh_token",
        "refreshToken": tokens.refresh,
    }
    say(daypass, TOKEN, mine)
    TerminalToken.objects.filter(used=1).update(used_at=timezone.now() - timedelta(minutes=2))
    reply = say(daypass, TOKEN, mine)

    event = AuditEvent.objects.get(kind="terminal.reused")
    assert event.reference == reply.headers["x-amzn-requestid"]
