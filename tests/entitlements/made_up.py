"""Values for the tests of the decision: no database, everything allowed unless a test says otherwise."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from accounts.identity import GroupRef
from broker.entitlements.rules import Ask, DenyFacts, MappingFacts, RoleFacts, Snapshot
from tests import factories

NOW = datetime(2026, 3, 3, 14, 30, tzinfo=UTC)
ROLE_ID = uuid.UUID(int=42)
DEVELOPERS = factories.group_ref(7, "developers", fresh_until=NOW + timedelta(hours=4))
CONSOLE = Ask(ROLE_ID, "console")
KEYS = Ask(ROLE_ID, "keys")


def role(**fields: Any) -> RoleFacts:
    facts: dict[str, Any] = {
        "id": ROLE_ID,
        "arn": "arn:aws:iam::111122223333:role/Developer",
        "name": "Developer",
        "path": "/",
        "account_id": "111122223333",
        "account_name": "Payments production",
        "account_enabled": True,
        "partition": "aws",
        "region": "eu-west-1",
        "environment": "Production",
        "environment_colour": "red",
        "production": True,
        "description": "",
        "trust": "web_identity",
        "console": "federation",
        "external_id": "",
        "saml_provider_name": "Daypass",
        "max_seconds": 43200,
        "sensitive": False,
        "enabled": True,
    }
    return RoleFacts(**(facts | fields))


def mapping(number: int = 1, *, of: GroupRef = DEVELOPERS, **limits: Any) -> MappingFacts:
    facts: dict[str, Any] = {
        "id": uuid.UUID(int=number),
        "group_id": of.id,
        "group_name": of.name,
        "note": "",
        "enabled": True,
        "created_at": NOW - timedelta(days=100) + timedelta(hours=number),
    }
    return MappingFacts(**(facts | limits))


def deny(number: int = 1, **fields: Any) -> DenyFacts:
    facts: dict[str, Any] = {"reason": "Under investigation", "enabled": True, "group_id": None}
    return DenyFacts(id=uuid.UUID(int=900 + number), **(facts | fields))


def snapshot(
    *mappings: MappingFacts, denies: tuple[DenyFacts, ...] = (), **fields: Any
) -> Snapshot:
    return Snapshot(role=role(**fields), mappings=mappings, denies=denies)


def principal(**fields: Any) -> Any:
    """A member of developers who signed in ten minutes ago with one factor."""
    proof = fields.pop("proof", None) or factories.proof(at=NOW - timedelta(minutes=10))
    fields.setdefault("groups", (DEVELOPERS,))
    return factories.principal(signed_in=proof, **fields)
