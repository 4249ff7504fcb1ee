"""Ending a sign-in, whichever protocol brought it: to a person with a session, or to a test's result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from allauth.socialaccount.helpers import complete_social_login
from allauth.socialaccount.models import SocialLogin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from accounts import browser, places, queries, services
from accounts.identity import Proof
from accounts.models import IdentityProvider, Protocol
from accounts.network import client_address
from accounts.rules import ClaimMap, PersonClaims, VerifiedAttributes, understand
from accounts.services import OneUse
from accounts.views.doors import LOGIN, TEST, person_of, whole
from broker.errors import DaypassError


def finish(
    request: HttpRequest,
    row: IdentityProvider,
    provider: Any,
    state: Mapping[str, Any],
    verify: Callable[[], tuple[VerifiedAttributes, OneUse]],
    now: datetime,
    *,
    logout: Mapping[str, str] | None = None,
) -> HttpResponse:
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
    )
    browser.begin(
        request,
        admission.person,
        proof,
        now=now,
        logout={**verified.logout, **(logout or {})},
        ends=verified.session_ends,
    )
    to = state.get("next")
    return HttpResponseRedirect(
        to if isinstance(to, str) and places.is_page(to) else reverse("home")
    )


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
        problem = whole(error)
    services.finish_test(
        test_id, row, verified=verified, claims=claims, message=message, problem=problem, now=now
    )
    return HttpResponseRedirect(reverse("provider_test_result", args=[test_id]))
