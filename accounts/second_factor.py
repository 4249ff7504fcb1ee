"""The break-glass account's second factor: codes of an app, security keys, recovery codes.

A code is taken once, and the database says so (threats.md R61). allauth remembers used codes in the cache, for less
time than they are good for: an emptied Redis, or half a minute, would let a code be used again by whoever looked over a
shoulder. RFC 6238 section 5.2 wants each accepted once.
"""

from __future__ import annotations

import struct
import time
from typing import Any

from allauth.account.adapter import get_adapter as get_account_adapter
from allauth.core import context
from allauth.core.internal.cryptokit import compare_user_code
from allauth.mfa import app_settings
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base import forms
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import DeactivateTOTPForm
from allauth.mfa.totp.internal import auth as totp
from allauth.mfa.utils import is_mfa_enabled
from allauth.mfa.webauthn import forms as key_forms
from allauth.mfa.webauthn import views as key_views
from django import forms as django_forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.forms import Form
from django.http import HttpResponse

from accounts import limits

_LAST = "last_counter"
"""In an authenticator's data: the newest 30-second step whose code was taken."""
_GARBLED: tuple[type[Exception], ...] = (LookupError, TypeError, ValueError, struct.error)
"""What the parsers of a key's answer raise on nonsense; allauth expects a part of them."""
_UNREADABLE = "The answer did not come from a security key. Try again."


def _name(*, required: bool) -> django_forms.CharField:
    return django_forms.CharField(label="Name", max_length=100, required=required)


def _credential() -> django_forms.JSONField:
    """Filled in by the script once the key has answered."""
    return django_forms.JSONField(
        widget=django_forms.HiddenInput,
        error_messages={
            "required": "No key has answered. Try again, and touch the key when the browser asks.",
            "invalid": _UNREADABLE,
        },
    )


class _Once:
    """Check the code with the account's authenticators locked, so that of parallel attempts one wins."""

    user: Any
    authenticator: Authenticator

    def clean_code(self) -> str:
        account = f"code of {self.user.pk}"
        if not limits.may_guess(context.request, account, code=True):
            raise get_account_adapter().validation_error("too_many_login_attempts")
        code = self._checked()
        limits.guessed_right(context.request, account)
        return code

    def _checked(self) -> str:
        with transaction.atomic():
            list(Authenticator.objects.select_for_update().filter(user=self.user))
            code: str = super().clean_code()  # type: ignore[misc]
            if self.authenticator.type == Authenticator.Type.TOTP:
                _spend(self.authenticator, code)
        return code

    @property
    def app(self) -> bool:
        """Whether the account has an authenticator app, whose codes are taken here."""
        return _has(self.user, Authenticator.Type.TOTP)


class AuthenticateForm(_Once, forms.AuthenticateForm):
    """The second step of the break-glass sign-in."""


class ReauthenticateForm(_Once, forms.ReauthenticateForm):
    """Before the second factor itself is changed."""


class RemoveAppForm(DeactivateTOTPForm):
    """Before the authenticator app is removed."""

    @property
    def leaves_none(self) -> bool:
        return _is_last(self.authenticator)


class _Key:
    """Whatever a browser sends as a security key's answer is checked or refused, in words about the key."""

    user: Any

    def clean_credential(self) -> Authenticator:
        try:
            return super().clean_credential()  # type: ignore[misc]
        except ValidationError as refused:
            raise _not_right(refused, "This is not a security key of this account.") from refused
        except _GARBLED as garbled:
            raise ValidationError(_UNREADABLE) from garbled

    @property
    def keys(self) -> bool:
        """Whether the account has a security key."""
        return _has(self.user, Authenticator.Type.WEBAUTHN)


class UseKeyForm(_Key, key_forms.AuthenticateWebAuthnForm):
    """The second step of the break-glass sign-in, with a security key."""

    credential = _credential()


class ConfirmWithKeyForm(_Key, key_forms.ReauthenticateWebAuthnForm):
    """Before the second factor itself is changed, with a security key."""

    credential = _credential()


class AddKeyForm(key_forms.AddWebAuthnForm):
    """A new security key. Sign-in without the password is switched off, so nothing is asked about it."""

    name = _name(required=False)
    credential = _credential()

    def clean(self) -> dict[str, Any]:
        try:
            cleaned: dict[str, Any] = super().clean()
        except ValidationError as refused:
            raise _not_right(refused, "The key answered too late. Add the key again.") from refused
        except _GARBLED as garbled:
            raise ValidationError(_UNREADABLE) from garbled
        return cleaned


class RenameKeyForm(key_forms.EditWebAuthnForm):
    name = _name(required=True)


class ConfirmWithKey(key_views.ReauthenticateWebAuthnView):
    """The page that asks for a key before a change, and says when it was another one: allauth's leads away instead."""

    def form_invalid(self, form: Form) -> HttpResponse:
        shown: HttpResponse = self.render_to_response(self.get_context_data() | {"form": form})
        return shown


class RemoveKey(key_views.RemoveWebAuthnView):
    """The page that asks before a key is removed."""

    def get_context_data(self, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().get_context_data(leaves_none=_is_last(self.object), **more)
        return found


def _has(user: Any, kind: Authenticator.Type) -> bool:
    return bool(is_mfa_enabled(user, [kind]))


def _is_last(one: Authenticator) -> bool:
    """Whether the account has no second factor without this one: recovery codes alone are none."""
    others = Authenticator.objects.filter(user=one.user_id).exclude(pk=one.pk)
    return not others.exclude(type=Authenticator.Type.RECOVERY_CODES).exists()


def _not_right(refused: ValidationError, words: str) -> ValidationError:
    """allauth speaks of a code, also when it was a key that did not fit."""
    return ValidationError(words) if refused.code == "incorrect_code" else refused


def _spend(authenticator: Authenticator, code: str) -> None:
    """Take the step of this code and every earlier one away. Raises ValidationError when it was taken before."""
    secret = get_adapter().decrypt(authenticator.data["secret"])
    step = int(time.time()) // app_settings.TOTP_PERIOD
    tolerance = app_settings.TOTP_TOLERANCE
    fitting = [
        counter
        for counter in range(step - tolerance, step + tolerance + 1)
        if counter > authenticator.data.get(_LAST, -1)
        and compare_user_code(
            actual=code, expected=totp.format_hotp_value(totp.hotp_value(secret, counter))
        )
    ]
    if not fitting:
        raise get_adapter().validation_error("incorrect_code")
    authenticator.data[_LAST] = fitting[0]
    authenticator.save(update_fields=["data"])
