"""Reading rights: the snapshot that the decision looks at, the list of a person's roles, and who gets what and why.

Every read starts at the person's own memberships (or at the one role), so that its cost follows them and not the
number of all mappings. Nothing here decides: rows go to `decide()`, and its answer is what comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from accounts.identity import Principal
from broker.entitlements.models import AwsRole, Deny, MappingRole
from broker.entitlements.rules import (
    DenyFacts,
    MappingFacts,
    RoleFacts,
    Snapshot,
)

MOST_WORDS = 8
MOST_CHARACTERS = 200
"""How much of a search is looked at; more says nothing more about a role."""

# The columns of a role in the order of RoleFacts, and of a mapping in the order of MappingFacts.
_ROLE = (
    "id", "arn", "name", "path", "account__account_id", "account__name", "account__enabled",
    "account__partition", "account__region", "account__environment__name",
    "account__environment__colour", "account__environment__production", "description", "trust",
    "console", "external_id", "account__saml_provider_name", "max_seconds", "sensitive", "enabled",
)  # fmt: skip
_MAPPING = (
    "id", "group_id", "group__name", "group__key", "note", "enabled", "max_seconds",
    "allow_console", "allow_keys", "require_mfa", "max_sign_in_age", "networks", "valid_from",
    "valid_until", "session_policy", "policy_arns", "session_tags", "created_at",
)  # fmt: skip
_ROLE_OF_LINK = tuple(f"role__{column}" for column in _ROLE)
_MAPPING_OF_LINK = tuple(f"mapping__{column}" for column in _MAPPING)
_DENY = ("id", "reason", "enabled", "group_id", "valid_until", "person_id", "role_id", "account_id")


def _role_facts(row: Sequence[Any]) -> RoleFacts:
    environment, colour, production = row[9:12]
    return RoleFacts(*row[:9], environment or "", colour or "", bool(production), *row[12:])


def _mapping_facts(row: Sequence[Any]) -> MappingFacts:
    (
        id, group_id, group_name, group_key, note, enabled, max_seconds, allow_console, allow_keys,
        require_mfa, max_sign_in_age, networks, valid_from, valid_until, session_policy,
        policy_arns, session_tags, created_at,
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
        created_at=created_at,
    )


def _deny_facts(row: Sequence[Any]) -> DenyFacts:
    id, reason, enabled, group_id, valid_until = row[:5]
    return DenyFacts(
        id=id, reason=reason, enabled=enabled, group_id=group_id, valid_until=valid_until
    )


def load_snapshot(principal: Principal, role_id: UUID) -> Snapshot | None:
    """Everything about this person and this role that the decision looks at; None: there is no such role.

    Two indexed queries for anybody whom a mapping gives the role, three for others.
    """
    links = MappingRole.objects.filter(
        role_id=role_id, mapping__group__memberships__person_id=principal.person_id
    )
    rows = list(links.order_by().values_list(*_ROLE_OF_LINK, *_MAPPING_OF_LINK, "role__account_id"))
    if rows:
        role, account = _role_facts(rows[0][: len(_ROLE)]), rows[0][-1]
    else:
        found = AwsRole.objects.filter(pk=role_id).order_by().values_list(*_ROLE, "account_id")
        row = found.first()
        if row is None:
            return None
        role, account = _role_facts(row[:-1]), row[-1]
    return Snapshot(
        role=role,
        mappings=tuple(_mapping_facts(row[len(_ROLE) : -1]) for row in rows),
        denies=_matching(_denies_of(principal.person_id), role_id, account),
    )


def _denies_of(person_id: UUID) -> list[tuple[Any, ...]]:
    """Every deny that names the person or one of their groups, in one query, whatever state it is in.

    Groups of a disabled provider count here: a doubt is never to the person's favour.
    """
    of_person = Deny.objects.filter(person_id=person_id).order_by().values_list(*_DENY)
    of_groups = (
        Deny.objects.filter(group__memberships__person_id=person_id).order_by().values_list(*_DENY)
    )
    return list(of_person.union(of_groups, all=True))


def _matching(
    denies: Iterable[tuple[Any, ...]], role_id: UUID, account: int
) -> tuple[DenyFacts, ...]:
    """Those that name this role, this account (by primary key), or everything."""
    return tuple(
        _deny_facts(row)
        for row in denies
        if (row[6] is None or row[6] == role_id) and (row[7] is None or row[7] == account)
    )
