"""The portal's page "Terminal": what a person let in, ending it one by one, and tokens for scripts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import places
from accounts.decorators import person_of, signed_in
from accounts.identity import Principal
from broker.awssso import queries, services
from broker.awssso.forms import ScriptTokenForm
from broker.awssso.models import Terminal
from broker.awssso.pages import Sitting, answering_failures, asker_of, sitting_of
from broker.awssso.profile_views import setup_context
from broker.awssso.reach import roles_with_keys
from broker.awssso.room import full
from broker.awssso.services import LetIn
from broker.awssso.services.common import actor_of
from broker.errors import BadInput
from broker.sheets import sheet

SHOWN_PAST = 20
MOST_ROLES = 500
"""Roles that the form of a script token offers; whoever has more takes a token for all of them."""

LENGTHS = (
    (900, "15 min"),
    (3600, "1 hour"),
    (4 * 3600, "4 hours"),
    (8 * 3600, "8 hours"),
    (24 * 3600, "1 day"),
    (7 * 86400, "7 days"),
    (30 * 86400, "30 days"),
    (90 * 86400, "90 days"),
)


@require_GET
@signed_in
@answering_failures
def terminal(request: HttpRequest) -> HttpResponse:
    """How to set up, what is let in, and tokens for scripts."""
    principal, now = person_of(request), timezone.now()
    return _page(request, principal, now)


def _page(
    request: HttpRequest,
    principal: Principal,
    now: datetime,
    form: ScriptTokenForm | None = None,
) -> HttpResponse:
    sitting = sitting_of(request)
    policy = queries.policy_of(principal.proof.provider_id)
    terminals = queries.of_person(principal.person_id, now, over=SHOWN_PAST)
    context: dict[str, Any] = {
        "policy": policy,
        "live": [one for one in terminals if one.live],
        "past": [one for one in terminals if not one.live],
        "sitting_ends": sitting.ends,
        "full": full(principal.person_id, now),
    }
    if policy.enabled:
        context |= setup_context(request, principal, now)
    if policy.enabled and policy.script_tokens:
        context["lengths"] = _lengths(principal, sitting, now)
        context["form"] = form or ScriptTokenForm()
        context["roles"] = roles_with_keys(principal, now, at_most=MOST_ROLES)
    return render(request, "terminal/terminal.html", context, status=400 if form else 200)


def _lengths(principal: Principal, sitting: Sitting, now: datetime) -> tuple[tuple[int, str], ...]:
    """How long a script token may live: what the policy allows, and no longer than the browser session."""
    longest = queries.policy_of(principal.proof.provider_id).longest
    left = sitting.ends - now
    most = int((min(left, longest) if longest else left).total_seconds())
    fitting = tuple(one for one in LENGTHS if one[0] < most)
    return (*fitting, (most, "as long as allowed"))[::-1]


@require_POST
@signed_in
@answering_failures
@sensitive_variables("token")
def script_token(request: HttpRequest) -> HttpResponse:
    """Make a token for scripts. It is in this one answer and nowhere else."""
    principal, sitting, now = person_of(request), sitting_of(request), timezone.now()
    lengths = _lengths(principal, sitting, now)
    form = ScriptTokenForm(request.POST)
    if not form.is_valid():
        return _page(request, principal, now, form)
    role_id = form.cleaned_data["role"]
    if role_id and not any(
        one.id == role_id for one in roles_with_keys(principal, now, only=role_id)
    ):
        raise BadInput("You have no such role.", code="no_role")
    seconds = min(form.cleaned_data["seconds"], lengths[0][0])
    made = services.let_in(
        principal,
        LetIn(
            kind=Terminal.Kind.SCRIPT,
            flow=Terminal.Flow.PORTAL,
            client_name="",
            client_digest="",
            asker=asker_of(request),
            role_id=role_id,
            label=form.cleaned_data["label"],
        ),
        line=sitting.line,
        relay=sitting.relay,
        browser_ends=min(sitting.ends, now + timedelta(seconds=seconds)),
        now=now,
    )
    token = services.give_script_token(made, seconds=seconds, now=now)
    response = render(
        request,
        "terminal/script_token.html",
        {"terminal": made, "token": token, "masked": token[:4] + "\u2022" * 24},
    )
    response["Cache-Control"] = "no-store, private"
    return response


@require_http_methods(["GET", "POST"])
@signed_in
@answering_failures
def terminal_end(request: HttpRequest, terminal_id: UUID) -> HttpResponse:
    """Say what ending a terminal can and cannot do; on POST, end it. Only ever one's own."""
    principal, now = person_of(request), timezone.now()
    found = queries.one_of_person(principal.person_id, terminal_id, now)
    if found is None:
        raise Http404
    if request.method != "POST":
        return sheet(request, "terminal/end.html", {"terminal": found})
    disowned = request.POST.get("not_me") == "1"
    own: dict[str, Any] = {
        "actor": actor_of(principal),
        "of_person": principal.person_id,
        "now": now,
        "address": principal.address,
    }
    if disowned:
        ended = services.disown(terminal_id, **own)
    else:
        ended = services.end(terminal_id, because=Terminal.Ended.PERSON, **own)
    return sheet(
        request,
        "terminal/ended.html",
        {"terminal": found, "ended": ended, "disowned": disowned},
    )


@require_POST
@signed_in
@answering_failures
def make_room(request: HttpRequest) -> HttpResponse:
    """End the chosen ones of one's own terminals, and go back to what there was no room for."""
    principal = person_of(request)
    services.end_some(
        _ids(request.POST.getlist("terminal")),
        actor=actor_of(principal),
        of_person=principal.person_id,
        now=timezone.now(),
        address=principal.address,
    )
    page = places.find(request.POST.get("to", "")) or reverse("terminal")
    return HttpResponseRedirect(page, status=303)


def _ids(sent: list[str]) -> list[UUID]:
    try:
        return [UUID(text) for text in sent]
    except ValueError:
        raise BadInput("Choose terminals of the list.", code="no_terminal") from None


urlpatterns = [
    path("terminal/", terminal, name="terminal"),
    path("terminal/token/", script_token, name="script_token"),
    path("terminal/room/", make_room, name="terminal_room"),
    path("terminal/<uuid:terminal_id>/end/", terminal_end, name="terminal_end"),
]
