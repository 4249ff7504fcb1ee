"""After every flow, with everything logged: no token, code or key is anywhere but with the client it was given to."""

from __future__ import annotations

import logging
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.core.cache import cache
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.audit.rules import Kind
from broker.audit.services import NOBODY, Subject, record
from broker.awssso import services
from tests import factories as make
from tests.aws.servers import _sts_server, sts_stand_in  # noqa: F401  (fixtures)
from tests.awssso.abuse import Cli, listening, stranger, through, where_is
from tests.awssso.conftest import REDIRECT, pkce
from tests.portal.conftest import sign_in

pytestmark = pytest.mark.usefixtures("signing_keys", "sts_stand_in")

ACCOUNT = "111122223333"


@pytest.fixture
def role(ada):
    made = make.role("Developer", of=make.account("Payments", account_id=ACCOUNT))
    make.mapping(ada.memberships.get().group, made)
    return made


def every_flow(person) -> Cli:
    """Both sign-ins, what they open, every refusal of a token, and the ends; the client that saw it all."""
    browser = sign_in(person)
    device = Cli(through(stranger()))
    device.register_for_device()
    started = device.start().json
    device.poll(started["deviceCode"])
    shown = browser.post("/device", {"user_code": started["userCode"]}, secure=True)
    browser.post("/device", {"ticket": shown.context["ticket"], "answer": "yes"}, secure=True)
    tokens = device.poll(started["deviceCode"]).json
    device.poll(started["deviceCode"])

    cli = Cli(through(stranger()), seen=device.seen)
    cli.register()
    verifier, challenge = pkce()
    asked = {
        "response_type": "code",
        "client_id": cli.id,
        "redirect_uri": REDIRECT,
        "state": "a-state",
        "code_challenge_method": "S256",
        "code_challenge": challenge,
    }
    led = browser.post(f"/authorize?{urlencode(asked)}", {"answer": "yes"}, secure=True)
    code = parse_qs(urlsplit(led["Location"]).query)["code"][0]
    cli.seen += [code, verifier]
    cli.exchange(code, "v" * 43, REDIRECT)
    pair = cli.exchange(code, verifier, REDIRECT).json
    for one in (tokens["accessToken"], pair["accessToken"]):
        cli.accounts(one)
        cli.roles(one, ACCOUNT)
        assert cli.credentials(one, ACCOUNT, "Developer").status == 200
        cli.credentials(one, ACCOUNT, "Nothing")
    assert device.refresh(tokens["refreshToken"]).status == 200
    assert cli.refresh(tokens["refreshToken"]).fault
    newer = cli.refresh(pair["refreshToken"]).json
    cli.refresh(pair["refreshToken"])
    cli.logout(newer["accessToken"])
    cli.accounts(newer["accessToken"])
    cli.refresh(newer["refreshToken"])
    cli.exchange(code, verifier, REDIRECT)

    made = browser.post("/terminal/token/", {"label": "script", "seconds": "3600"}, secure=True)
    script = made.context["token"]
    assert script in made.content.decode()
    cli.seen.append(script)
    for path in ("/api/process", "/api/container"):
        given = stranger().get(
            path,
            {"account": ACCOUNT, "role": "Developer"},
            secure=True,
            headers={"Authorization": f"Bearer {script}"},
        )
        assert given.status_code == 200
        said = given.json()
        cli.seen += [said["SecretAccessKey"], said.get("SessionToken") or said["Token"]]
    return cli


def test_no_secret_stays_anywhere(ada, role):
    with listening() as ear:
        cli = every_flow(ada)

    assert len(cli.seen) > 20
    assert where_is(cli.seen, ear) == set()
    # Controls: it did happen, and was logged and recorded.
    kinds = set(AuditEvent.objects.values_list("kind", flat=True))
    assert {"terminal.let_in", "terminal.ended", "session.issued"} <= kinds
    assert any("/aws/federation/credentials" in text for text in ear.texts)


def test_a_failure_that_nobody_foresaw_tells_no_secret(ada, role, monkeypatch):
    """Not in the answer, and not in the log with its traceback."""
    cli = every_flow(ada)

    def fails(*args: object, **more: object) -> None:
        raise RuntimeError("something broke")

    with listening() as ear:
        for name in ("refresh", "exchange_code_for_tokens", "exchange_device_code", "bearer"):
            monkeypatch.setattr(services, name, fails)
        token = next(one for one in cli.seen if "_refresh_" in one)
        code = next(one for one in cli.seen if "_code_" in one)
        access = next(one for one in cli.seen if "_access_" in one)
        replies = [
            cli.refresh(token),
            cli.exchange(code, "v" * 43, REDIRECT),
            cli.accounts(access),
        ]

    assert [reply.status for reply in replies] == [500, 500, 500]
    assert any("something broke" in text for text in ear.texts)
    for reply in replies:
        assert b"something broke" not in reply.body and b"Traceback" not in reply.body
        assert reply.headers["x-amzn-requestid"] in reply.message
    assert where_is(cli.seen, ear) == set()


def test_the_search_finds_what_is_kept(ada, db):
    """A control of the search itself: each place is looked at."""
    secret = "daypass_access_" + "Zm9v" * 10
    with listening() as ear:
        logging.getLogger("daypass.awssso").info("a", extra={"it": f"x{secret}y"})
        assert where_is([secret], ear) == {("logs", secret[:14])}
    record(
        Kind.TERMINAL_DENIED,
        actor=NOBODY,
        subject=Subject("person", "1"),
        data={"client": secret[:30]},
        at=timezone.now(),
    )
    assert ("broker_auditevent", secret[:14]) in where_is([secret[:30]])
    ada.name = f"{secret}!"
    ada.save()
    cache.set("x", secret)
    browser = sign_in(ada)
    session = browser.session
    session["kept"] = secret
    session.save()

    places = {place for place, _ in where_is([secret])}

    assert {"accounts_person", "cache", "decoded sessions"} <= places
