"""What every door has in common: one quiet page for whatever goes wrong, with a number to look it up by."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.http import Http404, HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from accounts import places, queries, saml, services
from accounts.models import IdentityProvider, Person
from accounts.network import client_address
from accounts.throttle import allowed
from broker.errors import DaypassError, KeyUnavailable, ProviderUnavailable, SignInRefused

log = logging.getLogger("daypass.accounts")


LOGIN, TEST = "login", "test"


TRY_AGAIN = "Try again. If it happens again, ask for help and give the number below."


ASK = "Ask for help and give the number below."


def problem(
    request: HttpRequest,
    error: Exception,
    row: IdentityProvider | None,
    *,
    status: int = 0,
) -> HttpResponse:
    """One page for everything: what to do and a reference. The reason goes to the audit log, never to a stranger."""
    now = timezone.now()
    address = client_address(request)
    reference = services.new_reference()
    retry = True
    match error:
        case ProviderUnavailable():
            code, reason = error.code, whole(error)
            message, status = error.message, 503
        case KeyUnavailable():
            code, reason = error.code, whole(error)
            message, status, retry = f"Daypass cannot sign anybody in right now. {ASK}", 503, False
        case SignInRefused() if error.retry:
            code, reason = error.code, whole(error)
            message, status = error.message, status or 403
        case DaypassError():
            code, reason = error.code, whole(error)
            message, status = f"You could not be signed in. {TRY_AGAIN}", status or 403
        case _:
            code, reason = "failed", f"Daypass failed: {type(error).__name__}."
            message, status = f"You could not be signed in. {TRY_AGAIN}", status or 403
            log.error("sign-in failed", exc_info=error, extra={"reference": reference})
    log.warning(
        "sign-in refused",
        extra={"reference": reference, "code": code, "provider": row.slug if row else ""},
    )
    # What strangers send is recorded as well, but they cannot fill the log with it.
    if allowed("refusals", address, most=30, seconds=60):
        try:
            services.refuse(
                row, code=code, reason=reason, reference=reference, address=address, now=now
            )
        except DaypassError as unrecorded:
            log.error("refusal not recorded", extra={"code": unrecorded.code})
    again = ""
    if retry:
        to = places.keep(getattr(request, "wanted_page", ""))
        again = (
            f"{reverse('sign_in')}?{urlencode({'to': to, 'stay': '1'} if to else {'stay': '1'})}"
        )
    return render(
        request,
        "accounts/problem.html",
        {"message": message, "reference": reference, "again": again},
        status=status,
    )


def quiet(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Nothing that a stranger posts becomes a server error (threats.md R27)."""

    @wraps(view)
    def guarded(request: HttpRequest, slug: str, **kwargs: Any) -> HttpResponse:
        if not allowed("sign-in", client_address(request), most=600, seconds=60):
            return render(
                request,
                "accounts/problem.html",
                {
                    "message": "Too many attempts from your network. Wait a minute and try again.",
                    "reference": "",
                    "again": reverse("sign_in") + "?stay=1",
                },
                status=429,
            )
        row: IdentityProvider | None = None
        try:
            row = queries.find_provider(slug)
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


def whole(error: DaypassError) -> str:
    return " ".join(filter(None, (error.cause or error.message, error.remedy)))


def person_of(request: HttpRequest) -> Person:
    assert isinstance(request.user, Person)
    return request.user
