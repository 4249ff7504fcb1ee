"""What ends soon: providers' certificates, their metadata and its signers, and Daypass's own keys.

Told once at each step by the task, and shown to administrators for as long as it is so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from cryptography import x509
from django.db import transaction
from django.db.models import Q

from accounts.events import ServiceProviderKeyNews, announce
from accounts.models import IdentityProvider, ServiceProviderKey
from accounts.services.common import news
from accounts.services.keys import fingerprint
from accounts.services.once import OneUse, consume
from broker.errors import SignInRefused as Refused

State = ServiceProviderKey.State

WARN_BEFORE = (timedelta(days=60), timedelta(days=30), timedelta(days=7))
AT_THE_END = timedelta(0)
TOLD_OF_FOR = timedelta(days=90)
"""How long something that has ended is still told of, by a task that did not run when it ended."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Something that ends within 60 days, or has ended. last: nothing of its kind is there to stand in for it."""

    what: Literal["certificate", "metadata", "signer", "key"]
    name: str
    id: str
    ends: datetime
    last: bool
    steps: tuple[timedelta, ...] = WARN_BEFORE
    provider: IdentityProvider | None = None
    key: ServiceProviderKey | None = None

    def days_left(self, now: datetime) -> int:
        """Whole days; negative once it has ended."""
        return (self.ends - now).days

    def step(self, now: datetime) -> timedelta | None:
        """The smallest step that is reached, None before the first."""
        left = self.ends - now
        if left <= AT_THE_END:
            return AT_THE_END
        return min((step for step in self.steps if left <= step), default=None)


def endings(now: datetime) -> list[Ending]:
    """Everything in use whose first step is reached, soonest first."""
    found: list[Ending] = []
    for provider in IdentityProvider.objects.filter(enabled=True):
        found += _certificates(provider, now)
        found += _metadata(provider)
    found += _own_keys()
    reached = [one for one in found if one.step(now) is not None and one.ends > now - TOLD_OF_FOR]
    return sorted(reached, key=lambda one: one.ends)


def warn_expiring(*, now: datetime) -> int:
    """Tell once at each step of what ends. Answers how many were told; a repeated task stays silent."""
    told = 0
    for ending in endings(now):
        step = ending.step(now)
        assert step is not None
        with transaction.atomic():
            if ending.key is not None:
                told += _warn_of_key(ending, ending.key, step, now)
            elif ending.provider is not None:
                told += _warn_of_provider(ending, ending.provider, step, now)
    return told


def _warn_of_provider(
    ending: Ending, provider: IdentityProvider, step: timedelta, now: datetime
) -> int:
    mark = OneUse(
        kind=f"warning at {step}",
        id=f"{ending.what}:{ending.id}:{ending.ends.isoformat()}",
        expires_at=ending.ends + 2 * TOLD_OF_FOR,
    )
    try:
        consume(provider, mark)
    except Refused:
        return 0
    news("certificate_expiring", provider, _details(ending, now), now)
    return 1


def _warn_of_key(ending: Ending, key: ServiceProviderKey, step: timedelta, now: datetime) -> int:
    first = ServiceProviderKey.objects.filter(
        Q(warned_days__isnull=True) | Q(warned_days__gt=step.days), pk=key.pk
    ).update(warned_days=step.days)
    if first:
        announce(
            ServiceProviderKeyNews(
                what="expiring",
                key_id=key.pk,
                purpose=key.purpose,
                details=_details(ending, now),
                at=now,
            )
        )
    return first


def _details(ending: Ending, now: datetime) -> dict[str, Any]:
    return {
        "what": ending.what,
        "name": ending.name,
        "id": ending.id,
        "expires_at": ending.ends.isoformat(),
        "days_left": ending.days_left(now),
        "last": ending.last,
    }


def _certificates(provider: IdentityProvider, now: datetime) -> Iterator[Ending]:
    for what, pems in (
        ("certificate", provider.certificates),
        ("signer", provider.metadata_signers if provider.pinning == "signed" else []),
    ):
        read = [(x509.load_pem_x509_certificate(pem.encode()), pem) for pem in pems]
        latest = max((one.not_valid_after_utc for one, _ in read), default=now)
        for one, pem in read:
            yield Ending(
                what="signer" if what == "signer" else "certificate",
                name=one.subject.rfc4514_string(),
                id=fingerprint(pem),
                ends=one.not_valid_after_utc,
                last=one.not_valid_after_utc == latest,
                provider=provider,
            )


def _metadata(provider: IdentityProvider) -> Iterator[Ending]:
    """Many providers renew short-lived metadata every day: a warning is due only where that has not happened."""
    until, since = provider.metadata_valid_until, provider.metadata_valid_since
    if until is None:
        return
    life = until - (since or until)
    steps = tuple(step for step in WARN_BEFORE if step <= life / 2) or (life / 3,)
    yield Ending(
        what="metadata",
        name="metadata",
        id=str(provider.pk),
        ends=until,
        last=True,
        steps=steps,
        provider=provider,
    )


def _own_keys() -> Iterator[Ending]:
    for key in ServiceProviderKey.objects.filter(state__in=(State.ACTIVE, State.NEXT)):
        yield Ending(
            what="key",
            name=key.get_purpose_display(),
            id=fingerprint(key.certificate),
            ends=key.expires_at,
            last=key.state == State.ACTIVE,
            key=key,
        )
