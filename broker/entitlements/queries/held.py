"""What gives a person a right that is alive, in SQL: what `Refused.visible` means. Read from their memberships on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from accounts.identity import Principal
from accounts.models import DirectoryGroup, Membership
from broker.entitlements.models import AwsRole, MappingRole
from broker.entitlements.queries.search import Among


def live_roles(principal: Principal, now: datetime) -> QuerySet[AwsRole]:
    """What `Refused.visible` means, in SQL, starting at the person's memberships; in the order of the list."""
    if has_nothing(principal):
        return AwsRole.objects.none()
    return AwsRole.objects.filter(
        given_by(live_links(principal, now)), enabled=True, account__enabled=True
    ).order_by("account__name", "account__account_id", "name")


def has_nothing(principal: Principal) -> bool:
    """Who is switched off has no right, and nor has the break-glass account, which no provider vouches for."""
    return not principal.active or principal.proof.provider_id is None


def live_links(principal: Principal, now: datetime) -> QuerySet[MappingRole]:
    """What gives the person any live right."""
    return MappingRole.objects.filter(
        Q(valid_until__isnull=True) | Q(valid_until__gt=now),
        enabled=True,
        group_id__in=held_groups(principal),
    )


def held_groups(principal: Principal) -> QuerySet[Membership, Any]:
    """The groups of the person that count with this sign-in."""
    # A question about each of the person's groups, not a join: without statistics, SQLite would start a join at all
    # groups of the provider.
    counts = DirectoryGroup.objects.filter(
        pk=OuterRef("group_id"), provider_id=principal.proof.provider_id, provider__enabled=True
    )
    held = Membership.objects.filter(Exists(counts), person_id=principal.person_id)
    return held.order_by().values("group_id")


def given_by(links: QuerySet[MappingRole]) -> Among:
    """Of a role: that one of these links gives it."""
    return Among(F("id"), Subquery(links.order_by().values("role_id")))
