"""The OpenID Connect doors: the redirection endpoint, and the one where a provider says that somebody signed out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

from allauth.socialaccount.adapter import get_adapter
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import BadRequest, SuspiciousOperation
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_POST

from accounts import browser, jose, limits, oidc, queries, refusals, saml, services
from accounts.models import IdentityProvider, Pinning, Protocol, ProviderSession
from accounts.provider import callback_url
from accounts.rules import VerifiedAttributes
from accounts.services import OneUse
from accounts.throttle import allowed
from accounts.views.doors import quiet, row_of
from accounts.views.finishing import finish, state_of
from broker.errors import DaypassError, SignInRefused
from broker.sealing import seal

log = logging.getLogger("daypass.accounts")

LONGEST_KEPT_TOKEN = 4096
"""An ID token longer than this is not kept for sign-out; the client id has to do."""

KEYS_AWAITED = 4.0
"""Seconds that a sign-in waits for the worker to fetch a key that the stored ones lack."""

ASKED_JUST_NOW = timedelta(seconds=15)
"""A refresh that was asked for longer ago has ended: there is nothing to wait for."""


@require_GET
@browser.spared
@quiet
@sensitive_variables()
def oidc_callback(request: HttpRequest, slug: str) -> HttpResponse:
    """Take the authorization response: state, then code, then ID token, each once."""
    row = row_of(slug, Protocol.OIDC)
    now = timezone.now()
    parameters = dict(request.GET.lists())
    state_id = oidc.check_parameters(parameters)
    provider = get_adapter(request).get_provider(request, provider=str(row.pk))
    state = state_of(provider, request, state_id)
    services.consume(row, OneUse("state", state_id, now + saml.REQUEST_LIFETIME))
    sealed_token: dict[str, str] = {}
    for_aws: list[tuple[str, datetime]] = []

    def verify() -> tuple[VerifiedAttributes, OneUse]:
        code = oidc.check_authorization(parameters, issuer=row.issuer, discovery=row.discovery)
        tokens = oidc.redeem(
            row.discovery,
            code=code,
            verifier=str(state.get("verifier") or ""),
            client_id=row.client_id,
            client_secret=services.client_secret(row),
            redirect_uri=callback_url(row),
        )
        expected = oidc.Expected(
            issuer=row.issuer,
            client_id=row.client_id,
            algorithm=row.id_token_algorithm,
            nonce=str(state.get("nonce") or ""),
            access_token=tokens.access_token,
            auth_time_demanded=bool(state.get("fresh")),
        )
        token = _verified(row, tokens.unverified_id_token, expected, now)
        userinfo = None
        if row.groups_from_userinfo:
            userinfo = oidc.fetch_userinfo(row.discovery, tokens.access_token)
        if len(tokens.unverified_id_token) <= LONGEST_KEPT_TOKEN:
            sealed_token["id_token"] = seal(tokens.unverified_id_token.encode(), place="sign-out")
        if services.somebody_relays(row):
            ends = datetime.fromtimestamp(token.claims["exp"], UTC)
            for_aws.append((tokens.unverified_id_token, ends))
        verified = oidc.attributes(token, userinfo=userinfo, now=now, checks=_seen(parameters))
        return verified, OneUse("ID token", token.consume, token.expires_at)

    def keep(session: ProviderSession) -> None:
        for id_token, ends in for_aws:
            services.keep_token(session, id_token, expires=ends, now=now)

    return finish(request, row, provider, state, verify, now, logout=sealed_token, keep=keep)


def _seen(parameters: Mapping[str, list[str]]) -> tuple[tuple[str, str], ...]:
    issuer = parameters.get("iss")
    return (
        ("State and proof key (PKCE)", "of this very browser and sign-in, used once"),
        ("Issuer of the answer (RFC 9207)", issuer[0] if issuer else "not said, and not promised"),
    )


NEW_KEYS = (
    "Your company's sign-in service has just changed its keys. Try again in a moment. If it happens again, ask for "
    "help and give the reference below."
)
NEW_KEYS_WAIT = (
    "Your company's sign-in service has new keys that an administrator has to confirm. Ask for help and give the "
    "reference below."
)


def _verified(
    row: IdentityProvider, token: str, expected: oidc.Expected, now: datetime
) -> oidc.VerifiedToken:
    """The verified token. For a key that is not stored the worker is asked, and waited for; nothing is fetched here."""
    try:
        stored = services.signing_keys(row, now=now)
        return oidc.verify_id_token(token, keys=stored, expected=expected, now=now)
    except oidc.UnknownKey as unknown:
        problem = unknown
    services.ask_for_refresh(row, now)
    for keys in _keys_to_come(row):
        try:
            return oidc.verify_id_token(token, keys=keys, expected=expected, now=now)
        except oidc.UnknownKey as unknown:
            problem = unknown
    raise SignInRefused(
        NEW_KEYS_WAIT if row.pinning == Pinning.APPROVE else NEW_KEYS,
        code=problem.code,
        retry=True,
        cause=problem.cause,
        remedy=f"{problem.remedy} New keys of a provider may wait for an administrator's word.",
    )


def _keys_to_come(row: IdentityProvider) -> Iterator[Mapping[str, Any]]:
    """Each other key set that is stored while it is worth waiting for one: the first look costs no time."""
    until = time.monotonic() + KEYS_AWAITED
    known = row.jwks
    while True:
        keys, asked_at = queries.keys_of(row)
        if keys != known:
            known = keys
            yield keys
        waiting = asked_at is not None and timezone.now() - asked_at < ASKED_JUST_NOW
        if not waiting or time.monotonic() >= until:
            return
        time.sleep(0.1)


# --- Back-channel logout


def _answered_in_json(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """What OpenID Connect Back-Channel Logout 2.8 wants to hear, and nothing that tells a stranger why."""

    @wraps(view)
    def guarded(request: HttpRequest, slug: str) -> HttpResponse:
        row = queries.find_provider(slug, Protocol.OIDC)
        if row is None:
            return _answer(404, "not_found")
        try:
            with limits.turn(request, row.slug):
                return view(request, row)
        except (BadRequest, MultiPartParserError, SuspiciousOperation, UnicodeError):
            error: Exception = jose.refused("The logout request is too long, or not a form.")
        except Exception as failure:
            error = failure
        code, reason = "failed", f"Daypass failed: {type(error).__name__}."
        if isinstance(error, DaypassError):
            code, reason = error.code, error.why
        reason = f"Back-channel logout: {reason}"
        reference = refusals.record(request, row, code=code, reason=reason, proven=False).reference
        if code == "failed":
            log.error("back-channel logout failed", exc_info=error, extra={"reference": reference})
        if code == "busy":
            return _answer(503, "temporarily_unavailable", reference)
        return _answer(400, "invalid_request", reference)

    return guarded


def _answer(status: int, error: str, reference: str = "") -> HttpResponse:
    said = {"error": error} | ({"reference": reference} if reference else {})
    return JsonResponse(said, status=status, headers={"Cache-Control": "no-store"})


@csrf_exempt
@login_not_required
@require_POST
@_answered_in_json
@sensitive_variables()
def oidc_logout(request: HttpRequest, row: IdentityProvider) -> HttpResponse:
    """The provider says that somebody signed out there: their sessions from it end here. No session is touched."""
    now = timezone.now()
    if request.content_type != "application/x-www-form-urlencoded":
        raise jose.refused("The logout request is not a form.")
    sent = request.POST.getlist("logout_token")
    if len(sent) != 1:
        raise jose.refused("The logout request has no logout token, or several.")
    try:
        out = oidc.verify_logout_token(
            sent[0],
            keys=row.jwks,
            issuer=row.issuer,
            client_id=row.client_id,
            algorithm=row.id_token_algorithm,
            now=now,
        )
    except oidc.UnknownKey:
        # Anybody can send such a token, so it may not use up what sign-in needs when keys really change.
        if allowed("keys-asked-by-logout", str(row.pk), most=1, seconds=1800):
            services.ask_for_refresh(row, now)
        raise
    with transaction.atomic():  # what failed half-way may be sent again
        services.consume(row, OneUse("logout token", out.id, out.expires_at))
        services.end_by_provider(
            row,
            subject=out.subject,
            index=out.index,
            how="signed out at the provider",
            now=now,
        )
    return HttpResponse(status=200, headers={"Cache-Control": "no-store"})
