"""What holds for every request: health first, one canonical origin, and headers that keep answers private."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest

Handler = Callable[[HttpRequest], HttpResponse]


def health(get_response: Handler) -> Handler:
    """Answer /health/live and /health/ready before any host check, session or cookie: probes speak by address."""
    from broker.health import live, ready

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path == "/health/live":
            return live()
        if request.path == "/health/ready":
            return ready()
        return get_response(request)

    return middleware


def canonical_origin(get_response: Handler) -> Handler:
    """Refuse a request for another host, then fix host and scheme to DAYPASS_ORIGIN.

    allauth and python3-saml build the ACS URL and the redirect URI from the request; after this they can only build
    them from the setting (threats.md R23). TLS ends at the proxy in front, so the scheme is the setting's as well.
    """
    origin = urlsplit(settings.DAYPASS_ORIGIN)

    def middleware(request: HttpRequest) -> HttpResponse:
        if not origin.netloc:
            return get_response(request)
        if request.META.get("HTTP_HOST", "").lower() != origin.netloc.lower():
            return HttpResponseBadRequest(
                f"This is not the address of Daypass. Open {settings.DAYPASS_ORIGIN}/ instead.\n",
                content_type="text/plain; charset=utf-8",
            )
        for spoofable in (
            "HTTP_X_FORWARDED_HOST",
            "HTTP_X_FORWARDED_PROTO",
            "HTTP_X_FORWARDED_PORT",
        ):
            request.META.pop(spoofable, None)
        request.META["wsgi.url_scheme"] = origin.scheme
        return get_response(request)

    return middleware


def response_headers(get_response: Handler) -> Handler:
    """Private by default: no cache keeps a page unless the view said otherwise (threats.md R26, R64)."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if not response.has_header("Cache-Control"):
            response["Cache-Control"] = "no-store"
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        response.headers.setdefault(
            "Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
        )
        return response

    return middleware
