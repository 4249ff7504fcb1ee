"""The decision: principal + ask + snapshot + now -> Allowed or Refused, each with every reason. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

HandOver = Literal["console", "keys"]


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for: one role, one way of handing over, and for how long (None: as long as allowed)."""

    role_id: UUID
    hand_over: HandOver
    seconds: int | None = None


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """A role and its account, as the decision and everything after it see them."""

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
    """Everything the decision looks at, loaded in one go: only what concerns this person and this role."""

    role: RoleFacts
    mappings: tuple[MappingFacts, ...]
    denies: tuple[DenyFacts, ...]


class NextStep(StrEnum):
    """What a refused person can do."""

    SIGN_IN_AGAIN = "sign_in_again"
    USE_MFA = "use_mfa"
    USE_ALLOWED_NETWORK = "use_allowed_network"
    USE_OTHER_HAND_OVER = "use_other_hand_over"
    ASK_FOR_LESS = "ask_for_less"
    WAIT = "wait"
    ASK_ADMINISTRATOR = "ask_administrator"


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that was looked at. `counts`: whether it spoke for (True) or against (False) the person.

    code: stable, lower_snake_case. sentence: plain words. rule_id: the mapping or deny, "" when it was neither.
    """

    code: str
    sentence: str
    counts: bool
    rule_id: str = ""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Yes: by this mapping, for at most `seconds`, narrowed by these policies and tags. The only way into assume."""

    role: RoleFacts
    hand_over: HandOver
    mapping_id: UUID
    seconds: int
    longest_seconds: int
    session_policy: str
    policy_arns: tuple[str, ...]
    session_tags: Mapping[str, str]
    ends_by: datetime | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """No: the rule that decided (code, sentence), what to do next, and every other reason.

    visible: False when the person has no live right to the role at all, so that its existence is not told.
    """

    code: str
    sentence: str
    next_step: NextStep
    visible: bool
    reasons: tuple[Reason, ...]
    wait_until: datetime | None = None


Decision = Allowed | Refused
