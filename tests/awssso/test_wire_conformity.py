"""The examiner examined: what the comparison with AWS's service models accepts, and that it sees every flaw."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.awssso.conformity import Reply, faults, service_model

GOOD_HEADERS = {
    "content-type": "application/json",
    "cache-control": "no-store",
    "x-amzn-requestid": "0b5b1b1e-6f0e-4d8a-9d5e-7d7f2f0f7c11",
}

REGISTERED = {
    "clientId": "c",
    "clientSecret": "s",
    "clientIdIssuedAt": 1_790_000_000,
    "clientSecretExpiresAt": 1_797_000_000,
}
STARTED = {
    "deviceCode": "d",
    "userCode": "ABCD-EFGH",
    "verificationUri": "https://daypass.test/device",
    "verificationUriComplete": "https://daypass.test/device",
    "expiresIn": 600,
    "interval": 5,
}
TOKENS = {"accessToken": "a", "refreshToken": "r", "tokenType": "Bearer", "expiresIn": 3600}
KEYS = {
    "roleCredentials": {
        "accessKeyId": "ASIA",
        "secretAccessKey": "s",
        "sessionToken": "t",
        "expiration": 1_790_000_000_000,
    }
}
LOGIN = {
    "accessToken": {"accessKeyId": "ASIA", "secretAccessKey": "s", "sessionToken": "t"},
    "tokenType": "aws_sigv4",
    "expiresIn": 900,
    "refreshToken": "r",
    "idToken": "a.b.c",
}


def reply(said: Any, status: int = 200, **headers: str) -> Reply:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, GOOD_HEADERS | more, body)


@pytest.mark.parametrize(
    ("service", "operation", "said"),
    [
        ("sso-oidc", "RegisterClient", REGISTERED),
        ("sso-oidc", "StartDeviceAuthorization", STARTED),
        ("sso-oidc", "CreateToken", TOKENS),
        ("sso", "ListAccounts", {"accountList": [{"accountId": "111122223333"}]}),
        ("sso", "ListAccountRoles", {"roleList": [], "nextToken": "t"}),
        ("sso", "GetRoleCredentials", KEYS),
        ("sso", "Logout", b""),
        ("signin", "CreateOAuth2Token", LOGIN),
    ],
)
def test_an_answer_as_the_model_has_it_is_accepted(service, operation, said):
    assert faults(service, operation, reply(said)) == []


@pytest.mark.parametrize(
    ("operation", "said", "fault"),
    [
        ("RegisterClient", REGISTERED | {"clientSecretExpiresAt": 1_797_000_000.0}, "whole number"),
        (
            "RegisterClient",
            REGISTERED | {"clientSecretExpiresAt": 1_797_000_000_000},
            "not in seconds",
        ),
        ("RegisterClient", REGISTERED | {"clientIdIssuedAt": 0}, "not in seconds"),
        ("RegisterClient", REGISTERED | {"hint": "h"}, "has hint"),
        ("RegisterClient", {"clientId": "c"}, "clientSecretExpiresAt is missing"),
        ("StartDeviceAuthorization", STARTED | {"interval": True}, "whole number"),
        ("StartDeviceAuthorization", STARTED | {"expiresIn": "600"}, "whole number"),
        ("CreateToken", {**TOKENS, "refreshToken": None}, "no text"),
        ("CreateToken", {"accessToken": "a"}, "refreshToken is missing"),
        ("CreateToken", [TOKENS], "no object"),
    ],
)
def test_an_answer_of_another_form_is_told(operation, said, fault):
    assert any(fault in told for told in faults("sso-oidc", operation, reply(said)))


@pytest.mark.parametrize("expiration", [1_790_000_000, 1_790_000_000_000.5, "2026-11-21T10:00:00Z"])
def test_an_expiration_in_another_unit_is_told(expiration):
    given = {"roleCredentials": KEYS["roleCredentials"] | {"expiration": expiration}}

    assert faults("sso", "GetRoleCredentials", reply(given)) != []


def refusal(fault: str, status: int = 400, **said: object) -> Reply:
    body = {"message": "No.", "error": "invalid_grant", "error_description": "No."} | said
    return reply({k: v for k, v in body.items() if v is not None}, status, x_amzn_errortype=fault)


def test_errors_as_the_models_have_them_are_accepted():
    assert faults("sso-oidc", "CreateToken", refusal("InvalidGrantException")) == []
    plain = {"error": None, "error_description": None}
    assert faults("sso", "ListAccounts", refusal("UnauthorizedException", 401, **plain)) == []
    assert faults("sso", "ListAccounts", refusal("ForbiddenException", 403, **plain)) == []
    expired = refusal("AccessDeniedException", error="TOKEN_EXPIRED", error_description=None)
    assert faults("signin", "CreateOAuth2Token", expired) == []


@pytest.mark.parametrize(
    ("service", "operation", "bad", "fault"),
    [
        ("sso-oidc", "CreateToken", refusal("InvalidClientException", 400), "status 400"),
        ("sso-oidc", "RegisterClient", refusal("AccessDeniedException"), "knows no"),
        ("sso-oidc", "CreateToken", refusal(""), "knows no ''"),
        ("sso-oidc", "CreateToken", refusal("InvalidGrantException", message=" "), "no message"),
        ("sso-oidc", "CreateToken", refusal("InvalidGrantException", error="No!"), "no code"),
        ("sso", "ListAccounts", refusal("UnauthorizedException", 401), "has error"),
        ("sso", "Logout", refusal("ResourceNotFoundException", 404), "knows no"),
        ("sso", "ListAccounts", refusal("UnauthorizedException", 200), "status 200"),
        ("signin", "CreateOAuth2Token", refusal("ValidationException", error="x"), "none of"),
    ],
)
def test_errors_of_another_form_are_told(service, operation, bad, fault):
    assert any(fault in told for told in faults(service, operation, bad))


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ({"set_cookie": "a=b"}, "sets a cookie"),
        ({"location": "/sign-in/"}, "redirects"),
        ({"cache_control": "private"}, "stored by a cache"),
        ({"x_amzn_requestid": ""}, "x-amzn-RequestId"),
        ({"content_type": "text/html"}, "its type"),
        ({"www_authenticate": "Basic"}, "password"),
    ],
)
def test_bad_manners_are_told(headers, fault):
    assert any(
        fault in told for told in faults("sso-oidc", "CreateToken", reply(TOKENS, **headers))
    )


def test_a_page_is_told():
    told = faults("sso-oidc", "CreateToken", reply(b"<!doctype html><html>", 403))

    assert "it is a page" in told and "it is no JSON" in told


def test_the_models_are_those_of_the_installed_botocore():
    assert service_model("sso").operation_model("Logout").output_shape is None
