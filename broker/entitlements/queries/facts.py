"""From rows to what the decision looks at: which columns are read, in which order, and what they become."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as MappingOf
from functools import cache
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from broker.entitlements.models import AwsRole, Deny, Mapping, MappingRole
from broker.entitlements.rules import DenyFacts, MappingFacts, RoleFacts
from broker.prepared import Prepared

RELAYED = AwsRole.Trust.RELAYED_TOKEN.value
ASSERTED = AwsRole.Trust.RELAYED_ASSERTION.value

# The columns of a role in the order of RoleFacts, and of a mapping in the order of MappingFacts.
ROLE = (
    "id", "arn", "name", "path", "account__account_id", "account__name", "account__enabled",
    "account__partition", "account__region", "account__environment__name",
    "account__environment__colour", "account__environment__production", "description", "trust",
    "console", "external_id", "account__saml_provider_name", "max_seconds", "sensitive", "enabled",
    "relay_provider_id", "session_name", "account__external_id", "account__second_region",
)  # fmt: skip
_MAPPING = (
    "id", "group_id", "group__name", "group__key", "note", "enabled", "max_seconds",
    "allow_console", "allow_keys", "require_mfa", "max_sign_in_age", "networks", "valid_from",
    "valid_until", "session_policy", "policy_arns", "session_tags", "transitive_tag_keys", "created_at",
)  # fmt: skip
_ROLE_OF_LINK = tuple(f"role__{column}" for column in ROLE)
_MAPPING_OF_LINK = tuple(f"mapping__{column}" for column in _MAPPING)
_DENY = ("id", "reason", "enabled", "group_id", "valid_until", "person_id", "role_id", "account_id")


def role_facts(row: Sequence[Any]) -> RoleFacts:
    """A row of the columns of ROLE."""
    (
        id, arn, name, path, account_id, account_name, account_enabled, partition, region,
        environment, environment_colour, production, description, trust, console, external_id,
        saml_provider_name, max_seconds, sensitive, enabled, relay_provider_id,
        session_name, account_external_id, second_region,
    ) = row  # fmt: skip
    return RoleFacts(
        id=id,
        arn=arn,
        name=name,
        path=path,
        account_id=account_id,
        account_name=account_name,
        account_enabled=account_enabled,
        partition=partition,
        region=region,
        environment=environment or "",
        environment_colour=environment_colour or "",
        production=bool(production),
        description=description,
        trust=trust,
        console=console,
        external_id=external_id or account_external_id,
        saml_provider_name=saml_provider_name,
        max_seconds=max_seconds,
        sensitive=sensitive,
        enabled=enabled,
        relay_provider_id=relay_provider_id,
        session_name=session_name,
        second_region=second_region,
    )


def mapping_facts(row: Sequence[Any]) -> MappingFacts:
    """A row of `link_rows` behind its first column, or of `link_rows_with_roles` between role and account."""
    (
        id, group_id, group_name, group_key, note, enabled, max_seconds, allow_console, allow_keys,
        require_mfa, max_sign_in_age, networks, valid_from, valid_until, session_policy,
        policy_arns, session_tags, transitive_tag_keys, created_at,
    ) = row  # fmt: skip
    return MappingFacts(
        id=id,
        group_id=group_id,
        group_name=group_name or group_key,
        note=note,
        enabled=enabled,
        max_seconds=max_seconds,
        allow_console=allow_console,
        allow_keys=allow_keys,
        require_mfa=require_mfa,
        max_sign_in_age=max_sign_in_age,
        networks=tuple(networks),
        valid_from=valid_from,
        valid_until=valid_until,
        session_policy=session_policy,
        policy_arns=tuple(policy_arns),
        session_tags=session_tags,
        transitive_tag_keys=tuple(transitive_tag_keys),
        created_at=created_at,
    )


def deny_facts(row: Sequence[Any]) -> DenyFacts:
    """A row of `deny_rows`."""
    id, reason, enabled, group_id, valid_until = row[:5]
    return DenyFacts(
        id=id, reason=reason, enabled=enabled, group_id=group_id, valid_until=valid_until
    )


# Naming forty columns costs more than asking for them, so each shape of query is built once and then narrowed.


@cache
def link_rows_with_roles() -> QuerySet[MappingRole, tuple[Any, ...]]:
    """Which mapping gives which role: the columns of ROLE, those of the mapping, the account's primary key."""
    columns = (*_ROLE_OF_LINK, *_MAPPING_OF_LINK, "role__account_id")
    return MappingRole.objects.order_by().values_list(*columns)


@cache
def link_rows() -> QuerySet[MappingRole, tuple[Any, ...]]:
    """Which mapping gives which role: the role's id, the columns of the mapping."""
    return MappingRole.objects.order_by().values_list("role_id", *_MAPPING_OF_LINK)


@cache
def _pairs() -> QuerySet[MappingRole, tuple[Any, ...]]:
    return MappingRole.objects.order_by().values_list("role_id", "mapping_id")


@cache
def _mappings() -> QuerySet[Mapping, tuple[Any, ...]]:
    return Mapping.objects.order_by().values_list(*_MAPPING)


@cache
def role_rows() -> QuerySet[AwsRole, tuple[Any, ...]]:
    """The columns of ROLE and the account's primary key."""
    return AwsRole.objects.order_by().values_list(*ROLE, "account_id")


@cache
def deny_rows() -> QuerySet[Deny, tuple[Any, ...]]:
    """Denies, as `matching` and `deny_facts` take them."""
    return Deny.objects.order_by().values_list(*_DENY)


MANY = 200
"""Roles from which on their mappings are read once each, by a query more: a mapping may be for thousands of them."""


def mappings_of(
    person_id: UUID, role_ids: Sequence[UUID]
) -> MappingOf[UUID, Sequence[MappingFacts]]:
    """The mappings, in whatever state, by which the person has anything to do with these roles, by role."""
    found: dict[UUID, list[MappingFacts]] = defaultdict(list)
    concerned = {"role_id__in": role_ids, "group__memberships__person_id": person_id}
    if len(role_ids) < MANY:
        for link in link_rows().filter(**concerned):
            found[link[0]].append(mapping_facts(link[1:]))
        return found
    pairs = list(_pairs().filter(**concerned))
    of = _mappings().filter(id__in={mapping_id for _, mapping_id in pairs})
    facts = {row[0]: mapping_facts(row) for row in of}
    for role_id, mapping_id in pairs:
        # One that is not there was deleted between the two queries, and its links with it.
        if mapping_id in facts:
            found[role_id].append(facts[mapping_id])
    return found


_all_denies_of = Prepared(
    lambda person_id: (
        deny_rows()
        .filter(person_id=person_id)
        .union(deny_rows().filter(group__memberships__person_id=person_id), all=True)
    )
)


def denies_of(person_id: UUID) -> list[tuple[Any, ...]]:
    """Every deny that names the person or one of their groups, in one query, whatever state it is in.

    Groups of a disabled provider count here: a doubt is never to the person's favour.
    """
    return _all_denies_of(person_id=person_id)


def matching(
    denies: Iterable[tuple[Any, ...]], role_id: UUID, account: int
) -> tuple[DenyFacts, ...]:
    """Those that name this role, this account (by primary key), or everything."""
    return tuple(
        deny_facts(row)
        for row in denies
        if (row[6] is None or row[6] == role_id) and (row[7] is None or row[7] == account)
    )
