"""Setting a computer up: the panel of the page "Terminal", and the config file that browsers and curl fetch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from accounts.decorators import signed_in
from accounts.identity import Principal
from broker.arns import PARTITIONS
from broker.awssso import profiles, services
from broker.awssso.doors import asker_of, gently
from broker.awssso.models import TerminalToken
from broker.awssso.profiles import Config, Guide, Names, Place, ProfileRole
from broker.awssso.services import WireError
from broker.awssso.wire import Fault
from broker.entitlements import queries as entitlements
from broker.entitlements.rules import RoleFacts
from broker.errors import BadInput

SHOWN = 60
"""Profiles whose text stands on the page; whoever has more takes the file."""

FETCHES = 120
"""How often one network may fetch with a token in a minute."""

CHOICES = ("{account}.{role}", "{role}@{account}", "{account_id}.{role}", "{role}-{account_id}")
"""Templates that the page offers; the address takes others, too."""

SAMPLE = ProfileRole("111122223333", "Payments", "payments", "Developer", "us-east-1")
"""For whoever has no role yet."""


def place() -> Place:
    """This Daypass."""
    return Place(settings.DAYPASS_ORIGIN)


@dataclass(frozen=True, slots=True)
class Setup:
    """What the panel shows. text: of the file, "" when there are too many profiles to read them on a page."""

    config: Config
    text: str
    shown: int
    guides: tuple[Guide, ...]
    place: Place
    template: str
    choices: tuple[tuple[str, str], ...]
    download: str
    query: str
    fetch: str
    own_file: str
    merge: str
    first: str
    problem: str


def setup_context(request: HttpRequest, principal: Principal, now: datetime) -> dict[str, Any]:
    """The context of templates/terminal/setup.html. `?names=` is the template of the profiles' names."""
    problem = ""
    try:
        naming = profiles.names(request.GET.get("names", ""))
    except BadInput as error:
        naming, problem = Names(), error.message
    here = place()
    roles = _roles(principal, now, most=SHOWN + 1)
    made = profiles.config(here, roles, person=principal.handle, naming=naming)
    first = made.profiles[0] if made.profiles else "NAME"
    example = next((role for role in roles if naming.of(role) == first), None)
    choices = tuple(dict.fromkeys((*CHOICES, naming.template)))
    usual = naming.template == profiles.DEFAULT_NAMES
    query = "" if usual else "?" + urlencode({"names": naming.template})
    address = reverse("terminal_config") + query
    return {
        "setup": Setup(
            config=made,
            text=made.text if len(roles) <= SHOWN else "",
            shown=SHOWN,
            guides=profiles.guides(here, first, example),
            place=here,
            template=naming.template,
            choices=tuple((one, Names(one).of(example or SAMPLE)) for one in choices),
            download=address,
            query=query,
            fetch=profiles.fetch_lines(here, address),
            own_file=profiles.own_file_lines(first),
            merge=profiles.MERGE_SCRIPT,
            first=first,
            problem=problem,
        )
    }


@require_safe
def terminal_config(request: HttpRequest) -> HttpResponse:
    """The config file: of whoever is signed in in this browser, or of whoever's script token curl brings."""
    if "Authorization" in request.headers:
        return _for_curl(request)
    return _for_browser(request)


@signed_in
def _for_browser(request: HttpRequest) -> HttpResponse:
    principal: Principal = request.principal  # type: ignore[attr-defined]
    return _file(request, principal, None, timezone.now())


@sensitive_variables()
def _for_curl(request: HttpRequest) -> HttpResponse:
    """The token alone counts, whatever cookies came. What is refused is told in one line."""
    now = timezone.now()
    scheme, _, token = request.headers["Authorization"].partition(" ")
    try:
        gently("terminal-config", request, most=FETCHES, fault=Fault.TOO_MANY_REQUESTS)
        held = services.bearer(
            token.strip() if scheme.lower() == "bearer" else "",
            (TerminalToken.Kind.SCRIPT,),
            asker_of(request),
            now=now,
        )
    except WireError as refused:
        answer = _plain(refused.failure.message, refused.failure.http_status)
        if answer.status_code == 401:
            answer["WWW-Authenticate"] = 'Bearer realm="Daypass"'
        return answer
    return _file(request, held.principal, held.terminal.role_id, now)


def _file(
    request: HttpRequest, principal: Principal, only: UUID | None, now: datetime
) -> HttpResponse:
    try:
        made = _made(principal, now, request.GET, only)
    except BadInput as error:
        return _plain(error.message, 400)
    answer = _plain(made, 200)
    answer["Content-Disposition"] = 'attachment; filename="daypass.config"'
    return answer


@require_http_methods(["GET", "POST"])
@signed_in
@sensitive_post_parameters("own")
@sensitive_variables("own", "merged")
def compare(request: HttpRequest) -> HttpResponse:
    """Show what would change in a config file that is pasted here. Nothing of it is kept, and no keys come back."""
    principal: Principal = request.principal  # type: ignore[attr-defined]
    sent = request.POST if request.method == "POST" else request.GET
    context: dict[str, Any] = {"names": sent.get("names", "")}
    if request.method == "POST":
        own = request.POST.get("own", "")
        try:
            merged = profiles.merge(profiles.readable(own), _made(principal, timezone.now(), sent))
        except BadInput as error:
            return render(
                request, "terminal/compare.html", context | {"problem": error.message}, status=400
            )
        context |= {"merged": merged, "changes": "\n".join(merged.changes)}
    return render(request, "terminal/compare.html", context)


def _made(principal: Principal, now: datetime, sent: QueryDict, only: UUID | None = None) -> str:
    """The file as the request wants it. Raises BadInput."""
    return profiles.config(
        place(),
        _roles(principal, now, only),
        person=principal.handle,
        naming=profiles.names(sent.get("names", "")),
        curlrc=sent.get("curlrc", ""),
    ).text


def _plain(text: str, status: int) -> HttpResponse:
    return HttpResponse(
        text.rstrip("\n") + "\n",
        status=status,
        content_type="text/plain; charset=utf-8",
        headers={"Cache-Control": "no-store"},
    )


def _roles(
    principal: Principal, now: datetime, only: UUID | None = None, *, most: int | None = None
) -> list[ProfileRole]:
    """Every role of which the person may have keys, also those that need another network, time or second factor.

    most: the first so many.
    """
    found = entitlements.every_role_with_keys(principal, only=only, most=most, now=now)
    return [_as_profile(role, alias) for role, alias in found]


def _as_profile(role: RoleFacts, alias: str) -> ProfileRole:
    return ProfileRole(
        account_id=role.account_id,
        account_name=role.account_name,
        account_alias=alias,
        role_name=role.name,
        region=role.region or PARTITIONS[role.partition].home_region,
    )


urlpatterns = [
    path("terminal/config", terminal_config, name="terminal_config"),
    path("terminal/config/compare/", compare, name="terminal_compare"),
]
