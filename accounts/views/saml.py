"""The SAML doors: metadata, the assertion consumer service, single logout."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from allauth.socialaccount.adapter import get_adapter
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST, require_safe

from accounts import browser, saml, services
from accounts.models import Protocol
from accounts.rules import VerifiedAttributes
from accounts.services import OneUse
from accounts.views.doors import quiet, row_of
from accounts.views.finishing import finish

ANSWER_COOKIE = f"{'__Secure-' if settings.SECURE_ORIGIN else ''}daypass_answer"


LOGOUT_REMEMBERED = saml.MAX_AGE + 2 * saml.SKEW
"""How long a LogoutRequest would be fresh, counted from its arrival: for as long it is remembered as used."""


MOST_INDEXES = 200
"""Sessions that one LogoutRequest may name; it may name none, and means all of the person's then."""


ANSWER_KEPT = 120
"""Seconds between a SAML answer's arrival and the browser fetching the page that reads it."""


@require_safe
def saml_metadata(request: HttpRequest, slug: str) -> HttpResponse:
    """Daypass's metadata for this provider; there before anything of the provider is known."""
    row = row_of(slug, Protocol.SAML)
    return HttpResponse(
        saml.metadata(services.service_provider(row)),
        content_type="application/samlmetadata+xml",
        headers={"Cache-Control": "public, max-age=3600"},
    )


@csrf_exempt
@require_POST
@quiet
def saml_acs(request: HttpRequest, slug: str) -> HttpResponse:
    """Take a posted answer. The browser sends no session cookie with it, so it is kept for the page that follows.

    Nothing is kept of what does not answer a request of ours.
    """
    row = row_of(slug, Protocol.SAML)
    message = request.POST.get("SAMLResponse", "")
    claimed = saml.in_response_to(message)
    if not saml.is_our_request_id(claimed, row.slug, purpose="sign-in"):
        raise saml.refused(
            "The response answers no request of ours, or one that is more than ten minutes old.",
            "Sign-in begins at Daypass: remove the application's link at the provider, or let it point at the "
            "Daypass address.",
            code="unsolicited",
        )
    store = _sessions().SessionStore()
    store["saml"] = {"message": message, "request": claimed, "provider": str(row.pk)}
    store.set_expiry(ANSWER_KEPT)
    store.save()
    finish = reverse("saml_acs_finish", kwargs={"slug": slug})
    response = HttpResponseRedirect(finish)
    response.set_cookie(
        ANSWER_COOKIE,
        store.session_key,
        max_age=ANSWER_KEPT,
        path=finish,
        secure=settings.SECURE_ORIGIN,
        httponly=True,
        samesite="Lax",
    )
    return response


def _sessions() -> Any:
    return import_module(settings.SESSION_ENGINE)


@require_GET
@quiet
def saml_acs_finish(request: HttpRequest, slug: str) -> HttpResponse:
    """Read the answer that was kept, in the browser that asked, once."""
    row = row_of(slug, Protocol.SAML)
    key = request.COOKIES.get(ANSWER_COOKIE)
    store = _sessions().SessionStore(key)
    kept = store.get("saml") if key else None
    if not isinstance(kept, dict) or kept.get("provider") != str(row.pk):
        raise saml.refused("There is no answer waiting for this browser.", code="state_unknown")
    store.delete()
    now = timezone.now()
    request_id = str(kept["request"])
    provider = get_adapter(request).get_provider(request, provider=str(row.pk))
    state = provider.unstash_redirect_state(request, request_id)
    services.consume(row, OneUse("request", request_id, now + saml.REQUEST_LIFETIME))

    def verify() -> tuple[VerifiedAttributes, OneUse]:
        verified = saml.verify_response(
            str(kept["message"]),
            sp=services.service_provider(row),
            provider=services.saml_provider(row),
            expected_request=request_id,
            now=now,
        )
        return verified.attributes, OneUse("assertion", verified.assertion_id, verified.expires_at)

    response = finish(request, row, provider, state, verify, now)
    response.delete_cookie(ANSWER_COOKIE, path=request.path, samesite="Lax")
    return response


@require_GET
@quiet
def saml_sls(request: HttpRequest, slug: str) -> HttpResponse:
    """The provider ends sessions (a signed LogoutRequest for a NameID), or answers that it ended its own.

    The request says which sessions it means; the browser that carries it need not be one of them, and in a frame it
    sends no cookie. Each message is taken once.
    """
    row = row_of(slug, Protocol.SAML)
    sp, provider = services.service_provider(row), services.saml_provider(row)
    now = timezone.now()
    raw_query = request.META.get("QUERY_STRING", "")
    if "SAMLResponse" in request.GET:
        answered = saml.verify_logout_response(
            raw_query, request.GET["SAMLResponse"], sp=sp, provider=provider, now=now
        )
        services.consume(row, OneUse("logout answer", answered, now + saml.REQUEST_LIFETIME))
        return HttpResponseRedirect(reverse("signed_out"))
    asked = saml.verify_logout_request(
        raw_query, request.GET.get("SAMLRequest", ""), sp=sp, provider=provider, now=now
    )
    indexes: tuple[str | None, ...] = asked.session_indexes or (None,)
    if "" in indexes or len(indexes) > MOST_INDEXES:
        raise saml.refused("The logout request names sessions without a name, or too many.")
    own = request.session.session_key
    with transaction.atomic():
        services.consume(row, OneUse("logout request", asked.id, now + LOGOUT_REMEMBERED))
        for index in indexes:
            services.end_by_provider(
                row, subject=asked.name_id, index=index, how="signed out at the provider", now=now
            )
    if own and not request.session.exists(own):
        browser.drop(request)
    if not provider.slo_url:
        return HttpResponseRedirect(reverse("signed_out"))
    return HttpResponseRedirect(
        saml.logout_answer_url(sp, provider, asked, request.GET.get("RelayState"))
    )
