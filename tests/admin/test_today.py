"""The first page: the way from nothing to the first employee at work, and what needs a hand."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Person
from broker.audit.models import AuditHead
from broker.audit.rules import Kind
from broker.audit.services import Actor, record_now
from broker.sessions import services
from broker.sessions.models import Session
from tests import factories as make
from tests.admin.conftest import browser_at_origin, sign_in

pytestmark = pytest.mark.django_db


def steps_of(client) -> dict[int, str]:
    return {step.number: step.state for step in client.get("/admin/").context["steps"]}


def test_with_nothing_configured_the_first_page_leads_through(emergency):
    client = sign_in(browser_at_origin(), emergency)

    answer = client.get("/admin/")

    assert set(steps_of(client).values()) == {"waiting"}
    assert answer.context["next_step"].action == "Connect a provider"
    assert "From nothing to the first employee" in answer.content.decode()
    marks = re.findall(r'class="step-mark"[^>]*>(\d+)<', answer.content.decode())
    assert marks == ["1", "2", "3", "4", "5", "6"]


def test_every_step_is_done_when_it_is_done(admin_client, okta):
    assert steps_of(admin_client)[10] == "done"
    assert steps_of(admin_client)[30] == "waiting"
    role = make.role("Developer")
    assert steps_of(admin_client)[40] == "done"
    engineers = make.group("engineers", at=okta)
    make.mapping(engineers, role)
    grace = make.person("grace", groups=[engineers])
    assert steps_of(admin_client)[60] == "waiting"

    Session.objects.create(
        person=grace,
        role=role,
        state="failed",
        hand_over="keys",
        session_name="grace-1",
        source_identity="grace",
        seconds=900,
        failure="Nobody trusts us.",
    )
    assert steps_of(admin_client)[60] == "wrong"
    Session.objects.update(state="active", issued_at=timezone.now())

    assert set(steps_of(admin_client).values()) == {"done"}
    assert "From nothing to the first employee" not in admin_client.get("/admin/").content.decode()


def test_a_log_that_nobody_verifies_is_told_after_two_hours_and_not_before(admin_client):
    record_now(Kind.ADMIN_CHANGED, at=timezone.now() - timedelta(hours=1))
    assert "not verified for two hours" not in admin_client.get("/admin/").content.decode()

    AuditHead.objects.update(verified_at=timezone.now() - timedelta(hours=3))

    assert "not verified for two hours" in admin_client.get("/admin/").content.decode()


def test_a_log_that_was_never_verified_counts_from_its_first_event(admin_client):
    first = record_now(Kind.ADMIN_CHANGED, at=timezone.now() - timedelta(hours=3))

    assert first.seq == 1
    assert "not verified for two hours" in admin_client.get("/admin/").content.decode()


def test_a_session_that_somebody_disowned_needs_a_hand(admin_client, okta):
    grace = make.person("grace", at=okta)
    held = Session.objects.create(
        person=grace,
        role=make.role("Developer"),
        state="active",
        hand_over="keys",
        session_name="grace.x1",
        source_identity="grace",
        seconds=900,
    )
    services.disown(held.id, Actor(str(grace.id), "grace"), timezone.now(), of_person=grace.id)

    page = admin_client.get("/admin/").content.decode()

    assert "grace says that the session grace.x1 was not theirs." in page
    assert f"/admin/broker/session/{held.id}/change/" in page


def test_an_empty_installation_is_not_told_that_all_is_well(emergency):
    page = sign_in(browser_at_origin(), emergency).get("/admin/").content.decode()

    assert "Providers answer" not in page
    assert "Nothing to mend so far. Finish the steps above." in page
    assert page.count(">next</span>") == 1
    assert page.count(">waiting</span>") == 5


def test_a_quiet_day_says_so(admin_client, okta):
    role = make.role("Developer")
    grace = make.person("grace", groups=[make.group("engineers", at=okta)])
    make.mapping(grace.memberships.get().group, role)
    Session.objects.create(
        person=grace,
        role=role,
        state="active",
        hand_over="keys",
        session_name="grace-1",
        source_identity="grace",
        seconds=900,
        issued_at=timezone.now(),
    )

    page = admin_client.get("/admin/").content.decode()

    assert "Nothing. Providers answer" in page
    assert "Finish the steps above" not in page
    assert "role in use" in page and "mapping in use" in page
    make.role("Reader")
    assert "roles in use" in admin_client.get("/admin/").content.decode()


def test_rising_refusals_are_told(admin_client):
    for _ in range(5):
        record_now(Kind.ROLE_REFUSED)

    assert "5 refusals in the last 24 hours" in admin_client.get("/admin/").content.decode()


def test_the_chart_counts_issues_by_day_without_inline_style(admin_client, grace):
    Session.objects.create(
        person=grace,
        role=make.role(),
        state="failed",
        hand_over="keys",
        session_name="grace-1",
        source_identity="grace",
        seconds=900,
    )

    answer = admin_client.get("/admin/")
    (chart,) = answer.context["charts"]

    assert (chart.bars[-1].value, chart.bars[-1].bad, len(chart.bars)) == (1, 1, 14)
    assert all(re.fullmatch(r"[A-Z][a-z]{2} [1-9]\d?", bar.label) for bar in chart.bars)
    assert "style=" not in answer.content.decode()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hopper", "Grace Hopper"),
        ("grace@", "Grace Hopper"),
        ("engin", "engineers"),
        ("Develop", "Developer in Payments"),
        ("1111-2222", "Payments"),
        ("okta", "Okta"),
    ],
)
def test_anything_is_found_from_every_page(admin_client, okta, text, found):
    account = make.account("Payments", account_id="111122223333")
    role = make.role("Developer", of=account)
    engineers = make.group("engineers", at=okta)
    make.mapping(engineers, role)
    make.person("grace", groups=[engineers], name="Grace Hopper")

    answer = admin_client.get("/admin/find/", {"q": text}, follow=True)

    assert found in answer.content.decode()


def test_nothing_found_says_what_can_be_looked_for(admin_client):
    page = admin_client.get("/admin/find/", {"q": "no such thing"}).content.decode()

    assert "Nothing found for “no such thing”" in page
    assert "Search takes a name" in page


def test_the_number_of_queries_does_not_follow_the_number_of_rows(
    admin_client, okta, django_assert_max_num_queries
):
    engineers = make.group("engineers", at=okta)
    for number in range(30):
        make.person(f"p{number}", groups=[engineers])
        make.mapping(make.group(f"group{number}", at=okta), make.role())
    assert Person.objects.count() > 30

    for path in (
        "accounts/person/",
        "accounts/directorygroup/",
        "broker/awsrole/",
        "broker/awsaccount/",
        "broker/mapping/",
    ):
        with django_assert_max_num_queries(20):
            admin_client.get(f"/admin/{path}")
