"""Eight at the same moment: one wins, never two and never none. The thousand rounds are `python -m tests.races`."""

from __future__ import annotations

import os

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone

from accounts import services
from accounts.models import Person, ProviderSession
from accounts.rules import PRESETS
from accounts.services import waiting
from broker.audit.models import AuditEvent
from broker.errors import SignInRefused
from tests.accounts import web
from tests.accounts.conftest import BY
from tests.races import KINDS, Forgiving, Result, Site, drop_database, empty_database, race

ROUNDS = 20


@pytest.fixture
def site(tmp_path):
    """Daypass under gunicorn, on the kind of database that the tests run on."""
    server = os.environ.get("DATABASE_URL", "")
    database = empty_database(server) if server else ""
    made = Site(tmp_path, database)
    yield made
    made.stop()
    if database:
        drop_database(database, server)


def test_of_eight_at_once_one_wins_in_every_round(site):
    result = race(site, ROUNDS)

    assert result.wrong == []
    assert result.winners == dict.fromkeys(KINDS, ROUNDS)


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (Result(odd=[("SAML answer", 2, ["302 /", "302 /"])]), "SAML answer: 2 winners"),
        (Result(odd=[("SAML answer", 0, ["403"])]), "SAML answer: 0 winners"),
        (Result(rounds=1), "0 of sign_in.accepted, and not 2"),
    ],
)
def test_a_round_with_another_number_of_winners_is_told(result, sentence):
    assert any(sentence in told for told in result.wrong)


def test_a_server_error_in_a_race_is_told():
    result = Result()
    result.losers["500"] = 3

    assert result.wrong == ["3 were answered 500, which is no refusal"]


@pytest.fixture
def forgiving(settings):
    """A provider that takes a code as often as it comes."""
    made = Forgiving()
    settings.DAYPASS_PRIVATE_PROVIDERS = [made.authority]
    yield made
    made.close()


def test_of_eight_callbacks_with_one_code_one_wins(together, forgiving):
    services.create_oidc_provider(
        slug="globex",
        name="Globex",
        issuer=forgiving.issuer,
        client_id=forgiving.client_id,
        secret=forgiving.client_secret,
        by=BY,
        enabled=True,
        claim_map=PRESETS["oidc"],
    )
    first = web.browser()
    callback = forgiving.authorize(web.start(first, "globex"))
    cookies = first.cookies.output(header="", sep=";")

    def attempt():
        browser = web.browser()
        browser.cookies.load(cookies)
        return web.call_back(browser, callback).status_code

    results = together(attempt, times=8)

    assert results.count(302) == 1
    assert set(results) <= {302, 400, 403}
    assert AuditEvent.objects.filter(kind="sign_in.accepted").count() == 1
    assert ProviderSession.objects.count() == 1


def test_one_person_in_eight_browsers_at_once_is_one_person(together, idp):
    """Different answers about the same new person: all are let in, as one."""
    services.create_provider_from_metadata(
        slug="acme", name="Acme", metadata_xml=idp.metadata, by=BY, enabled=True
    )
    waiting_answers = []
    for _ in range(8):
        browser = web.browser()
        answer = idp.answer(web.start(browser, "acme"), attributes={"uid": ["ada"]})
        waiting_answers.append((browser, answer))

    def attempt():
        browser, answer = waiting_answers.pop()
        return web.post_answer(browser, "acme", answer).status_code

    results = together(attempt, times=8)

    assert results == [302] * 8
    assert Person.objects.count() == 1
    assert ProviderSession.objects.count() == 8


def test_of_many_answers_at_once_three_are_kept(together, saml_row):
    def attempt():
        try:
            return waiting.keep_answer(saml_row, "answer", request_id="_r", now=timezone.now())
        except SignInRefused as refused:
            return refused.code

    results = together(attempt, times=8)

    assert results.count("answered") == 5
    assert len(set(results)) == 4
    assert Session.objects.count() == 3
