"""How many terminals and script tokens one person may have at once, and what happens at the last one."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.awssso import queries, rules, services
from broker.awssso.models import DeviceRequest, Terminal
from broker.awssso.services import Asker, NotAllowed
from tests import factories as make
from tests.accounts.conftest import together
from tests.awssso import conftest as clients
from tests.awssso.test_pages_authorize import asked
from tests.awssso.test_pages_terminal import let_in
from tests.portal.conftest import (
    ada,
    browser,
    developer,
    group,
    page_text,
    payments,
    production,
    sign_in,
)

__all__ = ["ada", "browser", "developer", "group", "page_text", "payments", "production"]
__all__ += ["together"]

pytestmark = pytest.mark.django_db

LOGIN = "/v1/authorize?" + urlencode(
    {
        "response_type": "code",
        "client_id": "arn:aws:signin:::devtools/same-device",
        "state": "8b0ff1a2-state",
        "code_challenge_method": "SHA-256",
        "scope": "openid",
        "redirect_uri": "http://127.0.0.1:39953/oauth/callback",
        "code_challenge": "c" * 43,
    }
)
TOKEN = {"label": "nightly backup", "seconds": "900"}


@pytest.fixture
def three(monkeypatch):
    """There is room for three, and two are offered to be ended."""
    monkeypatch.setattr(rules, "MOST_LIVE", 3)
    monkeypatch.setattr(rules, "ROOM", 2)


@pytest.fixture
def full(ada, three) -> list[Terminal]:
    """Ada has three: one that she uses, one that she used yesterday, one that she never used."""
    now = timezone.now()
    return [
        let_in(ada, client_name="daily", used_at=now),
        let_in(ada, client_name="yesterday", used_at=now - timedelta(days=1)),
        let_in(
            ada, client_name="", kind="script", label="old job", created_at=now - timedelta(days=2)
        ),
    ]


def form_of(page) -> dict[str, list[str]]:
    """What the form that makes room would send as it stands."""
    html = page.content.decode()
    form = html[html.index('action="/terminal/room/"') :]
    return {
        "to": re.findall(r'name="to" value="([^"]*)"', form),
        "terminal": re.findall(r'name="terminal" value="([^"]*)" checked', form),
    }


def live(person) -> set[str]:
    rows = queries.of_person(person.pk, timezone.now())
    return {one.label or one.client_name for one in rows if one.live}


def test_one_more_than_may_live_is_not_let_in_and_none_is_ended_for_it(ada, full):
    with pytest.raises(NotAllowed) as refused:
        clients.let_in(ada)

    assert refused.value.code == "too_many_terminals"
    assert "End some" in refused.value.message
    assert live(ada) == {"daily", "yesterday", "old job"}


def test_only_what_lives_and_is_one_s_own_counts(ada, three):
    now = timezone.now()
    grace = make.person("grace", groups=[make.group("others")])
    for _ in range(3):
        let_in(grace)
        let_in(ada, ended_at=now, ended_because="client")
        let_in(ada, ends_at=now - timedelta(seconds=1))
    let_in(ada)
    let_in(ada)

    assert clients.let_in(ada).ended_at is None


@pytest.mark.parametrize("page", ["/authorize", "/device", LOGIN])
def test_the_page_of_a_client_offers_what_was_unused_for_longest(
    page, ada, browser, developer, full, page_text
):
    address = asked() if page == "/authorize" else page

    there = browser.get(address)

    assert there.status_code == 409
    text = page_text(there)
    assert "3 terminals and tokens" in text and "nothing was ended" in text
    assert text.index("old job") < text.index("yesterday")
    assert "daily" not in text
    assert form_of(there)["terminal"] == [str(full[2].pk), str(full[1].pk)]
    assert live(ada) == {"daily", "yesterday", "old job"}


@pytest.mark.parametrize("page", ["/authorize", "/device", LOGIN])
def test_who_makes_room_comes_back_to_the_page_and_is_asked_as_ever(
    page, ada, browser, developer, full
):
    address = asked() if page == "/authorize" else page
    sent = form_of(browser.get(address))

    back = browser.post("/terminal/room/", {**sent, "terminal": sent["terminal"][:1]})

    assert (back.status_code, back["Location"]) == (303, address)
    assert live(ada) == {"daily", "yesterday"}
    ended = AuditEvent.objects.get(kind="terminal.ended")
    assert (ended.subject_id, ended.actor_id) == (str(full[2].pk), str(ada.pk))
    assert ended.data["because"] == "person"
    assert browser.get(address).status_code == 200


def test_a_yes_from_an_old_page_lets_nothing_in_either(ada, browser, developer, three):
    address = asked()
    assert browser.get(address).status_code == 200
    for _ in range(3):
        let_in(ada)

    late = browser.post(address, {"answer": "yes"})

    assert late.status_code == 409
    assert form_of(late)["terminal"]
    assert Terminal.objects.count() == 3


def test_no_is_told_to_the_program_with_room_or_without(browser, developer, full, page_text):
    said = browser.post(asked(), {"answer": "no"})

    assert said.status_code == 200
    assert "got nothing" in page_text(said)


def test_a_code_still_waits_after_room_was_made(ada, browser, developer, full):
    registration, _ = clients.register_for_device()
    started = services.start_device(registration, Asker("192.0.2.9"), now=timezone.now())
    code = {"user_code": started.user_code}

    assert browser.post("/device", code).status_code == 409
    browser.post("/terminal/room/", {"terminal": [str(full[0].pk)]})

    assert DeviceRequest.objects.get().state == "waiting"
    assert b"192.0.2.9" in browser.post("/device", code).content


def test_the_page_terminal_says_that_there_is_no_room_and_makes_it(ada, browser, full, page_text):
    there = browser.get("/terminal/")

    assert "no room for more: 3 may live at once" in page_text(there)
    assert "Make a token" not in page_text(there)
    sent = form_of(there)
    back = browser.post("/terminal/room/", sent)
    assert (back.status_code, back["Location"]) == (303, "/terminal/")
    assert live(ada) == {"daily"}
    assert "Make a token" in page_text(browser.get("/terminal/"))


def test_a_script_token_needs_room_as_well(browser, full, page_text):
    made = browser.post("/terminal/token/", TOKEN)

    assert made.status_code == 403
    assert "there may be no more" in page_text(made)
    assert Terminal.objects.count() == 3


def test_nobody_makes_room_with_what_is_somebody_else_s(ada, full):
    grace = make.person("grace", groups=[make.group("others")])

    back = sign_in(grace).post("/terminal/room/", {"terminal": [str(one.pk) for one in full]})

    assert back.status_code == 303
    assert live(ada) == {"daily", "yesterday", "old job"}
    assert not AuditEvent.objects.filter(kind="terminal.ended").exists()


@pytest.mark.parametrize(
    "to", ["https://evil.test/", "/admin/", "//evil.test", "daypass.test/x:y:z"]
)
def test_making_room_leads_nowhere_that_daypass_did_not_say(browser, full, to):
    back = browser.post("/terminal/room/", {"to": to, "terminal": []})

    assert (back.status_code, back["Location"]) == (303, "/terminal/")


def test_what_is_no_terminal_is_refused_and_ends_nothing(ada, browser, full):
    sent = {"terminal": [str(full[0].pk), "not one"]}

    assert browser.post("/terminal/room/", sent).status_code == 400
    assert len(live(ada)) == 3


def test_another_site_makes_no_room(ada, full):
    guarded = sign_in(ada, enforce_csrf_checks=True)

    answer = guarded.post("/terminal/room/", {"terminal": [str(one.pk) for one in full]})

    assert answer.status_code == 403
    assert len(live(ada)) == 3


def test_who_had_more_before_there_was_a_limit_is_offered_enough_to_get_below_it(
    ada, browser, full
):
    more = [let_in(ada, client_name=f"more-{number}") for number in range(4)]

    there = browser.get("/terminal/")

    assert len(form_of(there)["terminal"]) == 6
    for one in (*full, *more):
        assert f"/terminal/{one.pk}/end/".encode() in there.content
    browser.post("/terminal/room/", form_of(there))
    assert browser.get(asked()).status_code == 200


def test_of_several_at_once_only_so_many_come_in_as_there_is_room_for(ada, three, together):
    clients.let_in(ada)

    told = together(lambda: clients.let_in(ada).pk, times=5)

    refused = [one.code for one in told if isinstance(one, NotAllowed)]
    assert refused == ["too_many_terminals"] * 3
    assert Terminal.objects.count() == 3
