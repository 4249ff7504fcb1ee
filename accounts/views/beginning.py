"""Beginning a sign-in: the choice of providers, and the page that leads to one."""

from __future__ import annotations

from collections.abc import Mapping

from allauth.socialaccount.adapter import get_adapter
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts import places, queries, room
from accounts.models import IdentityProvider, Protocol
from accounts.views.doors import LOGIN, going, quiet

_PREFIX = "__Host-" if settings.SECURE_ORIGIN else ""


LAST_COOKIE = f"{_PREFIX}daypass_last"


@require_safe
def sign_in(request: HttpRequest) -> HttpResponse:
    """Choose a provider. With one there is nothing to choose: the form sends itself, unless something went wrong."""
    to = places.find(request.GET.get("to", "")) or places.find(
        places.keep(request.GET.get("next", ""))
    )
    fresh = request.GET.get("fresh") == "1"
    if getattr(request, "principal", None) is not None and not fresh:
        return HttpResponseRedirect(to or reverse("home"))
    providers = list(queries.offered_providers())
    last = request.COOKIES.get(LAST_COOKIE, "")
    providers.sort(key=lambda row: row.slug != last)
    note = request.GET.get("over", "")
    return render(
        request,
        "accounts/sign_in.html",
        {
            "providers": providers,
            "to": places.keep(to) if to else "",
            "fresh": fresh,
            "note": note if note in ("idle", "absolute", "provider") else "",
            "at_once": len(providers) == 1 and "stay" not in request.GET,
        },
    )


@require_POST
@quiet
def sign_in_start(request: HttpRequest, slug: str) -> HttpResponse:
    """Send the browser to a provider: by a page that goes there itself, so that no redirect follows a form."""
    row = queries.find_provider(slug)
    if row is None or not row.enabled:
        raise Http404
    to = places.find(request.POST.get("to", ""))
    request.wanted_page = to  # type: ignore[attr-defined]  # for the way back, should this fail
    response = begin(request, row, process=LOGIN, to=to, fresh=request.POST.get("fresh") == "1")
    response.set_cookie(
        LAST_COOKIE,
        row.slug,
        max_age=180 * 24 * 3600,
        secure=settings.SECURE_ORIGIN,
        httponly=True,
        samesite="Lax",
    )
    return response


def begin(
    request: HttpRequest,
    row: IdentityProvider,
    *,
    process: str,
    to: str = "",
    fresh: bool = False,
    data: Mapping[str, str] | None = None,
) -> HttpResponse:
    if row.protocol == Protocol.SAML:
        room.warm()
    provider = get_adapter(request).get_provider(request, provider=str(row.pk))
    response = provider.redirect(
        request, process, next_url=to or None, data=dict(data or {}), fresh=fresh
    )
    return going(request, row.name, response.url)
