"""Administrators see who let what in, end it, and say what terminals may."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from lxml import html

from broker.audit.models import AuditEvent
from broker.awssso.models import Terminal, TerminalPolicy
from tests.admin.conftest import ada, browser_at_origin, grace, okta, sign_in

__all__ = ["ada", "grace", "okta"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(ada):
    return sign_in(browser_at_origin(), ada)


@pytest.fixture
def terminal(grace) -> Terminal:
    return let_in(grace)


def let_in(person, **fields) -> Terminal:
    fields.setdefault("kind", "sso")
    fields.setdefault("flow", "device")
    fields.setdefault("client_name", "botocore-client-server")
    fields.setdefault("ends_at", timezone.now() + timedelta(hours=8))
    fields.setdefault("asked_from", "203.0.113.9")
    return Terminal.objects.create(person=person, epoch=person.epoch, **fields)


def text_of(answer) -> str:
    return " ".join(html.document_fromstring(answer.content.decode()).text_content().split())


def test_terminals_are_listed_and_found(desk, terminal, grace, ada):
    let_in(
        ada, kind="script", flow="portal", label="nightly", client_name="", asked_from="192.0.2.4"
    )

    whole = text_of(desk.get("/admin/broker/terminal/"))
    assert "botocore-client-server" in whole and "nightly" in whole
    assert "by code" in whole and "203.0.113.9" in whole
    for query in ("?q=grace", "?q=203.0.113", "?flow__exact=device", "?kind__exact=sso"):
        found = text_of(desk.get(f"/admin/broker/terminal/{query}"))
        assert "botocore-client-server" in found and "nightly" not in found, query


def test_live_ones_are_told_from_those_that_are_over(desk, terminal, grace):
    let_in(grace, client_name="forgotten", ends_at=timezone.now() - timedelta(hours=1))

    live = text_of(desk.get("/admin/broker/terminal/?live=yes"))
    over = text_of(desk.get("/admin/broker/terminal/?live=no"))

    assert "botocore-client-server" in live and "forgotten" not in live
    assert "forgotten" in over and "botocore-client-server" not in over


def test_an_administrator_ends_one_after_reading_what_it_does(desk, terminal, ada):
    url = f"/admin/broker/terminal/{terminal.pk}/do/end/"

    asked = text_of(desk.get(url))
    assert f"This ends botocore-client-server of {terminal.person}. Its tokens are refused" in asked
    assert "keep working until they expire" in asked
    terminal.refresh_from_db()
    assert terminal.ended_at is None
    desk.post(url)

    terminal.refresh_from_db()
    assert terminal.ended_because == "administrator"
    event = AuditEvent.objects.get(kind="terminal.ended")
    assert (event.actor_id, event.subject_id) == (str(ada.pk), str(terminal.pk))


def test_an_administrator_ends_all_of_a_person(desk, terminal, grace, ada):
    let_in(grace, client_name="second")
    other = let_in(ada)
    url = f"/admin/accounts/person/{grace.pk}/do/end-terminals/"

    assert "This ends all 2 terminals of " in text_of(desk.get(url))
    desk.post(url)

    assert not Terminal.objects.filter(person=grace, ended_at__isnull=True).exists()
    other.refresh_from_db()
    assert other.ended_at is None
    events = AuditEvent.objects.filter(kind="terminal.ended")
    assert {event.actor_id for event in events} == {str(ada.pk)} and len(events) == 2


def test_the_page_of_a_person_shows_their_terminals(desk, terminal, grace):
    text = text_of(desk.get(f"/admin/accounts/person/{grace.pk}/change/"))

    assert "Terminals" in text and "botocore-client-server" in text
    warned = text_of(desk.get(f"/admin/accounts/person/{grace.pk}/do/deactivate/"))
    assert "1 terminal of theirs gets nothing any more" in warned


def test_a_terminal_that_nobody_used_says_so_on_the_page_of_its_person(desk, terminal, grace):
    page = desk.get(f"/admin/accounts/person/{grace.pk}/change/").content.decode()
    row = page.split(f"/admin/broker/terminal/{terminal.pk}/change/")[1].split("</tr>")[0]

    assert '<td class="nowrap">never</td>' in row


def test_what_somebody_disowned_stands_on_the_first_page(desk, terminal, grace):
    theirs = sign_in(browser_at_origin(), grace)
    theirs.post(f"/terminal/{terminal.pk}/end/", {"not_me": "1"})

    page = desk.get("/admin/")

    assert "grace says that the terminal botocore-client-server was not let in" in text_of(page)
    assert f"/admin/broker/terminal/{terminal.pk}/change/" in page.content.decode()


def test_a_token_in_two_hands_stands_on_the_first_page(desk, grace):
    let_in(grace, ended_at=timezone.now(), ended_because="reused")

    assert "came twice. It may have been stolen" in text_of(desk.get("/admin/"))


def test_nothing_of_a_terminal_is_written_here(desk, terminal):
    assert desk.get("/admin/broker/terminal/add/").status_code in (403, 404)
    answer = desk.post(f"/admin/broker/terminal/{terminal.pk}/change/", {"label": "x"})
    assert answer.status_code == 405


def test_an_employee_is_not_let_in(terminal, grace):
    theirs = sign_in(browser_at_origin(), grace)

    for path in (
        "/admin/broker/terminal/",
        f"/admin/broker/terminal/{terminal.pk}/do/end/",
        "/admin/broker/terminalpolicy/",
        "/admin/broker/terminalpolicy/add/",
    ):
        assert theirs.get(path).status_code in (302, 403, 404)
        theirs.post(path)
    terminal.refresh_from_db()
    assert terminal.ended_at is None


# --- What terminals may


def test_how_long_a_terminal_lives_is_written_and_answered_in_days(desk):
    page = "/admin/broker/terminalpolicy/"
    refused = text_of(desk.post(f"{page}add/", {**ON, "longest_seconds": "91 days"}))
    desk.post(f"{page}add/", {**ON, "longest_seconds": "2 days 1 h"})

    assert "It has to be from 15 min to 90 days." in refused
    policy = TerminalPolicy.objects.get()
    assert policy.longest_seconds == 49 * 3600
    form = desk.get(f"{page}{policy.pk}/change/").content.decode()
    assert 'value="2 days 1 h"' in form


ON = {"enabled": "on", "device_codes": "on", "script_tokens": "on"}


def test_a_policy_is_made_changed_and_taken_away_and_all_of_it_recorded(desk, okta, ada):
    answer = desk.post(
        "/admin/broker/terminalpolicy/add/",
        {
            **ON,
            "provider": str(okta.pk),
            "device_networks": "192.0.2.0/24\n2001:DB8::/32",
            "longest_seconds": "8 h",
        },
    )
    assert answer.status_code == 302, text_of(answer)
    policy = TerminalPolicy.objects.get()
    assert policy.device_networks == ["192.0.2.0/24", "2001:db8::/32"]
    assert policy.longest_seconds == 28800

    page = f"/admin/broker/terminalpolicy/{policy.pk}/change/"
    shown = desk.get(page).content.decode()
    assert "192.0.2.0/24" in shown
    assert "Terminal policy for people of Okta" in shown
    desk.post(page, {"enabled": "on", "script_tokens": "on", "longest_seconds": ""})
    desk.post(f"/admin/broker/terminalpolicy/{policy.pk}/do/delete/")

    assert not TerminalPolicy.objects.exists()
    made, changed, gone = AuditEvent.objects.filter(kind="admin.changed").order_by("seq")
    assert (made.data["action"], made.actor_id) == ("created", str(ada.pk))
    assert made.data["after"]["provider"] == "Okta"
    assert changed.data["before"] == {
        "device_codes": True,
        "device_networks": ["192.0.2.0/24", "2001:db8::/32"],
        "longest_seconds": 28800,
    }
    assert changed.data["after"] == {
        "device_codes": False,
        "device_networks": [],
        "longest_seconds": None,
    }
    assert gone.data["action"] == "deleted" and gone.data["before"]["enabled"] is True
    log = text_of(desk.get("/admin/broker/auditevent/"))
    assert "Terminal policy" in log
    assert "terminal policy for people of Okta" in log


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("device_networks", "the office", "is not a network"),
        ("device_networks", "192.0.2.7/24", "did you mean 192.0.2.0/24"),
        ("device_networks", "::ffff:192.0.2.0/120", "as an IPv4 network"),
        ("device_networks", "\n".join(f"10.0.{n}.0/24" for n in range(51)), "at most 50"),
        ("longest_seconds", "5 min", "15 min"),
        ("longest_seconds", "forever", "length of time"),
    ],
)
def test_what_is_wrong_is_said_at_the_field(desk, field, value, said):
    answer = desk.post("/admin/broker/terminalpolicy/add/", {**ON, field: value})

    assert answer.status_code == 200
    assert said in text_of(answer)
    assert not TerminalPolicy.objects.exists()


def test_there_is_one_policy_for_everybody_and_one_for_each_provider(desk, okta):
    for provider in ("", str(okta.pk)):
        sent = {**ON, "provider": provider}
        assert desk.post("/admin/broker/terminalpolicy/add/", sent).status_code == 302
        again = desk.post("/admin/broker/terminalpolicy/add/", sent)
        assert "already" in text_of(again)
    assert TerminalPolicy.objects.count() == 2


def test_saving_without_a_change_records_nothing(desk):
    desk.post("/admin/broker/terminalpolicy/add/", ON)
    policy = TerminalPolicy.objects.get()

    desk.post(f"/admin/broker/terminalpolicy/{policy.pk}/change/", ON)

    assert AuditEvent.objects.filter(kind="admin.changed").count() == 1
