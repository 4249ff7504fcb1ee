"""Reading sessions: what a person holds now, what they held, and one by its id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import ceil
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils import timezone

from broker.sessions.models import Session


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session as pages show it. state: a Session.State; failure and remedy are for administrators only."""

    id: UUID
    person_id: UUID
    role_id: UUID
    role_name: str
    role_arn: str
    account_id: str
    account_name: str
    environment: str
    environment_colour: str
    production: bool
    state: str
    state_title: str
    hand_over: str
    session_name: str
    seconds: int
    requested_at: datetime
    issued_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    access_key_id: str
    address: str
    client: str
    aws_error_code: str
    failure: str
    remedy: str


@dataclass(frozen=True, slots=True)
class SessionPage:
    """One page of past sessions; page counts from 1, and an empty history has one empty page."""

    rows: tuple[SessionRow, ...]
    total: int
    page: int
    pages: int


def live_of(person_id: UUID, now: datetime, *, at_most: int = 50) -> tuple[SessionRow, ...]:
    """What the person holds now, latest first, sessions that are just being issued included."""
    held = _live_of(_rows(), person_id, now).order_by("-requested_at", "id")
    return tuple(_row(session) for session in held[:at_most])


def count_live_of(person_id: UUID, now: datetime) -> int:
    """How many sessions the person holds now; a program that refreshes its keys can leave hundreds."""
    return _live_of(Session.objects.all(), person_id, now).count()


def _live_of(sessions: QuerySet[Session], person_id: UUID, now: datetime) -> QuerySet[Session]:
    return sessions.filter(
        Q(state=Session.State.ACTIVE, expires_at__gt=now) | Q(state=Session.State.PENDING),
        person_id=person_id,
    )


def past_of(
    person_id: UUID, *, page: int, now: datetime | None = None, page_size: int = 25
) -> SessionPage:
    """What the person held before, newest first: everything that `live_of` leaves out."""
    past = _rows().filter(
        ~Q(state__in=(Session.State.ACTIVE, Session.State.PENDING))
        | Q(state=Session.State.ACTIVE, expires_at__lte=now or timezone.now()),
        person_id=person_id,
    )
    total = past.count()
    pages = max(1, ceil(total / page_size))
    page = min(max(1, page), pages)
    start = (page - 1) * page_size
    rows = past.order_by("-requested_at", "id")[start : start + page_size]
    return SessionPage(tuple(_row(session) for session in rows), total, page, pages)


def by_id(session_id: UUID) -> SessionRow | None:
    """One session, for the administrator."""
    session = _rows().filter(pk=session_id).first()
    return _row(session) if session else None


def _rows() -> QuerySet[Session]:
    return Session.objects.select_related("role__account__environment")


def _row(session: Session) -> SessionRow:
    account = session.role.account
    environment = account.environment
    return SessionRow(
        id=session.id,
        person_id=session.person_id,
        role_id=session.role_id,
        role_name=session.role.name,
        role_arn=session.role.arn,
        account_id=account.account_id,
        account_name=account.name,
        environment=environment.name if environment else "",
        environment_colour=environment.colour if environment else "",
        production=bool(environment and environment.production),
        state=session.state,
        state_title=session.get_state_display(),
        hand_over=session.hand_over,
        session_name=session.session_name,
        seconds=session.seconds,
        requested_at=session.requested_at,
        issued_at=session.issued_at,
        expires_at=session.expires_at,
        ended_at=session.ended_at,
        access_key_id=session.access_key_id,
        address=session.address or "",
        client=session.client,
        aws_error_code=session.aws_error_code,
        failure=session.failure,
        remedy=session.remedy,
    )
