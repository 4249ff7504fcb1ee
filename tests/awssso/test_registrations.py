"""Clients that register themselves: nothing is kept of them, and nothing about them is believed."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from broker.awssso import registrations, rules
from broker.awssso.wire import Fault, WireError
from tests.awssso.conftest import register, register_for_device


def refused(work) -> Fault:
    with pytest.raises(WireError) as raised:
        work()
    assert raised.value.failure.message.endswith(".")
    return raised.value.failure.fault


def with_keys(settings, *keys: bytes) -> None:
    settings.DAYPASS_SEALING_KEYS = [base64.urlsafe_b64encode(key * 32).decode() for key in keys]


@pytest.mark.django_db
def test_a_registration_is_known_without_being_stored():
    with CaptureQueriesContext(
        connection,
    ) as queries:
        made, secret = register(name="botocore-client-dev")
        read = registrations.verified(made.id, secret, now=timezone.now())

    assert read == made
    assert read.name == "botocore-client-dev"
    assert read.scopes == ("sso:account:access",)
    assert read.redirect_uris == ("http://127.0.0.1/oauth/callback",)
    assert registrations.read(made.id, now=timezone.now()) == made
    assert not queries.captured_queries


def test_two_registrations_of_the_same_client_are_two():
    assert register()[0].id != register()[0].id


def test_a_registration_ends_after_ninety_days():
    now = timezone.now()
    made, secret = register()

    registrations.verified(made.id, secret, now=now + timedelta(days=89, hours=23))
    later = now + timedelta(days=90)
    assert (
        refused(lambda: registrations.verified(made.id, secret, now=later)) is Fault.INVALID_CLIENT
    )


def test_neither_id_nor_secret_can_be_made_up_or_exchanged():
    now = timezone.now()
    mine, my_secret = register()
    yours, your_secret = register()
    body, _, mark = mine.id.partition(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    altered = (
        base64.urlsafe_b64encode(json.dumps(said | {"n": "AWS"}).encode()).decode().rstrip("=")
    )

    for id, secret in (
        (mine.id, your_secret),
        (yours.id, my_secret),
        (mine.id, ""),
        (mine.id, mark),
        (f"{altered}.{mark}", my_secret),
        (f"{body}.", my_secret),
        (body, my_secret),
        (f"{body}.{mark}A", my_secret),
        (mine.id + "\n", my_secret),
        ("", ""),
        (".", "."),
        ("é.é", "é"),
        ("\ud800.x", "\ud800"),
        ("x" * 100_000, my_secret),
    ):
        assert (
            refused(lambda id=id, secret=secret: registrations.verified(id, secret, now=now))
            is Fault.INVALID_CLIENT
        )


def test_a_change_of_the_sealing_key_forgets_no_client(settings):
    now = timezone.now()
    with_keys(settings, b"a")
    made, secret = register()
    with_keys(settings, b"b", b"a")
    assert registrations.verified(made.id, secret, now=now) == made
    newer, newer_secret = register()

    with_keys(settings, b"b")
    assert registrations.verified(newer.id, newer_secret, now=now) == newer
    assert refused(lambda: registrations.verified(made.id, secret, now=now)) is Fault.INVALID_CLIENT


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"clientName": ""}, Fault.INVALID_CLIENT_METADATA),
        ({"clientName": None}, Fault.INVALID_CLIENT_METADATA),
        ({"clientName": "\u202e\x00"}, Fault.INVALID_CLIENT_METADATA),
        ({"clientType": "confidential"}, Fault.INVALID_CLIENT_METADATA),
        ({"scopes": "sso:account:access"}, Fault.INVALID_SCOPE),
        ({"scopes": ["with blank"]}, Fault.INVALID_SCOPE),
        ({"scopes": [{}]}, Fault.INVALID_SCOPE),
        ({"grantTypes": ["client_credentials"]}, Fault.UNSUPPORTED_GRANT_TYPE),
        ({"grantTypes": [["authorization_code"]]}, Fault.UNSUPPORTED_GRANT_TYPE),
        ({"grantTypes": ["authorization_code"], "redirectUris": []}, Fault.INVALID_REDIRECT_URI),
        ({"redirectUris": ["https://evil.example/oauth/callback"]}, Fault.INVALID_REDIRECT_URI),
        ({"redirectUris": "http://127.0.0.1/oauth/callback"}, Fault.INVALID_REDIRECT_URI),
        ({"redirectUris": [7]}, Fault.INVALID_REDIRECT_URI),
    ],
)
def test_what_cannot_be_registered_is_refused_by_the_name_of_its_fault(said, fault):
    assert refused(lambda: register(**{"name": "x", **said})) is fault


def test_a_client_that_says_nothing_of_grants_uses_device_codes():
    made, _ = register_for_device()

    assert made.grants == (registrations.DEVICE_CODE, registrations.REFRESH_TOKEN)


def test_a_name_is_cut_and_cleaned_and_an_id_stays_short_enough_for_an_address():
    made, _ = register(
        name="\x1b[31mAWS\u202e official\n" + "\N{GRINNING FACE}" * 300,
        scopes=[f"scope:{n}" * 5 for n in range(60)],
    )

    assert len(made.name) <= 100
    assert made.name.startswith("[31mAWS official")
    assert len(made.id) < 2000


# --- Where codes are brought


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:39953/oauth/callback",
        "http://127.0.0.1/oauth/callback",
        "http://127.0.0.1:1/oauth/callback",
        "http://127.0.0.1:65535/oauth/callback",
        "http://[::1]:8400/oauth/callback",
    ],
)
def test_a_listener_on_the_same_computer_is_fine_on_any_port(uri):
    host = "[::1]" if "[" in uri else "127.0.0.1"

    assert rules.loopback(uri) == f"http://{host}/oauth/callback"
    assert rules.may_redirect(uri, [f"http://{host}/oauth/callback"])


@pytest.mark.parametrize(
    "uri",
    [
        "https://127.0.0.1/oauth/callback",
        "http://localhost/oauth/callback",
        "http://127.0.0.2/oauth/callback",
        "http://127.1/oauth/callback",
        "http://2130706433/oauth/callback",
        "http://0.0.0.0/oauth/callback",
        "http://127.0.0.1.evil.example/oauth/callback",
        "http://127.0.0.1@evil.example/oauth/callback",
        "http://evil.example@127.0.0.1/oauth/callback",
        "http://127.0.0.1:80@evil.example/oauth/callback",
        "http://127.0.0.1:0/oauth/callback",
        "http://127.0.0.1:65536/oauth/callback",
        "http://127.0.0.1:080/oauth/callback",
        "http://127.0.0.1:/oauth/callback",
        "http://127.0.0.1/oauth/callback/",
        "http://127.0.0.1/oauth/callback?x=1",
        "http://127.0.0.1/oauth/callback#x",
        "http://127.0.0.1/oauth/callback\n",
        "http://127.0.0.1/oauth/../oauth/callback",
        "http://127.0.0.1/Oauth/callback",
        "http://127.0.0.1\\oauth\\callback",
        "http://127.0.0.1:\u0661/oauth/callback",
        "HTTP://127.0.0.1/oauth/callback",
        "http://[::1%25lo]/oauth/callback",
        "http://[::ffff:127.0.0.1]/oauth/callback",
        "//127.0.0.1/oauth/callback",
        "javascript:alert(1)",
        "",
        None,
    ],
)
def test_anywhere_else_gets_no_code(uri):
    assert rules.loopback(uri) is None
    assert not rules.may_redirect(uri, [uri, "http://127.0.0.1/oauth/callback"])


def test_a_code_goes_only_to_the_kind_of_address_that_was_registered():
    assert not rules.may_redirect(
        "http://[::1]:9/oauth/callback", ["http://127.0.0.1/oauth/callback"]
    )
    assert not rules.may_redirect("http://127.0.0.1:9/oauth/callback", [])


# --- PKCE


def test_the_challenge_of_rfc_7636_is_met_by_its_verifier_only():
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

    assert rules.proves("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", challenge)
    assert not rules.proves("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXK", challenge)
    assert not rules.proves(challenge, challenge)  # as "plain" would have it
    assert not rules.proves("", challenge)
    assert not rules.proves("é" * 43, challenge)


@pytest.mark.parametrize(
    ("challenge", "method", "fine"),
    [
        ("A" * 43, "S256", True),
        ("A" * 43, "SHA-256", True),
        ("A" * 43, "plain", False),
        ("A" * 43, "", False),
        ("A" * 43, None, False),
        ("A" * 42, "S256", False),
        ("A" * 44, "S256", False),
        ("A" * 42 + "=", "S256", False),
        ("", "S256", False),
        (None, "S256", False),
    ],
)
def test_nothing_weaker_than_sha_256_is_a_challenge(challenge, method, fine):
    assert rules.is_challenge(challenge, method) is fine


# --- Codes that people type


def test_a_code_is_read_as_people_type_it():
    code = rules.new_user_code()

    assert len(code) == 9 and code[4] == "-"
    for typed in (code, code.lower(), f" {code[:4]} {code[5:]} ", code.replace("-", "")):
        assert rules.read_user_code(typed) == code


@pytest.mark.parametrize(
    "typed",
    ["", "BCDF-GHJ", "BCDF-GHJKL", "ABCD-EFGH", "BCDF-GHJ1", "BCDF-GHJK<", "\uff22" * 8, "B" * 900],
)
def test_what_cannot_be_a_code_is_none(typed):
    assert rules.read_user_code(typed) is None
