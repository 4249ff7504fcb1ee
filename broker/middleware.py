"""What holds for every request: health first, one canonical origin, and headers that keep answers private."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseNotAllowed,
)
from django.urls import Resolver404, resolve
from django.utils.cache import patch_vary_headers

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


METHODS = ("GET", "HEAD", "POST")
"""All that any page of Daypass answers; what a page declares for itself is fewer (threats.md R41)."""

_AMBIGUOUS = re.compile(r"//|\\|/\.{1,2}(?:/|$)|%(?:2[ef]|5c|00)|[\x00-\x1f\x7f]", re.IGNORECASE)
"""In a path: what one server reads as another path than the next."""


def plain_requests(get_response: Handler) -> Handler:
    """Refuse methods that no page has, and paths that a proxy and Django might read differently (threats.md R41)."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.method not in METHODS and not _says_so_itself(request.path_info):
            return HttpResponseNotAllowed(METHODS)
        sent = request.META.get("RAW_URI", "").partition("?")[0]
        if _AMBIGUOUS.search(sent) or _AMBIGUOUS.search(request.path_info):
            return HttpResponseBadRequest(
                "This address can be read in two ways.\n", content_type="text/plain; charset=utf-8"
            )
        return get_response(request)

    return middleware


def _says_so_itself(path: str) -> bool:
    """Whether the view takes none of the other methods either, and says so in the words of its protocol."""
    try:
        return hasattr(resolve(path).func, "refuses_methods_itself")
    except Resolver404:
        return False


class own_forms:  # noqa: N801 (Django's middleware by name, like its neighbours)
    """Forms are sent from our own pages. Where a browser says that one was not, nothing else is asked (threats.md R25).

    Beside Django's own check, which wants the form's token, an Origin that is ours, or over https a Referer that is;
    a browser that sends neither is refused there. Doors for other sites' messages are exempt from both.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], *_: object
    ) -> HttpResponse | None:
        site = request.META.get("HTTP_SEC_FETCH_SITE", "same-origin")
        if request.method != "POST" or site == "same-origin" or getattr(view, "csrf_exempt", False):
            return None
        from broker.portal.errors import csrf_failure

        return csrf_failure(request)


def words_for_browsers(get_response: Handler) -> Handler:
    """Where a page opened by hand has no answer to GET, browsers get words and a way back, not an empty page."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if (
            isinstance(response, HttpResponseNotAllowed)
            and request.method == "GET"
            and "text/html" in request.headers.get("Accept", "")
        ):
            from broker.portal.errors import nothing_to_show

            page = nothing_to_show(request)
            page["Allow"] = response["Allow"]
            return page
        return response

    return middleware


def canonical_origin(get_response: Handler) -> Handler:
    """Refuse a request for another host, then fix host and scheme to DAYPASS_ORIGIN.

    allauth and python3-saml build the ACS URL and the redirect URI from the request; after this they can only build
    them from the setting (threats.md R23). TLS ends at the proxy in front, so the scheme is the setting's as well.
    """
    origin = urlsplit(settings.DAYPASS_ORIGIN)
    names = {origin.netloc.lower()}
    if (
        origin.port is None
    ):  # some clients and proxies write the scheme's own port, which is the same address
        names.add(f"{origin.netloc.lower()}:{443 if origin.scheme == 'https' else 80}")

    def middleware(request: HttpRequest) -> HttpResponse:
        if not origin.netloc:
            return get_response(request)
        if request.META.get("HTTP_HOST", "").lower() not in names:
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
        request.META["HTTP_HOST"] = origin.netloc
        request.META["wsgi.url_scheme"] = origin.scheme
        return get_response(request)

    return middleware


def response_headers(get_response: Handler) -> Handler:
    """Private by default: no cache keeps a page unless the view said otherwise (threats.md R26, R64)."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if not response.has_header("Cache-Control"):
            response["Cache-Control"] = "private, no-store"
        if "public" in response["Cache-Control"]:
            response.cookies.clear()  # nobody's answer, whatever cookie was sent along (threats.md R63)
            varies = [name for name in response.get("Vary", "").split(", ") if name != "Cookie"]
            response["Vary"] = ", ".join(filter(None, varies))
            if not response["Vary"]:
                del response["Vary"]
        else:
            patch_vary_headers(response, ["Cookie"])
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        response.headers.setdefault(
            "Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
        )
        return response

    return middleware
