"""The roles of a person as they see them: the list, the search in it, and what a pasted address leads to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast

from accounts.identity import Principal
from broker.entitlements.models import AwsRole
from broker.entitlements.places import Place, read_place
from broker.entitlements.queries.decided import RoleRow, decided_rows
from broker.entitlements.queries.facts import ROLE, role_rows
from broker.entitlements.queries.held import live_roles
from broker.entitlements.queries.naming import account_named
from broker.entitlements.queries.pages import Page, clamp
from broker.entitlements.queries.search import roles_with_words
from broker.entitlements.rules import Door


@dataclass(frozen=True, slots=True)
class RolePage(Page[RoleRow]):
    """A page of a person's roles. accounts_total: the accounts that the roles of all pages are in."""

    accounts_total: int = 0


def find_roles(
    principal: Principal,
    text: str = "",
    *,
    page: int = 1,
    page_size: int = 50,
    now: datetime,
    door: Door = "browser",
) -> RolePage:
    """The roles that the person has a live right to, usable now or not, by account and name; searched by `text`.

    Every word of the text has to stand somewhere in the account's name, id, alias or environment or in the role's
    name or description, whatever its case. A page past the end is the last one. Four queries; five for a long page.
    """
    return _page_of_roles(
        principal, roles_with_words(live_roles(principal, now), text), page, page_size, now, door
    )


def rows_of(
    principal: Principal, role_ids: Iterable[UUID], *, now: datetime, door: Door = "browser"
) -> tuple[RoleRow, ...]:
    """The same rows for roles that are known by id (favourites, recent ones), in that order; others are left out."""
    wanted = list(dict.fromkeys(role_ids))
    found = live_roles(principal, now).filter(id__in=wanted)
    rows = decided_rows(principal, list(found.values_list(*ROLE, "account_id")), now, door)
    by_id = {row.role.id: row for row in rows}
    return tuple(by_id[role_id] for role_id in wanted if role_id in by_id)


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a pasted address leads, and the person's roles that can open it."""

    place: Place
    roles: RolePage


def roles_that_open(
    principal: Principal, text: str, *, now: datetime, page: int = 1, page_size: int = 50
) -> Opening | None:
    """The person's roles in the account of a pasted ARN or console address; None: the text is no such thing.

    An address that does not say its account leads to all roles of its partition.
    """
    place = read_place(text)
    if place is None:
        return None
    roles = live_roles(principal, now).filter(account__partition=place.partition)
    if place.account:
        roles = roles.filter(account_named(place.account))
    if place.role:
        roles = roles.filter(name=place.role)
    return Opening(place, _page_of_roles(principal, roles, page, page_size, now))


def _page_of_roles(
    principal: Principal,
    roles: QuerySet[AwsRole],
    page: int,
    page_size: int,
    now: datetime,
    door: Door = "browser",
) -> RolePage:
    """Walks the keys of all that match once, for counting and for finding the page; then loads the page alone.

    Counting in one query and paging in another would do the searching and the sorting twice.
    """
    keys = list(roles.values_list(Cast("id", TextField()), "account_id"))
    page, pages = clamp(page, page_size, len(keys))
    first = (page - 1) * page_size
    wanted = [UUID(key) for key, _ in keys[first : first + page_size]]
    place = {role_id: number for number, role_id in enumerate(wanted)}
    rows = sorted(role_rows().filter(id__in=wanted), key=lambda row: place[row[0]])
    accounts = len({account for _, account in keys})
    return RolePage(decided_rows(principal, rows, now, door), len(keys), page, pages, accounts)
