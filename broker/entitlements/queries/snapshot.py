"""The snapshot that one decision looks at. With every issue of credentials it is read anew."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from accounts.identity import Principal
from accounts.queries import relayed_assertion, relayed_token_until
from broker.entitlements.queries.facts import (
    ROLE,
    denies_of,
    link_rows_with_roles,
    mapping_facts,
    matching,
    role_facts,
    role_rows,
)
from broker.entitlements.rules import RoleFacts, Snapshot
from broker.prepared import Prepared

# With every issue of credentials this runs, so its SQL is built once.
_links_of = Prepared(
    lambda person_id, role_id: link_rows_with_roles().filter(
        role_id=role_id, group__memberships__person_id=person_id
    )
)


def load_snapshot(principal: Principal, role_id: UUID) -> Snapshot | None:
    """Everything about this person and this role that the decision looks at; None: there is no such role.

    Two indexed queries for anybody whom a mapping gives the role, three for others; one more for a relayed role.
    """
    rows = _links_of(person_id=principal.person_id, role_id=role_id)
    if rows:
        role, account = role_facts(rows[0][: len(ROLE)]), rows[0][-1]
    else:
        row = role_rows().filter(pk=role_id).first()
        if row is None:
            return None
        role, account = role_facts(row[:-1]), row[-1]
    return Snapshot(
        role=role,
        mappings=tuple(mapping_facts(row[len(ROLE) : -1]) for row in rows),
        denies=matching(denies_of(principal.person_id), role_id, account),
        **_relayed(principal, role),
    )


def _relayed(principal: Principal, role: RoleFacts) -> dict[str, Any]:
    """The part of a snapshot that says what this browser session has to pass on."""
    match role.trust:
        case "relayed_token":
            return {"relayed_until": relayed_token_until(principal)}
        case "relayed_assertion":
            until, listed = relayed_assertion(principal) or (None, frozenset())
            return {"relayed_until": until, "asserted": role.arn in listed}
        case _:
            return {}
