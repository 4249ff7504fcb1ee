"""How terminals end, and what is cleared when they have."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.views.decorators.debug import sensitive_variables

from broker.audit.rules import Kind
from broker.audit.services import NOBODY, Actor, Entry, record_all
from broker.awssso import rules
from broker.awssso.models import DeviceRequest, Terminal, TerminalToken, UsedProof
from broker.awssso.services.common import Asker, about, again, invalid, subject_of
from broker.awssso.wire import WireError

TERMINALS_KEPT = timedelta(days=90)
OVER_KEPT = timedelta(hours=1)
"""Codes and tokens that are over are kept a little, so that who brings them is told what happened. The last access
token of a terminal that lives is kept as long as that: `aws sso logout` brings it hours later, not renewed."""

NEVER_FETCHED = timedelta(minutes=15)
"""After this nobody comes for a terminal's first tokens any more: no code lasts so long."""

BATCH = 200
"""Rows changed in one transaction by the periodic tasks: the head of the audit log stays locked meanwhile."""


def end(
    terminal_id: UUID,
    *,
    because: Terminal.Ended,
    actor: Actor,
    of_person: UUID | None = None,
    now: datetime,
    address: str = "",
) -> bool:
    """End a terminal with all its tokens, recorded. False when it was over, or is not of that person."""
    with transaction.atomic():
        rows = Terminal.objects.filter(pk=terminal_id, ended_at__isnull=True)
        if of_person is not None:
            rows = rows.filter(person_id=of_person)
        if not rows.update(ended_at=now, ended_because=because):
            return False
        terminal = Terminal.objects.get(pk=terminal_id)
        record_all([_ending(terminal, because, actor, now, address)])
    return True


def end_some(
    terminal_ids: Collection[UUID], *, actor: Actor, of_person: UUID, now: datetime, address: str
) -> int:
    """End those of these terminals that are this person's own and live, each recorded; how many that were."""
    with transaction.atomic():
        return sum(
            end(
                terminal_id,
                because=Terminal.Ended.PERSON,
                actor=actor,
                of_person=of_person,
                now=now,
                address=address,
            )
            for terminal_id in terminal_ids
        )


def disown(
    terminal_id: UUID, *, actor: Actor, of_person: UUID, now: datetime, address: str = ""
) -> bool:
    """The person says that they did not let it in: end it if it lives, and record it for administrators to see.

    False when they have no such terminal.
    """
    with transaction.atomic():
        terminal = Terminal.objects.filter(pk=terminal_id, person_id=of_person).first()
        if terminal is None:
            return False
        end(
            terminal_id,
            because=Terminal.Ended.PERSON,
            actor=actor,
            of_person=of_person,
            now=now,
            address=address,
        )
        entry = Entry(
            Kind.TERMINAL_DISOWNED,
            actor=actor,
            subject=subject_of(terminal),
            data=about(terminal) | {"used_from": terminal.used_from or ""},
            address=address,
            at=now,
        )
        record_all([entry])
    return True


@sensitive_variables("token")
def sign_out(token: str, asker: Asker, *, now: datetime) -> bool:
    """End the terminal of an access token, whatever its person may still do. False when there is none that lives."""
    found = (
        TerminalToken.objects.select_related("terminal__person")
        .filter(digest=rules.digest(token), kind=TerminalToken.Kind.ACCESS)
        .first()
    )
    if found is None:
        return False
    person = found.terminal.person
    return end(
        found.terminal_id,
        because=Terminal.Ended.CLIENT,
        actor=Actor(id=str(person.pk), name=person.handle),
        now=now,
        address=asker.address,
    )


def end_lines(lines: Collection[str], now: datetime) -> int:
    """End what was let in from the browser sessions of these lines, because somebody signed out there."""
    known = [line for line in lines if line]
    if not known:
        return 0
    return _end_all(Q(line__in=known), Terminal.Ended.SIGNED_OUT, now)


def _end_all(which: Q, because: Terminal.Ended, now: datetime, *, most: int | None = None) -> int:
    with transaction.atomic():
        rows = list(
            Terminal.objects.select_for_update(of=("self",))
            .select_related("person")
            .filter(which, ended_at__isnull=True)
            .order_by("pk")[:most]
        )
        if not rows:
            return 0
        entries = []
        for terminal in rows:
            ended_at = min(now, terminal.ends_at) if because == Terminal.Ended.EXPIRED else now
            Terminal.objects.filter(pk=terminal.pk).update(ended_at=ended_at, ended_because=because)
            actor = Actor.task("terminals")
            if because == Terminal.Ended.SIGNED_OUT:
                actor = Actor(id=str(terminal.person_id), name=terminal.person.handle)
            entries.append(_ending(terminal, because, actor, now, ""))
        record_all(entries)
    return len(rows)


def reused(terminal: Terminal, what: str, now: datetime) -> WireError:
    """Somebody brought what was exchanged before: nobody can know which of the two is the thief."""
    ended = Terminal.objects.filter(pk=terminal.pk, ended_at__isnull=True).update(
        ended_at=now, ended_because=Terminal.Ended.REUSED
    )
    if ended:
        entry = _ending(terminal, Terminal.Ended.REUSED, NOBODY, now, "")
        record_all(
            [
                Entry(
                    entry.kind,
                    actor=entry.actor,
                    subject=entry.subject,
                    data={**entry.data, "what": what},
                    at=now,
                )
            ]
        )
    return invalid(
        f"This {what} was used before, so Daypass ended the sign-in. {again(terminal.kind)}"
    )


def _ending(
    terminal: Terminal, because: Terminal.Ended, actor: Actor, now: datetime, address: str
) -> Entry:
    reused = because == Terminal.Ended.REUSED
    return Entry(
        Kind.TERMINAL_REUSED if reused else Kind.TERMINAL_ENDED,
        actor=actor,
        subject=subject_of(terminal),
        data=about(terminal) | {"because": str(because), "person": str(terminal.person_id)},
        address=address,
        at=now,
    )


def expire_due(now: datetime) -> int:
    """Mark up to `BATCH` terminals of each kind: whose time is over, whose client never came for its tokens, and whose
    person may not use Daypass with them any more."""
    over = _end_all(Q(ends_at__lte=now), Terminal.Ended.EXPIRED, now, most=BATCH)
    fetched = TerminalToken.objects.filter(terminal=OuterRef("pk"), kind=TerminalToken.Kind.REFRESH)
    never = (
        Q(created_at__lt=now - NEVER_FETCHED) & ~Q(kind=Terminal.Kind.SCRIPT) & Q(~Exists(fetched))
    )
    over += _end_all(never, Terminal.Ended.EXPIRED, now, most=BATCH)
    shut = (
        Q(person__is_active=False) | ~Q(person__epoch=F("epoch")) | Q(person__provider__isnull=True)
    )
    return over + _end_all(shut, Terminal.Ended.SHUT, now, most=BATCH)


def clear(now: datetime) -> int:
    """Delete tokens, device requests and terminals that are over for long enough; up to `BATCH` terminals."""
    over = TerminalToken.objects.filter(expires_at__lt=now - OVER_KEPT)
    brief = (TerminalToken.Kind.CODE, TerminalToken.Kind.SCRIPT)
    cleared, _ = over.filter(kind__in=brief).delete()
    later = TerminalToken.objects.filter(
        terminal=OuterRef("terminal"),
        kind=TerminalToken.Kind.ACCESS,
        created_at__gt=OuterRef("created_at")
        + rules.GRACE,  # of siblings any may be the one in the file
    )
    cleared += over.filter(Exists(later), kind=TerminalToken.Kind.ACCESS).delete()[0]
    cleared += TerminalToken.objects.filter(terminal__ended_at__lt=now - OVER_KEPT).delete()[0]
    cleared += DeviceRequest.objects.filter(expires_at__lt=now - OVER_KEPT).delete()[0]
    cleared += UsedProof.objects.filter(forget_at__lt=now - OVER_KEPT).delete()[0]
    old = Terminal.objects.filter(ended_at__lt=now - TERMINALS_KEPT).values_list("pk", flat=True)
    cleared += Terminal.objects.filter(pk__in=[*old[:BATCH]]).delete()[0]
    return cleared
