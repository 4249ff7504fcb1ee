"""`aws login`: the page where somebody picks a role for it, and the address where it gets credentials.

The page asks first for a role and then for a yes, and answers to the listener of the CLI on the same computer only.
With `--remote` the code is shown instead, on the answer to that yes: it never stands in an address (threats.md R20,
R21; RFC 6749 section 4.1.2.1, RFC 7636, RFC 8252 section 7.3, RFC 9449).
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from accounts.decorators import person_of
from accounts.identity import Principal
from accounts.places import is_page, sign_in_url
from broker.awssso import rules, services, signin
from broker.awssso.doors import Call, door, gently
from broker.awssso.models import Terminal
from broker.awssso.pages import (
    Sitting,
    answering_failures,
    asker_of,
    is_fresh,
    may_lead_to,
    sitting_of,
    to_sign_in,
    until_of,
)
from broker.awssso.room import no_room
from broker.awssso.rules import CannotGoOn
from broker.awssso.services import LetIn
from broker.awssso.signin import Given, Wanted
from broker.awssso.wire import Answer, Failure, Fault, WireError
from broker.entitlements.queries import find_roles, load_snapshot
from broker.entitlements.rules import Allowed, Ask, Decision, NextStep, RoleFacts, decide
from broker.minting.dpop import verify_proof

PAGE_SIZE = 50
TOKENS = 600
"""How many a network may ask for in a minute; a whole office may sit behind one address."""

WITHOUT_PREFIX = "/v1/token"
"""The SDKs for Ruby and .NET sign for this address: they leave out the path of endpoint_url there (`URI.join`,
`UriBuilder.Path`), and send their request to the right one. Nothing else of ours is at it, so such a proof opens no
other door."""

_SIGNS_IN = (NextStep.SIGN_IN_AGAIN, NextStep.USE_MFA)


# --- The page


@require_http_methods(["GET", "HEAD", "POST"])
@answering_failures
def authorize(request: HttpRequest) -> HttpResponse:
    """Ask for which role `aws login` is let in, and whether; on POST, say so to it."""
    now = timezone.now()
    try:
        wanted = signin.read_wanted(request.GET)
        here = f"{reverse('login_authorize')}?{urlencode(wanted.given)}"
        if not is_page(here):
            raise CannotGoOn(
                "The address of this page is too long.", signin.START_ANEW, code="too_long"
            )
    except CannotGoOn as error:
        return render(request, "terminal/cannot_go_on.html", {"error": error}, status=400)
    if request.principal is None:  # type: ignore[attr-defined]
        return to_sign_in(request, here, fresh=wanted.remote)
    principal, sitting = person_of(request), sitting_of(request)
    signin.check_policy(principal.proof.provider_id, asker_of(request).address, wanted.flow)
    if wanted.remote and not is_fresh(principal, sitting, now):
        return render(
            request, "terminal/sign_in_first.html", {"sign_in": sign_in_url(here, fresh=True)}
        )
    if request.method == "POST" and request.POST.get("answer") != "yes":
        return render(
            request,
            "terminal/said_no.html",
            {
                "name": wanted.name,
                "remote": wanted.remote,
                "back": _back(wanted, error="access_denied"),
            },
        )
    instead = no_room(request, principal, here, now)
    if instead is not None:
        return instead
    role_id = _role_id((request.POST if request.method == "POST" else request.GET).get("role", ""))
    if role_id is None:
        return _pick(request, wanted, here, principal, now)
    role, decision = _decided(principal, role_id, wanted, now)
    if request.method == "POST" and isinstance(decision, Allowed):
        return _let_in(request, wanted, role, principal, sitting, now)
    return _ask(request, wanted, here, role, decision, principal, sitting, now)


def _pick(
    request: HttpRequest, wanted: Wanted, here: str, principal: Principal, now: datetime
) -> HttpResponse:
    """The roles of which keys can be had, searched and page by page."""
    typed = request.GET.get("q", "")[:200].replace("\x00", "")
    number = request.GET.get("page", "")
    page = int(number) if number.isascii() and number.isdigit() and len(number) < 7 else 1
    found = find_roles(principal, typed, page=page, page_size=PAGE_SIZE, now=now, door=wanted.door)
    return render(
        request,
        "terminal/login_pick.html",
        {
            "wanted": wanted,
            "here": here,
            "found": found,
            "typed": typed,
            "page_of": f"{here}&{urlencode({'q': typed})}" if typed else here,
            "asker": asker_of(request),
        },
    )


def _ask(
    request: HttpRequest,
    wanted: Wanted,
    here: str,
    role: RoleFacts,
    decision: Decision,
    principal: Principal,
    sitting: Sitting,
    now: datetime,
) -> HttpResponse:
    """The question, or why there is nothing to ask."""
    allowed = isinstance(decision, Allowed)
    this = f"{here}&{urlencode({'role': str(role.id)})}"
    context: dict[str, Any] = {
        "wanted": wanted,
        "here": here,
        "role": role,
        "until": until_of(principal, sitting, now),
        "asker": asker_of(request),
        "refused": None if allowed else decision,
    }
    if not isinstance(decision, Allowed) and decision.next_step in _SIGNS_IN:
        context["sign_in"] = sign_in_url(this, fresh=True)
    response = render(request, "terminal/login.html", context, status=200 if allowed else 403)
    if not wanted.remote:
        may_lead_to(response, wanted.redirect_uri)
    return response


@sensitive_variables("code", "carried")
def _let_in(
    request: HttpRequest,
    wanted: Wanted,
    role: RoleFacts,
    principal: Principal,
    sitting: Sitting,
    now: datetime,
) -> HttpResponse:
    terminal = services.let_in(
        principal,
        LetIn(
            kind=Terminal.Kind.LOGIN,
            flow=wanted.flow,
            client_name=wanted.name,
            client_digest=rules.digest(wanted.client_id),
            asker=asker_of(request),
            role_id=role.id,
        ),
        line=sitting.line,
        relay=sitting.relay,
        browser_ends=sitting.ends,
        now=now,
    )
    life = {"life": signin.CARRIED_CODE_LIFE} if wanted.remote else {}
    code = services.give_code(
        terminal,
        redirect_uri=wanted.redirect_uri,
        challenge=wanted.challenge,
        method="SHA-256",
        now=now,
        **life,
    )
    if wanted.remote:
        carried = base64.b64encode(urlencode({"state": wanted.state, "code": code}).encode())
        response = render(
            request,
            "terminal/login_code.html",
            {
                "carried": carried.decode(),
                "role": role,
                "seconds": signin.CARRIED_CODE_LIFE.seconds,
            },
        )
    else:
        response = HttpResponse(status=302, headers={"Location": _back(wanted, code=code)})
    response["Cache-Control"] = "no-store, private"
    response["Referrer-Policy"] = "no-referrer"
    return response


def _decided(
    principal: Principal, role_id: UUID, wanted: Wanted, now: datetime
) -> tuple[RoleFacts, Decision]:
    """The role and whether keys for it may go through this door now. A role that is not theirs is not found."""
    snapshot = load_snapshot(principal, role_id)
    if snapshot is None:
        raise Http404
    ask = Ask(role_id, "keys", signin.KEYS_SECONDS, door=wanted.door)
    decision = decide(principal, ask, snapshot, now)
    if not isinstance(decision, Allowed) and not decision.visible:
        raise Http404
    return snapshot.role, decision


def _role_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _back(wanted: Wanted, **answer: str) -> str:
    """The listener's address with an answer."""
    return f"{wanted.redirect_uri}?{urlencode({**answer, 'state': wanted.state})}"


@require_safe
def confirmation(request: HttpRequest) -> HttpResponse:
    """Where `aws login --remote` says that its code will be shown: it is shown elsewhere, and never by an address."""
    return render(request, "terminal/login_confirmation.html")


# --- The token


@door("POST", words=signin.in_signin_words, dialect=signin.in_signin_faults)
@sensitive_variables()
def create_token(call: Call) -> Answer:
    """CreateOAuth2Token: the credentials are the access token."""
    gently("signin-token", call.request, most=TOKENS)
    client_id = call.text("clientId", most=200)
    if client_id not in signin.CLIENTS:
        raise WireError(
            Failure(Fault.VALIDATION, "clientId is not one of aws login.", error="INVALID_REQUEST")
        )
    proof = verify_proof(
        call.request.headers.get("DPoP", ""),
        method="POST",
        url=settings.DAYPASS_ORIGIN + call.request.path,
        also=(settings.DAYPASS_ORIGIN + WITHOUT_PREFIX,),
        now=call.now,
    )
    match call.text("grantType", most=100):
        case "authorization_code":
            given = signin.by_code(
                call.text("code", most=512),
                client_id=client_id,
                redirect_uri=call.text("redirectUri", most=2048),
                verifier=call.text("codeVerifier", most=128),
                proof=proof,
                asker=call.asker,
                now=call.now,
            )
        case "refresh_token":
            given = signin.by_refresh_token(
                call.text("refreshToken", most=2048),
                client_id=client_id,
                proof=proof,
                asker=call.asker,
                now=call.now,
            )
        case _:
            raise WireError(
                Failure(
                    Fault.VALIDATION,
                    "Daypass gives tokens for the grants authorization_code and refresh_token.",
                    error="unsupported_grant_type",
                )
            )
    return Answer(_body(given))


@sensitive_variables()
def _body(given: Given) -> dict[str, object]:
    left = int((given.keys.expires_at - timezone.now()).total_seconds())
    body: dict[str, object] = {
        "accessToken": {
            "accessKeyId": given.keys.access_key_id,
            "secretAccessKey": given.keys.secret_access_key,
            "sessionToken": given.keys.session_token,
        },
        "tokenType": "aws_sigv4",
        "expiresIn": max(1, min(signin.KEYS_SECONDS, left)),
        "refreshToken": given.refresh_token,
    }
    if given.identity:
        body["idToken"] = given.identity
    return body


urlpatterns = [
    path("v1/authorize", authorize, name="login_authorize"),
    path("v1/sessions/confirmation", confirmation, name="login_confirmation"),
    path("aws/v1/token", create_token, name="login_token"),
]
