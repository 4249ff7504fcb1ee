"""Authorization codes in the wrong hands: another client, another listener, a weaker proof, a second time, too late."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.awssso import registrations, services
from broker.awssso.models import Terminal, TerminalToken
from broker.errors import BadInput
from tests.awssso.abuse import Cli, stranger, through
from tests.awssso.conftest import REDIRECT, let_in, pkce

pytestmark = pytest.mark.django_db


@dataclass
class Given:
    """A code as the browser brings it to the client's listener, and all that belongs to it."""

    cli: Cli
    code: str
    verifier: str
    challenge: str
    terminal: Terminal

    def exchange(self, **otherwise: object):
        members = {"code": self.code, "codeVerifier": self.verifier, "redirectUri": REDIRECT}
        return self.cli.token("authorization_code", **(members | otherwise))


def client(**more: object) -> Cli:
    cli = Cli(through(stranger()))
    assert not cli.register(**more).fault
    return cli


def code_for(person, cli: Cli, *, redirect: str = REDIRECT) -> Given:
    registration = registrations.read(cli.id, now=timezone.now())
    verifier, challenge = pkce()
    terminal = let_in(person, registration)
    code = services.give_code(
        terminal, redirect_uri=redirect, challenge=challenge, method="S256", now=timezone.now()
    )
    return Given(cli, code, verifier, challenge, terminal)


@pytest.fixture
def given(ada) -> Given:
    return code_for(ada, client())


def test_the_code_is_good_for_its_own_client(given):
    """What every other test here takes something away from."""
    reply = given.exchange()

    assert reply.status == 200
    assert reply.json["expiresIn"] == 3600


def test_a_code_that_comes_again_ends_the_whole_sign_in(given):
    tokens = given.exchange().json

    assert given.exchange().fault == "InvalidGrantException"

    assert given.cli.refresh(tokens["refreshToken"]).fault == "InvalidGrantException"
    given.terminal.refresh_from_db()
    assert given.terminal.ended_because == Terminal.Ended.REUSED
    assert AuditEvent.objects.filter(kind="terminal.reused").count() == 1


def test_a_second_use_is_noticed_whoever_brings_the_code(given):
    """A thief who was too late has neither the verifier nor the client; the sign-in ends all the same."""
    given.exchange()
    thief = client(clientName="thief")

    reply = thief.exchange(given.code, "v" * 43, "http://127.0.0.1:1/oauth/callback")

    assert reply.fault == "InvalidGrantException"
    given.terminal.refresh_from_db()
    assert given.terminal.ended_because == Terminal.Ended.REUSED


def test_a_code_is_good_for_a_minute(given):
    TerminalToken.objects.filter(kind="code").update(expires_at=timezone.now())

    assert given.exchange().fault == "InvalidGrantException"


def test_another_client_gets_nothing_for_a_code_and_its_own_still_does(given):
    thief = client(clientName="thief")

    refused = thief.exchange(given.code, given.verifier, REDIRECT)

    assert refused.fault == "InvalidGrantException"
    assert given.exchange().status == 200


@pytest.mark.parametrize(
    "redirect",
    [
        "http://127.0.0.1:39954/oauth/callback",
        "http://127.0.0.1/oauth/callback",
        "http://[::1]:39953/oauth/callback",
        "http://localhost:39953/oauth/callback",
        "http://127.0.0.1:39953/oauth/callback/",
        "http://127.0.0.1:39953/oauth/other",
        "https://127.0.0.1:39953/oauth/callback",
        "HTTP://127.0.0.1:39953/oauth/callback",
        "http://127.0.0.1:39953/oauth/callback#",
        "http://127.0.0.1:39953/oauth/callback?",
        " http://127.0.0.1:39953/oauth/callback",
    ],
)
def test_a_code_is_exchanged_for_the_very_listener_it_was_given_to(given, redirect):
    assert given.exchange(redirectUri=redirect).fault == "InvalidGrantException"
    assert given.exchange().status == 200


@pytest.mark.parametrize(
    "redirect", [None, "", 7, [REDIRECT], {"uri": REDIRECT}, "x" * 9000, "\x00" + REDIRECT]
)
def test_a_listener_that_is_no_address_is_refused(given, redirect):
    assert given.exchange(redirectUri=redirect).fault == "InvalidRequestException"


@pytest.mark.parametrize(
    "uri",
    [
        "https://127.0.0.1/oauth/callback",
        "http://localhost/oauth/callback",
        "http://127.0.0.2/oauth/callback",
        "http://127.1/oauth/callback",
        "http://127.0.0.1./oauth/callback",
        "http://0x7f.0.0.1/oauth/callback",
        "http://2130706433/oauth/callback",
        "http://0.0.0.0/oauth/callback",
        "http://[::]/oauth/callback",
        "http://[0:0:0:0:0:0:0:1]/oauth/callback",
        "http://[::ffff:127.0.0.1]/oauth/callback",
        "http://[::1%25lo]/oauth/callback",
        "http://::1/oauth/callback",
        "http://127.0.0.1@evil.example/oauth/callback",
        "http://evil.example@127.0.0.1/oauth/callback",
        "http://user:word@127.0.0.1/oauth/callback",
        "http://127.0.0.1:80@evil.example/oauth/callback",
        "http://127.0.0.1.evil.example/oauth/callback",
        "http://127.0.0.1\\@evil.example/oauth/callback",
        "http://127.0.0.1:/oauth/callback",
        "http://127.0.0.1:0/oauth/callback",
        "http://127.0.0.1:65536/oauth/callback",
        "http://127.0.0.1:080/oauth/callback",
        "http://127.0.0.1:\u0661/oauth/callback",
        "http://127.0.0.1/oauth/callback/",
        "http://127.0.0.1/oauth/callback/../x",
        "http://127.0.0.1/oauth/./callback",
        "http://127.0.0.1//oauth/callback",
        "http://127.0.0.1/oauth%2Fcallback",
        "http://127.0.0.1/oauth/callback?next=https://evil.example",
        "http://127.0.0.1/oauth/callback#@evil.example",
        "http://127.0.0.1/oauth/callback\n",
        "http://127.0.0.1/oauth/callback\r\nX: y",
        "http://127.0.0.1/oauth/callback;x",
        "http:/127.0.0.1/oauth/callback",
        "//127.0.0.1/oauth/callback",
        "javascript:alert(1)//127.0.0.1/oauth/callback",
        "http://127.0.0.1/oauth/callback\u2028",
        "http://127.0.0.1/",
        "urn:ietf:wg:oauth:2.0:oob",
        "",
    ],
)
def test_only_a_listener_on_the_same_computer_can_be_registered(uri):
    cli = Cli(through(stranger()))

    reply = cli.register(redirectUris=["http://127.0.0.1/oauth/callback", uri])

    assert reply.fault == "InvalidRedirectUriException"


@pytest.mark.parametrize(
    "uri", ["http://[::1]/oauth/callback", "http://127.0.0.1:8080/oauth/callback"]
)
def test_both_loopback_addresses_can_be_with_any_port(uri):
    assert Cli(through(stranger())).register(redirectUris=[uri]).status == 200


@pytest.mark.parametrize("redirects", [None, [], "http://127.0.0.1/oauth/callback", {}, [None], 1])
def test_a_client_of_the_browser_flow_without_a_listener_is_none(redirects):
    reply = Cli(through(stranger())).register(redirectUris=redirects)

    assert reply.fault == "InvalidRedirectUriException"


# --- PKCE


@pytest.mark.parametrize(
    ("challenge", "method"),
    [
        ("v" * 43, "plain"),
        ("v" * 43, ""),
        ("v" * 43, "s256"),
        ("v" * 43, "SHA256"),
        ("v" * 43, "none"),
        ("v" * 43, None),
        ("v" * 42, "S256"),
        ("v" * 44, "S256"),
        ("", "S256"),
        (None, "S256"),
        ("v" * 42 + "=", "S256"),
        ("v" * 42 + "+", "S256"),
        ("v" * 42 + "\n", "S256"),
        ("v" * 42 + "é", "S256"),
    ],
)
def test_no_code_is_given_for_a_weaker_promise(ada, challenge, method):
    terminal = let_in(ada)

    with pytest.raises(BadInput):
        services.give_code(
            terminal,
            redirect_uri=REDIRECT,
            challenge=challenge,
            method=method,
            now=timezone.now(),
        )

    assert not TerminalToken.objects.exists()


@pytest.mark.parametrize(
    "verifier",
    ["v" * 43, "v" * 42, "v" * 129, "v" * 4000, "é" * 43, "v" * 42 + " ", "v" * 42 + "="],
)
def test_a_code_needs_the_verifier_it_was_promised(given, verifier):
    assert given.exchange(codeVerifier=verifier).fault == "InvalidGrantException"
    assert given.exchange().status == 200


def test_the_challenge_itself_is_no_verifier(given):
    """As it would be by the method `plain`, which the challenge travelled openly for."""
    assert given.exchange(codeVerifier=given.challenge).fault == "InvalidGrantException"


@pytest.mark.parametrize("verifier", [None, "", 0, False, [], ["v" * 43], {"v": 1}, "\ud800"])
def test_without_a_verifier_nothing_is_given(given, verifier):
    assert given.exchange(codeVerifier=verifier).fault == "InvalidRequestException"
    assert given.exchange().status == 200


def test_a_verifier_under_the_name_that_oauth_gives_it_does_not_count(given):
    members = {"code": given.code, "code_verifier": given.verifier, "redirectUri": REDIRECT}

    reply = given.cli.token("authorization_code", **members)

    assert reply.fault == "InvalidRequestException"


def test_a_shorter_or_longer_verifier_is_none_even_when_its_hash_fits(ada):
    """RFC 7636 section 4.1: 43 to 128 characters."""
    import base64
    import hashlib

    for length, status in ((42, 400), (43, 200), (128, 200), (129, 400)):
        cli, verifier = client(), "v" * length
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        terminal = let_in(ada, registrations.read(cli.id, now=timezone.now()))
        code = services.give_code(
            terminal, redirect_uri=REDIRECT, challenge=challenge, method="S256", now=timezone.now()
        )

        assert cli.exchange(code, verifier, REDIRECT).status == status, length


# --- The client itself


def flipped(text: str, place: int) -> str:
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


def test_a_client_with_another_s_secret_or_an_altered_id_is_none(given):
    other = client()
    cli = given.cli
    real = cli.id, cli.secret
    wrong = [
        (real[0], other.secret),
        (other.id, real[1]),
        (real[0], flipped(real[1], 5)),
        (real[0], real[1] + "A"),
        (real[0], real[1][:-1]),
        (flipped(real[0], 10), real[1]),
        (flipped(real[0], len(real[0]) - 3), real[1]),
        (real[0].partition(".")[0], real[1]),
        (real[0] + ".", real[1]),
        (real[0] + "." + real[0].partition(".")[2], real[1]),
        ("." + real[0].partition(".")[2], real[1]),
        (real[0].replace(".", "..", 1), real[1]),
        ("é" + real[0], real[1]),
        (real[0], "é" * 43),
        ("x" * 5000, real[1]),
        ("null", "null"),
    ]

    for cli.id, cli.secret in wrong:
        assert given.exchange().fault == "InvalidClientException", cli.id[:40]
        assert cli.start().fault == "InvalidClientException"

    cli.id, cli.secret = real
    assert given.exchange().status == 200


def test_a_client_of_other_keys_is_none(given, settings):
    """One that another installation made."""
    settings.DAYPASS_SEALING_KEYS = ["YW5vdGhlciBrZXkgYWx0b2dldGhlciwgMzIgYnl0ZXM="]

    assert given.exchange().fault == "InvalidClientException"


def test_a_client_is_over_after_its_time(given, monkeypatch):
    monkeypatch.setattr(registrations, "LIFETIME", timedelta(0))

    assert given.exchange().fault == "InvalidClientException"
    assert given.cli.start().fault == "InvalidClientException"


@pytest.mark.parametrize("value", [None, "", 1, [], {}, True])
def test_a_client_without_a_secret_is_none(given, value):
    given.cli.secret = value

    assert given.exchange().fault == "InvalidRequestException"


def test_a_client_does_what_it_registered_for_and_nothing_else(given):
    """The client of the browser flow starts no device codes; that of the device flow exchanges no codes."""
    assert given.cli.start().fault == "UnauthorizedClientException"
    device = Cli(through(stranger()))
    device.register_for_device()
    refused = device.exchange(given.code, given.verifier, REDIRECT)
    assert refused.fault == "UnauthorizedClientException"

    for grant in (
        *("password", "client_credentials", "implicit", "AUTHORIZATION_CODE", "refresh_token "),
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "urn:ietf:params:oauth:grant-type:token-exchange",
    ):
        assert given.exchange(grantType=grant).fault == "UnsupportedGrantTypeException"
    assert given.exchange().status == 200


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"clientType": "confidential"}, "InvalidClientMetadataException"),
        ({"clientType": None}, "InvalidClientMetadataException"),
        ({"clientName": None}, "InvalidClientMetadataException"),
        ({"clientName": "\u202e\u200b"}, "InvalidClientMetadataException"),
        ({"clientName": 7}, "InvalidClientMetadataException"),
        ({"grantTypes": ["implicit"]}, "UnsupportedGrantTypeException"),
        ({"grantTypes": [{}]}, "UnsupportedGrantTypeException"),
        ({"grantTypes": "authorization_code"}, "UnsupportedGrantTypeException"),
        ({"scopes": "a"}, "InvalidScopeException"),
        ({"scopes": [1]}, "InvalidScopeException"),
        ({"scopes": ["a b"]}, "InvalidScopeException"),
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(more, fault):
    assert Cli(through(stranger())).register(**more).fault == fault


def test_a_client_s_name_is_one_short_line_whatever_it_says():
    cli = client(clientName="\r\n\x01<script>\u202eevil\u2066" + "x" * 5000)

    name = registrations.read(cli.id, now=timezone.now()).name

    assert name.startswith("<script>evilx") and len(name) == 100


def test_a_registration_stays_short_enough_for_an_address():
    """It travels in the address of /authorize, which gunicorn cuts off at eight thousand bytes."""
    cli = client(
        clientName="é" * 500,
        scopes=[f"{n}" + "x" * 60 for n in range(300)],
        redirectUris=[f"http://127.0.0.1:{port}/oauth/callback" for port in range(1, 500)],
    )

    assert len(cli.id) < 4096
