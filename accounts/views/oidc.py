"""The OpenID Connect doors: the redirection endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET
from requests import RequestException

from accounts import oidc, saml, services
from accounts.models import IdentityProvider, Protocol
from accounts.provider import OidcAdapter, callback_url
from accounts.rules import VerifiedAttributes
from accounts.services import OneUse
from accounts.views.doors import quiet, row_of
from accounts.views.finishing import finish
from broker.errors import ProviderUnavailable
from broker.sealing import seal

LONGEST_KEPT_TOKEN = 4096
"""An ID token longer than this is not kept for sign-out; the client id has to do."""


@require_GET
@quiet
def oidc_callback(request: HttpRequest, slug: str) -> HttpResponse:
    """Take the authorization response: state, then code, then ID token, each once."""
    row = row_of(slug, Protocol.OIDC)
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

    return finish(request, row, provider, state, verify, now, logout=sealed_token)


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
