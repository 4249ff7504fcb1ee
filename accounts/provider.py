"""allauth's provider classes, ours: allauth finds them here, in place of its own SAML and OpenID Connect packages.

They send people to a provider and turn what came back, once verified, into allauth's `SocialLogin`. What a browser
says in its query never becomes part of a request to a provider (threats.md A5.6).
"""

from __future__ import annotations

import secrets
import time
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.providers.oauth2.client import OAuth2Client
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from allauth.socialaccount.providers.saml.provider import SAMLProvider
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from accounts import saml, services
from accounts.models import IdentityProvider
from accounts.rules import PersonClaims, account_id
from broker.errors import ProviderUnavailable


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


class Client(OAuth2Client):
    """allauth's client, for authorization endpoints that have a query of their own as well."""

    def get_redirect_url(
        self, authorization_url: str, scope: list[str], extra_params: dict[str, str]
    ) -> str:
        parameters = {
            "client_id": self.consumer_key,
            "redirect_uri": self.callback_url,
            "scope": " ".join(scope),
            "response_type": "code",
            "state": self.state,
            **extra_params,
        }
        joint = "&" if "?" in authorization_url else "?"
        return f"{authorization_url}{joint}{urlencode(parameters)}"


class OidcAdapter(OpenIDConnectOAuth2Adapter):
    """Endpoints from the stored discovery document; nothing is fetched while a stranger waits."""

    client_class = Client

    def __init__(self, request: HttpRequest, provider_id: str) -> None:
        super().__init__(request, provider_id)
        self.row = IdentityProvider.objects.get(pk=UUID(provider_id))

    @property
    def openid_config(self) -> dict[str, Any]:
        return dict(self.row.discovery)

    @property
    def authorize_url(self) -> str:
        return self._endpoint("authorization_endpoint")

    @property
    def access_token_url(self) -> str:
        return self._endpoint("token_endpoint")

    def _endpoint(self, name: str) -> str:
        found = self.row.discovery.get(name)
        if not isinstance(found, str):
            raise ProviderUnavailable(
                cause=f"The provider's {name} is not known.",
                remedy="Save or refresh the provider, so that its discovery document is read.",
            )
        return found

    def get_callback_url(self, request: HttpRequest, app: Any) -> str:
        return callback_url(self.row)

    def get_client(self, request: HttpRequest, app: Any) -> OAuth2Client:
        app.secret = services.client_secret(self.row)
        return super().get_client(request, app)


def callback_url(row: IdentityProvider) -> str:
    """The redirect URI of a provider: its own, and from the setting."""
    return settings.DAYPASS_ORIGIN + reverse("oidc_callback", kwargs={"slug": row.slug})


class OidcProvider(_Verified, OpenIDConnectProvider):
    """An OpenID Connect provider: code flow, PKCE and a nonce, always."""

    pkce_enabled_default = True
    oauth2_adapter_class = OidcAdapter
    supports_token_authentication = False

    def get_scope_from_request(self, request: HttpRequest) -> list[str]:
        return list(self.get_scope())

    def get_auth_params_from_request(self, request: HttpRequest, action: str) -> dict[str, str]:
        return {}

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
        nonce = secrets.token_urlsafe(32)
        parameters = {"nonce": nonce}
        if fresh:
            parameters |= {"prompt": "login", "max_age": "0"}
        response: HttpResponse = super().redirect(
            request,
            process,
            next_url,
            data,
            scope=self.get_scope(),
            auth_params=parameters,
            nonce=nonce,
            fresh=fresh,
            began=time.time(),
        )
        return response

    def verify_token(self, request: HttpRequest, token: Any) -> Any:
        raise get_adapter().validation_error("invalid_token")


provider_classes = [SamlProvider, OidcProvider]
