"""Ending a sign-in, whichever protocol brought it: to a person with a session, or to a test's result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from allauth.socialaccount.helpers import complete_social_login
from allauth.socialaccount.models import SocialLogin
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import UpdateError
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from accounts import browser, places, queries, services
from accounts.identity import Proof
from accounts.models import IdentityProvider, Person, Protocol, ProviderSession
from accounts.network import client_address
from accounts.rules import ClaimMap, PersonClaims, VerifiedAttributes, understand
from accounts.services import OneUse
from accounts.views.doors import LOGIN, TEST, person_of
from broker.errors import DaypassError


def state_of(provider: Any, request: HttpRequest, state_id: str) -> Mapping[str, Any]:
    """What this browser began under that id, taken out of its session. Raises PermissionDenied when it did not."""
    try:
        state: Mapping[str, Any] = provider.unstash_redirect_state(request, state_id)
    except UpdateError:  # somebody finished it a moment earlier, and the session is gone
        raise PermissionDenied from None
    return state


def finish(
    request: HttpRequest,
    row: IdentityProvider,
    provider: Any,
    state: Mapping[str, Any],
    verify: Callable[[], tuple[VerifiedAttributes, OneUse]],
    now: datetime,
    *,
    logout: Mapping[str, str] | None = None,
    keep: Callable[[ProviderSession], None] | None = None,
) -> HttpResponse:
    """keep: what else the new session keeps, called once everything about the sign-in has held."""
    request.wanted_page = state.get("next") or ""  # type: ignore[attr-defined]
    if state.get("process") == TEST:
        return finish_test(request, row, state, verify, now)
    if state.get("process") != LOGIN:
        raise PermissionDenied
    verified, message = verify()
    claims = understand(verified, ClaimMap.from_json(row.claim_map))
    admission = services.sign_in(
        row.pk,
        claims,
        message=message,
        evidence=verified.evidence,
        address=client_address(request),
        now=now,
    )
    line = _leave_before(request, admission.person, now)
    login: SocialLogin = provider.sociallogin_from_response(request, claims)
    login.admitted = admission.account
    login.state = {"process": LOGIN}
    complete_social_login(request, login)
    if not request.user.is_authenticated or request.user.pk != admission.person.pk:
        raise PermissionDenied
    proof = Proof(
        provider_id=row.pk,
        provider_name=row.name,
        method="saml" if row.protocol == Protocol.SAML else "oidc",
        at=claims.at or now,
        mfa=claims.mfa,
        context=claims.context,
        methods=claims.methods,
        at_told=claims.at is not None,
    )
    browser.begin(
        request,
        admission.person,
        proof,
        now=now,
        logout={**verified.logout, **(logout or {})},
        ends=verified.session_ends,
        line=line,
    )
    noted = _note(request, row, admission.person, verified, state, now)
    if keep is not None:
        keep(noted)
    to = state.get("next")
    return HttpResponseRedirect(
        to if isinstance(to, str) and places.is_page(to) else reverse("home")
    )


def _leave_before(request: HttpRequest, person: Person, now: datetime) -> str:
    """Nothing of the browser's session so far goes on, be it nobody's, the person's own or somebody else's.

    Only its line, when it was the person's own.
    """
    before = request.session.get(SESSION_KEY)
    line = browser.line_of(request.session) if before == str(person.pk) else ""
    if before in (None, str(person.pk)):
        browser.drop(request)
    else:
        browser.end(request, how="somebody else signed in", now=now)
    return line


def _note(
    request: HttpRequest,
    row: IdentityProvider,
    person: Person,
    verified: VerifiedAttributes,
    state: Mapping[str, Any],
    now: datetime,
) -> ProviderSession:
    """Note what the provider calls the session, unless it has ended it meanwhile."""
    sid = verified.attributes.get("sid") if verified.protocol == "oidc" else None
    began = state.get("began")
    try:
        return services.note_session(
            person,
            row,
            str(request.session.session_key),
            subject=verified.logout.get("name_id") or verified.subject or "",
            index=sid if isinstance(sid, str) else verified.logout.get("session_index", ""),
            expires=browser.ends_at(request.session),
            line=browser.line_of(request.session),
            began=datetime.fromtimestamp(began, UTC) if isinstance(began, float) else None,
            now=now,
        )
    except DaypassError:
        browser.end(request, how="signed out at the provider", now=now)
        raise


def finish_test(
    request: HttpRequest,
    row: IdentityProvider,
    state: Mapping[str, Any],
    verify: Callable[[], tuple[VerifiedAttributes, OneUse]],
    now: datetime,
) -> HttpResponse:
    """The same verified flow; what comes of it is written down for the administrator and grants nothing."""
    data = state.get("data")
    test_id = UUID(str(data.get("test"))) if isinstance(data, dict) else None
    principal = getattr(request, "principal", None)
    if test_id is None or principal is None or queries.test_of(test_id, person_of(request)) is None:
        raise PermissionDenied
    verified: VerifiedAttributes | None = None
    claims: PersonClaims | None = None
    message: OneUse | None = None
    problem = ""
    try:
        verified, message = verify()
        claims = understand(verified, ClaimMap.from_json(row.claim_map))
    except DaypassError as error:
        problem = error.why
    services.finish_test(
        test_id, row, verified=verified, claims=claims, message=message, problem=problem, now=now
    )
    return HttpResponseRedirect(reverse("provider_test_result", args=[test_id]))
