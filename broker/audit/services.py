"""The only writer of the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from broker.audit.models import AuditEvent, AuditHead
from broker.audit.rules import GENESIS, Kind, Link, chain_hash, fit
from broker.errors import AuditBroken
from broker.prepared import Prepared, PreparedInsert


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: a person (id and handle as it is now), or a task by name."""

    id: str
    name: str

    @classmethod
    def task(cls, name: str) -> Actor:
        return cls(id=f"task:{name}", name=name)


NOBODY = Actor(id="", name="")
"""Before anybody is known: a refused sign-in."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What it was done to: a word ("role", "session", "person", "provider", "mapping", ...) and an id."""

    type: str
    id: str


NOTHING = Subject(type="", id="")


@dataclass(frozen=True, slots=True)
class Entry:
    """One event that is about to be recorded, as `record` takes it."""

    kind: Kind
    actor: Actor = NOBODY
    subject: Subject = NOTHING
    data: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    address: str = ""
    at: datetime | None = None


_current_reference: ContextVar[str] = ContextVar("audit_reference", default="")


@contextmanager
def under_reference(reference: str) -> Iterator[None]:
    """Every event recorded in here bears this reference, unless it has its own.

    A door opens it around a request, so that the number which a person reads out leads to all that the request did.
    """
    token = _current_reference.set(reference)
    try:
        yield
    finally:
        _current_reference.reset(token)


def record(
    kind: Kind,
    *,
    actor: Actor = NOBODY,
    subject: Subject = NOTHING,
    data: Mapping[str, Any] | None = None,
    reference: str = "",
    address: str = "",
    at: datetime | None = None,
) -> AuditEvent:
    """Append one event, in the caller's transaction; it stands or falls with what it records.

    The head row stays locked until that transaction ends, so record last and never across a call to anybody else.
    Raises AuditBroken when the log cannot be written, UnfitForAudit for what may not be in it.
    """
    entry = Entry(kind, actor, subject, data or {}, reference, address, at)
    return record_all([entry])[0]


def record_all(entries: Sequence[Entry]) -> list[AuditEvent]:
    """Append several events in this order, under one lock of the head; otherwise as `record`."""
    if not connection.in_atomic_block:
        raise RuntimeError("audit events are recorded inside the transaction of what they record")
    kept = [fit(entry.data) for entry in entries]
    if not entries:
        return []
    events: list[AuditEvent] = []
    try:
        seq, previous_hash = _lock_head()
        for entry, data in zip(entries, kept, strict=True):
            event = _next_event(entry, data, seq=seq + 1, previous_hash=previous_hash)
            events.append(event)
            seq, previous_hash = event.seq, event.hash
        for start in range(0, len(events), _ROWS):
            _insert(events[start : start + _ROWS])
        AuditHead.objects.filter(pk=1).update(seq=seq, hash=previous_hash)
    except DatabaseError as error:
        raise AuditBroken(
            cause=f"The audit log could not be written: {type(error).__name__}."
        ) from error
    return events


def _next_event(entry: Entry, data: dict[str, Any], *, seq: int, previous_hash: str) -> AuditEvent:
    link = Link(
        seq=seq,
        at=entry.at or timezone.now(),
        kind=entry.kind.value,
        actor_id=entry.actor.id[:64],
        actor=entry.actor.name[:200],
        subject_type=entry.subject.type[:40],
        subject_id=entry.subject.id[:64],
        reference=(entry.reference or _current_reference.get())[:16],
        address=entry.address[:45],
        data=data,
        previous_hash=previous_hash,
    )
    return AuditEvent(
        seq=link.seq,
        at=link.at,
        kind=link.kind,
        actor_id=link.actor_id,
        actor=link.actor,
        subject_type=link.subject_type,
        subject_id=link.subject_id,
        reference=link.reference,
        address=link.address,
        data=data,
        previous_hash=link.previous_hash,
        hash=chain_hash(link),
    )


def record_now(kind: Kind, **details: Any) -> AuditEvent:
    """Append one event in a transaction of its own: for what has no other effect, such as a refusal."""
    with transaction.atomic():
        return record(kind, **details)


_insert = PreparedInsert(AuditEvent)
_ROWS = 50
"""Rows in one statement: SQLite takes some hundred parameters at least."""

_head = Prepared(
    lambda id: (
        AuditHead.objects.select_for_update().filter(pk=id).order_by().values_list("seq", "hash")
    )
)


def _lock_head() -> tuple[int, str]:
    """Where the chain ends, locked until the transaction does."""
    rows = _head(id=1)
    if not rows:
        if not AuditEvent.objects.exists():
            AuditHead.objects.get_or_create(pk=1, defaults={"hash": GENESIS})
        rows = _head(id=1)  # also where somebody else began the log between the two looks
    if not rows:
        raise AuditBroken(
            cause="The audit log has events but no head: somebody removed it.",
            remedy="Run `manage.py verify_audit` and compare with your last anchor before going on.",
        )
    seq, previous_hash = rows[0]
    return seq, previous_hash
