"""What every door has in common: one quiet page for whatever goes wrong, with a number to look it up by."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import render
from django.urls import reverse

from accounts import limits, places, queries, refusals, saml
from accounts.models import IdentityProvider, Person
from broker.errors import DaypassError, KeyUnavailable, ProviderUnavailable, SignInRefused

log = logging.getLogger("daypass.accounts")


LOGIN, TEST = "login", "test"


ASK = "Ask for help and give the reference below."


NOT_SIGNED_OUT = (
    "Your sign-in service sent a message to sign you out that Daypass does not accept. Open Daypass: if you are still "
    "signed in, sign out there. If this happens again, ask for help and give the reference below."
)


BUSY = ("busy", "xml_room_unavailable")
"""Refusals that say nothing about the message: the very same may be taken in a moment."""


NOT_PROVEN = ("state_unknown", "unsolicited", "replayed")
"""Refusals of messages that answer nothing which began here, as far as can be seen."""


def problem(
    request: HttpRequest,
    error: Exception,
    row: IdentityProvider | None,
    *,
    status: int = 0,
) -> HttpResponse:
    """One page for everything: what to do and a reference. The reason goes to the audit log, never to a stranger."""
    retry, after = True, 0
    if isinstance(error, DaypassError):
        code, reason = error.code, error.why
    else:
        code, reason = "failed", f"Daypass failed: {type(error).__name__}."
    match error:
        case ProviderUnavailable():
            message, status = error.message, 503
        case KeyUnavailable():
            retry = not (getattr(request, "leaving", False) or getattr(request, "relaying", False))
            does = "sign anybody in" if retry else "read what your sign-in service sent"
            message, status = f"Daypass cannot {does} right now. {ASK}", 503
        case DaypassError() if error.code in BUSY:
            message, status, after = limits.BUSY, 503, limits.LANE
        case DaypassError() if getattr(request, "leaving", False):
            message, status, retry = NOT_SIGNED_OUT, status or 403, False
        case SignInRefused() if getattr(request, "relaying", False):
            message, status, retry = limits.NOT_RELAYED, status or 403, False
        case SignInRefused() if error.retry:
            message, status = error.message, status or 403
        case _:
            message, status = limits.NOT_SIGNED_IN, status or 403
    proven = row is not None and code not in (*NOT_PROVEN, *BUSY)
    reference = refusals.record(request, row, code=code, reason=reason, proven=proven).reference
    if code == "failed":
        log.error("sign-in failed", exc_info=error, extra={"reference": reference})
    again = ""
    if retry:
        to = places.keep(getattr(request, "wanted_page", ""))
        again = (
            f"{reverse('sign_in')}?{urlencode({'to': to, 'stay': '1'} if to else {'stay': '1'})}"
        )
    return refusals.page(
        message,
        reference=reference,
        again=again,
        leaving=getattr(request, "leaving", False),
        relaying=getattr(request, "relaying", False),
        status=status,
        retry_after=after,
    )


def quiet(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Nothing that a stranger posts becomes a server error (threats.md R27), and no provider takes more than its share.

    What is refused before this, for as little as possible, is in accounts/limits.py.
    """

    @wraps(view)
    def guarded(request: HttpRequest, slug: str, **kwargs: Any) -> HttpResponse:
        row: IdentityProvider | None = None
        try:
            row = queries.find_provider(slug)
            if row is None:
                return view(request, slug=slug, **kwargs)
            with limits.turn(request, row.slug):
                return view(request, slug=slug, **kwargs)
        except Http404:
            raise
        except RequestDataTooBig:
            return problem(
                request,
                saml.refused("The message is longer than anything is read."),
                row,
                status=400,
            )
        except (BadRequest, MultiPartParserError, SuspiciousOperation):
            return problem(request, saml.refused("What was sent is not a form."), row, status=400)
        except PermissionDenied:
            error = SignInRefused(
                code="state_unknown",
                cause="The browser did not begin this sign-in, or began it too long ago, or ended it before.",
            )
            return problem(request, error, row)
        except Exception as error:
            return problem(request, error, row)

    return guarded


def row_of(slug: str, protocol: str) -> IdentityProvider:
    row = queries.find_provider(slug, protocol)
    if row is None:
        raise Http404
    return row


def going(request: HttpRequest, name: str, url: str) -> HttpResponse:
    return render(request, "accounts/going.html", {"name": name, "url": url})


def come_for(page: str, cookie: str, key: str, seconds: int) -> HttpResponse:
    """Send the browser to the page that fetches what is kept under the key, with the key in a cookie of that page."""
    response = HttpResponseRedirect(page)
    response.set_cookie(
        cookie,
        key,
        max_age=seconds,
        path=page,
        secure=settings.SECURE_ORIGIN,
        httponly=True,
        samesite="Lax",
    )
    return response


def person_of(request: HttpRequest) -> Person:
    assert isinstance(request.user, Person)
    return request.user
