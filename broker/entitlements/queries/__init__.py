"""Reading rights: the snapshot that the decision looks at, the list of a person's roles, and who gets what and why.

Every read starts at the person's own memberships (or at the one role), so that its cost follows them and not the
number of all mappings. Nothing here decides: rows go to `decide()`, and its answer is what comes back.
"""

from __future__ import annotations

from broker.entitlements.queries.decided import RoleRow
from broker.entitlements.queries.naming import find_role, role_named
from broker.entitlements.queries.own import Opening, RolePage, find_roles, roles_that_open, rows_of
from broker.entitlements.queries.pages import Page, Slice
from broker.entitlements.queries.programs import (
    AccountBrief,
    accounts_with_keys,
    every_role_with_keys,
    roles_with_keys,
)
from broker.entitlements.queries.relayed import application_of, asserted_roles, relays_from
from broker.entitlements.queries.search import fold, words_of
from broker.entitlements.queries.snapshot import load_snapshot
from broker.entitlements.queries.space import TagSpace, tag_space
from broker.entitlements.queries.why import (
    Audience,
    PersonBrief,
    PersonRight,
    Right,
    RoleReach,
    explain_person,
    explain_role,
    who_would_get,
)

__all__ = [
    "AccountBrief",
    "Audience",
    "Opening",
    "Page",
    "PersonBrief",
    "PersonRight",
    "Right",
    "RolePage",
    "RoleReach",
    "RoleRow",
    "Slice",
    "TagSpace",
    "accounts_with_keys",
    "application_of",
    "asserted_roles",
    "every_role_with_keys",
    "explain_person",
    "explain_role",
    "find_role",
    "find_roles",
    "fold",
    "load_snapshot",
    "relays_from",
    "role_named",
    "roles_that_open",
    "roles_with_keys",
    "rows_of",
    "tag_space",
    "who_would_get",
    "words_of",
]
