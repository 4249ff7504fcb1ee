"""Sessions in the admin: who held what, since when, until when, and why AWS refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.db.models.functions import TruncDate
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from broker.audit.administrators import actor_of
from broker.audit.models import AuditEvent
from broker.audit.rules import Kind
from broker.backoffice import (
    NOTHING,
    Attention,
    Bar,
    Chart,
    Deed,
    DetailAdmin,
    Figure,
    Hit,
    Panel,
    Step,
    attentions,
    charts,
    chip,
    consequence,
    contributes,
    counted,
    figures,
    finders,
    fitting,
    link_to,
    list_url,
    panel,
    plural,
    spoken,
    steps,
    titled,
    url_of,
)
from broker.sessions import services
from broker.sessions.models import Session
from broker.templatetags.backoffice import exact, moment

State = Session.State
COLOURS = {
    State.PENDING: "amber",
    State.ACTIVE: "green",
    State.FAILED: "red",
    State.EXPIRED: "grey",
    State.REVOKED: "violet",
}
STUCK_AFTER = timedelta(minutes=5)
"""The worker resolves pending sessions every half minute: one this old says that it does not run."""


def state_chip(session: Session) -> str:
    return chip(session.get_state_display(), COLOURS[State(session.state)])


def _end(request: HttpRequest, session: Session) -> str:
    services.end(session.pk, actor_of(request), timezone.now())
    return (
        "Ended in Daypass. AWS does not take credentials back: what was handed out works until "
        f"{exact(session.expires_at) or 'it expires'}, unless the role's sessions are revoked in IAM."
    )


def _end_warning(session: Session) -> str:
    done = "Daypass ends it on its side and records that you did."
    if session.expires_at is None:
        return (
            f"Nothing was issued yet as far as Daypass knows; {session.person} asked for {session.role}. If AWS issued "
            f"something all the same, it works until it expires. {done}"
        )
    return (
        f"{session.person} holds {session.role} until {exact(session.expires_at)}. AWS does not take credentials back: "
        "what was handed out works until then, unless the role's sessions are revoked in IAM. "
        f"{done}"
    )


@admin.register(Session)
class SessionAdmin(DetailAdmin):
    list_display = ("session", "holder", "into", "how", "state_now", "since", "until")
    list_filter = (
        "state",
        ("hand_over", titled("handed over as", admin.ChoicesFieldListFilter)),
        ("requested_at", titled("asked", admin.DateFieldListFilter)),
    )
    list_select_related = ("person", "role__account")
    search_fields = ("session_name",)
    search_help_text = "Handle, name, role, session name or access key id"
    empty = "Sessions appear when somebody opens a console or takes keys."
    ordering = ("-requested_at",)
    deeds = (
        Deed(
            "end",
            "End session",
            _end,
            available=lambda session: session.state in (State.PENDING, State.ACTIVE),
            warn=_end_warning,
            asks=lambda session: f"End the session {session.session_name}",
            danger=True,
        ),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found = fitting(
            queryset,
            search_term,
            "session_name",
            "access_key_id",
            "person__handle__istartswith",
            "person__name__icontains",
            "role__name__icontains",
            "role__account__account_id",
        )
        return found, False

    @admin.display(description="session")
    def session(self, session: Session) -> str:
        return session.session_name

    @admin.display(description="who")
    def holder(self, session: Session) -> str:
        return link_to(session.person, session.person.handle)

    @admin.display(description="role")
    def into(self, session: Session) -> str:
        return link_to(session.role)

    @admin.display(description="how", ordering="hand_over")
    def how(self, session: Session) -> str:
        return session.get_hand_over_display()

    @admin.display(description="state", ordering="state")
    def state_now(self, session: Session) -> str:
        return state_chip(session)

    @admin.display(description="asked", ordering="requested_at")
    def since(self, session: Session) -> str:
        return moment(session.requested_at)

    @admin.display(description="until", ordering="expires_at")
    def until(self, session: Session) -> str:
        return moment(session.expires_at) if session.expires_at else NOTHING

    def facts(self, request: HttpRequest, thing: Session) -> Sequence[tuple[str, Any]]:
        until = thing.expires_at if thing.state == State.REVOKED else None
        return [
            ("State", state_chip(thing)),
            ("Who", link_to(thing.person)),
            ("Role", link_to(thing.role)),
            ("By mapping", link_to(thing.mapping) if thing.mapping else "none now"),
            ("Handed over as", thing.get_hand_over_display()),
            ("Asked", exact(thing.requested_at)),
            ("For", spoken(thing.seconds)),
            (
                "Issued",
                exact(thing.issued_at) or ("not yet" if thing.state == State.PENDING else "never"),
            ),
            (
                "Ends" if thing.state == State.ACTIVE else "Ended",
                exact(thing.ended_at or thing.expires_at) or NOTHING,
            ),
            *(
                [("What was handed out works until", exact(until))]
                if until is not None and until > timezone.now()
                else []
            ),
            ("Source identity", thing.source_identity),
            ("Access key id", thing.access_key_id or "none"),
            ("Assumed role", thing.assumed_role_arn or NOTHING),
            ("From", " · ".join(filter(None, (thing.address, thing.client))) or "unknown"),
            *(
                [("Packed policy", f"{thing.packed_policy_size} % of what AWS takes")]
                if thing.packed_policy_size is not None
                else []
            ),
        ]


@panel("broker.session", position=10)
def what_went_wrong(request: HttpRequest, session: Session) -> Panel | None:
    if not session.failure and not session.aws_error_code:
        return None
    return Panel("What went wrong", "admin/failure.html", {"session": session, "here": True})


def _rows(sessions: Iterable[Session]) -> list[dict[str, Any]]:
    return [
        {"session": session, "url": url_of(session), "colour": COLOURS[State(session.state)]}
        for session in sessions
    ]


@panel("accounts.person", position=40)
def sessions_of_person(request: HttpRequest, person: Any) -> Panel:
    found = Session.objects.filter(person=person).select_related("role__account")[:8]
    return Panel(
        "Sessions",
        "admin/sessions.html",
        {
            "rows": _rows(found),
            "of": "person",
            "all_url": list_url(Session, person__id__exact=person.pk),
        },
    )


@panel("broker.awsrole", position=40)
def sessions_of_role(request: HttpRequest, role: Any) -> Panel:
    found = Session.objects.filter(role=role).select_related("person")[:8]
    return Panel(
        "Sessions",
        "admin/sessions.html",
        {"rows": _rows(found), "of": "role", "all_url": list_url(Session, role__id__exact=role.pk)},
    )


@panel("broker.awsrole", position=5)
def last_failure_of_role(request: HttpRequest, role: Any) -> Panel | None:
    """Only while the last issue failed: afterwards it is history."""
    last = Session.objects.filter(role=role).exclude(state=State.PENDING).first()
    if last is None or last.state != State.FAILED:
        return None
    return Panel("The last issue of this role failed", "admin/failure.html", {"session": last})


@consequence("accounts.person", "deactivate")
def live_sessions_of(person: Any) -> str:
    live = Session.objects.filter(
        person=person, state=State.ACTIVE, expires_at__gt=timezone.now()
    ).order_by("-expires_at")
    count = live.count()
    last = live.first()
    if last is None:
        return "No AWS session of theirs is live."
    return (
        f"{plural(count, 'live AWS session', 'live AWS sessions')} cannot be taken back by Daypass: credentials "
        f"already handed out work until {exact(last.expires_at)} at the latest. To stop them sooner, revoke the role's "
        "sessions in IAM."
    )


@contributes(attentions)
def pending_too_long(request: HttpRequest) -> Iterable[Attention]:
    stuck = Session.objects.filter(
        state=State.PENDING, requested_at__lt=timezone.now() - STUCK_AFTER
    ).count()
    if stuck:
        yield Attention(
            "wrong",
            f"{plural(stuck, 'session', 'sessions')} pending for more than 5 minutes: the worker does not run.",
            list_url(Session, state__exact=State.PENDING),
            "See them",
        )


@contributes(attentions)
def disowned_sessions(request: HttpRequest) -> Iterable[Attention]:
    """What people said was not them within a week, latest first."""
    said = AuditEvent.objects.filter(
        kind=Kind.SESSION_DISOWNED, at__gt=timezone.now() - timedelta(days=7)
    ).order_by("-seq")
    for event in said[:5]:
        yield Attention(
            "wrong",
            f"{event.actor} says that the session {event.data['session_name']} was not theirs.",
            reverse("admin:broker_session_change", args=[event.subject_id]),
            "Look at the session",
        )


@contributes(attentions)
def roles_that_fail(request: HttpRequest) -> Iterable[Attention]:
    """Roles whose last issue within a week failed, by the cause that the administrator can mend."""
    recent = (
        Session.objects.filter(requested_at__gt=timezone.now() - timedelta(days=7))
        .exclude(state=State.PENDING)
        .select_related("role__account")
        .order_by("role_id", "-requested_at")
    )
    failed = (
        recent.filter(state=State.FAILED)
        .values_list("role_id", flat=True)
        .order_by()
        .distinct()[:50]
    )
    shown = 0
    for role_id in failed:
        last = recent.filter(role_id=role_id).first()
        if last is None or last.state != State.FAILED or shown == 5:
            continue
        shown += 1
        cause = last.failure or last.aws_error_code or "for a reason that AWS did not tell"
        yield Attention(
            "wrong",
            f"{last.role}: the last issue failed. {cause}",
            url_of(last.role),
            "Mend the role",
        )


@contributes(figures)
def live_now(request: HttpRequest) -> Iterable[Figure]:
    live = Session.objects.filter(state=State.ACTIVE, expires_at__gt=timezone.now())
    numbers = live.aggregate(sessions=Count("id"), people=Count("person", distinct=True))
    yield Figure(
        *counted(numbers["sessions"], "session live now", "sessions live now"),
        list_url(Session, state__exact=State.ACTIVE),
        f"of {plural(numbers['people'], 'person', 'people')}",
        position=10,
    )


@contributes(charts)
def issues_per_day(request: HttpRequest) -> Chart:
    today = timezone.now().date()
    days = [today - timedelta(days=back) for back in range(13, -1, -1)]
    counted: dict[Any, Any] = {
        row["day"]: row
        for row in Session.objects.filter(requested_at__date__gte=days[0])
        .annotate(day=TruncDate("requested_at"))
        .order_by()
        .values("day")
        .annotate(all=Count("id"), failed=Count("id", filter=Q(state=State.FAILED)))
    }
    return Chart(
        "Credentials issued, last 14 days",
        tuple(
            Bar(
                f"{day:%b} {day.day}",
                counted.get(day, {}).get("all", 0),
                counted.get(day, {}).get("failed", 0),
            )
            for day in days
        ),
        "Nothing was issued in the last 14 days.",
    )


@contributes(steps)
def first_issue(request: HttpRequest) -> Step:
    issued = Session.objects.filter(issued_at__isnull=False).exists()
    last = Session.objects.exclude(state=State.PENDING).first()
    wrong = not issued and last is not None and last.state == State.FAILED
    return Step(
        60,
        "Sign in as an employee would",
        "done" if issued else "wrong" if wrong else "waiting",
        "Somebody opened a role."
        if issued
        else f"The first try failed: {last.failure or last.aws_error_code}"
        if wrong and last is not None
        else "Open Daypass in a private window, sign in, and open the console of a role.",
        url_of(last) if wrong and last is not None else "/",
        "" if issued else "See the failure" if wrong else "Open Daypass",
    )


@contributes(finders)
def find_sessions(text: str) -> Iterable[Hit]:
    for session in Session.objects.filter(
        Q(session_name=text) | Q(access_key_id=text)
    ).select_related("person", "role__account")[:5]:
        yield Hit(
            "Session",
            session.session_name,
            f"{session.person.handle}, {session.role}",
            url_of(session),
        )
