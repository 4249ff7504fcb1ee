"""The pages of what went wrong: they say what happened and what to do, and never why to a stranger (threats.md R27)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.cache import add_never_cache_headers
from redis.exceptions import RedisError

from broker.entitlements.rules import HandOver, RoleFacts
from broker.errors import AwsError, BadInput, DaypassError
from broker.portal.rules import in_steps
from broker.references import new_reference
from broker.sheets import is_htmx, sheet

log = logging.getLogger("daypass.portal")


def failure_page(
    request: HttpRequest,
    error: DaypassError,
    reference: str,
    *,
    role: RoleFacts | None = None,
    hand_over: HandOver | None = None,
    way_back: Mapping[str, str] | None = None,
) -> HttpResponse:
    """A failure that was foreseen: whose side it is on, what to do, and a reference for the administrator.

    role, hand_over: what it was about, where that is known and the person may know of it. way_back: where the person
    gets what AWS wants to see, where that is all that is missing: "sign_in_again", or "ask_provider" and "back_to".
    """
    if not isinstance(error, BadInput):
        log.warning(
            "request failed",
            extra={
                "reference": reference,
                "code": error.code,
                "aws_code": getattr(error, "aws_code", ""),
                "cause": error.cause,
            },
        )
    return sheet(
        request,
        "portal/failed.html",
        {
            "error": error,
            "title": _title(error, hand_over),
            "role": role,
            "remedy": in_steps(error.remedy),
            "by_aws": isinstance(error, AwsError),
            "by_person": isinstance(error, BadInput),
            "for_administrator": bool(error.cause and getattr(request.user, "is_staff", False)),
            "reference": "" if isinstance(error, BadInput) else reference,
            "again": _again(request) if error.retry else None,
            "way_back": way_back,
        },
        status=400 if isinstance(error, BadInput) else 503 if error.retry else 502,
    )


_UNANSWERED = ("aws_unavailable", "aws_unreachable", "aws_no_answer", "aws_proxy")


def _title(error: DaypassError, hand_over: HandOver | None) -> str:
    if isinstance(error, AwsError):
        if error.code in _UNANSWERED:
            return "AWS does not answer"
        return "AWS could not do it just now" if error.retry else "AWS said no"
    if hand_over == "console":
        return "The console was not opened"
    if hand_over == "keys":
        return "No keys were issued"
    return "That did not work" if isinstance(error, BadInput) else "Daypass cannot do that"


def _again(request: HttpRequest) -> dict[str, object]:
    """The very same request once more, as a form; without its CSRF token, which the page gives anew."""
    fields = [
        (name, value)
        for name, values in request.POST.lists()
        for value in values
        if name != "csrfmiddlewaretoken"
    ]
    return {"method": request.method, "action": request.path, "fields": fields}


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return sheet(request, "400.html", {}, status=400)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return sheet(request, "403.html", {}, status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return sheet(request, "404.html", {}, status=404)


def nothing_to_show(request: HttpRequest) -> HttpResponse:
    """For whoever opens the address of a button: with a reload, from the history, or typed."""
    return sheet(request, "405.html", {}, status=405)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form that is not ours or is out of date; the reason stays in the log."""
    return sheet(request, "403.html", {"stale_form": True}, status=403)


AWAY = (OperationalError, InterfaceError, RedisError)
"""The database or Redis does not answer: nobody's mistake, and over in a moment."""
RETRY_SECONDS = 10


def server_error(request: HttpRequest) -> HttpResponse:
    """What nobody foresaw. Needs neither session nor database nor the context of other pages.

    Without database or Redis it is a quiet 503 that says to try again, and one line in the log.
    """
    reference = new_reference()
    kind = sys.exc_info()[0]
    away = kind is not None and issubclass(kind, AWAY)
    log.error(
        "database or Redis away" if away else "page failed",
        exc_info=not away,
        extra={"reference": reference, "error": kind.__name__ if kind else ""},
    )
    status = 503 if away else 500
    name = "500.html#sheet" if is_htmx(request) else "500.html"
    try:
        page = render_to_string(name, {"reference": reference, "away": away})
        response = HttpResponse(page, status=status)
    except Exception:
        log.error("the page for failures failed", exc_info=True)
        response = HttpResponse(
            f"Something went wrong in Daypass. Reference: {reference}\n",
            content_type="text/plain; charset=utf-8",
            status=status,
        )
    if away:
        response["Retry-After"] = str(RETRY_SECONDS)
    add_never_cache_headers(response)
    return response
