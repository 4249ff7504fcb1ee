"""The pages where somebody lets a client in: `/authorize` (PKCE, the same computer) and `/device` (a typed code).

Nothing is let in without a click on a page that says what for, nothing is filled in or sent by itself, and what cannot
be trusted is said on a page of ours and never by a redirect (threats.md R20, R21; RFC 6749 section 4.1.2.1, RFC 7636,
RFC 8252 section 7.3, RFC 8628 section 5.4).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from accounts.decorators import person_of
from accounts.identity import Principal
from accounts.places import is_page, sign_in_url
from broker.awssso import registrations, rules, services
from broker.awssso.forms import CodeForm
from broker.awssso.models import DeviceRequest, Terminal
from broker.awssso.pages import (
    Sitting,
    answering_failures,
    asker_of,
    is_fresh,
    may_lead_to,
    sitting_of,
    to_sign_in,
    until_of,
)
from broker.awssso.queries import policy_of
from broker.awssso.reach import reach_of
from broker.awssso.registrations import Registration
from broker.awssso.room import no_room
from broker.awssso.rules import CannotGoOn
from broker.awssso.services import LetIn
from broker.awssso.services.common import allowed, network_allowed
from broker.awssso.wire import WireError
from broker.errors import BadInput

STATE = re.compile(r"\A[\x21-\x7e]{1,512}\Z")
PARAMETERS = (
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "code_challenge_method",
    "scopes",
    "code_challenge",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for at /authorize, after every check that needs no person."""

    registration: Registration
    redirect_uri: str
    state: str
    challenge: str
    here: str
    """The address of this very page, with what was understood and nothing else."""

    def back(self, **answer: str) -> str:
        """The client's own address with this answer."""
        return f"{self.redirect_uri}?{urlencode({**answer, 'state': self.state})}"


# --- PKCE: the browser on the same computer


@require_http_methods(["GET", "HEAD", "POST"])
@answering_failures
def authorize(request: HttpRequest) -> HttpResponse:
    """Ask whether the client that opened this page may work in the person's name; on POST, say so to the client."""
    now = timezone.now()
    try:
        wanted = read_wanted(request, now)
    except CannotGoOn as error:
        return render(request, "terminal/cannot_go_on.html", {"error": error}, status=400)
    if request.principal is None:  # type: ignore[attr-defined]
        return to_sign_in(request, wanted.here)
    principal, sitting = person_of(request), sitting_of(request)
    # What is let in now would be sent here again at once.
    if rules.all_stale(principal.groups, now):
        return to_sign_in(request, wanted.here, fresh=True)
    if request.method == "POST" and request.POST.get("answer") == "yes":
        instead = no_room(request, principal, wanted.here, now)
        return instead or _let_in(request, wanted, principal, sitting, now)
    if request.method == "POST":
        return render(
            request,
            "terminal/said_no.html",
            {
                "name": wanted.registration.name,
                "back": wanted.back(error="access_denied"),
                "at_most": "ten minutes",
            },
        )
    allowed(policy_of(principal.proof.provider_id), Terminal.Kind.SSO, Terminal.Flow.BROWSER)
    instead = no_room(request, principal, wanted.here, now)
    if instead is not None:
        return instead
    response = render(
        request,
        "terminal/authorize.html",
        {
            "name": wanted.registration.name,
            "here": wanted.here,
            "asker": asker_of(request),
            "reach": reach_of(principal, "terminal", now),
            "until": until_of(principal, sitting, now),
        },
    )
    return may_lead_to(response, wanted.redirect_uri)


@sensitive_variables("code")
def _let_in(
    request: HttpRequest, wanted: Wanted, principal: Principal, sitting: Sitting, now: datetime
) -> HttpResponse:
    terminal = services.let_in(
        principal,
        LetIn(
            kind=Terminal.Kind.SSO,
            flow=Terminal.Flow.BROWSER,
            client_name=wanted.registration.name,
            client_digest=wanted.registration.digest,
            asker=asker_of(request),
        ),
        line=sitting.line,
        relay=sitting.relay,
        browser_ends=sitting.ends,
        now=now,
    )
    code = services.give_code(
        terminal,
        redirect_uri=wanted.redirect_uri,
        challenge=wanted.challenge,
        method="S256",
        now=now,
    )
    response = HttpResponse(status=302, headers={"Location": wanted.back(code=code)})
    response["Cache-Control"] = "no-store, private"
    response["Referrer-Policy"] = "no-referrer"
    return response


def read_wanted(request: HttpRequest, now: datetime) -> Wanted:
    """What the address of this page asks for. Raises CannotGoOn; never trusts an address that it has not checked."""
    sent = {name: request.GET.getlist(name) for name in PARAMETERS}
    if any(len(values) > 1 for values in sent.values()):
        raise CannotGoOn(
            "The address of this page says the same thing twice.", AGAIN, code="repeated"
        )
    given = {name: values[0] for name, values in sent.items() if values}
    registration = _registered(given.get("client_id", ""), now)
    redirect_uri = given.get("redirect_uri", "")
    if not rules.may_redirect(redirect_uri, registration.redirect_uris):
        raise CannotGoOn(
            "The program wants the answer sent to an address that it did not register.",
            "Nothing was sent there. Daypass answers only to this computer itself (127.0.0.1). If you did not run "
            "`aws sso login` yourself just now, close this page.",
            code="redirect_uri",
        )
    if (
        given.get("response_type") != "code"
        or "authorization_code" not in registration.grants
        or not STATE.match(given.get("state", ""))
    ):
        raise CannotGoOn(
            "The program did not ask in the way that AWS's own programs do.", AGAIN, code="request"
        )
    method = given.get("code_challenge_method")
    if method != "S256" or not rules.is_challenge(given.get("code_challenge"), method):
        raise CannotGoOn(
            "The program left out what keeps others from using its sign-in (PKCE with S256).",
            "Use a current AWS CLI: version 2.22 or newer does this by itself.",
            code="pkce",
        )
    here = f"{reverse('authorize')}?{urlencode(given)}"
    if not is_page(here):
        raise CannotGoOn("The address of this page is too long.", AGAIN, code="too_long")
    return Wanted(registration, redirect_uri, given["state"], given["code_challenge"], here)


AGAIN = "Close this page and run `aws sso login` again. If it happens again, update the AWS CLI."


def _registered(client_id: str, now: datetime) -> Registration:
    try:
        return registrations.read(client_id, now=now)
    except WireError:
        raise CannotGoOn(
            "The program that opened this page is not registered with this Daypass, or no longer.",
            "In your terminal, stop the command with Ctrl\u2011C and delete the files in `~/.aws/sso/cache` (signing "
            "out does not delete them). Then run `aws sso login` again.",
            code="client",
        ) from None


# --- Device codes: a computer that has no browser

TICKET_SALT = "awssso.device"
TICKET_LIFETIME = 600


@require_http_methods(["GET", "HEAD", "POST"])
@answering_failures
def device(request: HttpRequest) -> HttpResponse:
    """Take a typed code, show which computer it belongs to and what it would get, and only then let it in.

    What the address says about a code is ignored: whoever has one reads it off the computer that shows it.
    """
    now = timezone.now()
    here = reverse("device")
    if request.principal is None:  # type: ignore[attr-defined]
        return to_sign_in(request, here, fresh=True)
    principal, sitting = person_of(request), sitting_of(request)
    policy = policy_of(principal.proof.provider_id)
    allowed(policy, Terminal.Kind.SSO, Terminal.Flow.DEVICE)
    network_allowed(policy, principal.address)
    if not is_fresh(principal, sitting, now):
        return render(
            request, "terminal/sign_in_first.html", {"sign_in": sign_in_url(here, fresh=True)}
        )
    if "answer" in request.POST and request.POST["answer"] != "yes":
        return _answer_device(request, principal, sitting, now)
    instead = no_room(request, principal, here, now)
    if instead is not None:
        return instead
    if request.method != "POST":
        return render(request, "terminal/device.html", {"form": CodeForm()})
    if "answer" in request.POST:
        return _answer_device(request, principal, sitting, now)
    return _review_device(request, principal, sitting, now)


def _review_device(
    request: HttpRequest, principal: Principal, sitting: Sitting, now: datetime
) -> HttpResponse:
    """The page of the computer that a code belongs to, or again the page that asks for one."""
    form = CodeForm(request.POST)
    found: DeviceRequest | None = None
    asker = asker_of(request)
    if form.is_valid():
        try:
            found = services.find_device(
                form.cleaned_data["user_code"], principal, asker, now=now, session=sitting.line
            )
        except BadInput as error:
            form.add_error("user_code", error.message)
    if found is None:
        return render(request, "terminal/device.html", {"form": form}, status=400)
    from_where = {found.asked_from, found.polled_from} - {None, ""}
    return render(
        request,
        "terminal/device_review.html",
        {
            "code": rules.read_user_code(form.cleaned_data["user_code"]),
            "wish": found,
            "asker": asker,
            "elsewhere": any(not _same(one, asker.address) for one in from_where),
            "reach": reach_of(principal, "device_code", now),
            "until": until_of(principal, sitting, now),
            "ticket": signing.dumps(
                [str(found.id), str(principal.person_id), sitting.line], salt=TICKET_SALT
            ),
        },
    )


def _answer_device(
    request: HttpRequest, principal: Principal, sitting: Sitting, now: datetime
) -> HttpResponse:
    """Yes or no to the computer whose code was typed in this browser."""
    wish = _ticket(request.POST.get("ticket", ""), principal, sitting)
    asker = asker_of(request)
    if request.POST["answer"] != "yes":
        services.deny_device(wish, principal, asker, now=now)
        return render(request, "terminal/device_done.html", {"terminal": None})
    terminal = services.approve_device(
        wish,
        principal,
        asker,
        line=sitting.line,
        relay=sitting.relay,
        browser_ends=sitting.ends,
        now=now,
    )
    return render(request, "terminal/device_done.html", {"terminal": terminal})


def _ticket(text: str, principal: Principal, sitting: Sitting) -> UUID:
    """The request that this person looked at in this browser. Raises BadInput."""
    try:
        wish, person, line = signing.loads(text, salt=TICKET_SALT, max_age=TICKET_LIFETIME)
    except (signing.BadSignature, ValueError):
        wish, person, line = "", "", ""
    if not wish or person != str(principal.person_id) or line != sitting.line:
        raise BadInput("This page is too old. Type the code once more.", code="ticket")
    return UUID(wish)


def _same(one: Any, other: str) -> bool:
    """Whether two addresses are one network: the same IPv4 address, the same /64 of IPv6."""
    try:
        first, second = ip_address(str(one)), ip_address(other)
    except ValueError:
        return False
    if first.version == second.version == 6:
        return first.packed[:8] == second.packed[:8]
    return first == second


urlpatterns = [
    path("authorize", authorize, name="authorize"),
    path("device", device, name="device"),
]
