"""What the pages of terminals share: who looks at them, as whom they let somebody in, and the page of a failure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from accounts import browser
from accounts.identity import Principal
from accounts.network import client_address
from accounts.places import sign_in_url
from accounts.services import relay_reference
from broker.audit.services import under_reference
from broker.awssso.queries import policy_of
from broker.awssso.rules import clean
from broker.awssso.services import Asker
from broker.errors import BadInput, DaypassError
from broker.references import new_reference
from broker.sheets import sheet

log = logging.getLogger("daypass.awssso")

View = Callable[..., HttpResponse]

FRESH = timedelta(minutes=5)
"""How long ago a sign-in may be for what a code lets in (threats.md R20)."""


@dataclass(frozen=True, slots=True)
class Sitting:
    """The browser session in which something is let in: what ends with it, and when it is over."""

    line: str
    relay: str
    ends: datetime
    began: datetime


def answering_failures(view: View) -> View:
    """A failure becomes a page: what happened, what to do, and a reference that the audit log has as well."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **named: Any) -> HttpResponse:
        reference = new_reference()
        with under_reference(reference):
            try:
                return view(request, *args, **named)
            except DaypassError as error:
                return failure(request, error, reference)

    return wrapped


def failure(request: HttpRequest, error: DaypassError, reference: str) -> HttpResponse:
    """The page of something that was foreseen: 400 for input, 503 for what may work in a moment, else 403."""
    by_person = isinstance(error, BadInput)
    if not by_person:
        log.warning(
            "terminal page refused",
            extra={"reference": reference, "code": error.code, "cause": error.cause},
        )
    return sheet(
        request,
        "terminal/failed.html",
        {
            "error": error,
            "title": _title(error),
            "way_on": _WAYS_ON.get(error.code, "terminal"),
            "reference": "" if by_person else reference,
        },
        status=400 if by_person else 503 if error.retry else 403,
    )


_WAYS_ON = {
    "ticket": "device",
    "not_waiting": "device",
    "terminals_off": "home",
}
"""The page to go on with after these failures; after all others it is the list of terminals."""


def _title(error: DaypassError) -> str:
    if error.retry:
        return "Daypass cannot do that right now"
    if error.code == "too_many_codes":
        return "Too many wrong codes"
    return "That did not work" if isinstance(error, BadInput) else "Not allowed"


def asker_of(request: HttpRequest) -> Asker:
    """The browser itself, as one that asks."""
    return Asker(
        address=client_address(request),
        user_agent=clean(request.headers.get("User-Agent", ""), 200),
    )


def sitting_of(request: HttpRequest) -> Sitting:
    """The browser session of whoever is signed in."""
    session = request.session
    return Sitting(
        line=browser.line_of(session),
        relay=relay_reference(session.session_key),
        ends=browser.ends_at(session),
        began=datetime.fromtimestamp(float(browser.noted(session)["began"]), UTC),
    )


def is_fresh(principal: Principal, sitting: Sitting, now: datetime) -> bool:
    """Whether the person proved who they are within the last five minutes, as far as anybody says.

    The provider's word counts where it tells the time; else the browser session has to be that young itself.
    """
    told = principal.proof.at if principal.proof.at_told else sitting.began
    return now - told <= FRESH


def may_lead_to(response: HttpResponse, redirect_uri: str) -> HttpResponse:
    """Let the form of this page lead to the client. Browsers apply form-action to what a form's answer redirects to.

    The source of a policy cannot name an IPv6 address (CSP3 section 2.3.1), so that one is let through by scheme.
    """
    parts = urlsplit(redirect_uri)
    source = "http:" if parts.hostname == "::1" else f"http://{parts.netloc}"
    response._csp_update = {"form-action": [source]}  # type: ignore[attr-defined]
    return response


def to_sign_in(request: HttpRequest, page: str, *, fresh: bool = False) -> HttpResponse:
    """To the sign-in and back to this page, which was read with care; an ended session is told why it ended."""
    url = sign_in_url(page, fresh=fresh)
    over = getattr(request, "session_over", "")
    return HttpResponseRedirect(url + (f"&over={over}" if over else ""))


def until_of(principal: Principal, sitting: Sitting, now: datetime) -> datetime:
    """When what is let in now will end at the latest."""
    longest = policy_of(principal.proof.provider_id).longest
    return min(sitting.ends, now + longest) if longest else sitting.ends
