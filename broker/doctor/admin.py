"""The doctor in the admin: a button on roles and accounts, what it found, and the way from a failure to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from broker.audit.administrators import by
from broker.audit.models import AuditEvent
from broker.audit.rules import Kind
from broker.backoffice import (
    Attention,
    Deed,
    DetailAdmin,
    Panel,
    add_deed,
    attentions,
    chip,
    contributes,
    list_url,
    mark,
    panel,
    plural,
    titled,
    url_of,
)
from broker.doctor import services, tasks
from broker.doctor.models import TrustCheck
from broker.doctor.services import Who
from broker.entitlements.models import AwsAccount, AwsRole
from broker.errors import DaypassError
from broker.sessions.models import Session
from broker.templatetags.backoffice import moment

Outcome = TrustCheck.Outcome
COLOURS = {Outcome.WORKS: "green", Outcome.FAILS: "red", Outcome.UNSURE: "amber"}
_STATES = {"ok": ("right", "green"), "bad": ("wrong", "red"), "unknown": ("not known", "amber")}


def _chip(check: TrustCheck) -> str:
    return chip(check.get_outcome_display(), COLOURS[Outcome(check.outcome)])


def _check(role: AwsRole) -> TrustCheck | None:
    """The last result of a role, read with it where the list does so."""
    try:
        return role.trust_check
    except TrustCheck.DoesNotExist:
        return None


# --- Buttons


def _try(request: HttpRequest, role: AwsRole) -> str:
    check = services.check_role(role, who=Who(**by(request)), now=timezone.now())
    if check.outcome == Outcome.WORKS:
        return f"{role} works: AWS let Daypass in, and everything that it gave was thrown away."
    said = "does not work" if check.outcome == Outcome.FAILS else "could not be told about"
    where = " The corrected policy stands under Doctor." if check.document else ""
    raise DaypassError(f"{role} {said}.", cause=check.cause, remedy=check.remedy + where)


def _try_account(request: HttpRequest, account: AwsAccount) -> str:
    who = by(request)
    try:
        tasks.check_account.delay(account.pk, [who["actor"].id, who["actor"].name], who["address"])
    except Exception as error:
        raise DaypassError(
            "The worker cannot be asked right now.",
            cause=f"The queue does not answer ({type(error).__name__}).",
            remedy="Look at Redis, or run manage.py doctor.",
        ) from None
    return "The roles of this account are being tried, one after the other. Results stand at each role."


add_deed("broker.awsrole", Deed("try", "Try it now", _try))
add_deed(
    "broker.awsaccount",
    Deed(
        "try",
        "Try its roles",
        _try_account,
        available=lambda account: account.roles.exists(),
        later=True,
    ),
)


# --- What was found


def _findings(check: TrustCheck | None, role: AwsRole) -> dict[str, Any]:
    steps = [
        {
            **step,
            "word": _STATES.get(step["state"], ("", ""))[0],
            "colour": _STATES.get(step["state"], ("", ""))[1],
        }
        for step in (check.steps if check else ())
        if step["state"] != "skipped"
    ]
    return {"check": check, "chip": _chip(check) if check else "", "steps": steps, "role": role}


@panel("broker.awsrole", position=12)
def of_role(request: HttpRequest, role: AwsRole) -> Panel:
    return Panel(
        "Doctor",
        "admin/doctor.html",
        _findings(_check(role), role),
        note="Tried for real, with sessions that allow nothing and are thrown away.",
    )


@panel("broker.session", position=12)
def of_session(request: HttpRequest, session: Session) -> Panel | None:
    """Beside what AWS said to somebody: what the doctor says of the role."""
    if session.state != Session.State.FAILED:
        return None
    return _about_failure(session.role)


@panel("broker.auditevent", position=12)
def of_event(request: HttpRequest, event: AuditEvent) -> Panel | None:
    if event.kind not in (Kind.SESSION_FAILED, Kind.HAND_OVER_FAILED, Kind.ROLE_CHECKED):
        return None
    role = AwsRole.objects.filter(arn=str(event.data.get("role", ""))).first()
    return _about_failure(role) if role else None


def _about_failure(role: AwsRole) -> Panel:
    return Panel(
        "What the doctor says of this role",
        "admin/doctor_link.html",
        {**_findings(_check(role), role), "url": url_of(role) + "#doctor"},
    )


@mark("broker.awsrole")
def failing(role: AwsRole) -> str:
    check = _check(role)
    if check is None or check.outcome != Outcome.FAILS:
        return ""
    return chip("does not work", "red")


@contributes(attentions)
def roles_that_fail(request: HttpRequest) -> Iterable[Attention]:
    count = TrustCheck.objects.filter(
        outcome=Outcome.FAILS, role__enabled=True, role__account__enabled=True
    ).count()
    if count:
        yield Attention(
            "wrong",
            f"{plural(count, 'role does', 'roles do')} not work: AWS did not let Daypass in when last tried.",
            list_url(AwsRole, trust_check__outcome__exact=Outcome.FAILS.value),
            "See which",
        )


@admin.register(TrustCheck)
class TrustCheckAdmin(DetailAdmin):
    list_display = ("of_role", "in_account", "found", "because", "when")
    list_filter = (("outcome", titled("found", admin.ChoicesFieldListFilter)), "code")
    list_select_related = ("role__account",)
    search_fields = ("role__name", "role__account__name", "role__account__account_id__startswith")
    search_help_text = "Role, account or id"
    list_title = "Doctor"
    intro = "What was found when each role was last tried for real."
    empty = format_html(
        "Press “Try it now” on the page of a role, or run <code class='unbroken'>{}</code>.",
        "manage.py doctor --all",
    )
    empty_link = ("admin:broker_awsrole_changelist", "Choose a role")
    ordering = ("-at",)

    @admin.display(description="role", ordering="role__name")
    def of_role(self, check: TrustCheck) -> str:
        return check.role.name

    @admin.display(description="account", ordering="role__account__name")
    def in_account(self, check: TrustCheck) -> str:
        return check.role.account.name

    @admin.display(description="found", ordering="outcome")
    def found(self, check: TrustCheck) -> str:
        return _chip(check)

    @admin.display(description="cause")
    def because(self, check: TrustCheck) -> str:
        return check.cause[:120] + ("…" if len(check.cause) > 120 else "")

    @admin.display(description="when", ordering="at")
    def when(self, check: TrustCheck) -> str:
        return moment(check.at)

    def facts(self, request: HttpRequest, thing: TrustCheck) -> Sequence[tuple[str, Any]]:
        link = format_html('<a href="{}#doctor">{}</a>', url_of(thing.role), str(thing.role))
        return [("Role", link)]


@panel("broker.trustcheck")
def of_check(request: HttpRequest, check: TrustCheck) -> Panel:
    return Panel("Doctor", "admin/doctor.html", _findings(check, check.role))
