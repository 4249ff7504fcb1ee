"""Who is asking: the principal of every request, and the limits of a browser session."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

Handler = Callable[[HttpRequest], HttpResponse]


def session_limits(get_response: Handler) -> Handler:
    return get_response


def principal(get_response: Handler) -> Handler:
    return get_response
