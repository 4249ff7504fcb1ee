"""The second factors of break-glass accounts, sealed again when the sealing key changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from allauth.mfa.models import Authenticator
from django.db import transaction
from django.views.decorators.debug import sensitive_variables

from accounts.services.common import By, announce_changed
from broker.sealing import seal, sealed_under_current_key, unseal

PLACE = "second-factor"
_SEALED = ("secret", "seed", "migrated_codes")
"""Where allauth keeps what it had sealed: of an authenticator app, and of recovery codes."""


def note_second_factor(factor: Authenticator, *, change: str, by: By, now: datetime) -> None:
    """Record that a second factor was added or removed. change: which of the two."""
    named = {
        Authenticator.Type.TOTP: "authenticator app",
        Authenticator.Type.WEBAUTHN: "security key",
        Authenticator.Type.RECOVERY_CODES: "recovery codes",
    }[Authenticator.Type(factor.type)]
    announce_changed(
        "person",
        factor.user_id,
        factor.user.handle,
        before={},
        after={"second_factor": f"{named} {change}"},
        by=by,
        now=now,
    )


@sensitive_variables()
def reseal_second_factors(*, by: By, now: datetime) -> int:
    """Seal them again that are not under the current sealing key; how many.

    Raises KeyUnavailable when the sealing key that one was sealed under is gone.
    """
    done = 0
    for row in Authenticator.objects.order_by("pk").select_related("user"):
        renewed = _renewed(row.data)
        if renewed == row.data:
            continue
        with transaction.atomic():
            # Only what we read: a code that was used meanwhile stays used, and its row waits for the next run.
            if Authenticator.objects.filter(pk=row.pk, data=row.data).update(data=renewed) != 1:
                continue
            announce_changed(
                "person",
                row.user_id,
                row.user.handle,
                before={},
                after={"second_factor": "sealed anew"},
                by=by,
                now=now,
            )
            done += 1
    return done


def _renewed(data: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _each(value, _again) if name in _SEALED else value for name, value in data.items()
    }


def _each(value: Any, change: Callable[[str], str]) -> Any:
    return [change(one) for one in value] if isinstance(value, list) else change(str(value))


@sensitive_variables()
def _again(sealed: str) -> str:
    if sealed_under_current_key(sealed):
        return sealed
    return seal(unseal(sealed, place=PLACE), place=PLACE)
