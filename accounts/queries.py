"""Reading people, their groups and providers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet

from accounts.identity import GroupRef, Principal, Proof
from accounts.models import (
    IdentityProvider,
    Membership,
    Person,
    RelayApplication,
    RelayedAssertion,
    RelayedToken,
    SignInTest,
)
from broker.prepared import Prepared

_memberships_of = Prepared(
    lambda person_id: (
        Membership.objects.filter(person_id=person_id, group__provider__enabled=True)
        .order_by()
        .values_list(
            "group_id",
            "group__provider_id",
            "group__key",
            "group__name",
            "source",
            "confirmed_at",
        )
    )
)


def principal_of(
    person: Person,
    proof: Proof,
    *,
    address: str,
    relay: str = "",
    memberships: Iterable[Membership] | None = None,
) -> Principal:
    """What the rest of Daypass sees of a person: one indexed read, whose cost follows the number of their groups.

    Stale memberships are included with the time at which they went stale; groups of providers that are switched off
    are not there at all. memberships: those to go by, loaded with group and provider; without, all of them are read.
    """
    rows = _memberships_of(person_id=person.pk) if memberships is None else _rows(memberships)
    age = settings.DAYPASS_MEMBERSHIP_MAX_AGE
    groups = tuple(
        GroupRef(
            id=group_id,
            provider_id=provider_id,
            key=key,
            name=name or key,
            fresh_until=None if source == Membership.Source.SCIM else confirmed_at + age,
        )
        for group_id, provider_id, key, name, source, confirmed_at in rows
    )
    return Principal(
        person_id=person.pk,
        handle=person.handle,
        name=person.name,
        email=person.email,
        active=person.is_active,
        epoch=person.epoch,
        proof=proof,
        attributes={name: tuple(values) for name, values in person.attributes.items()},
        groups=groups,
        address=address,
        relay=relay,
    )


def _rows(memberships: Iterable[Membership]) -> list[tuple[Any, ...]]:
    """Memberships that were loaded already, as `_memberships_of` reads them."""
    return [
        (
            one.group_id,
            one.group.provider_id,
            one.group.key,
            one.group.name,
            one.source,
            one.confirmed_at,
        )
        for one in memberships
        if one.group.provider.enabled
    ]


def offered_providers() -> QuerySet[IdentityProvider]:
    """The providers on the sign-in page, in the administrator's order."""
    return IdentityProvider.objects.filter(enabled=True).order_by("position", "name")


def find_provider(slug: str, protocol: str = "") -> IdentityProvider | None:
    """A provider by the part of its addresses, switched on or not."""
    found = IdentityProvider.objects.filter(slug=slug)
    if protocol:
        found = found.filter(protocol=protocol)
    return found.first()


def keys_of(provider: IdentityProvider) -> tuple[dict[str, Any], datetime | None]:
    """The keys of an OpenID Connect provider as they are stored now, and when a refresh was last asked for."""
    stored = IdentityProvider.objects.values_list("jwks", "refresh_asked_at").get(pk=provider.pk)
    return stored


def test_of(test_id: UUID, person: Person) -> SignInTest | None:
    """A test sign-in, for the administrator who started it."""
    return (
        SignInTest.objects.select_related("provider")
        .filter(pk=test_id, started_by_id=person.pk)
        .first()
    )


def relayed_token_until(principal: Principal) -> datetime | None:
    """Until when the token that came with this sign-in can be passed on; None when there is none."""
    if not principal.relay:
        return None
    return (
        RelayedToken.objects.filter(
            reference=principal.relay,
            session__person_id=principal.person_id,
            session__provider_id=principal.proof.provider_id,
        )
        .values_list("expires_at", flat=True)
        .first()
    )


def relayed_assertion(principal: Principal) -> tuple[datetime, frozenset[str]] | None:
    """Until when, and for which roles, the AWS application's answer of this session can be passed on."""
    if not principal.relay:
        return None
    row = RelayedAssertion.objects.filter(
        reference=principal.relay,
        session__person_id=principal.person_id,
        session__provider_id=principal.proof.provider_id,
        session__provider__relay_application__enabled=True,
    ).first()
    return None if row is None else (row.expires_at, frozenset(role for role, _ in row.roles))


def find_application(slug: str) -> RelayApplication | None:
    """The AWS application of a provider, when both are switched on."""
    return (
        RelayApplication.objects.select_related("provider")
        .filter(provider__slug=slug, provider__enabled=True, enabled=True)
        .first()
    )
