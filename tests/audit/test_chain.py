"""The audit log: one chain, append-only, and any change is found."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from broker.audit import services
from broker.audit.models import AuditEvent, AuditHead
from broker.audit.queries import Verified, verify_chain
from broker.audit.rules import Kind, UnfitForAudit, Violation
from broker.audit.services import Actor, Subject, record, record_now
from broker.audit.triggers import INSTALL, REMOVE
from broker.errors import AuditBroken

ALICE = Actor(id="5a0e", name="alice")


def write(count: int = 3) -> None:
    for number in range(count):
        record_now(
            Kind.ADMIN_CHANGED,
            actor=ALICE,
            subject=Subject("role", str(number)),
            data={"n": number, "é": "ü"},
        )


def meddle(sql: str) -> None:
    """Change the log as somebody with the database's owner rights could."""
    with connection.cursor() as cursor:
        for statement in REMOVE[connection.vendor]:
            cursor.execute(statement)
        cursor.execute(sql)
        for statement in INSTALL[connection.vendor]:
            cursor.execute(statement)


@pytest.mark.django_db
def test_an_untouched_log_is_whole_and_every_event_is_in_its_chain():
    write(5)

    outcome = verify_chain()

    assert isinstance(outcome, Verified)
    assert (outcome.first, outcome.last) == (1, 5)
    assert outcome.hash == AuditEvent.objects.get(seq=5).hash
    assert AuditEvent.objects.get(seq=4).hash == AuditEvent.objects.get(seq=5).previous_hash


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("sql", "seq"),
    [
        ("UPDATE broker_auditevent SET actor = 'bob' WHERE seq = 2", 2),
        ("UPDATE broker_auditevent SET data = '{\"n\": 9}' WHERE seq = 3", 3),
        ("UPDATE broker_auditevent SET at = '2020-01-01 00:00:00+00:00' WHERE seq = 1", 1),
        ("UPDATE broker_auditevent SET hash = previous_hash WHERE seq = 4", 4),
        ("DELETE FROM broker_auditevent WHERE seq = 2", 2),
        ("DELETE FROM broker_auditevent WHERE seq = 4", 4),
        ("DELETE FROM broker_auditevent", 1),
        ("UPDATE broker_auditevent SET seq = seq + 10 WHERE seq > 2", 3),
    ],
)
def test_a_changed_missing_or_moved_event_is_found_where_it_is(sql, seq):
    write(4)

    meddle(sql)
    outcome = verify_chain()

    assert isinstance(outcome, Violation)
    assert outcome.seq == seq


@pytest.mark.django_db
def test_two_events_that_changed_places_are_found():
    write(3)

    meddle("UPDATE broker_auditevent SET seq = CASE seq WHEN 1 THEN -2 WHEN 2 THEN -1 ELSE seq END")
    meddle("UPDATE broker_auditevent SET seq = -seq WHERE seq < 0")
    outcome = verify_chain()

    assert isinstance(outcome, Violation)
    assert outcome.seq == 1


@pytest.mark.django_db
def test_verify_audit_prints_what_is_wrong_and_exits_with_one(capsys):
    write(3)
    meddle("UPDATE broker_auditevent SET kind = 'x' WHERE seq = 2")

    with pytest.raises(SystemExit) as ended:
        call_command("verify_audit")

    assert ended.value.code == 1
    assert "event 2" in capsys.readouterr().err


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change", ["UPDATE broker_auditevent SET actor = ''", "DELETE FROM broker_auditevent"]
)
def test_the_database_itself_refuses_to_change_an_event(change):
    write(1)

    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(change)

    assert AuditEvent.objects.get().actor == "alice"


@pytest.mark.django_db
def test_the_head_only_moves_forward():
    write(2)

    with pytest.raises(DatabaseError, match="forward"), transaction.atomic():
        AuditHead.objects.update(seq=1)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "key", ["secret_access_key", "SessionToken", "id_token", "saml_assertion", "password"]
)
def test_what_looks_like_a_secret_is_never_recorded(key):
    with pytest.raises(UnfitForAudit):
        record_now(Kind.ADMIN_CHANGED, data={"after": {key: "x"}})

    assert not AuditEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_event_is_refused_outside_the_transaction_of_what_it_records():
    with pytest.raises(RuntimeError):
        record(Kind.ADMIN_CHANGED)


@pytest.mark.django_db(transaction=True)
def test_an_event_goes_with_the_transaction_that_it_records():
    write(1)

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        record(Kind.ADMIN_CHANGED, data={"n": 1})
        raise ZeroDivisionError

    outcome = verify_chain()
    assert isinstance(outcome, Verified)
    assert outcome.last == 1


@pytest.mark.django_db
def test_the_first_event_may_meet_a_log_that_somebody_else_has_just_begun(monkeypatch):
    looked = services._head
    looks: list[object] = []

    def look(**which):
        looks.append(found := looked(**which))
        if len(looks) == 1:
            record_now(Kind.ADMIN_CHANGED, actor=ALICE, subject=Subject("role", "theirs"))
        return found

    monkeypatch.setattr(services, "_head", look)

    mine = record_now(Kind.ADMIN_CHANGED, actor=ALICE, subject=Subject("role", "mine"))

    assert looks[0] == []
    assert mine.seq == 2
    assert isinstance(verify_chain(), Verified)


@pytest.mark.django_db
def test_a_log_without_its_head_takes_nothing_more():
    write(1)
    meddle("DELETE FROM broker_audithead")

    with pytest.raises(AuditBroken) as broken:
        write(1)

    assert "somebody removed it" in broken.value.cause
    assert AuditEvent.objects.count() == 1
