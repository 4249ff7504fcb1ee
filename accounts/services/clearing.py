"""Clearing up what has done its work."""

from __future__ import annotations

from datetime import datetime

from accounts.models import ConsumedMessage, SignInTest
from accounts.services.relaying import clear_relayed
from accounts.services.sessions import clear_over
from accounts.services.trials import TEST_KEPT


def clear_expired(*, now: datetime) -> dict[str, int]:
    """Delete what has done its work: one-use messages that would be too old anyway, test sign-ins, dead sessions."""
    messages, _ = ConsumedMessage.objects.filter(expires_at__lt=now).delete()
    tests, _ = SignInTest.objects.filter(started_at__lt=now - TEST_KEPT).delete()
    return {
        "messages": messages,
        "tests": tests,
        "sessions": clear_over(now=now),
        "relayed": clear_relayed(now=now),
    }
