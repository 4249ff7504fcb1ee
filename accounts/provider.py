"""allauth's provider classes, ours: allauth finds them here, in place of its own SAML and OpenID Connect packages.

They send people to a provider and turn what came back, once verified, into allauth's `SocialLogin`. What a browser
says in its query never becomes part of a request to a provider (threats.md A5.6).
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.saml.provider import SAMLProvider
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from accounts import oidc, saml, services
from accounts.models import IdentityProvider
from accounts.rules import PersonClaims, account_id


class _Verified:
    """What both kinds take from a verified sign-in: who it is, and nothing to keep."""

    def extract_uid(self, data: PersonClaims) -> str:
        return account_id(data.subject)

    def extract_extra_data(self, data: PersonClaims) -> dict[str, Any]:
        return {}

    def extract_common_fields(self, data: PersonClaims) -> dict[str, Any]:
        return {}

    def extract_email_addresses(self, data: PersonClaims) -> list[Any]:
        return []


class SamlProvider(_Verified, SAMLProvider):
    """A SAML identity provider: a signed request whose id comes back in the answer."""

    def redirect(
        self,
        request: HttpRequest,
        process: str,
        next_url: str | None = None,
        data: Any = None,
        *,
        fresh: bool = False,
        **kwargs: Any,
    ) -> HttpResponse:
        row: IdentityProvider = self.app.row
        url, request_id = saml.sign_in_url(
            services.service_provider(row), services.saml_provider(row), fresh=fresh
        )
        self.stash_redirect_state(
            request,
            process,
            next_url,
            data,
            state_id=request_id,
            fresh=fresh,
            began=time.time(),
        )
        return HttpResponseRedirect(url)


def callback_url(row: IdentityProvider) -> str:
    """The redirect URI of a provider: its own, and from the setting."""
    return settings.DAYPASS_ORIGIN + reverse("oidc_callback", kwargs={"slug": row.slug})


class OidcProvider(_Verified, OpenIDConnectProvider):
    """An OpenID Connect provider: code flow, PKCE and a nonce, always. allauth calls nobody for it."""

    supports_token_authentication = False

    def get_oauth2_adapter(self, request: HttpRequest) -> Any:
        raise NotImplementedError("allauth's own flow is not used: see accounts.views.oidc")

    def redirect(
        self,
        request: HttpRequest,
        process: str,
        next_url: str | None = None,
        data: Any = None,
        *,
        fresh: bool = False,
        **kwargs: Any,
    ) -> HttpResponse:
        row: IdentityProvider = self.app.row
        exchange = oidc.Exchange(
            # It proves that it is ours, so that made-up ones cost no look into a session (accounts/limits.py).
            state=saml.request_id(row.slug, purpose="oidc sign-in"),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
        )
        url = oidc.authorization_url(
            row.discovery,
            exchange,
            client_id=row.client_id,
            redirect_uri=callback_url(row),
            scopes=row.scopes,
            fresh=fresh,
        )
        self.stash_redirect_state(
            request,
            process,
            next_url,
            data,
            state_id=exchange.state,
            nonce=exchange.nonce,
            verifier=exchange.verifier,
            fresh=fresh,
            began=time.time(),
        )
        return HttpResponseRedirect(url)

    def verify_token(self, request: HttpRequest, token: Any) -> Any:
        raise get_adapter().validation_error("invalid_token")


provider_classes = [SamlProvider, OidcProvider]
