"""The life of a session: every change from exactly one state, with its event, and only once."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.audit.queries import Verified, verify_chain
from broker.audit.services import Actor
from broker.aws import sts
from broker.sessions import queries, services, tasks
from broker.sessions.models import Session
from broker.sessions.services import PENDING_LIMIT, About, Answer, Opening, SessionOver
from broker.sqlite.turns import PATIENCE
from tests import factories as make

pytestmark = pytest.mark.django_db
ABOUT = About(Actor("1", "alice"), "198.51.100.7", {"session_name": "alice.x"})


@pytest.fixture
def alice():
    return make.person("alice")


def opened(person, *, role=None, **fields) -> uuid.UUID:
    """A pending session, written as assume writes it; then `fields` as time or an accident would leave them."""
    session_id = uuid.uuid4()
    with transaction.atomic():
        services.open_session(
            Opening(
                person_id=person.id,
                role_id=(role or make.role()).id,
                mapping_id=None,
                hand_over="keys",
                session_name=f"{person.handle}.{session_id.hex[:8]}",
                source_identity=person.handle,
                seconds=3600,
                address="198.51.100.7",
                client="x" * 300,
            ),
            session_id=session_id,
        )
    if fields:
        Session.objects.filter(pk=session_id).update(**fields)
    return session_id


def answer(**changes) -> Answer:
    values = {
        "access_key_id": "ASIAEXAMPLE",
        "expires_at": timezone.now() + timedelta(hours=1),
        "assumed_role_arn": "arn:aws:sts::111122223333:assumed-role/Developer/alice.x",
        "packed_policy_size": 6,
    }
    return Answer(**{**values, **changes})


def events() -> list[str]:
    return list(AuditEvent.objects.order_by("seq").values_list("kind", flat=True))


def test_a_session_is_pending_until_aws_answers(alice):
    session = Session.objects.get(pk=opened(alice))

    assert (session.state, session.access_key_id, session.expires_at) == ("pending", "", None)
    assert len(session.client) == 200


def test_it_becomes_active_once_and_never_twice(alice):
    session_id = opened(alice)

    services.activate(session_id, answer(), ABOUT)
    with pytest.raises(SessionOver), transaction.atomic():
        services.activate(session_id, answer(access_key_id="ASIAOTHER"), ABOUT)

    session = Session.objects.get(pk=session_id)
    assert (session.state, session.access_key_id) == ("active", "ASIAEXAMPLE")
    assert session.issued_at is not None
    assert events() == ["session.issued"]


@pytest.mark.parametrize("state", ["active", "failed", "expired", "revoked"])
def test_only_a_pending_session_becomes_active_or_fails(alice, state):
    session_id = opened(alice, state=state)

    with pytest.raises(SessionOver), transaction.atomic():
        services.activate(session_id, answer(), ABOUT)
    failed = services.fail(session_id, ABOUT, code="AccessDenied", cause="x")

    assert failed is False
    assert Session.objects.get(pk=session_id).state == state
    assert events() == []


def test_a_failure_keeps_the_code_and_what_it_means(alice):
    session_id = opened(alice)

    services.fail(session_id, ABOUT, code="AccessDenied", cause="c" * 900, remedy="r" * 2000)

    session = Session.objects.get(pk=session_id)
    assert (session.state, session.aws_error_code) == ("failed", "AccessDenied")
    assert (len(session.failure), len(session.remedy)) == (500, 1000)
    assert events() == ["session.failed"]


# --- What periodic work finds in the database


def test_expired_sessions_are_marked_and_recorded_once(alice):
    now = timezone.now()
    due = opened(alice, state="active", expires_at=now - timedelta(seconds=1))
    live = opened(alice, state="active", expires_at=now + timedelta(seconds=60))

    counts = [services.expire_due(now), services.expire_due(now)]

    assert counts == [1, 0]
    assert Session.objects.get(pk=due).state == "expired"
    assert Session.objects.get(pk=live).state == "active"
    assert events() == ["session.expired"]
    assert AuditEvent.objects.get().actor_id == "task:expire_due"


def test_a_pending_row_of_a_dead_process_is_resolved_as_unknown(alice):
    now = timezone.now()
    lost = opened(alice, requested_at=now - PENDING_LIMIT - timedelta(seconds=1))

    resolved = services.resolve_pending(now)

    session = Session.objects.get(pk=lost)
    assert resolved == 1
    assert (session.state, session.aws_error_code) == ("failed", "Unknown")
    assert "nobody was given any" in session.failure
    event = AuditEvent.objects.get()
    assert (event.kind, event.data["outcome"]) == ("session.resolved", "unknown")


def test_a_row_that_may_still_be_in_flight_is_left_alone(alice):
    now = timezone.now()
    opened(alice, requested_at=now - PENDING_LIMIT + timedelta(seconds=1))

    assert services.resolve_pending(now) == 0
    assert events() == []


def test_the_limit_is_longer_than_any_call_and_any_wait_for_the_database(settings):
    on_sqlite = PATIENCE + settings.DATABASES["default"]["OPTIONS"].get("timeout", 0)
    on_postgresql = 10  # lock_timeout
    longest_wait = max(on_sqlite, on_postgresql)

    assert PENDING_LIMIT.total_seconds() > sts.LONGEST + longest_wait
    assert PENDING_LIMIT.total_seconds() + 15 <= 60  # resolved within a minute, at the rate of beat
    assert settings.CELERY_BEAT_SCHEDULE["resolve-pending-sessions"]["schedule"] <= 15


def test_a_process_that_comes_back_after_it_was_given_up_gets_nothing(alice):
    now = timezone.now()
    late = opened(alice, requested_at=now - timedelta(hours=1))
    services.resolve_pending(now)

    with pytest.raises(SessionOver), transaction.atomic():
        services.activate(late, answer(), ABOUT)

    assert Session.objects.get(pk=late).state == "failed"


def test_work_goes_in_batches_and_the_task_does_all_of_them(alice):
    now = timezone.now()
    role = make.role()
    for _ in range(7):
        opened(alice, role=role, state="active", expires_at=now - timedelta(minutes=1))

    first = services.expire_due(now, batch=3)
    tasks.expire_due()

    assert first == 3
    assert Session.objects.filter(state="expired").count() == 7
    assert len(events()) == 7
    assert isinstance(verify_chain(), Verified)


def test_the_oldest_are_first(alice):
    now = timezone.now()
    newer = opened(alice, state="active", expires_at=now - timedelta(minutes=1))
    older = opened(alice, state="active", expires_at=now - timedelta(minutes=9))

    services.expire_due(now, batch=1)

    assert Session.objects.get(pk=older).state == "expired"
    assert Session.objects.get(pk=newer).state == "active"


# --- "That was not me"


def test_ending_a_session_says_what_cannot_be_called_back(alice):
    now = timezone.now()
    until = now + timedelta(minutes=40)
    session_id = opened(alice, state="active", expires_at=until, access_key_id="ASIAEXAMPLE")

    ended = services.end(session_id, Actor(str(alice.id), "alice"), now, of_person=alice.id)

    assert ended.usable_until == until
    assert Session.objects.get(pk=session_id).state == "revoked"
    event = AuditEvent.objects.get()
    assert (event.kind, event.actor) == ("session.ended", "alice")
    assert event.data["access_key_id"] == "ASIAEXAMPLE"


def test_ending_a_pending_session_leaves_nothing_usable(alice):
    ended = services.end(opened(alice), Actor("1", "alice"), timezone.now())

    assert ended.usable_until is None


def test_nobody_ends_another_persons_session(alice):
    session_id = opened(alice, state="active", expires_at=timezone.now() + timedelta(hours=1))
    bob = make.person("bob")

    ended = services.end(session_id, Actor("2", "bob"), timezone.now(), of_person=bob.id)

    assert ended is None
    assert Session.objects.get(pk=session_id).state == "active"
    assert events() == []


@pytest.mark.parametrize("state", ["failed", "expired", "revoked"])
def test_what_is_over_is_not_ended_again(alice, state):
    session_id = opened(alice, state=state)

    assert services.end(session_id, Actor("1", "alice"), timezone.now()) is None
    assert services.end(uuid.uuid4(), Actor("1", "alice"), timezone.now()) is None
    assert events() == []


def test_nobody_disowns_the_session_of_somebody_else(alice):
    bob = make.person("bob")
    session_id = opened(alice, state="active")

    said = services.disown(session_id, Actor("2", "bob"), timezone.now(), of_person=bob.id)

    assert said is None
    assert Session.objects.get(pk=session_id).state == "active"
    assert events() == []


def test_a_session_that_never_was_issued_is_not_disowned(alice):
    session_id = opened(alice, state="failed")

    said = services.disown(session_id, Actor("1", "alice"), timezone.now(), of_person=alice.id)

    assert said is None
    assert events() == []


# --- Reading


def test_live_sessions_are_a_persons_own_that_still_work_latest_first(alice):
    now = timezone.now()
    bob = make.person("bob")
    first = opened(alice, state="active", expires_at=now + timedelta(hours=1))
    second = opened(alice, state="active", expires_at=now + timedelta(hours=2))
    opened(alice, state="active", expires_at=now - timedelta(seconds=1))  # not swept yet
    opened(alice, state="expired", expires_at=now - timedelta(hours=1))
    opened(bob, state="active", expires_at=now + timedelta(hours=1))

    rows = queries.live_of(alice.id, now)

    assert [row.id for row in rows] == [second, first]
    assert [row.id for row in queries.live_of(alice.id, now, at_most=1)] == [second]
    assert queries.count_live_of(alice.id, now) == 2
    assert rows[0].account_name.startswith("Account")


def test_past_sessions_are_all_others_newest_first_in_pages(alice):
    now = timezone.now()
    role = make.role()
    opened(alice, role=role, state="active", expires_at=now + timedelta(hours=2))
    old = [
        opened(alice, role=role, state="expired", requested_at=now - timedelta(hours=n))
        for n in range(1, 5)
    ]
    unswept = opened(
        alice,
        role=role,
        state="active",
        expires_at=now - timedelta(seconds=1),
        requested_at=now - timedelta(minutes=1),
    )

    first = queries.past_of(alice.id, page=1, now=now, page_size=3)
    beyond = queries.past_of(alice.id, page=99, now=now, page_size=3)

    assert [row.id for row in first.rows] == [unswept, *old[:2]]
    assert (first.total, first.page, first.pages) == (5, 1, 2)
    assert [row.id for row in beyond.rows] == old[2:]
    assert queries.past_of(uuid.uuid4(), page=1).rows == ()


def test_a_page_of_sessions_is_two_queries_however_many_there_are(alice, django_assert_num_queries):
    for _ in range(5):
        opened(alice, state="expired")

    with django_assert_num_queries(2):
        page = queries.past_of(alice.id, page=1)

    assert len(page.rows) == 5


def test_the_administrator_finds_one_by_its_id(alice):
    session_id = opened(alice, state="failed", failure="why", remedy="how")

    row = queries.by_id(session_id)

    assert (row.failure, row.remedy, row.state_title) == ("why", "how", "Failed")
    assert queries.by_id(uuid.uuid4()) is None


# --- By hand


def test_run_job_runs_any_periodic_job_in_this_process(alice, capsys):
    now = timezone.now()
    due = opened(alice, state="active", expires_at=now - timedelta(seconds=1))

    call_command("run_job", "expire-sessions")

    assert Session.objects.get(pk=due).state == "expired"
    assert "expire-sessions: done" in capsys.readouterr().out


def test_run_job_lists_the_jobs_and_names_them_when_one_is_misspelt(capsys, settings):
    call_command("run_job")
    listed = capsys.readouterr().out.split()

    assert listed == sorted(settings.CELERY_BEAT_SCHEDULE)
    with pytest.raises(CommandError, match="resolve-pending-sessions"):
        call_command("run_job", "resolve")
