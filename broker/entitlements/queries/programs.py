"""The roles of a person as programs list them: those of which keys can be had, account by account."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import F, Q, QuerySet, Subquery

from accounts.identity import Principal
from broker.entitlements.models import AwsAccount, AwsRole, Mapping, MappingRole
from broker.entitlements.queries.decided import decided_rows
from broker.entitlements.queries.facts import ASSERTED, ROLE
from broker.entitlements.queries.held import given_by, has_nothing, held_groups, live_links
from broker.entitlements.queries.pages import Slice
from broker.entitlements.queries.relayed import asserted_roles
from broker.entitlements.queries.search import Among
from broker.entitlements.rules import Door, RoleFacts
from broker.errors import BadInput

_NAME = ROLE.index("name")


@dataclass(frozen=True, slots=True)
class AccountBrief:
    """An AWS account as a list names it."""

    account_id: str
    name: str


def accounts_with_keys(
    principal: Principal,
    *,
    door: Door,
    only: UUID | None = None,
    after: tuple[str, ...] = (),
    most: int,
    now: datetime,
) -> Slice[AccountBrief]:
    """The accounts in which keys can be had, now or under some condition, by name.

    only: the one role that whoever asks may ask for. after: what a `Slice` said, else from the beginning. One query,
    two where the provider's AWS application names roles. Raises BadInput for an `after` that no slice said.
    """
    if has_nothing(principal):
        return Slice(())
    asserted = [row.role.id for row in asserted_roles(principal, now=now)]
    roles = _with_keys(_links_with_keys(principal, now), asserted, door, only)
    accounts = AwsAccount.objects.filter(
        Among(F("id"), Subquery(roles.order_by().values("account_id"))), enabled=True
    )
    if after:
        name, account_id = _known(after, 2)
        accounts = accounts.filter(Q(name__gt=name) | Q(name=name, account_id__gt=account_id))
    rows = list(
        accounts.order_by("name", "account_id").values_list("account_id", "name")[: most + 1]
    )
    briefs = tuple(AccountBrief(*row) for row in rows[:most])
    return Slice(briefs, (briefs[-1].name, briefs[-1].account_id) if len(rows) > most else ())


def roles_with_keys(
    principal: Principal,
    account_id: str,
    *,
    door: Door,
    only: UUID | None = None,
    after: tuple[str, ...] = (),
    most: int,
    now: datetime,
) -> Slice[RoleFacts]:
    """The person's roles in one account of which keys can be had, now or under some condition, by name.

    only, after: as in `accounts_with_keys`. Three queries, and those of asserted roles. What decide() would not tell
    the person of is left out, so that fewer than `most` may come.
    """
    if has_nothing(principal):
        return Slice(())
    named = {
        row.role.id: row.role
        for row in asserted_roles(principal, now=now)
        if row.role.account_id == account_id
    }
    links = live_links(principal, now).filter(
        role__account__account_id=account_id, mapping__allow_keys=True
    )
    roles = _with_keys(links, named, door, only).filter(
        account__account_id=account_id, account__enabled=True
    )
    if after:
        roles = roles.filter(name__gt=_known(after, 1)[0])
    rows = list(roles.order_by("name").values_list(*ROLE, "account_id")[: most + 1])
    mapped = decided_rows(principal, [row for row in rows[:most] if row[0] not in named], now, door)
    told = {row.role.id: row.role for row in mapped} | named
    return Slice(
        tuple(told[row[0]] for row in rows[:most] if row[0] in told),
        (rows[most - 1][_NAME],) if len(rows) > most else (),
    )


def every_role_with_keys(
    principal: Principal, *, only: UUID | None = None, most: int | None = None, now: datetime
) -> tuple[tuple[RoleFacts, str], ...]:
    """What `accounts_with_keys` and `roles_with_keys` list for a client let in by a browser, with each account's alias.

    most: only so many, the first by account and name. Three queries, and those of asserted roles.
    """
    if has_nothing(principal):
        return ()
    named = {row.role.id: row.role for row in asserted_roles(principal, now=now)}
    rows = list(
        _with_keys(_links_with_keys(principal, now), named, "terminal", only)
        .filter(account__enabled=True)
        .order_by("account__name", "account__account_id", "name")
        .values_list(*ROLE, "account_id", "account__alias")[:most]
    )
    mapped = decided_rows(
        principal, [row[:-1] for row in rows if row[0] not in named], now, "terminal"
    )
    told = {row.role.id: row.role for row in mapped} | named
    return tuple((told[row[0]], row[-1]) for row in rows if row[0] in told)


def _known(after: tuple[str, ...], length: int) -> tuple[str, ...]:
    if len(after) != length or any("\x00" in text for text in after):
        raise BadInput("This is no place in the list.", code="bad_place")
    return after


def _links_with_keys(principal: Principal, now: datetime) -> QuerySet[MappingRole]:
    """What gives the person a live right to keys."""
    # Not joined: PostgreSQL would rather read all mappings of the company.
    with_keys = Mapping.objects.filter(allow_keys=True, group_id__in=held_groups(principal))
    return live_links(principal, now).filter(
        Among(F("mapping_id"), Subquery(with_keys.order_by().values("id")))
    )


def _with_keys(
    links: QuerySet[MappingRole], asserted: Collection[UUID], door: Door, only: UUID | None
) -> QuerySet[AwsRole]:
    """The roles that one of these links gives at this door, and the asserted ones."""
    by_links = Q(given_by(links)) & ~Q(trust=ASSERTED)
    by_word = Q(id__in=list(asserted))
    roles = AwsRole.objects.filter(by_links | by_word if asserted else by_links, enabled=True)
    if door == "device_code":
        roles = roles.filter(sensitive=False)
    return roles if only is None else roles.filter(id=only)
