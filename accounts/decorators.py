"""What a view demands of whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect

from accounts import places
from accounts.identity import Principal
from broker.sheets import is_htmx

View = Callable[..., HttpResponse]


def signed_in(view: View) -> View:
    """Only for somebody who is signed in: `request.principal` is there. Others sign in and come back to this page."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.principal is None:  # type: ignore[attr-defined]
            return to_sign_in(request)
        return view(request, *args, **kwargs)

    return checked


def person_of(request: HttpRequest) -> Principal:
    """Who is asking; for views behind `signed_in`, or that have made sure by themselves that somebody is there."""
    return cast(Principal, request.principal)  # type: ignore[attr-defined]


def staff_signed_in(view: View) -> View:
    """Only for administrators. Others who are signed in are refused."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.principal is None:  # type: ignore[attr-defined]
            return to_sign_in(request)
        if not request.user.is_staff:
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return checked


def local_only(view: View) -> View:
    """Only for the break-glass account: nobody else has a password or second factor here."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        user = request.user
        if user.is_authenticated and (user.provider_id or not user.is_superuser):
            raise Http404
        return view(request, *args, **kwargs)

    return checked


def to_sign_in(request: HttpRequest, *, fresh: bool = False) -> HttpResponse:
    """To the sign-in page and back. A request by htmx is told to move the whole page there."""
    over = getattr(request, "session_over", "")
    url = places.sign_in_url(places.wanted(request), fresh=fresh)
    if over:
        url += ("&" if "?" in url else "?") + f"over={over}"
    if is_htmx(request):
        response = HttpResponse(status=200)
        response["HX-Redirect"] = url
        return response
    return HttpResponseRedirect(url)
