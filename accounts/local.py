"""The break-glass door: allauth's own pages for a password and a second factor, and only the needed ones."""

from __future__ import annotations

from allauth.account import views as account_views
from allauth.account.signals import user_logged_in
from allauth.mfa.base import views as mfa_views
from allauth.mfa.recovery_codes import views as recovery_views
from allauth.mfa.totp import views as totp_views
from allauth.mfa.webauthn import views as webauthn_views
from django.dispatch import receiver
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.utils import timezone

from accounts import browser, services
from accounts.decorators import local_only
from accounts.identity import Proof
from accounts.models import Person
from accounts.network import client_address

_factor = "sign-in/local/second-factor/"

urlpatterns: list[URLPattern] = [
    path("sign-in/local/", account_views.login, name="local_sign_in"),
    path("sign-in/local/", account_views.login, name="account_login"),
    path(_factor + "authenticate/", mfa_views.authenticate, name="mfa_authenticate"),
    path(_factor, local_only(mfa_views.index), name="mfa_index"),
    path(
        _factor + "confirm/",
        local_only(account_views.reauthenticate),
        name="account_reauthenticate",
    ),
    path(
        _factor + "confirm/code/", local_only(mfa_views.reauthenticate), name="mfa_reauthenticate"
    ),
    path(
        _factor + "confirm/key/",
        local_only(webauthn_views.reauthenticate_webauthn),
        name="mfa_reauthenticate_webauthn",
    ),
    path(_factor + "app/", local_only(totp_views.activate_totp), name="mfa_activate_totp"),
    path(
        _factor + "app/remove/", local_only(totp_views.deactivate_totp), name="mfa_deactivate_totp"
    ),
    path(
        _factor + "codes/",
        local_only(recovery_views.view_recovery_codes),
        name="mfa_view_recovery_codes",
    ),
    path(
        _factor + "codes/new/",
        local_only(recovery_views.generate_recovery_codes),
        name="mfa_generate_recovery_codes",
    ),
    path(
        _factor + "codes/download/",
        local_only(recovery_views.download_recovery_codes),
        name="mfa_download_recovery_codes",
    ),
    path(_factor + "keys/", local_only(webauthn_views.list_webauthn), name="mfa_list_webauthn"),
    path(_factor + "keys/add/", local_only(webauthn_views.add_webauthn), name="mfa_add_webauthn"),
    path(
        _factor + "keys/<int:pk>/remove/",
        local_only(webauthn_views.remove_webauthn),
        name="mfa_remove_webauthn",
    ),
    path(
        _factor + "keys/<int:pk>/edit/",
        local_only(webauthn_views.edit_webauthn),
        name="mfa_edit_webauthn",
    ),
]


@receiver(user_logged_in, dispatch_uid="accounts: break-glass signed in")
def note_local_sign_in(request: HttpRequest, user: Person, **_: object) -> None:
    """A password was accepted: begin the session's proof, and tell (it is an alarm to whoever listens)."""
    if user.provider_id or not user.is_superuser:
        return
    now = timezone.now()
    mfa = browser.has_second_factor(user)
    proof = Proof(provider_id=None, provider_name="", method="local", at=now, mfa=mfa)
    browser.begin(request, user, proof, now=now)
    services.signed_in_locally(user, mfa=mfa, address=client_address(request), now=now)
