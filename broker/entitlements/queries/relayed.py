"""Roles that are given on the word of the company's own identity provider, passed on to AWS (docs/relay.md)."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from accounts.identity import Principal
from accounts.queries import relayed_assertion
from broker.entitlements.models import AwsRole
from broker.entitlements.queries.decided import RoleRow, decided_row, told
from broker.entitlements.queries.facts import (
    ASSERTED,
    RELAYED,
    denies_of,
    matching,
    role_facts,
    role_rows,
)
from broker.entitlements.rules import Snapshot

MOST_ASSERTED = 400
"""Roles of one assertion that are shown in a list; each of them opens by its own address."""


def asserted_roles(principal: Principal, *, now: datetime) -> tuple[RoleRow, ...]:
    """The roles that the company's own AWS application lists for the person just now, by account and name."""
    live = relayed_assertion(principal)
    if live is None or live[0] <= now:
        return ()
    rows = (
        role_rows()
        .filter(
            arn__in=sorted(live[1])[:MOST_ASSERTED],
            trust=ASSERTED,
            relay_provider_id=principal.proof.provider_id,
            enabled=True,
            account__enabled=True,
        )
        .order_by("account__name", "account__account_id", "name")
    )
    denies = denies_of(principal.person_id)
    return told(
        decided_row(
            principal,
            Snapshot(
                role=role_facts(row[:-1]),
                mappings=(),
                denies=matching(denies, row[0], row[-1]),
                relayed_until=live[0],
                asserted=True,
            ),
            now,
        )
        for row in rows
    )


def application_of(principal: Principal) -> str:
    """The part of its addresses of the provider whose AWS application gives roles that are in use; "" for none."""
    if principal.proof.provider_id is None:
        return ""
    found = AwsRole.objects.filter(
        trust=ASSERTED,
        relay_provider_id=principal.proof.provider_id,
        relay_provider__relay_application__enabled=True,
        enabled=True,
        account__enabled=True,
    )
    return found.order_by().values_list("relay_provider__slug", flat=True).first() or ""


def relays_from(provider_id: UUID) -> bool:
    """Whether a role that is in use takes the tokens of this provider's sign-ins."""
    return AwsRole.objects.filter(
        trust=RELAYED, relay_provider_id=provider_id, enabled=True, account__enabled=True
    ).exists()
