"""Reading and verifying the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broker.audit.models import AuditEvent, AuditHead
from broker.audit.rules import GENESIS, Link, Violation, verify


@dataclass(frozen=True, slots=True)
class Verified:
    """The chain is whole from `first` to `last`; an empty log has last = 0."""

    first: int
    last: int
    hash: str


def link_of(event: AuditEvent) -> Link:
    return Link(
        seq=event.seq,
        at=event.at,
        kind=event.kind,
        actor_id=event.actor_id,
        actor=event.actor,
        subject_type=event.subject_type,
        subject_id=event.subject_id,
        reference=event.reference,
        address=event.address,
        data=event.data,
        previous_hash=event.previous_hash,
    )


def verify_chain(*, after: int = 0) -> Verified | Violation:
    """Check every event after `after` (0: the whole log) against its neighbours and against the head.

    Finds changed, missing, reordered and inserted events, and a tail that was cut off.
    """
    head = AuditHead.objects.filter(pk=1).first()
    if head is None:
        if AuditEvent.objects.exists():
            return Violation(1, "the log has events but its head is gone")
        return Verified(0, 0, GENESIS)
    previous = GENESIS
    if after:
        anchor = AuditEvent.objects.filter(seq=after).first()
        if anchor is None:
            return Violation(after, f"event {after} is missing")
        previous = anchor.hash
    walked = verify(_links(after, head.seq), seq=after, previous_hash=previous)
    if isinstance(walked, Violation):
        return walked
    seq, digest = walked
    if seq != head.seq:
        return Violation(
            seq + 1,
            f"the log ends at event {seq}, but {head.seq} were written: its tail was cut off",
        )
    if digest != head.hash:
        return Violation(seq, f"event {seq} is not the one that was written last")
    if AuditEvent.objects.filter(seq__lt=1).exists():
        return Violation(0, "an event stands before the first one")
    return Verified(after + 1, seq, digest)


def _links(after: int, until: int) -> Iterator[tuple[Link, str]]:
    """In order, up to the head as it was when verification began: what is appended meanwhile is checked next time."""
    events = AuditEvent.objects.filter(seq__gt=after, seq__lte=until).order_by("seq")
    for event in events.iterator(chunk_size=2000):
        yield link_of(event), event.hash
