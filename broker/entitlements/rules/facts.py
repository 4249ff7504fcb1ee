"""What is asked, and what the decision looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

HandOver = Literal["console", "keys"]

Door = Literal["browser", "terminal", "device_code"]
"""Who asks: a browser, a client that was let in from a browser, or one that was let in by a device code."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for: one role, one way of handing over, and for how long (None: as long as allowed).

    door: through which it came. What came by a device code gets no sensitive role (threats.md R20).
    terminal: which client asks, of those that the person let in; for the record alone, it decides nothing.
    """

    role_id: UUID
    hand_over: HandOver
    seconds: int | None = None
    door: Door = "browser"
    terminal: UUID | None = None


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """A role and its account, as the decision and everything after it see them.

    external_id: the role's own, or else its account's. session_name: the template, "" for the usual one.
    """

    id: UUID
    arn: str
    name: str
    path: str
    account_id: str
    account_name: str
    account_enabled: bool
    partition: str
    region: str
    environment: str
    environment_colour: str
    production: bool
    description: str
    trust: str
    console: str
    external_id: str
    saml_provider_name: str
    max_seconds: int
    sensitive: bool
    enabled: bool
    relay_provider_id: UUID | None = None
    """Relayed trust: whose token the role takes."""
    session_name: str = ""
    second_region: str = ""


@dataclass(frozen=True, slots=True)
class MappingFacts:
    """One mapping that links one of the person's groups with the role. None and empty: no limit of its own."""

    id: UUID
    group_id: int
    group_name: str
    note: str
    enabled: bool
    max_seconds: int | None = None
    allow_console: bool = True
    allow_keys: bool = True
    require_mfa: bool = False
    max_sign_in_age: int | None = None
    networks: tuple[str, ...] = ()
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    session_policy: str = ""
    policy_arns: tuple[str, ...] = ()
    session_tags: Mapping[str, str] = field(default_factory=dict)
    transitive_tag_keys: tuple[str, ...] = ()
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DenyFacts:
    """One deny that names the person or one of their groups, and the role, its account, or everything."""

    id: UUID
    reason: str
    enabled: bool
    group_id: int | None = None
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the decision looks at, loaded in one go: only what concerns this person and this role.

    relayed_until: for a role with relayed trust, until when this session's own token or assertion can be passed on;
    None: it cannot. asserted: for a relayed assertion, whether it lists the role.
    """

    role: RoleFacts
    mappings: tuple[MappingFacts, ...]
    denies: tuple[DenyFacts, ...]
    relayed_until: datetime | None = None
    asserted: bool = False
