"""allauth's extension points: accounts stays in charge of who somebody is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NoReturn
from uuid import UUID

import qrcode
from allauth.account import app_settings as account_settings
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialLogin
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from qrcode.image.svg import SvgPathFillImage

from accounts import limits
from accounts.models import IdentityProvider, Person, Protocol
from accounts.network import client_address
from broker.sealing import seal, unseal

_KINDS = {Protocol.SAML: "saml", Protocol.OIDC: "openid_connect"}


def _account(credentials: Mapping[str, Any]) -> str:
    return str(credentials.get("username", "")).lower()[:200]


class AccountAdapter(DefaultAccountAdapter):
    """Local accounts: only the break-glass superuser, and nobody signs up."""

    error_messages = DefaultAccountAdapter.error_messages | {
        "incorrect_password": "The password is not right.",
        "too_many_login_attempts": "Too many attempts. Wait five minutes, then try again.",
        "username_password_mismatch": "Username or password is not right.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Whoever just signed in is not asked again; afterwards allauth's rule holds."""
        began = context.request.session.get("daypass", {}).get("began", 0)
        if time.time() - began < account_settings.REAUTHENTICATION_TIMEOUT:
            return False
        return bool(super().is_reauthentication_required(app=app, **kwargs))

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Before a password is checked: our counts, which Redis may be away for, and which success does not clear."""
        if not limits.may_guess(request, _account(credentials)):
            raise self.validation_error("too_many_login_attempts")

    def authenticate(self, request: HttpRequest, **credentials: Any) -> Person | None:
        found: Person | None = super().authenticate(request, **credentials)
        if found is not None:
            limits.guessed_right(request, _account(credentials))
        return found

    def respond_user_inactive(self, request: HttpRequest, user: Person) -> HttpResponse:
        raise PermissionDenied

    def get_client_ip(self, request: HttpRequest) -> str:
        return client_address(request) or "0.0.0.0"  # noqa: S104 (an address nobody has, not one to listen on)

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """Daypass's pages say what happened themselves."""

    def send_mail(self, *args: Any, **kwargs: Any) -> None:
        """Daypass sends no mail about sign-in (threats.md R58)."""

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Daypass sends no mail about sign-in; the audit log has what happened."""


def social_app(row: IdentityProvider) -> SocialApp:
    """allauth's view of a provider, never saved: the row's id is `provider_id`, so that no two ever share people."""
    app = SocialApp(
        provider=_KINDS[Protocol(row.protocol)],
        provider_id=str(row.pk),
        name=row.name,
        client_id=row.slug if row.protocol == Protocol.SAML else row.client_id,
        settings={"scope": list(row.scopes), "oauth_pkce_enabled": True, "fetch_userinfo": False},
    )
    app.row = row
    return app


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    """People vouched for by an identity provider."""

    def list_apps(
        self,
        request: HttpRequest | None,
        provider: str | None = None,
        client_id: str | None = None,
    ) -> list[SocialApp]:
        """Our providers as apps; neither allauth's table nor its settings are read."""
        apps = [social_app(row) for row in _rows(provider)]
        return [app for app in apps if client_id is None or app.client_id == client_id]

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """The person was let in by `services.sign_in` before; only that person may be signed in here."""
        admitted: SocialAccount | None = getattr(sociallogin, "admitted", None)
        if admitted is None or admitted.user_id is None:
            raise PermissionDenied
        sociallogin.account = admitted
        sociallogin.user = admitted.user

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return False

    def is_auto_signup_allowed(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return False

    def can_authenticate_by_email(self, login: SocialLogin, email: str) -> bool:
        return False

    def authenticate_by_email(self, login: SocialLogin) -> None:
        return None

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: Any) -> Any:
        return sociallogin.user

    def is_email_verified(self, provider: Any, email: str) -> bool:
        return False

    def get_requests_session(self) -> NoReturn:
        raise NotImplementedError("allauth makes no calls of its own: accounts.outbound does")

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Daypass sends no mail about sign-in."""


def _rows(provider: str | None) -> list[IdentityProvider]:
    rows = IdentityProvider.objects.all()
    for protocol, kind in _KINDS.items():
        if provider == kind:
            return list(rows.filter(protocol=protocol))
    if provider is None:
        return list(rows)
    try:
        return list(rows.filter(pk=UUID(provider)))
    except ValueError:
        return []


class MfaAdapter(DefaultMFAAdapter):
    """The second factor of the break-glass account, sealed at rest."""

    error_messages = DefaultMFAAdapter.error_messages | {
        "incorrect_code": "That code is not right, or it is used up. Type another one.",
    }

    def encrypt(self, text: str) -> str:
        return seal(text.encode(), place="second-factor")

    def decrypt(self, encrypted_text: str) -> str:
        return unseal(encrypted_text, place="second-factor").decode()

    def build_totp_svg(self, url: str) -> str:
        """On a white ground, so that it can be scanned in the dark theme too."""
        made = qrcode.make(url, image_factory=SvgPathFillImage)
        return str(made.to_string(encoding="unicode"))

    def generate_authenticator_name(self, user: Person, type: Authenticator.Type) -> str:
        """What a new security key is called until somebody types another name."""
        return f"Key {Authenticator.objects.filter(user=user, type=type).count() + 1}"

    def get_totp_label(self, user: Person) -> str:
        return user.handle

    def _get_site_name(self) -> str:
        return f"Daypass at {settings.DAYPASS_COMPANY}"
