"""The SAML doors: metadata, the assertion consumer service, single logout."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from allauth.socialaccount.adapter import get_adapter
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import (
    require_GET,
    require_http_methods,
    require_POST,
    require_safe,
)

from accounts import browser, limits, saml, services
from accounts.models import IdentityProvider, Protocol
from accounts.network import counted_address
from accounts.rules import ClaimMap, PersonClaims, VerifiedAttributes, understand
from accounts.services import OneUse, waiting
from accounts.services.waiting import Arrival
from accounts.views.doors import LOGIN, come_for, person_of, quiet, row_of
from accounts.views.finishing import finish, state_of

_PREFIX = "__Secure-" if settings.SECURE_ORIGIN else ""


ANSWER_COOKIE = f"{_PREFIX}daypass_answer"


ARRIVAL_COOKIE = f"{_PREFIX}daypass_arrival"


LOGOUT_REMEMBERED = saml.MAX_AGE + 2 * saml.SKEW
"""How long a LogoutRequest would be fresh, counted from its arrival: for as long it is remembered as used."""


MOST_INDEXES = 200
"""Sessions that one LogoutRequest may name; it may name none, and means all of the person's then."""


@require_safe
def saml_metadata(request: HttpRequest, slug: str) -> HttpResponse:
    """Daypass's metadata for this provider; nothing of the provider is needed to make it."""
    row = row_of(slug, Protocol.SAML)
    return HttpResponse(
        saml.metadata(services.service_provider(row)),
        content_type="application/samlmetadata+xml",
        headers={"Cache-Control": "public, max-age=3600"},
    )


@csrf_exempt
@require_POST
@browser.spared
@quiet
def saml_acs(request: HttpRequest, slug: str) -> HttpResponse:
    """Take a posted answer. The browser sends no session cookie with it, so it is kept for the page that follows.

    Nothing is kept of what does not answer a request of ours, or answers one that was answered before.
    """
    row = row_of(slug, Protocol.SAML)
    if len(request.POST.getlist("SAMLResponse")) > 1:
        raise saml.refused("The form holds several answers.")
    message = request.POST.get("SAMLResponse", "")
    claimed = saml.in_response_to(message)
    now = timezone.now()
    if not claimed and row.idp_initiated:
        return _arrive(row, message, now)
    if not saml.is_our_request_id(claimed, row.slug, purpose="sign-in"):
        raise saml.refused(
            "The response answers no request of ours, or one that is more than ten minutes old.",
            "Sign-in begins at Daypass: remove the application's link at the provider, or let it point at the "
            "Daypass address. Or let sign-in begin at this provider, in its settings here.",
            code="unsolicited",
        )
    page = reverse("saml_acs_finish", kwargs={"slug": slug})
    if services.was_consumed(row, "request", claimed):
        limits.note_replay(row.slug, counted_address(request), claimed)
        return HttpResponseRedirect(f"{page}?{AGAIN}")
    key = waiting.keep_answer(row, message, request_id=claimed, now=now)
    limits.note_kept(row.slug, counted_address(request))
    return come_for(page, ANSWER_COOKIE, key, int(waiting.ANSWER_KEPT.total_seconds()))


ANSWERED_BEFORE = "The request of this answer was answered before."

AGAIN = "again"
"""In the finishing page's query: the browser brought an answer that was used before. It can only make it say so."""


@require_GET
@browser.spared
@quiet
def saml_acs_finish(request: HttpRequest, slug: str) -> HttpResponse:
    """Read the answer that was kept, in the browser that asked, once. Who is signed in already goes home."""
    row = row_of(slug, Protocol.SAML)
    again = AGAIN in request.GET
    kept = None if again else waiting.take_answer(row, request.COOKIES.get(ANSWER_COOKIE))
    if kept is None:
        if getattr(request, "principal", None) is not None:
            return HttpResponseRedirect(reverse("home"))
        if again:
            raise saml.refused(ANSWERED_BEFORE, code="replayed")
        raise saml.refused("There is no answer waiting for this browser.", code="state_unknown")
    now = timezone.now()
    provider = _provider(request, row)

    def verify() -> tuple[VerifiedAttributes, OneUse]:
        return _verify(row, kept.unverified_message, expected_request=kept.request_id, now=now)

    with limits.fetched(request, row.slug, kept.request_id):
        try:
            state = state_of(provider, request, kept.request_id)
        except PermissionDenied:
            # Of one answer that was brought several times at once, the first has ended the session that asked.
            if services.was_consumed(row, "request", kept.request_id):
                raise saml.refused(ANSWERED_BEFORE, code="replayed") from None
            raise
        services.consume(row, OneUse("request", kept.request_id, now + saml.REQUEST_LIFETIME))
        response = finish(request, row, provider, state, verify, now)
    response.delete_cookie(ANSWER_COOKIE, path=request.path, samesite="Lax")
    return response


def _provider(request: HttpRequest, row: IdentityProvider) -> Any:
    return get_adapter(request).get_provider(request, provider=str(row.pk))


def _verify(
    row: IdentityProvider, message: str, *, expected_request: str | None, now: datetime
) -> tuple[VerifiedAttributes, OneUse]:
    verified = saml.verify_response(
        message,
        sp=services.service_provider(row),
        provider=services.saml_provider(row),
        expected_request=expected_request,
        now=now,
        unwrap=partial(services.unwrap_content_key, row),
    )
    return verified.attributes, OneUse("assertion", verified.assertion_id, verified.expires_at)


# --- Sign-in that begins at the provider


def _arrive(row: IdentityProvider, message: str, now: datetime) -> HttpResponse:
    """Take an answer that nobody asked for: verified and used up before anything of it is kept.

    No session comes of it before the person has said yes on our own page, so that nobody is signed in as somebody else
    by a page that makes their browser post (login CSRF).
    """
    if not row.enabled:
        raise saml.refused("This identity provider is switched off.", code="provider_disabled")
    verified, assertion = _verify(row, message, expected_request=None, now=now)
    understand(verified, ClaimMap.from_json(row.claim_map))
    services.consume(row, assertion)
    key = waiting.keep_arrival(row, verified, now=now)
    page = reverse("saml_confirm", kwargs={"slug": row.slug})
    return come_for(page, ARRIVAL_COOKIE, key, int(waiting.ARRIVAL_KEPT.total_seconds()))


@require_http_methods(["GET", "HEAD", "POST"])
@browser.spared
@quiet
def saml_confirm(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask who came from the provider whether they are who it says; a yes signs them in, once."""
    row = row_of(slug, Protocol.SAML)
    key = request.COOKIES.get(ARRIVAL_COOKIE)
    answered = request.method == "POST"
    arrival = (waiting.take_arrival if answered else waiting.look_at_arrival)(row, key)
    if arrival is None and getattr(request, "principal", None) is not None:
        return HttpResponseRedirect(reverse("home"))
    if arrival is None:
        raise saml.refused("There is no arrival waiting for this browser.", code="state_unknown")
    if not row.idp_initiated:
        raise saml.refused("Sign-in may not begin at this provider any more.", code="unsolicited")
    if not answered:
        return _ask(request, row, understand(arrival.verified, ClaimMap.from_json(row.claim_map)))
    if request.POST.get("answer") == "yes":
        response = _finish_arrival(request, row, arrival, str(key))
    else:
        response = HttpResponseRedirect(reverse("sign_in") + "?stay=1")
    response.delete_cookie(ARRIVAL_COOKIE, path=request.path, samesite="Lax")
    return response


def _ask(request: HttpRequest, row: IdentityProvider, claims: PersonClaims) -> HttpResponse:
    here = person_of(request) if getattr(request, "principal", None) is not None else None
    names = [claims.name, claims.email, claims.username, claims.subject]
    name, *more = [text for text in names if text]
    return render(
        request,
        "accounts/confirm.html",
        {
            "provider": row.name,
            "name": name,
            "more": more[0] if more else "",
            "here": here,
            "same": here is not None
            and (here.provider_id, here.subject) == (row.pk, claims.subject),
        },
    )


def _finish_arrival(
    request: HttpRequest, row: IdentityProvider, arrival: Arrival, key: str
) -> HttpResponse:
    now = timezone.now()
    verified = replace(
        arrival.verified, evidence={**arrival.verified.evidence, "began": "at the provider"}
    )
    # The answer was issued after the person authenticated, and not much before it arrived.
    issued = arrival.at - saml.UNSOLICITED_AGE
    began = max(issued, verified.at) if verified.at else issued
    return finish(
        request,
        row,
        _provider(request, row),
        {"process": LOGIN, "began": began.timestamp()},
        lambda: (verified, OneUse("arrival", key, now + waiting.ARRIVAL_KEPT)),
        now,
    )


# --- Sign-out that begins at the provider


@csrf_exempt
@require_http_methods(["GET", "POST"])
@browser.spared
@quiet
def saml_sls(request: HttpRequest, slug: str) -> HttpResponse:
    """The provider ends sessions (a signed LogoutRequest for a NameID), or answers that it ended its own.

    The request says which sessions it means; the browser that carries it need not be one of them, and in a frame it
    sends no cookie. By redirect the query is signed, posted the message itself. Each message is taken once.
    """
    request.leaving = True  # type: ignore[attr-defined]  # for the page, should this fail
    row = row_of(slug, Protocol.SAML)
    sp, provider = services.service_provider(row), services.saml_provider(row)
    now = timezone.now()
    posted = request.method == "POST"
    said = request.POST if posted else request.GET
    raw_query = None if posted else request.META.get("QUERY_STRING", "")
    if posted and sum(len(said.getlist(name)) for name in ("SAMLRequest", "SAMLResponse")) > 1:
        raise saml.refused("The form holds several logout messages.")
    if "SAMLResponse" in said:
        answered = saml.verify_logout_response(
            raw_query, said["SAMLResponse"], sp=sp, provider=provider, now=now
        )
        services.consume(row, OneUse("logout answer", answered, now + saml.REQUEST_LIFETIME))
        return HttpResponseRedirect(reverse("signed_out"))
    asked = saml.verify_logout_request(
        raw_query, said.get("SAMLRequest", ""), sp=sp, provider=provider, now=now
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
    return HttpResponseRedirect(saml.logout_answer_url(sp, provider, asked, said.get("RelayState")))
