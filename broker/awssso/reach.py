"""What a client that is let in would get: the person's roles, as the decision sees them through the client's door."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from uuid import UUID

from accounts.identity import Principal
from broker.entitlements import queries
from broker.entitlements.queries import RoleRow
from broker.entitlements.rules import Allowed, Door, NextStep, Refused, RoleFacts

PAGE = 2000
FIRST = 6
"""Accounts that stand open on the page; the others are folded under them."""

LATER = (NextStep.USE_ALLOWED_NETWORK, NextStep.WAIT, NextStep.ASK_PROVIDER)
"""What changes without a new sign-in: a client keeps the one by which it was let in."""


@dataclass(frozen=True, slots=True)
class AccountReach:
    """One account with the names of the roles in it."""

    id: str
    name: str
    environment: str
    colour: str
    production: bool
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reach:
    """Roles that a client gets keys for, by account. kept_back: sensitive roles that this door does not give.

    later: roles that are refused just now and may be given to the same client at another time or place.
    """

    roles: int
    accounts: tuple[AccountReach, ...]
    kept_back: tuple[RoleFacts, ...]
    later: int

    @property
    def first(self) -> tuple[AccountReach, ...]:
        return self.accounts[:FIRST]

    @property
    def rest(self) -> tuple[AccountReach, ...]:
        return self.accounts[FIRST:]


def reach_of(principal: Principal, door: Door, now: datetime) -> Reach:
    """Every role that a client let in through this door would get keys for, just now."""
    given: list[RoleFacts] = []
    kept_back: list[RoleFacts] = []
    later = 0
    for row in _every_role(principal, now):
        if isinstance(row.keys, Refused):
            later += row.keys.next_step in LATER
        elif door == "device_code" and row.role.sensitive:
            kept_back.append(row.role)
        else:
            given.append(row.role)
    return Reach(
        roles=len(given),
        accounts=tuple(
            AccountReach(
                id=roles[0].account_id,
                name=roles[0].account_name,
                environment=roles[0].environment,
                colour=roles[0].environment_colour,
                production=roles[0].production,
                roles=tuple(role.name for role in roles),
            )
            for _, of in groupby(given, key=lambda role: role.account_id)
            if (roles := list(of))
        ),
        kept_back=tuple(kept_back),
        later=later,
    )


def roles_with_keys(
    principal: Principal, now: datetime, *, at_most: int = PAGE, only: UUID | None = None
) -> tuple[RoleFacts, ...]:
    """The person's roles that give keys just now, by account and name; or that one alone."""
    rows = (
        queries.rows_of(principal, [only], now=now)
        if only
        else queries.find_roles(principal, page_size=at_most, now=now).rows
    )
    return tuple(row.role for row in rows if isinstance(row.keys, Allowed))


def _every_role(principal: Principal, now: datetime) -> list[RoleRow]:
    rows: list[RoleRow] = [*queries.asserted_roles(principal, now=now)]
    page = pages = 1
    while page <= pages:
        found = queries.find_roles(principal, page=page, page_size=PAGE, now=now)
        rows.extend(found)
        pages, page = found.pages, page + 1
    return sorted(rows, key=lambda row: (row.role.account_name, row.role.account_id, row.role.name))
