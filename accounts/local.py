"""The break-glass door: allauth's own pages for a password and a second factor, and only the needed ones."""

from __future__ import annotations

from collections.abc import Callable

from allauth.account import views as account_views
from allauth.account.signals import user_logged_in
from allauth.core import context
from allauth.mfa.base import views as mfa_views
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes import views as recovery_views
from allauth.mfa.totp import views as totp_views
from allauth.mfa.webauthn import views as webauthn_views
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone

from accounts import browser, second_factor, services
from accounts.decorators import local_only
from accounts.identity import Proof
from accounts.models import Person
from accounts.network import client_address

_factor = "sign-in/local/second-factor/"


def _changing(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A page that changes the second factor: what cannot be recorded does not happen."""
    return local_only(transaction.atomic(view))


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
        local_only(second_factor.ConfirmWithKey.as_view()),
        name="mfa_reauthenticate_webauthn",
    ),
    path(_factor + "app/", _changing(totp_views.activate_totp), name="mfa_activate_totp"),
    path(
        _factor + "app/remove/", _changing(totp_views.deactivate_totp), name="mfa_deactivate_totp"
    ),
    path(
        _factor + "codes/",
        local_only(recovery_views.view_recovery_codes),
        name="mfa_view_recovery_codes",
    ),
    path(
        _factor + "codes/new/",
        _changing(recovery_views.generate_recovery_codes),
        name="mfa_generate_recovery_codes",
    ),
    path(
        _factor + "codes/download/",
        local_only(recovery_views.download_recovery_codes),
        name="mfa_download_recovery_codes",
    ),
    path(_factor + "keys/", local_only(webauthn_views.list_webauthn), name="mfa_list_webauthn"),
    path(_factor + "keys/add/", _changing(webauthn_views.add_webauthn), name="mfa_add_webauthn"),
    path(
        _factor + "keys/<int:pk>/remove/",
        _changing(second_factor.RemoveKey.as_view()),
        name="mfa_remove_webauthn",
    ),
    path(
        _factor + "keys/<int:pk>/edit/",
        local_only(webauthn_views.edit_webauthn),
        name="mfa_edit_webauthn",
    ),
]


# Not allauth's own signals: some of them come after the transaction.
@receiver(post_save, sender=Authenticator, dispatch_uid="accounts: second factor added")
def note_added(instance: Authenticator, created: bool, **_: object) -> None:
    if created:
        _note_factor(instance, "added")


@receiver(post_delete, sender=Authenticator, dispatch_uid="accounts: second factor removed")
def note_removed(instance: Authenticator, **_: object) -> None:
    _note_factor(instance, "removed")


def _note_factor(factor: Authenticator, change: str) -> None:
    request = context.request
    if request is not None:  # else `break_glass` did it, and records it as its own
        by = services.By(
            id=str(factor.user_id), name=factor.user.handle, address=client_address(request)
        )
        services.note_second_factor(factor, change=change, by=by, now=timezone.now())


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
