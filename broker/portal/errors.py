"""Error pages."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return HttpResponse(
        "This form is out of date. Go back, reload the page and try again.\n",
        status=403,
        content_type="text/plain",
    )
