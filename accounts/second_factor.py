"""Codes of the break-glass account's second factor are taken once, and the database says so (threats.md R61).

allauth remembers used codes in the cache, for less time than they are good for: an emptied Redis, or half a minute,
would let a code be used again by whoever looked over a shoulder. RFC 6238 section 5.2 wants each accepted once.
"""

from __future__ import annotations

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
from django.db import transaction

from accounts import limits

_LAST = "last_counter"
"""In an authenticator's data: the newest 30-second step whose code was taken."""


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


class AuthenticateForm(_Once, forms.AuthenticateForm):
    """The second step of the break-glass sign-in."""


class ReauthenticateForm(_Once, forms.ReauthenticateForm):
    """Before the second factor itself is changed."""


class RemoveAppForm(DeactivateTOTPForm):
    """Before the authenticator app is removed."""

    @property
    def leaves_none(self) -> bool:
        """Whether the account has no second factor afterwards: recovery codes alone are none."""
        keys = Authenticator.objects.filter(
            user=self.authenticator.user_id, type=Authenticator.Type.WEBAUTHN
        )
        return not keys.exists()


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
