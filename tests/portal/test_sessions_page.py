"""One's own sessions: live ones, past ones, and ending one."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.sessions.models import Session
from tests import factories as make
from tests.portal.conftest import sign_in

pytestmark = pytest.mark.django_db


def session(person, role, **fields):
    now = timezone.now()
    fields.setdefault("state", "active")
    fields.setdefault("hand_over", "keys")
    fields.setdefault("session_name", f"name-{Session.objects.count()}")
    fields.setdefault("expires_at", now + timedelta(hours=1))
    fields.setdefault("issued_at", now)
    return Session.objects.create(
        person=person, role=role, source_identity=person.handle, seconds=3600, **fields
    )


def test_live_sessions_come_first_then_the_past_by_day(ada, browser, developer, page_text):
    now = timezone.now()
    session(ada, developer, client="Mozilla/5.0 (X11; Linux) Firefox/130.0", address="192.0.2.7")
    session(
        ada,
        developer,
        state="expired",
        requested_at=now - timedelta(days=1),
        expires_at=now - timedelta(hours=23),
    )

    text = page_text(browser.get("/sessions/"))

    assert text.index("Live now") < text.index("59 min left") < text.index("Yesterday")
    assert "Firefox on Linux" in text and "192.0.2.7" in text


def test_a_session_of_a_terminal_names_its_client_and_version(ada, browser, developer, page_text):
    agent = "aws-cli/2.38.1 md/awscrt#0.31.0 ua/2.1 os/linux#6.1 md/arch#x86_64 lang/python#3.13"
    session(ada, developer, client=agent, address="192.0.2.7")

    text = page_text(browser.get("/sessions/"))

    assert "Keys · AWS CLI 2.38.1 on Linux · 192.0.2.7" in text
    assert "md/awscrt" not in text


def test_a_live_session_can_be_disowned_as_well_as_ended(ada, browser, developer, page_text):
    session(ada, developer)

    text = page_text(browser.get("/sessions/"))

    assert "End: Developer in" in text
    assert "Not me?: Developer in" in text


def test_nobody_sees_the_sessions_of_somebody_else(ada, browser, developer, page_text):
    other = make.person("eve")
    theirs = session(other, make.role("Treasurer"))

    assert "Treasurer" not in page_text(browser.get("/sessions/"))
    assert browser.get(f"/sessions/{theirs.id}/end/").status_code == 404
    assert browser.post(f"/sessions/{theirs.id}/end/").status_code == 404
    theirs.refresh_from_db()
    assert theirs.state == "active"


def test_without_sessions_the_page_says_when_there_will_be_some(browser, page_text):
    text = page_text(browser.get("/sessions/"))

    assert "A session begins when you open a console" in text
    assert "Show my roles" in text


def test_ending_says_first_what_cannot_be_called_back(ada, browser, developer, page_text):
    mine = session(ada, developer)

    answer = browser.get(f"/sessions/{mine.id}/end/")

    assert "AWS cannot take back what it gave" in page_text(answer)
    mine.refresh_from_db()
    assert mine.state == "active"


@pytest.mark.parametrize(
    ("hand_over", "before", "after"),
    [
        (
            "console",
            "a console that is open works until {}. Sign out of the console as well.",
            "What AWS gave out works until {}. Sign out of the console as well.",
        ),
        (
            "keys",
            "keys that are out work until {}. Throw them away.",
            "What AWS gave out works until {}. Throw its keys away.",
        ),
    ],
)
def test_ending_says_what_is_left_to_do_with_what_aws_gave(
    ada, browser, developer, page_text, hand_over, before, after
):
    mine = session(ada, developer, hand_over=hand_over)
    url = f"/sessions/{mine.id}/end/"

    for answer, said in ((browser.get(url), before), (browser.post(url), after)):
        left, right = map(re.escape, said.split("{}"))
        assert re.search(rf"{left}[^.]+{right}", page_text(answer))


@pytest.mark.parametrize(
    ("hand_over", "said"),
    [("console", "works until it ends by itself."), ("keys", "work until they end by themselves.")],
)
def test_a_session_that_is_being_issued_has_no_end_yet(
    ada, browser, developer, page_text, hand_over, said
):
    mine = session(
        ada, developer, hand_over=hand_over, state="pending", issued_at=None, expires_at=None
    )

    assert said in page_text(browser.get(f"/sessions/{mine.id}/end/"))


def test_production_is_marked_where_a_session_is_ended(ada, browser, developer):
    mine = session(ada, developer)
    url = f"/sessions/{mine.id}/end/"

    for answer in (browser.get(url), browser.post(url)):
        html = answer.content.decode()
        assert 'class="sheet" data-colour="red" data-production' in html
        assert '<span class="chip solid">Production</span>' in html


def test_a_session_ends_by_a_post(ada, browser, developer, page_text):
    mine = session(ada, developer)

    answer = browser.post(f"/sessions/{mine.id}/end/", headers={"HX-Request": "true"})

    mine.refresh_from_db()
    assert mine.state == "revoked"
    assert "Session ended" in page_text(answer)
    assert "works until" in page_text(answer)


@pytest.mark.parametrize("state", ["active", "expired"])
def test_a_session_that_was_not_me_ends_and_is_told_to_security(
    ada, browser, developer, page_text, state
):
    mine = session(ada, developer, state=state, address="192.0.2.7")

    answer = browser.post(f"/sessions/{mine.id}/end/", {"not_me": "1"})

    mine.refresh_from_db()
    assert mine.state == ("revoked" if state == "active" else "expired")
    text = page_text(answer)
    assert "Your administrators are told" in text
    assert ("Whoever opened it can use it in AWS until" in text) == (
        mine.expires_at > timezone.now()
    )
    assert "Throw its keys away" not in text
    assert f"The session's name is {mine.session_name}." in text
    event = AuditEvent.objects.get(kind="session.disowned")
    assert event.subject_id == str(mine.id)
    assert event.data["session_name"] == mine.session_name
    assert event.data["came_from"] == "192.0.2.7"


def test_nobody_disowns_the_session_of_somebody_else(ada, browser, developer):
    theirs = session(make.person("eve"), developer)

    assert browser.post(f"/sessions/{theirs.id}/end/", {"not_me": "1"}).status_code == 404
    assert not AuditEvent.objects.filter(kind="session.disowned").exists()


def test_ending_twice_is_harmless(ada, browser, developer, page_text):
    mine = session(ada, developer, state="revoked")

    assert "It was over already" in page_text(browser.post(f"/sessions/{mine.id}/end/"))


def test_another_site_cannot_end_a_session(ada, developer):
    mine = session(ada, developer)

    answer = sign_in(ada, enforce_csrf_checks=True).post(f"/sessions/{mine.id}/end/")

    mine.refresh_from_db()
    assert answer.status_code == 403
    assert mine.state == "active"


def test_the_past_is_paged(ada, browser, developer, page_text):
    now = timezone.now()
    for number in range(30):
        at = now - timedelta(hours=number + 2)
        session(ada, developer, state="expired", requested_at=at, expires_at=at)

    assert "Page 1 of 2" in page_text(browser.get("/sessions/"))
    assert "Live now" not in page_text(browser.get("/sessions/?page=2"))


def test_the_page_of_sessions_costs_few_queries(
    ada, browser, developer, django_assert_max_num_queries
):
    for _ in range(20):
        session(ada, developer)

    with django_assert_max_num_queries(10):
        browser.get("/sessions/")
