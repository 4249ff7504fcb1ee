"""The only writer of sessions. Every change of state is conditional on the state before, and recorded with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from broker.audit.rules import Kind
from broker.audit.services import Actor, Entry, Subject, record, record_all
from broker.errors import DaypassError
from broker.prepared import PreparedInsert
from broker.sessions.models import Session

PENDING_LIMIT = timedelta(seconds=45)
"""A pending row older than this belongs to a process that died.

Longer than the longest call to STS (broker.aws.sts.LONGEST) and the longest wait for the database together; a test
keeps the numbers so. Should a process be frozen for longer and come back, `activate` finds its row resolved, and the
credential is thrown away: the row is the truth, the limit only decides when it is looked at.
"""
BATCH = 200
"""Rows changed in one transaction by the periodic tasks: the head of the audit log stays locked meanwhile."""

State = Session.State


class SessionOver(DaypassError):
    """The session is no longer in the state that the change needs: it was ended, or resolved as lost."""

    code = "session_over"
    message = "This took too long or was ended meanwhile, so nothing was issued. Try again."
    retry = True


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known of a session before AWS is asked."""

    person_id: UUID
    role_id: UUID
    mapping_id: UUID | None
    hand_over: str
    session_name: str
    source_identity: str
    seconds: int
    address: str = ""
    client: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What AWS answered, as far as it is kept. access_key_id is "" where the browser signs in by itself (SAML form)."""

    access_key_id: str
    expires_at: datetime
    assumed_role_arn: str
    packed_policy_size: int | None = None


@dataclass(frozen=True, slots=True)
class About:
    """Who and what the audit event of a change is about: the person, where from, and plain data."""

    actor: Actor
    address: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ended:
    """A session that Daypass gave up, and what cannot be called back.

    usable_until: credentials that are already out work until then, None when none are out.
    """

    session_id: UUID
    session_name: str
    usable_until: datetime | None


def open_session(opening: Opening, *, session_id: UUID) -> None:
    """Write the pending row, in the caller's transaction together with the verdict that allowed it."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("a session is opened in the transaction of its verdict")
    session = Session(
        id=session_id,
        person_id=opening.person_id,
        role_id=opening.role_id,
        mapping_id=opening.mapping_id,
        hand_over=opening.hand_over,
        session_name=opening.session_name,
        source_identity=opening.source_identity,
        seconds=opening.seconds,
        requested_at=timezone.now(),
        address=opening.address or None,
        client=opening.client[:200],
    )
    _insert([session])


_insert = PreparedInsert(Session)


def activate(session_id: UUID, answer: Answer, about: About, *, also: Sequence[Entry] = ()) -> None:
    """pending -> active. `also` is recorded with it, for instance that the credentials are handed over.

    Raises SessionOver when the row is not pending any more; then nothing may leave.
    """
    with transaction.atomic(savepoint=False):
        now = timezone.now()
        _change(
            session_id,
            (State.PENDING,),
            state=State.ACTIVE,
            issued_at=now,
            expires_at=answer.expires_at,
            access_key_id=answer.access_key_id,
            assumed_role_arn=answer.assumed_role_arn,
            packed_policy_size=answer.packed_policy_size,
        )
        data = {
            **about.data,
            "access_key_id": answer.access_key_id,
            "assumed_role_arn": answer.assumed_role_arn,
            "expires_at": answer.expires_at.isoformat(),
            "packed_policy_size": answer.packed_policy_size,
        }
        record_all([_entry(Kind.SESSION_ISSUED, session_id, about, data, now), *also])


def fail(session_id: UUID, about: About, *, code: str, cause: str, remedy: str = "") -> bool:
    """pending -> failed, with AWS's code and what it means. False when the row was already resolved or ended."""
    with transaction.atomic(savepoint=False):
        now = timezone.now()
        try:
            _change(
                session_id,
                (State.PENDING,),
                state=State.FAILED,
                ended_at=now,
                aws_error_code=code[:64],
                failure=cause[:500],
                remedy=remedy[:1000],
            )
        except SessionOver:
            return False
        data = {**about.data, "code": code, "cause": cause[:500]}
        record_all([_entry(Kind.SESSION_FAILED, session_id, about, data, now)])
    return True


def end(
    session_id: UUID, actor: Actor, now: datetime, *, of_person: UUID | None = None
) -> Ended | None:
    """active or pending -> revoked: Daypass forgets the session and issues nothing more for it.

    What AWS has issued already cannot be called back by this: the answer says until when it works. None when there is
    no such session (of this person, if one is named), or it is over.
    """
    with transaction.atomic():
        session = (
            Session.objects.select_for_update()
            .filter(pk=session_id, state__in=(State.PENDING, State.ACTIVE))
            .filter(Q(person_id=of_person) if of_person else Q())
            .first()
        )
        if session is None:
            return None
        _change(session_id, (State.PENDING, State.ACTIVE), state=State.REVOKED, ended_at=now)
        usable_until = (
            session.expires_at if session.expires_at and session.expires_at > now else None
        )
        record_all(
            [
                Entry(
                    Kind.SESSION_ENDED,
                    actor=actor,
                    subject=Subject("session", str(session_id)),
                    data={
                        "session_name": session.session_name,
                        "person_id": str(session.person_id),
                        "access_key_id": session.access_key_id,
                        "usable_until": usable_until.isoformat() if usable_until else None,
                    },
                    at=now,
                )
            ]
        )
    return Ended(session_id, session.session_name, usable_until)


def disown(session_id: UUID, actor: Actor, now: datetime, *, of_person: UUID) -> Ended | None:
    """The person says that a session of theirs was not them: end it if it lives, and record it for security to see.

    None when the person has no such session, or it never was issued.
    """
    with transaction.atomic():
        session = (
            Session.objects.select_for_update()
            .select_related("role")
            .filter(pk=session_id, person_id=of_person)
            .exclude(state=State.FAILED)
            .first()
        )
        if session is None:
            return None
        if session.state in (State.PENDING, State.ACTIVE):
            _change(session_id, (State.PENDING, State.ACTIVE), state=State.REVOKED, ended_at=now)
        usable_until = (
            session.expires_at if session.expires_at and session.expires_at > now else None
        )
        record(
            Kind.SESSION_DISOWNED,
            actor=actor,
            subject=Subject("session", str(session_id)),
            data={
                "session_name": session.session_name,
                "role": session.role.arn,
                "access_key_id": session.access_key_id,
                "came_from": session.address or "",
                "client": session.client,
                "usable_until": usable_until.isoformat() if usable_until else None,
            },
            at=now,
        )
    return Ended(session_id, session.session_name, usable_until)


def expire_due(now: datetime, *, batch: int = BATCH) -> int:
    """active -> expired for one batch of sessions whose time is over. How many were changed."""
    return _sweep(
        Q(state=State.ACTIVE, expires_at__lte=now),
        "expires_at",
        State.ACTIVE,
        {"state": State.EXPIRED, "ended_at": now},
        Kind.SESSION_EXPIRED,
        Actor.task("expire_due"),
        {},
        now,
        batch,
    )


def resolve_pending(now: datetime, *, batch: int = BATCH) -> int:
    """pending -> failed for one batch of rows whose process died before it could say how it went.

    The outcome is unknown, never "no": AWS may have issued credentials that nobody received. How many were changed.
    """
    cause = (
        "The process that asked AWS ended before it could record the answer. Whether AWS issued credentials is not "
        "known; nobody was given any."
    )
    return _sweep(
        Q(state=State.PENDING, requested_at__lt=now - PENDING_LIMIT),
        "requested_at",
        State.PENDING,
        {
            "state": State.FAILED,
            "ended_at": now,
            "aws_error_code": "Unknown",
            "failure": cause,
            "remedy": "CloudTrail of the account shows an AssumeRole event under this session name if AWS did.",
        },
        Kind.SESSION_RESOLVED,
        Actor.task("resolve_pending"),
        {"outcome": "unknown", "cause": cause},
        now,
        batch,
    )


def _sweep(
    due: Q,
    order: str,
    before: str,
    after: Mapping[str, Any],
    kind: Kind,
    actor: Actor,
    data: Mapping[str, Any],
    now: datetime,
    batch: int,
) -> int:
    """Change one batch of what is due, oldest first. What another worker has locked is left to it."""
    with transaction.atomic():
        found = list(
            Session.objects.select_for_update(skip_locked=True)
            .filter(due)
            .order_by(order)
            .values_list("id", "session_name", "person_id")[:batch]
        )
        changed = Session.objects.filter(pk__in=[row[0] for row in found], state=before).update(
            **after
        )
        if changed != len(found):
            raise SessionOver(cause=f"{len(found) - changed} locked sessions changed under us.")
        record_all(
            [
                Entry(
                    kind,
                    actor=actor,
                    subject=Subject("session", str(session_id)),
                    data={"session_name": name, "person_id": str(person_id), **data},
                    at=now,
                )
                for session_id, name, person_id in found
            ]
        )
    return len(found)


def _change(session_id: UUID, before: tuple[str, ...], **values: Any) -> None:
    """Exactly one row, and only from one of these states."""
    if Session.objects.filter(pk=session_id, state__in=before).update(**values) != 1:
        raise SessionOver


def _entry(
    kind: Kind, session_id: UUID, about: About, data: Mapping[str, Any], now: datetime
) -> Entry:
    return Entry(
        kind,
        actor=about.actor,
        subject=Subject("session", str(session_id)),
        data=data,
        address=about.address,
        at=now,
    )
