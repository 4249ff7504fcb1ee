"""Signing out, here and at the provider."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts import browser, saml, services
from accounts.models import IdentityProvider, Protocol
from accounts.views.doors import going, log, person_of
from broker.errors import DaypassError
from broker.sealing import unseal


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session here first, then at the provider where it can be ended there."""
    onward = ""
    kept = browser.noted(request.session)
    row: IdentityProvider | None = None
    if request.user.is_authenticated and kept.get("logout") is not None:
        row = person_of(request).provider
    browser.end(request, how="signed out", now=timezone.now())
    if row is not None and row.enabled:
        try:
            onward = _onward(row, kept.get("logout", {}))
        except DaypassError as error:
            log.warning(
                "no sign-out at the provider", extra={"code": error.code, "provider": row.slug}
            )
    if row is not None and onward:
        return going(request, row.name, onward)
    return HttpResponseRedirect(reverse("signed_out"))


def _onward(row: IdentityProvider, kept: Mapping[str, str]) -> str:
    """Where the provider's own session is ended, "" when it cannot be from here."""
    if row.protocol == Protocol.SAML:
        if not row.slo_url or not kept.get("name_id"):
            return ""
        return saml.logout_url(services.service_provider(row), services.saml_provider(row), kept)
    endpoint = row.discovery.get("end_session_endpoint")
    if not isinstance(endpoint, str):
        return ""
    parameters = {
        "client_id": row.client_id,
        "post_logout_redirect_uri": settings.DAYPASS_ORIGIN + reverse("signed_out"),
    }
    if kept.get("id_token"):
        parameters["id_token_hint"] = unseal(kept["id_token"], place="sign-out").decode()
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(parameters)}"


@require_safe
def signed_out(request: HttpRequest) -> HttpResponse:
    """You are signed out; and the way back in."""
    return render(request, "accounts/signed_out.html")
