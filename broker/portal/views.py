"""The pages of an employee: roles, console, keys, sessions.

Every view parses, calls one service and answers. What opens a door is answered to a POST only, never kept by a cache
and never named to the next page (threats.md R25, R26).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.decorators import person_of, signed_in
from accounts.identity import Principal
from accounts.places import keep, sign_in_url
from broker.arns import PARTITIONS
from broker.audit.services import Actor, under_reference
from broker.doctor.queries import did_not_work_at
from broker.entitlements import queries as entitlements
from broker.entitlements.rules import Allowed, Ask, Decision, HandOver, Refused, RoleFacts, decide
from broker.errors import BadInput, DaypassError
from broker.handover.console import ConsoleLink, SamlForm, open_console
from broker.handover.keys import Keys, get_keys
from broker.portal import queries, rules, services
from broker.portal.errors import failure_page
from broker.portal.forms import ConsoleForm, KeysForm, SearchForm
from broker.references import new_reference
from broker.sessions import queries as session_queries
from broker.sessions import services as session_services
from broker.sessions.queries import SessionRow
from broker.sheets import is_htmx, sheet

PAGE_SIZE = 50
MOST_ON_TOP = 12
RECENT = 4
LIVE_IN_BAR = 2

View = Callable[..., HttpResponse]


def _answering_failures(view: View) -> View:
    """At the door, a failure becomes a page: what happened, what to do, and a reference.

    Whatever the request records in the audit log bears the same reference.
    """

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **named: Any) -> HttpResponse:
        reference = new_reference()
        request.reference = reference  # type: ignore[attr-defined]
        with under_reference(reference):
            try:
                return view(request, *args, **named)
            except DaypassError as error:
                return failure_page(request, error, reference, **_wanted(request, error))

    return wrapped


_HAND_OVERS: dict[str | None, HandOver] = {"open_console": "console", "get_keys": "keys"}


_TOO_OLD = ("aws_relayed_token_expired", "aws_relayed_assertion_expired", "relay_over")
"""Failures that are over as soon as the person's provider says the same anew."""


def _wanted(request: HttpRequest, error: DaypassError) -> dict[str, Any]:
    """The role and the hand-over that failed, where the person may know of that role, and their way back to it."""
    match = request.resolver_match
    hand_over = _HAND_OVERS.get(match.url_name) if match else None
    if match is None or hand_over is None:
        return {}
    principal, role_id = person_of(request), match.kwargs["role_id"]
    snapshot = entitlements.load_snapshot(principal, role_id)
    if snapshot is None:
        return {}
    decision = decide(principal, Ask(role_id, hand_over), snapshot, timezone.now())
    if isinstance(decision, Refused) and not decision.visible:
        return {}
    wanted = {"role": snapshot.role, "hand_over": hand_over}
    if error.code not in _TOO_OLD:
        return wanted
    place = _place_of(snapshot.role, hand_over)
    if snapshot.role.trust == "relayed_assertion":
        return {**wanted, "way_back": _asking(principal, place)}
    return {**wanted, "way_back": {"sign_in_again": sign_in_url(place, fresh=True)}}


# ---- Roles


@require_GET
@signed_in
@_answering_failures
def home(request: HttpRequest) -> HttpResponse:
    """The person's roles; with `q`, those that match. htmx gets the results alone."""
    principal = person_of(request)
    now = timezone.now()
    form = SearchForm(request.GET)
    typed = form.cleaned_data["q"] if form.is_valid() else ""
    number = (form.cleaned_data.get("page") if form.is_valid() else None) or 1
    opening = entitlements.roles_that_open(
        principal, typed, now=now, page=number, page_size=PAGE_SIZE
    )
    found = (
        opening.roles
        if opening
        else entitlements.find_roles(principal, typed, page=number, page_size=PAGE_SIZE, now=now)
    )
    pinned = queries.pinned_roles(principal.person_id)
    context: dict[str, Any] = {
        "typed": typed,
        "place": opening.place if opening else None,
        "look_for": "" if opening else typed,
        "found": found,
        "accounts": rules.grouped(
            rules.row_of(row.role, row.console, row.keys, pinned=row.role.id in pinned)
            for row in found.rows
        ),
        "query": urlencode({"q": typed}) if typed else "",
        "sign_in_again": sign_in_url(_address(typed, found.page), fresh=True),
    }
    if not typed and found.page == 1 and found.total:
        context["top"] = _top(principal, pinned, now)
    if found.page == 1:
        context |= _relayed(principal, typed, now)
    context["total"] = found.total + context.get("relayed_total", 0)
    if not is_htmx(request):
        context |= _live(principal, now)
        context["groups"] = principal.groups
        return render(request, "portal/home.html", context)
    response = render(request, "portal/home.html#results", context)
    response["HX-Replace-Url"] = _address(typed, found.page)
    return response


def _relayed(principal: Principal, typed: str, now: datetime) -> dict[str, Any]:
    """Roles that the company's own AWS application gives: those it lists just now, or the way to ask it."""
    asking = _asking(principal, "/")
    if not asking:
        return {}
    words = entitlements.words_of(typed)
    rows = [
        rules.row_of(row.role, row.console, row.keys)
        for row in entitlements.asserted_roles(principal, now=now)
        if all(
            word
            in entitlements.fold(f"{row.role.account_name} {row.role.account_id} {row.role.name}")
            for word in words
        )
    ]
    return {
        **asking,
        "relayed": rules.grouped(rows),
        "relayed_total": len(rows),
        "relayed_from": principal.proof.provider_name,
    }


def _address(typed: str, page: int) -> str:
    """The address of a page of the role list."""
    query = urlencode(({"q": typed} if typed else {}) | ({"page": page} if page > 1 else {}))
    return reverse("home") + (f"?{query}" if query else "")


def _live(principal: Principal, now: datetime) -> dict[str, Any]:
    """What the thin bar of live sessions shows."""
    held = session_queries.live_of(principal.person_id, now, at_most=LIVE_IN_BAR)
    more = 0
    if len(held) == LIVE_IN_BAR:
        more = session_queries.count_live_of(principal.person_id, now) - len(held)
    return {"live": held, "live_more": max(0, more)}


@require_GET
@signed_in
@_answering_failures
def live(request: HttpRequest) -> HttpResponse:
    """The bar of live sessions alone, for a page that the person comes back to from AWS."""
    return render(request, "portal/home.html#live", _live(person_of(request), timezone.now()))


def _top(principal: Principal, pinned: tuple[UUID, ...], now: datetime) -> tuple[rules.Row, ...]:
    """What stands above all others: pinned roles, then those used last."""
    recent = [one for one in queries.recent_roles(principal.person_id) if one not in pinned]
    wanted = (*pinned[:MOST_ON_TOP], *recent[:RECENT])
    if not wanted:
        return ()
    rows = {row.role.id: row for row in entitlements.rows_of(principal, wanted, now=now)}
    return tuple(
        rules.row_of(row.role, row.console, row.keys, pinned=role_id in pinned)
        for role_id in wanted
        if (row := rows.get(role_id)) is not None
    )


@require_GET
@signed_in
@_answering_failures
def role(request: HttpRequest, role_id: UUID) -> HttpResponse:
    """One role: where it may land, for how long, a link to it, and why the person has it."""
    principal = person_of(request)
    now = timezone.now()
    snapshot = entitlements.load_snapshot(principal, role_id)
    if snapshot is None:
        raise Http404
    console = decide(principal, Ask(role_id, "console"), snapshot, now)
    keys = decide(principal, Ask(role_id, "keys"), snapshot, now)
    if not any(isinstance(one, Allowed) or one.visible for one in (console, keys)):
        raise Http404
    facts = snapshot.role
    go = request.build_absolute_uri(
        reverse("go", kwargs={"account": facts.account_id, "role": facts.name})
    )
    return sheet(
        request,
        "portal/role.html",
        {
            "role": facts,
            "console": console if isinstance(console, Allowed) else None,
            "keys": keys if isinstance(keys, Allowed) else None,
            **_refused_here(console, keys),
            "sign_in_again": sign_in_url(reverse("role", args=[role_id]), fresh=True),
            **_asking(principal, reverse("role", args=[role_id])),
            "reasons": dict.fromkeys((*console.reasons, *keys.reasons)),
            "console_lengths": _lengths(console),
            "keys_lengths": _lengths(keys),
            "services": rules.SERVICES,
            "home_region": facts.region or PARTITIONS[facts.partition].home_region,
            "deep_link": go,
            "did_not_work_at": did_not_work_at(role_id, now),
        },
    )


def _asking(principal: Principal, place: str) -> dict[str, Any]:
    """The form that asks the person's provider what AWS wants to know, and leads back to a place."""
    slug = entitlements.application_of(principal)
    if not slug:
        return {}
    return {"ask_provider": reverse("relay_start", args=[slug]), "back_to": keep(place)}


def _refused_here(console: Decision, keys: Decision) -> dict[str, Any]:
    """Of console and keys, what is refused just now, with the way out."""
    if isinstance(console, Refused):
        return {"refused": console, "way_out": rules.way_out(console, "console")}
    if isinstance(keys, Refused):
        return {"refused": keys, "way_out": rules.way_out(keys, "keys")}
    return {}


def _lengths(decision: Allowed | Refused) -> tuple[tuple[int, str], ...]:
    if isinstance(decision, Refused):
        return ()
    return rules.duration_choices(decision.longest_seconds)


@require_POST
@signed_in
@_answering_failures
def pin(request: HttpRequest, role_id: UUID) -> HttpResponse:
    """Pin or unpin a role; htmx gets the button back, everybody else the list."""
    principal = person_of(request)
    wanted = request.POST.get("pinned") == "1"
    if wanted:
        services.pin(principal.person_id, role_id)
    else:
        services.unpin(principal.person_id, role_id)
    if is_htmx(request):
        return render(
            request, "portal/home.html#pin", {"role_id": role_id, "pinned": wanted, "told": True}
        )
    return redirect("home")


# ---- Console


@require_POST
@signed_in
@_answering_failures
def console(request: HttpRequest, role_id: UUID) -> HttpResponse:
    """Open the AWS console as this role: one redirect, or a form that signs the browser in at AWS directly."""
    principal = person_of(request)
    now = timezone.now()
    form = _valid(ConsoleForm(request.POST))
    ask = Ask(role_id, "console", form["seconds"])
    answer = open_console(
        principal,
        ask,
        destination=_destination(principal, role_id, form),
        now=now,
        client=_client(request),
    )
    match answer:
        case ConsoleLink():
            response = HttpResponse(status=303, headers={"Location": answer.url})
        case SamlForm():
            response = render(request, "portal/to_aws.html", {"form": answer})
        case Refused():
            return _refusal(request, principal, role_id, answer, "console")
    return _private(response)


def _destination(person: Principal, role_id: UUID, form: dict[str, Any]) -> str:
    """The console page that was asked for: an address as it was pasted, or a service and a region."""
    if form["destination"] or not (form["service"] or form["region"]):
        return str(form["destination"])
    snapshot = entitlements.load_snapshot(person, role_id)
    if snapshot is None:
        return ""
    facts = snapshot.role
    return rules.console_destination(
        PARTITIONS[facts.partition],
        service=form["service"],
        region=form["region"] or facts.region,
    )


@require_GET
@signed_in
@_answering_failures
def go(request: HttpRequest, account: str, role: str) -> HttpResponse:
    """A link to a role in the console. It only asks: what issues the session is the form on this page.

    Where the browser says that no other site sent the person here, portal.js sends the form at once; a link on
    another site costs one click, so that no site can make somebody's browser ask for credentials (threats.md R25).
    """
    principal = person_of(request)
    role_id = entitlements.find_role(principal, account, role)
    snapshot = entitlements.load_snapshot(principal, role_id) if role_id else None
    if snapshot is None:
        return _unknown(request)
    destination = request.GET.get("destination", "")[:2048]
    decision = decide(principal, Ask(snapshot.role.id, "console"), snapshot, timezone.now())
    if isinstance(decision, Refused) and not decision.visible:
        return _unknown(request)
    return render(
        request,
        "portal/go.html",
        {
            "role": snapshot.role,
            "destination": destination,
            "at_once": isinstance(decision, Allowed) and _nobody_else_sent(request),
        },
    )


def _nobody_else_sent(request: HttpRequest) -> bool:
    """Whether the browser vouches that the person or we came here, and that it did not run ahead."""
    sent = request.headers
    return (
        sent.get("Sec-Fetch-Site") in ("none", "same-origin")
        and sent.get("Sec-Fetch-Mode") == "navigate"
        and sent.get("Sec-Fetch-Dest") == "document"
        and "Sec-Purpose" not in sent
    )


# ---- Keys


@require_POST
@signed_in
@_answering_failures
def keys(request: HttpRequest, role_id: UUID) -> HttpResponse:
    """Temporary keys, in this one answer and nowhere else."""
    principal = person_of(request)
    form = _valid(KeysForm(request.POST))
    ask = Ask(role_id, "keys", form["seconds"])
    answer = get_keys(principal, ask, now=timezone.now(), client=_client(request))
    match answer:
        case Keys():
            shown = tuple(
                rules.ShownKey(
                    id=one.id,
                    title=rules.KEY_TITLES.get(one.id, one.title),
                    text=one.text,
                    masked=rules.masked(one.text),
                    filename=one.filename,
                    media_type=one.media_type,
                    hint=rules.KEY_HINTS.get(one.id, ""),
                )
                for one in answer.forms
            )
            response = sheet(
                request,
                "portal/keys.html",
                {"role": answer.role, "expires_at": answer.expires_at, "forms": shown},
            )
        case Refused():
            return _refusal(request, principal, role_id, answer, "keys")
    return _private(response)


# ---- Sessions


@require_GET
@signed_in
@_answering_failures
def sessions(request: HttpRequest) -> HttpResponse:
    """The person's own sessions: live ones first, then the past by day."""
    principal = person_of(request)
    now = timezone.now()
    form = SearchForm(request.GET)
    number = (form.cleaned_data.get("page") if form.is_valid() else None) or 1
    past = session_queries.past_of(principal.person_id, page=number)
    days: dict[str, list[SessionRow]] = {}
    for one in past.rows:
        days.setdefault(rules.day_of(one.requested_at, now), []).append(one)
    held = session_queries.live_of(principal.person_id, now) if number == 1 else ()
    more = session_queries.count_live_of(principal.person_id, now) - len(held) if held else 0
    return render(
        request,
        "portal/sessions.html",
        {"live": held, "live_more": more, "past": past, "days": days.items()},
    )


@require_http_methods(["GET", "POST"])
@signed_in
@_answering_failures
def session_end(request: HttpRequest, session_id: UUID) -> HttpResponse:
    """Say what ending a session can and cannot do; on POST, end it. Only ever one's own."""
    principal = person_of(request)
    now = timezone.now()
    found = session_queries.by_id(session_id)
    if found is None or found.person_id != principal.person_id:
        raise Http404
    context = {"session": found}
    if request.method == "POST":
        actor = Actor(id=str(principal.person_id), name=principal.handle)
        disowned = request.POST.get("not_me") == "1"
        verb = session_services.disown if disowned else session_services.end
        ended = verb(session_id, actor, now, of_person=principal.person_id)
        return sheet(
            request,
            "portal/session_ended.html",
            {**context, "ended": ended, "disowned": disowned and ended is not None},
        )
    alive = found.state in ("pending", "active") and (
        found.expires_at is None or found.expires_at > now
    )
    return sheet(request, "portal/session_end.html", {**context, "alive": alive})


# ---- Shared


def _valid(form: forms.Form) -> dict[str, Any]:
    """The cleaned data; raises BadInput with what is wrong in the first field that cannot be understood."""
    if form.is_valid():
        return form.cleaned_data
    problems = next(iter(form.errors.values()))
    raise BadInput(str(problems[0]), code="bad_form")


def _client(request: HttpRequest) -> str:
    return "".join(c for c in request.headers.get("User-Agent", "")[:200] if c.isprintable())


def _private(response: HttpResponse) -> HttpResponse:
    """For answers that carry or lead to credentials: kept by nobody, told to nobody.

    Only for pages without a form of ours: a browser sends `Origin: null` from a page without a referrer, which the
    CSRF check refuses.
    """
    response["Cache-Control"] = "no-store, private"
    response["Referrer-Policy"] = "no-referrer"
    return response


def _place_of(role: RoleFacts, hand_over: HandOver) -> str:
    """Where a person comes back to who signs in again because of this role: one click from what they wanted."""
    if hand_over == "keys":
        return reverse("role", args=[role.id])
    return reverse("go", args=[role.account_id, role.name])


def _unknown(request: HttpRequest) -> HttpResponse:
    """The same answer for a role that does not exist and for one that is not theirs."""
    return sheet(request, "portal/unknown_role.html", {}, status=404)


def _refusal(
    request: HttpRequest, principal: Principal, role_id: UUID, refused: Refused, hand_over: HandOver
) -> HttpResponse:
    """The page of a refusal: the rule that decided, the way out, every other reason folded."""
    if not refused.visible:
        return _unknown(request)
    snapshot = entitlements.load_snapshot(principal, role_id)
    if snapshot is None:
        return _unknown(request)
    context = {
        "role": snapshot.role,
        "refused": refused,
        "way_out": rules.way_out(refused, hand_over),
        "hand_over": hand_over,
        "others": [one for one in refused.reasons if one.sentence != refused.sentence],
        "reference": request.reference,  # type: ignore[attr-defined]
        "sign_in_again": sign_in_url(_place_of(snapshot.role, hand_over), fresh=True),
        **_asking(principal, _place_of(snapshot.role, hand_over)),
    }
    return sheet(request, "portal/refused.html", context, status=403)
