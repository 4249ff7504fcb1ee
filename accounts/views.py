"""Signing in and out. Views parse, call one service and answer; whatever goes wrong ends on one quiet page.

The pages of this module and what they are given:

- `accounts/sign_in.html`: `providers` (slug, name, protocol), the one used last first; `to`, `fresh` for the forms;
  `note` ("idle", "absolute", "provider" or ""); `at_once` when there is one provider and nothing went wrong before.
- `accounts/going.html`: `name` and `url` of where the browser is going; it goes by itself.
- `accounts/problem.html`: `message`, `reference`, `again` (an address, or "" when trying again does not help).
- `accounts/signed_out.html`: nothing.
- `accounts/test_result.html`: `test`, a SignInTest; `attributes`, `userinfo` and `person_attributes` as pairs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from importlib import import_module
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.helpers import complete_social_login
from allauth.socialaccount.models import SocialLogin
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST, require_safe
from requests import RequestException

from accounts import browser, oidc, places, queries, saml, services
from accounts.decorators import staff_signed_in
from accounts.identity import Proof
from accounts.models import IdentityProvider, Person, Protocol
from accounts.network import client_address
from accounts.provider import OidcAdapter, callback_url
from accounts.rules import ClaimMap, PersonClaims, VerifiedAttributes, understand
from accounts.services import OneUse
from accounts.throttle import allowed
from broker.errors import DaypassError, KeyUnavailable, ProviderUnavailable, SignInRefused
from broker.sealing import seal, unseal

log = logging.getLogger("daypass.accounts")

LOGIN, TEST = "login", "test"
_PREFIX = "__Host-" if settings.SECURE_ORIGIN else ""
LAST_COOKIE = f"{_PREFIX}daypass_last"
ANSWER_COOKIE = f"{'__Secure-' if settings.SECURE_ORIGIN else ''}daypass_answer"
ANSWER_KEPT = 120
"""Seconds between a SAML answer's arrival and the browser fetching the page that reads it."""

LONGEST_KEPT_TOKEN = 4096
"""An ID token longer than this is not kept for sign-out; the client id has to do."""

TRY_AGAIN = "Try again. If it happens again, ask for help and give the number below."
ASK = "Ask for help and give the number below."


# --- The quiet page


def _problem(
    request: HttpRequest,
    error: Exception,
    row: IdentityProvider | None,
    *,
    status: int = 0,
) -> HttpResponse:
    """One page for everything: what to do and a reference. The reason goes to the audit log, never to a stranger."""
    now = timezone.now()
    address = client_address(request)
    reference = services.new_reference()
    retry = True
    match error:
        case ProviderUnavailable():
            code, reason = error.code, _whole(error)
            message, status = error.message, 503
        case KeyUnavailable():
            code, reason = error.code, _whole(error)
            message, status, retry = f"Daypass cannot sign anybody in right now. {ASK}", 503, False
        case DaypassError():
            code, reason = error.code, _whole(error)
            message, status = f"You could not be signed in. {TRY_AGAIN}", status or 403
        case _:
            code, reason = "failed", f"Daypass failed: {type(error).__name__}."
            message, status = f"You could not be signed in. {TRY_AGAIN}", status or 403
            log.error("sign-in failed", exc_info=error, extra={"reference": reference})
    log.warning(
        "sign-in refused",
        extra={"reference": reference, "code": code, "provider": row.slug if row else ""},
    )
    # What strangers send is recorded as well, but they cannot fill the log with it.
    if allowed("refusals", address, most=30, seconds=60):
        try:
            services.refuse(
                row, code=code, reason=reason, reference=reference, address=address, now=now
            )
        except DaypassError as unrecorded:
            log.error("refusal not recorded", extra={"code": unrecorded.code})
    again = ""
    if retry:
        to = places.keep(getattr(request, "wanted_page", ""))
        again = (
            f"{reverse('sign_in')}?{urlencode({'to': to, 'stay': '1'} if to else {'stay': '1'})}"
        )
    return render(
        request,
        "accounts/problem.html",
        {"message": message, "reference": reference, "again": again},
        status=status,
    )


def _quiet(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Nothing that a stranger posts becomes a server error (threats.md R27)."""

    @wraps(view)
    def guarded(request: HttpRequest, slug: str, **kwargs: Any) -> HttpResponse:
        if not allowed("sign-in", client_address(request), most=600, seconds=60):
            return render(
                request,
                "accounts/problem.html",
                {
                    "message": "Too many attempts from your network. Wait a minute and try again.",
                    "reference": "",
                    "again": reverse("sign_in") + "?stay=1",
                },
                status=429,
            )
        row: IdentityProvider | None = None
        try:
            row = queries.find_provider(slug)
            return view(request, slug=slug, **kwargs)
        except Http404:
            raise
        except RequestDataTooBig:
            return _problem(
                request,
                saml.refused("The message is longer than anything is read."),
                row,
                status=400,
            )
        except PermissionDenied:
            error = SignInRefused(
                code="state_unknown",
                cause="The browser did not begin this sign-in, or began it too long ago, or ended it before.",
            )
            return _problem(request, error, row)
        except Exception as error:
            return _problem(request, error, row)

    return guarded


def _row(slug: str, protocol: str) -> IdentityProvider:
    row = queries.find_provider(slug, protocol)
    if row is None:
        raise Http404
    return row


# --- Beginning


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
@_quiet
def sign_in_start(request: HttpRequest, slug: str) -> HttpResponse:
    """Send the browser to a provider: by a page that goes there itself, so that no redirect follows a form."""
    row = queries.find_provider(slug)
    if row is None or not row.enabled:
        raise Http404
    to = places.find(request.POST.get("to", ""))
    request.wanted_page = to  # type: ignore[attr-defined]  # for the way back, should this fail
    response = _begin(request, row, process=LOGIN, to=to, fresh=request.POST.get("fresh") == "1")
    response.set_cookie(
        LAST_COOKIE,
        row.slug,
        max_age=180 * 24 * 3600,
        secure=settings.SECURE_ORIGIN,
        httponly=True,
        samesite="Lax",
    )
    return response


def _begin(
    request: HttpRequest,
    row: IdentityProvider,
    *,
    process: str,
    to: str = "",
    fresh: bool = False,
    data: Mapping[str, str] | None = None,
) -> HttpResponse:
    provider = get_adapter(request).get_provider(request, provider=str(row.pk))
    response = provider.redirect(
        request, process, next_url=to or None, data=dict(data or {}), fresh=fresh
    )
    return _going(request, row.name, response.url)


def _going(request: HttpRequest, name: str, url: str) -> HttpResponse:
    return render(request, "accounts/going.html", {"name": name, "url": url})


# --- SAML


@require_safe
def saml_metadata(request: HttpRequest, slug: str) -> HttpResponse:
    """Daypass's metadata for this provider; there before anything of the provider is known."""
    row = _row(slug, Protocol.SAML)
    return HttpResponse(
        saml.metadata(services.service_provider(row)),
        content_type="application/samlmetadata+xml",
        headers={"Cache-Control": "public, max-age=3600"},
    )


@csrf_exempt
@require_POST
@_quiet
def saml_acs(request: HttpRequest, slug: str) -> HttpResponse:
    """Take a posted answer. The browser sends no session cookie with it, so it is kept for the page that follows.

    Nothing is kept of what does not answer a request of ours.
    """
    row = _row(slug, Protocol.SAML)
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
@_quiet
def saml_acs_finish(request: HttpRequest, slug: str) -> HttpResponse:
    """Read the answer that was kept, in the browser that asked, once."""
    row = _row(slug, Protocol.SAML)
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

    response = _finish(request, row, provider, state, verify, now)
    response.delete_cookie(ANSWER_COOKIE, path=request.path, samesite="Lax")
    return response


# --- OpenID Connect


@require_GET
@_quiet
def oidc_callback(request: HttpRequest, slug: str) -> HttpResponse:
    """Take the authorization response: state, then code, then ID token, each once."""
    row = _row(slug, Protocol.OIDC)
    now = timezone.now()
    if any(len(request.GET.getlist(name)) > 1 for name in ("state", "code", "iss", "error")):
        raise oidc.refused("A part of the authorization response stands twice.")
    provider = get_adapter(request).get_provider(request, provider=str(row.pk))
    state_id = request.GET.get("state", "")
    state = provider.unstash_redirect_state(request, state_id)
    services.consume(row, OneUse("state", state_id, now + saml.REQUEST_LIFETIME))
    adapter = OidcAdapter(request, str(row.pk))
    sealed_token: dict[str, str] = {}

    def verify() -> tuple[VerifiedAttributes, OneUse]:
        _check_authorization(request, row)
        answer = _exchange(request, adapter, provider, state)
        access_token = answer.get("access_token")
        expected = oidc.Expected(
            issuer=row.issuer,
            client_id=row.client_id,
            algorithm=row.id_token_algorithm,
            nonce=str(state.get("nonce") or ""),
            access_token=access_token if isinstance(access_token, str) else "",
            auth_time_demanded=bool(state.get("fresh")),
        )
        raw = answer.get("id_token")
        try:
            token = oidc.verify_id_token(raw, keys=row.jwks, expected=expected, now=now)
        except oidc.UnknownKey:
            keys = services.refresh_keys(row, now=now)
            token = oidc.verify_id_token(raw, keys=keys, expected=expected, now=now)
        userinfo = None
        if row.groups_from_userinfo:
            userinfo = oidc.fetch_userinfo(row.discovery, expected.access_token)
        if isinstance(raw, str) and len(raw) <= LONGEST_KEPT_TOKEN:
            sealed_token["id_token"] = seal(raw.encode(), place="sign-out")
        verified = oidc.attributes(token, userinfo=userinfo, now=now)
        return verified, OneUse("ID token", token.consume, token.expires_at)

    return _finish(request, row, provider, state, verify, now, logout=sealed_token)


def _check_authorization(request: HttpRequest, row: IdentityProvider) -> None:
    """RFC 9207: the answer is from the provider that was asked; and it is a code, not a refusal."""
    issuer = request.GET.get("iss")
    promised = row.discovery.get("authorization_response_iss_parameter_supported") is True
    if (issuer is not None or promised) and issuer != row.issuer:
        raise oidc.refused(
            "The authorization response is from another issuer, or does not say from which."
        )
    if "error" in request.GET or not request.GET.get("code"):
        error = "".join(c for c in request.GET.get("error", "no code")[:60] if c.isprintable())
        raise oidc.refused(
            f"The provider answered that it did not sign the person in: {error}.",
            "Look at the provider's own sign-in log; the person may not be assigned to Daypass.",
            code="provider_said_no",
        )


def _exchange(
    request: HttpRequest, adapter: OidcAdapter, provider: Any, state: Mapping[str, Any]
) -> Mapping[str, Any]:
    client = adapter.get_client(request, provider.app)
    try:
        answer = adapter.get_access_token_data(
            request, provider.app, client, pkce_code_verifier=state.get("pkce_code_verifier")
        )
    except OAuth2Error:
        raise oidc.refused(
            "The token endpoint did not take the code.",
            "Check client id, client secret and redirect URI at the provider: "
            + callback_url(adapter.row),
            code="token_endpoint_refused",
        ) from None
    except (RequestException, ValueError) as error:
        raise ProviderUnavailable(
            cause=f"The token endpoint could not be asked: {type(error).__name__}."
        ) from None
    if not isinstance(answer, dict):
        raise oidc.refused("The token endpoint's answer is not an object.")
    return answer


# --- Ending a sign-in, whichever protocol brought it


def _finish(
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
        return _finish_test(request, row, state, verify, now)
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


# --- Test sign-ins


@require_POST
@staff_signed_in
def provider_test_start(request: HttpRequest, slug: str) -> HttpResponse:
    """An administrator tries a provider, switched on or not. They stay signed in as they are."""
    row = queries.find_provider(slug)
    if row is None:
        raise Http404
    test = services.start_test(row, _person(request), now=timezone.now())
    try:
        return _begin(request, row, process=TEST, fresh=False, data={"test": str(test.pk)})
    except DaypassError as error:
        services.finish_test(test.pk, row, problem=_whole(error), now=timezone.now())
        return HttpResponseRedirect(reverse("provider_test_result", args=[test.pk]))


def _finish_test(
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
    if test_id is None or principal is None or queries.test_of(test_id, _person(request)) is None:
        raise PermissionDenied
    verified: VerifiedAttributes | None = None
    claims: PersonClaims | None = None
    message: OneUse | None = None
    problem = ""
    try:
        verified, message = verify()
        claims = understand(verified, ClaimMap.from_json(row.claim_map))
    except DaypassError as error:
        problem = _whole(error)
    services.finish_test(
        test_id, row, verified=verified, claims=claims, message=message, problem=problem, now=now
    )
    return HttpResponseRedirect(reverse("provider_test_result", args=[test_id]))


def _whole(error: DaypassError) -> str:
    return " ".join(filter(None, (error.cause or error.message, error.remedy)))


def _person(request: HttpRequest) -> Person:
    assert isinstance(request.user, Person)
    return request.user


@require_safe
@staff_signed_in
def provider_test_result(request: HttpRequest, test_id: UUID) -> HttpResponse:
    """What arrived, what it became, what was checked: for the administrator who tried."""
    test = queries.test_of(test_id, _person(request))
    if test is None:
        raise Http404
    arrived = test.arrived
    return render(
        request,
        "accounts/test_result.html",
        {
            "test": test,
            # As pairs: a claim of the name `items` must not be taken for the method.
            "person_attributes": list(test.became.get("attributes", {}).items()),
            "attributes": list(arrived.get("attributes", {}).items()),
            "userinfo": list((arrived.get("userinfo") or {}).items()),
        },
    )


# --- Signing out


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session here first, then at the provider where it can be ended there."""
    onward = ""
    kept = browser.noted(request.session)
    row: IdentityProvider | None = None
    if request.user.is_authenticated and kept.get("logout") is not None:
        row = _person(request).provider
    browser.end(request, how="signed out", now=timezone.now())
    if row is not None and row.enabled:
        try:
            onward = _onward(row, kept.get("logout", {}))
        except DaypassError as error:
            log.warning(
                "no sign-out at the provider", extra={"code": error.code, "provider": row.slug}
            )
    if row is not None and onward:
        return _going(request, row.name, onward)
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


@require_GET
@_quiet
def saml_sls(request: HttpRequest, slug: str) -> HttpResponse:
    """The provider ends a session (a signed LogoutRequest for its NameID), or answers that it ended its own."""
    row = _row(slug, Protocol.SAML)
    sp, provider = services.service_provider(row), services.saml_provider(row)
    now = timezone.now()
    raw_query = request.META.get("QUERY_STRING", "")
    if "SAMLResponse" in request.GET:
        saml.verify_logout_response(
            raw_query, request.GET["SAMLResponse"], sp=sp, provider=provider, now=now
        )
        return HttpResponseRedirect(reverse("signed_out"))
    asked = saml.verify_logout_request(
        raw_query, request.GET.get("SAMLRequest", ""), sp=sp, provider=provider, now=now
    )
    kept = browser.noted(request.session)
    logout = kept.get("logout", {})
    own = kept.get("proof", {}).get("provider_id") == str(row.pk)
    if own and logout.get("name_id") == asked.name_id:
        index = logout.get("session_index")
        if not asked.session_indexes or index in asked.session_indexes:
            browser.end(request, how="signed out at the provider", now=now)
    elif own:
        raise saml.refused("The logout request is for somebody else's session.")
    if not provider.slo_url:
        return HttpResponseRedirect(reverse("signed_out"))
    return HttpResponseRedirect(
        saml.logout_answer_url(sp, provider, asked, request.GET.get("RelayState"))
    )
