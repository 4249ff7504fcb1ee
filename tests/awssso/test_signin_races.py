"""Eight at the same moment with one code, one refresh token or one proof of `aws login`; and a restart in between."""

from __future__ import annotations

import json
import os
import secrets
import uuid
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.utils import timezone

from broker.awssso.rules import digest
from broker.awssso.signin import SAME_DEVICE
from tests.aws.servers import moto  # noqa: F401  (fixture)
from tests.awssso.conformity import Reply
from tests.awssso.races import AT_ONCE, Runners
from tests.awssso.site import REDIRECT, Browser, Site, pkce
from tests.races import drop_database, empty_database

ROUNDS = 3


@pytest.fixture
def site(tmp_path, moto):  # noqa: F811
    """Daypass under gunicorn with moto as AWS, on the kind of database that the tests run on."""
    server = os.environ.get("DATABASE_URL", "")
    database = empty_database(server) if server else ""
    made = Site(tmp_path, sts=moto.url, database_url=database)
    yield made
    made.stop()
    if database:
        drop_database(database, server)


@dataclass
class Login:
    """One `aws login` with its key, on a computer of its own."""

    site: Site
    address: str = "198.51.100.23"
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def proof(self) -> str:
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        claims = {
            "htm": "POST",
            "htu": f"{self.site.origin}/aws/v1/token",
            "iat": int(timezone.now().timestamp()),
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(
            claims, self.key, algorithm="ES256", headers={"typ": "dpop+jwt", "jwk": public}
        )

    def ask(self, proof: str = "", **body: str) -> Reply:
        wire = self.site.cli(self.address).ask
        headers = {"Content-Type": "application/json", "DPoP": proof or self.proof()}
        whole = json.dumps({"clientId": SAME_DEVICE, **body}).encode()
        return wire("POST", "/aws/v1/token", whole, headers)

    def exchange(self, code: str, verifier: str, proof: str = "") -> Reply:
        return self.ask(
            proof,
            grantType="authorization_code",
            code=code,
            codeVerifier=verifier,
            redirectUri=REDIRECT,
        )

    def renew(self, token: str, proof: str = "") -> Reply:
        return self.ask(proof, grantType="refresh_token", refreshToken=token)


def let_in(browser: Browser, role: str) -> tuple[str, str]:
    """Let `aws login` in on its page: the code that is brought to it, and the verifier that it kept."""
    verifier, challenge = pkce()
    path = "/v1/authorize?" + urlencode(
        {
            "response_type": "code",
            "client_id": SAME_DEVICE,
            "state": secrets.token_hex(8),
            "code_challenge_method": "SHA-256",
            "scope": "openid",
            "redirect_uri": REDIRECT,
            "code_challenge": challenge,
        }
    )
    led = browser.ask("POST", path, {"answer": "yes", "role": role})
    assert led.status == 302, (led.status, led.body[:2000])
    return parse_qs(urlsplit(led.headers["location"]).query)["code"][0], verifier


@pytest.fixture
def role(site) -> str:
    ((found,),) = site.sql("SELECT id FROM broker_awsrole WHERE name = 'Developer'")
    return str(found)


def faults(replies: list[Reply]) -> Counter[str]:
    return Counter(reply.fault and f"{reply.fault} {reply.json['error']}" for reply in replies)


def test_of_eight_who_bring_one_code_one_gets_keys_and_the_login_ends(site, role):
    runners, spread = Runners(), []
    for number in range(ROUNDS):
        login, browser = Login(site), site.browser(address=f"10.0.{number}.1")
        code, verifier = let_in(browser, role)

        replies = runners.run(lambda _: login.exchange(code, verifier), spread)  # noqa: B023

        told = faults(replies)
        assert told == {"": 1, "AccessDeniedException AUTHCODE_EXPIRED": AT_ONCE - 1}, told
        (winner,) = [reply for reply in replies if reply.status == 200]
        assert login.renew(winner.json["refreshToken"]).json["error"] == "TOKEN_EXPIRED"
    assert site.sql("SELECT count(*) FROM broker_auditevent WHERE kind = 'terminal.reused'") == [
        (ROUNDS,)
    ]


def test_of_eight_who_bring_one_proof_one_is_served(site, role):
    runners, spread = Runners(), []
    login = Login(site)
    token = login.exchange(*let_in(site.browser(), role)).json["refreshToken"]
    for _ in range(ROUNDS):
        proof = login.proof()

        replies = runners.run(lambda _: login.renew(token, proof), spread)  # noqa: B023

        told = faults(replies)
        assert told == {"": 1, "ValidationException INVALID_REQUEST": AT_ONCE - 1}, told
        (winner,) = [reply for reply in replies if reply.status == 200]
        token = winner.json["refreshToken"]


def test_eight_processes_that_renew_at_once_are_all_served_and_a_thief_later_ends_it(site, role):
    runners, spread = Runners(), []
    login = Login(site)
    first = login.exchange(*let_in(site.browser(), role)).json["refreshToken"]

    replies = runners.run(lambda _: login.renew(first), spread)

    assert faults(replies) == {"": AT_ONCE}
    assert len({reply.json["refreshToken"] for reply in replies}) == AT_ONCE
    site.sql(
        "UPDATE broker_terminaltoken SET used_at = '2020-01-01 00:00:00+00:00' "
        f"WHERE digest = '{digest(first)}'"
    )
    replies = runners.run(lambda _: login.renew(first), spread)
    assert faults(replies) == {"AccessDeniedException TOKEN_EXPIRED": AT_ONCE}
    assert login.renew(first).json["error"] == "TOKEN_EXPIRED"
    assert site.sql("SELECT count(*) FROM broker_auditevent WHERE kind = 'terminal.reused'") == [
        (1,)
    ]


def test_a_restart_with_an_emptied_cache_between_any_two_steps_changes_nothing(site, role):
    login = Login(site)
    code, verifier = let_in(site.browser(), role)
    site.restart()
    first = login.exchange(code, verifier)
    site.restart()
    proof = login.proof()
    again = login.renew(first.json["refreshToken"], proof)
    site.restart()

    assert (first.status, again.status) == (200, 200)
    assert login.renew(again.json["refreshToken"], proof).fault == "ValidationException"
    assert login.renew(again.json["refreshToken"]).status == 200
