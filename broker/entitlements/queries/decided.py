"""Roles of a list with what decide() says to each of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from accounts.identity import Principal
from accounts.queries import relayed_token_until
from broker.entitlements.queries.facts import RELAYED, denies_of, mappings_of, matching, role_facts
from broker.entitlements.rules import Allowed, Ask, Decision, Door, RoleFacts, Snapshot, decide


@dataclass(frozen=True, slots=True)
class RoleRow:
    """A role as its list shows it: the role, and what decide() says to the console and to keys."""

    role: RoleFacts
    console: Decision
    keys: Decision


def decided_rows(
    principal: Principal, rows: Sequence[tuple[Any, ...]], now: datetime, door: Door = "browser"
) -> tuple[RoleRow, ...]:
    """decide() for the roles of one page. Each row: the columns of ROLE and the account's primary key.

    The decision has the last word on what may be told, should it ever disagree with what the list was read from.
    """
    if not rows:
        return ()
    mappings = mappings_of(principal.person_id, [row[0] for row in rows])
    denies = denies_of(principal.person_id)
    relayed_until = relayed_token_until(principal) if any(RELAYED in row for row in rows) else None
    return told(
        decided_row(
            principal,
            Snapshot(
                role=role_facts(row[:-1]),
                mappings=tuple(mappings.get(row[0], ())),
                denies=matching(denies, row[0], row[-1]),
                relayed_until=relayed_until,
            ),
            now,
            door,
        )
        for row in rows
    )


def told(decided: Iterable[RoleRow]) -> tuple[RoleRow, ...]:
    """Those whose existence the decision lets the person know of."""
    return tuple(row for row in decided if isinstance(row.console, Allowed) or row.console.visible)


def decided_row(
    principal: Principal, snapshot: Snapshot, now: datetime, door: Door = "browser"
) -> RoleRow:
    """What decide() says of one role, to the console and to keys."""
    role_id = snapshot.role.id
    return RoleRow(
        role=snapshot.role,
        console=decide(principal, Ask(role_id, "console", door=door), snapshot, now),
        keys=decide(principal, Ask(role_id, "keys", door=door), snapshot, now),
    )
