"""Sessions with cause and remedy, the audit log with its search, and the state of its chain."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from broker.audit.admin import WHOLE_AT_ONCE, WORDS
from broker.audit.models import AuditEvent, AuditHead
from broker.audit.rules import Kind
from broker.audit.services import Actor, Subject, record_now
from broker.audit.tasks import verify_recent, verify_whole
from broker.audit.triggers import INSTALL, REMOVE
from broker.sessions.models import Session
from broker.templatetags.backoffice import exact
from tests import factories as make

pytestmark = pytest.mark.django_db


def session_of(person, **fields: object) -> Session:
    fields.setdefault("session_name", f"{person.handle}-{Session.objects.count()}")
    fields.setdefault("role", make.role())
    return Session.objects.create(
        person=person,
        source_identity=person.handle,
        seconds=3600,
        **{"hand_over": "keys", "state": "active", **fields},
    )


def test_an_event_leads_back_to_the_list_by_its_name(admin_client):
    event = record_now(Kind.ROLE_REFUSED, subject=Subject("role", "1"))

    page = admin_client.get(f"/admin/broker/auditevent/{event.pk}/change/").content.decode()

    assert '<a href="/admin/broker/auditevent/">Audit log</a>' in page


# --- Sessions


def test_a_failed_session_shows_what_aws_said_and_what_mends_it(admin_client, grace):
    session = session_of(
        grace,
        state="failed",
        aws_error_code="InvalidIdentityToken",
        failure="AWS could not fetch the keys.",
        remedy="Let AWS reach the key set.",
    )

    page = admin_client.get(f"/admin/broker/session/{session.pk}/change/").content.decode()

    for part in ("InvalidIdentityToken", "AWS could not fetch the keys.", "Let AWS reach the key"):
        assert part in page
    own = f'href="/admin/broker/session/{session.pk}/change/"'
    assert own not in page
    assert (
        own in admin_client.get(f"/admin/broker/awsrole/{session.role_id}/change/").content.decode()
    )


def test_sessions_are_filtered_and_found(admin_client, grace, okta):
    session_of(grace, session_name="grace-one")
    linus = make.person("linus", at=okta)
    session_of(linus, session_name="linus-one", state="failed", access_key_id="ASIAEXAMPLE")
    url = "/admin/broker/session/"

    failed = admin_client.get(url, {"state__exact": "failed"}).content.decode()
    by_key = admin_client.get(url, {"q": "ASIAEXAMPLE"}).content.decode()
    by_person = admin_client.get(url, {"q": "grace"}).content.decode()

    assert "linus-one" in failed and "grace-one" not in failed
    assert "linus-one" in by_key and "grace-one" not in by_key
    assert "grace-one" in by_person and "linus-one" not in by_person


@pytest.mark.parametrize(("state", "issued"), [("pending", "not yet"), ("failed", "never")])
def test_a_session_tells_whether_it_may_still_be_issued(admin_client, grace, state, issued):
    session = session_of(grace, state=state)

    page = admin_client.get(f"/admin/broker/session/{session.pk}/change/").content.decode()

    assert f"<dt>Issued</dt><dd>{issued}</dd>" in page
    assert "<dt>By mapping</dt><dd>none now</dd>" in page


def test_the_pages_of_a_person_and_a_role_lead_to_all_their_sessions(admin_client, grace, okta):
    mine = session_of(grace, session_name="grace-one")
    session_of(make.person("linus", at=okta), session_name="linus-one")

    for thing in (grace, mine.role):
        label = thing._meta.label_lower.replace(".", "/")
        page = admin_client.get(f"/admin/{label}/{thing.pk}/change/").content.decode()
        link = page.split('href="/admin/broker/session/?')[1].split('"')[0]
        found = admin_client.get(f"/admin/broker/session/?{link}").content.decode()
        assert "grace-one" in found
        assert "linus-one" not in found


def test_ending_a_session_says_until_when_the_keys_still_work(admin_client, ada, grace):
    session = session_of(grace, expires_at=timezone.now() + timedelta(minutes=30))

    answer = admin_client.post(f"/admin/broker/session/{session.pk}/do/end/", follow=True)

    session.refresh_from_db()
    assert session.state == "revoked"
    assert "AWS does not take credentials back" in answer.content.decode()
    event = AuditEvent.objects.get(kind=Kind.SESSION_ENDED.value)
    assert event.actor_id == str(ada.pk)


def test_the_page_of_an_ended_session_goes_on_saying_it_while_it_is_so(admin_client, grace):
    now = timezone.now()
    ended = {"state": "revoked", "ended_at": now - timedelta(minutes=10)}
    working = session_of(grace, **ended, expires_at=now + timedelta(minutes=30))
    others = (
        session_of(grace, **ended, expires_at=now - timedelta(minutes=5)),
        session_of(grace, **ended),
        session_of(grace, expires_at=now + timedelta(minutes=30)),
    )

    page = admin_client.get(f"/admin/broker/session/{working.pk}/change/").content.decode()

    assert f"<dt>What was handed out works until</dt><dd>{exact(working.expires_at)}</dd>" in page
    for other in others:
        url = f"/admin/broker/session/{other.pk}/change/"
        assert "What was handed out works until" not in admin_client.get(url).content.decode()


def test_it_says_so_before_as_well(admin_client, grace):
    ends = timezone.now() + timedelta(minutes=30)
    session = session_of(grace, session_name="grace-9", expires_at=ends)
    pending = session_of(grace, state="pending")

    url = f"/admin/broker/session/{session.pk}/do/end/"
    asked = admin_client.get(url).content.decode()
    nothing_yet = admin_client.get(f"/admin/broker/session/{pending.pk}/do/end/").content.decode()

    assert "<h1>End the session grace-9</h1>" in asked
    assert f"until {exact(ends)}. AWS does not take credentials back" in asked
    assert "Nothing was issued yet as far as Daypass knows" in nothing_yet


def test_a_session_that_is_over_cannot_be_ended_again(admin_client, grace):
    session = session_of(grace, state="expired")

    answer = admin_client.post(f"/admin/broker/session/{session.pk}/do/end/", follow=True)

    session.refresh_from_db()
    assert session.state == "expired"
    assert "is not possible or not needed now. Nothing was changed." in answer.content.decode()
    assert not AuditEvent.objects.filter(kind=Kind.SESSION_ENDED.value).exists()


def test_a_session_stuck_in_pending_is_told_on_the_first_page(admin_client, grace):
    session_of(grace, state="pending", requested_at=timezone.now() - timedelta(minutes=6))

    assert "the worker does not run" in admin_client.get("/admin/").content.decode()


def test_a_session_that_is_pending_for_a_moment_is_not(admin_client, grace):
    session_of(grace, state="pending")

    assert "the worker does not run" not in admin_client.get("/admin/").content.decode()


# --- The audit log


@pytest.fixture
def refusal(grace) -> AuditEvent:
    return record_now(
        Kind.ROLE_REFUSED,
        actor=Actor(str(grace.pk), "grace"),
        subject=Subject("role", str(make.role("Developer").pk)),
        reference="7KX4M2Q9",
        data={
            "code": "mfa_missing",
            "reasons": [
                {"code": "mfa_missing", "sentence": "No second factor.", "counts": False},
                {"code": "mapping_allows", "sentence": "engineers give it", "counts": True},
            ],
        },
        address="192.0.2.7",
    )


@pytest.mark.parametrize("typed", ["7KX4M2Q9", "7kx4m2q9", " 7KX4 M2Q9 ", "7kx4-m2q9"])
def test_the_number_that_an_employee_was_shown_leads_to_the_real_reason(
    admin_client, refusal, typed
):
    answer = admin_client.get("/admin/find/", {"q": typed}, follow=True)

    page = answer.content.decode()
    assert answer.redirect_chain[-1][0] == f"/admin/broker/auditevent/{refusal.seq}/change/"
    assert "No second factor." in page
    assert "mfa_missing" in page


@pytest.mark.parametrize("text", ["7KX4M2Q9", "grace", "192.0.2.7"])
def test_the_log_is_searched_by_whole_values(admin_client, refusal, text):
    record_now(Kind.SIGN_OUT, actor=Actor("x", "linus"), address="192.0.2.77")

    page = admin_client.get("/admin/broker/auditevent/", {"q": text}).content.decode()

    assert "7KX4M2Q9" in page
    assert "192.0.2.77" not in page


def test_the_log_is_filtered_by_kind_and_subject(admin_client, refusal):
    record_now(Kind.SIGN_OUT, subject=Subject("person", "1"), address="192.0.2.77")
    url = "/admin/broker/auditevent/"

    for question in ({"kind": "role.refused"}, {"subject_type": "role"}):
        page = admin_client.get(url, question).content.decode()
        assert "7KX4M2Q9" in page
        assert "192.0.2.77" not in page


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_no_request_changes_an_event(admin_client, refusal, method):
    before = AuditEvent.objects.filter(pk=refusal.pk).values().get()

    answer = getattr(admin_client, method)(f"/admin/broker/auditevent/{refusal.pk}/change/")

    assert answer.status_code == 405
    assert AuditEvent.objects.filter(pk=refusal.pk).values().get() == before


def test_an_event_is_shown_as_text_whatever_is_in_it(admin_client):
    event = record_now(Kind.SIGN_IN_REFUSED, data={"reason": "<script>alert(1)</script>"})

    page = admin_client.get(f"/admin/broker/auditevent/{event.seq}/change/").content.decode()

    assert "<script>alert(1)</script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_what_was_refused_is_said_once_and_what_is_not_verified_too(admin_client, refusal):
    page = admin_client.get("/admin/broker/auditevent/").content.decode()
    row = next(one for one in page.split("<tr") if "7KX4M2Q9" in one)

    assert "Role refused" in row
    assert "chip" not in row
    assert page.count("Not verified") == 1
    assert "not verified yet" not in page


def test_an_event_names_the_role_or_the_session_that_it_is_about(admin_client):
    arn = "arn:aws:iam::111122223333:role/teams/Developer"
    about = {
        "role Developer in Payments": ("role", {"role": arn, "account": "Payments"}),
        "role Developer": ("role", {"role": arn}),
        "role": ("role", {"role": "", "account": ""}),
        "session grace.1": ("session", {"session_name": "grace.1"}),
    }
    for said, (subject, data) in about.items():
        event = record_now(Kind.ROLE_REFUSED, subject=Subject(subject, "1"), data=data)

        page = admin_client.get(f"/admin/broker/auditevent/{event.pk}/change/").content.decode()

        assert re.search(rf"<dt>About</dt><dd><a [^>]*>{re.escape(said)}</a></dd>", page), said


def test_every_kind_of_event_has_words():
    assert set(WORDS) == {kind.value for kind in Kind}


def test_verifying_now_says_that_the_log_is_whole_and_records_who_asked(admin_client, ada, refusal):
    answer = admin_client.post("/admin/broker/auditevent/verify/", follow=True)

    assert "The audit log is whole: its one event is as written." in answer.content.decode()
    event = AuditEvent.objects.get(kind=Kind.AUDIT_VERIFIED.value)
    assert event.actor_id == str(ada.pk)
    assert AuditHead.objects.get().verified_seq == refusal.seq


def tamper(event: AuditEvent) -> None:
    with connection.cursor() as cursor:
        for statement in REMOVE[connection.vendor]:
            cursor.execute(statement)
        AuditEvent.objects.filter(pk=event.pk).update(actor="mallory")
        for statement in INSTALL[connection.vendor]:
            cursor.execute(statement)


def test_a_changed_event_is_told_everywhere_until_the_whole_log_is_verified(admin_client, refusal):
    record_now(Kind.SIGN_OUT)
    verify_whole()
    tamper(refusal)

    answer = admin_client.post("/admin/broker/auditevent/verify/", follow=True)
    record_now(Kind.SIGN_OUT)
    verify_recent()

    said = answer.content.decode()
    assert said.count("was changed after it was written") == 1
    assert "The audit log is broken. What to do stands below." in said
    assert "Stop Daypass, keep the database as it is" in said
    assert "was tampered with" in admin_client.get("/admin/").content.decode()
    assert "Broken" in admin_client.get("/admin/broker/auditevent/").content.decode()


def test_the_chain_is_not_verified_by_following_a_link(admin_client):
    assert admin_client.get("/admin/broker/auditevent/verify/").status_code == 405


def test_a_long_log_is_left_to_the_worker(admin_client, refusal):
    AuditHead.objects.update(seq=WHOLE_AT_ONCE + 1)

    answer = admin_client.post("/admin/broker/auditevent/verify/", follow=True)

    said = answer.content.decode()
    assert "The worker verifies all 20,001 events now. Reload this page in a few minutes" in said
    assert "20,001 events" in said.partition("chain-state")[2]
    assert AuditHead.objects.get().verified_at is None
