"""The addresses of terminals: JSON under /aws, pages at the root of the host, where AWS's clients look for them."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from broker.awssso.doors import Call, door, in_oidc_words
from broker.awssso.wire import Answer, Failure, Fault, WireError


@door("GET", "POST", words=in_oidc_words)
def unknown(call: Call) -> Answer:
    """Whatever else a client asks for here: an error that it can read, and neither a page nor a redirect."""
    raise WireError(
        Failure(Fault.INVALID_REQUEST, "Daypass does not answer at this address.", status=404)
    )


urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("broker.awssso.oidc_views")),
    path("", include("broker.awssso.browser_views")),
    path("", include("broker.awssso.terminal_views")),
    path("", include("broker.awssso.profile_views")),
    path("", include("broker.awssso.start_views")),
    path("", include("broker.awssso.signin_views")),
    path("", include("broker.awssso.api_views")),
    path("", include("broker.awssso.machines")),
    *(path(route, unknown, name="sso_unknown") for route in ("aws", "aws/", "aws/<path:rest>")),
]
