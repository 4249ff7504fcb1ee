"""Keeping providers current: asked for, made by the worker, believed as far as the pinning policy goes.

A provider that fails keeps what is known about it, is told of once, and is asked ever more seldom.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import oidc, outbound, saml
from accounts.models import IdentityProvider, Pinning, Protocol
from accounts.pinning import Key, Policy, Trust, judge, jwk_keys
from accounts.services import queueing
from accounts.services.common import news
from accounts.services.proposals import propose
from accounts.services.trust import described, set_trust, trust_of, trusted_facts
from broker.errors import BadInput, DaypassError, ProviderUnavailable

REFRESH_EVERY = timedelta(hours=1)
LONGEST_PAUSE = timedelta(hours=4)
CLAIMED_FOR = timedelta(minutes=15)
"""How long a refresh that was queued may take before it is queued again."""

REFRESH_ASKED_AT_MOST_EVERY = timedelta(minutes=5)
REFRESH_ASKED_AGAIN_AFTER = timedelta(seconds=30)
"""When the queue was away: how soon the next one may try."""


def refreshable(provider: IdentityProvider) -> bool:
    """Whether there is an address to ask: pasted metadata has none."""
    return bool(provider.issuer if provider.protocol == Protocol.OIDC else provider.metadata_url)


def ask_for_refresh(
    provider: IdentityProvider,
    now: datetime,
    *,
    at_most_every: timedelta = REFRESH_ASKED_AT_MOST_EVERY,
) -> bool:
    """Queue a refresh of this provider, at most once in five minutes, however many ask at the same moment.

    The refresh itself is the worker's: nothing is fetched here, so that no stranger makes Daypass call anybody.
    Answers whether this call queued it. Raises nothing: without a queue the keys stay as they are, and it may be asked
    for again soon.
    """
    asked = IdentityProvider.objects.filter(
        Q(refresh_asked_at__isnull=True) | Q(refresh_asked_at__lte=now - at_most_every),
        pk=provider.pk,
    ).update(refresh_asked_at=now)
    if not asked:
        return False
    if queueing.queue_refresh(str(provider.pk)):
        return True
    IdentityProvider.objects.filter(pk=provider.pk, refresh_asked_at=now).update(
        refresh_asked_at=now - REFRESH_ASKED_AT_MOST_EVERY + REFRESH_ASKED_AGAIN_AFTER
    )
    return False


def claim_due(*, now: datetime) -> list[UUID]:
    """The enabled providers whose turn it is, each answered to one caller only.

    A provider that was never refreshed gets a turn of its own within the hour, so that not all are asked at once.
    """
    mine = []
    for provider in IdentityProvider.objects.filter(enabled=True).order_by("refresh_due_at"):
        if not refreshable(provider):
            continue
        due = provider.refresh_due_at
        if due is not None and due > now:
            continue
        turn = now + CLAIMED_FOR if due is not None else now + random.random() * REFRESH_EVERY  # noqa: S311
        claimed = IdentityProvider.objects.filter(pk=provider.pk, refresh_due_at=due)
        if claimed.update(refresh_due_at=turn) and due is not None:
            mine.append(provider.pk)
    return mine


def next_turn(now: datetime, *, failures: int = 0) -> datetime:
    """When a provider is to be asked next: in about an hour; after failures in 10 minutes, 20, up to 4 hours."""
    pause = REFRESH_EVERY
    if failures:
        pause = min(timedelta(minutes=10) * 2 ** min(failures - 1, 10), LONGEST_PAUSE)
    return now + pause * random.uniform(0.85, 1.0)  # noqa: S311


@dataclass(frozen=True, slots=True)
class Found:
    """What a provider says about itself. elsewhere: the keys at the address it names now, where that is a new one.

    keys_seen: whether the keys at the address that is believed could be looked at.
    """

    trust: Trust
    elsewhere: tuple[Key, ...] | None = None
    valid_until: datetime | None = None
    keys_seen: bool = True


def refresh_provider(provider_id: UUID | str, *, now: datetime | None = None) -> bool:
    """Fetch metadata, or discovery and keys, and believe of it what the pinning policy allows; the rest waits.

    What there was is kept when that fails; False then. Only a change is news: what is believed from now on, what waits,
    a refresh that begins to fail. Checks (signed responses, encryption, algorithm, where sign-in begins) are never
    read from a provider (threats.md R33).
    """
    now = now or timezone.now()
    provider = IdentityProvider.objects.get(pk=provider_id)
    if not refreshable(provider):
        return True
    try:
        found = _fetch(provider, now)
    except DaypassError as error:
        refresh_failed(provider.pk, error.cause or error.message, now=now)
        return False
    with transaction.atomic():
        current = IdentityProvider.objects.select_for_update(of=("self",)).get(pk=provider.pk)
        if _asked(current) != _asked(provider):
            return True  # an administrator was faster; their values stand
        before, was_failing = trusted_facts(current), bool(current.refresh_problem)
        verdict = judge(
            trust_of(current),
            found.trust,
            policy=cast(Policy, current.pinning),
            found_elsewhere=found.elsewhere,
        )
        fields = set_trust(current, verdict.believed)
        if current.protocol == Protocol.SAML:
            note_validity(current, found.valid_until, now=now)
            fields = (*fields, "metadata_valid_until", "metadata_valid_since")
        if found.keys_seen:  # otherwise what is believed grows old, as if nothing had been found
            current.refreshed_at = now
        current.refresh_due_at = next_turn(now)
        current.refresh_problem, current.refresh_failures = "", 0
        current.save(
            update_fields=[
                *fields,
                "refreshed_at",
                "refresh_due_at",
                "refresh_problem",
                "refresh_failures",
            ]
        )
        after = trusted_facts(current)
        changes = {
            key: {"before": before[key], "after": after[key]}
            for key in after
            if before[key] != after[key]
        }
        if changes or was_failing:
            news("refreshed", current, {"changes": changes}, now)
        propose(current, verdict.believed, verdict.waiting, now=now)
    return True


def refresh_failed(provider_id: UUID | str, problem: str, *, now: datetime) -> None:
    """Note that a provider could not be refreshed; told once, until it works again."""
    with transaction.atomic():
        current = IdentityProvider.objects.select_for_update(of=("self",)).get(pk=provider_id)
        was_failing = bool(current.refresh_problem)
        current.refresh_problem = problem[:500]
        current.refresh_failures = min(current.refresh_failures + 1, 1000)
        current.refresh_due_at = next_turn(now, failures=current.refresh_failures)
        current.save(update_fields=["refresh_problem", "refresh_failures", "refresh_due_at"])
        if not was_failing:
            news("refresh_failed", current, {"problem": current.refresh_problem}, now)


def note_validity(provider: IdentityProvider, until: datetime | None, *, now: datetime) -> None:
    """Until when metadata says that it is to be believed, and since when it says so. Does not save."""
    if until != provider.metadata_valid_until:
        provider.metadata_valid_until = until
        provider.metadata_valid_since = now if until else None


def _asked(provider: IdentityProvider) -> tuple[object, ...]:
    """What a refresh was made for: if it is another now, what was found is about something else."""
    return (
        provider.issuer,
        provider.metadata_url,
        provider.entity_id,
        provider.pinning,
        provider.metadata_signers,
    )


def _fetch(provider: IdentityProvider, now: datetime) -> Found:
    """Raises BadInput, ProviderUnavailable, SignInRefused."""
    if provider.protocol == Protocol.SAML:
        read = read_metadata(provider, fetch_metadata(provider.metadata_url), now=now)
        return Found(described(read), valid_until=read.valid_until)
    discovery, keys = oidc.discover(provider.issuer)
    facts = {name: value for name, value in discovery.items() if name != "issuer"}
    believed_at = provider.discovery.get("jwks_uri")
    if not believed_at or discovery["jwks_uri"] == believed_at:
        return Found(Trust(jwk_keys(keys["keys"]), facts))
    try:
        here = jwk_keys(oidc.fetch_keys(provider.discovery)["keys"])
    except (BadInput, ProviderUnavailable):
        here = ()  # it moved: what is known stays believed for a week, or until somebody looks at the new address
    return Found(Trust(here, facts), elsewhere=jwk_keys(keys["keys"]), keys_seen=bool(here))


def fetch_metadata(url: str) -> bytes:
    """SAML metadata by its address. Raises BadInput, ProviderUnavailable."""
    outbound.check_url(url, "The metadata address")
    return outbound.get(url, "The metadata", limit=outbound.MAX_METADATA)


def read_metadata(
    provider: IdentityProvider, document: str | bytes, *, now: datetime
) -> saml.Described:
    """Metadata, signed as the provider's policy demands. Raises BadInput."""
    if provider.pinning == Pinning.SIGNED:
        signers = tuple(provider.metadata_signers)
        if not signers:
            raise BadInput("The signer of the metadata decides, but no signer is pinned.")
        return saml.read_metadata(document, entity_id=provider.entity_id, now=now, signers=signers)
    return saml.read_metadata(document, entity_id=provider.entity_id, now=now)
