"""What comes of it: yes or no, each with every reason, by codes that stay what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from broker.entitlements.rules.facts import HandOver, RoleFacts


class NextStep(StrEnum):
    """What a refused person can do."""

    SIGN_IN_AGAIN = "sign_in_again"
    ASK_PROVIDER = "ask_provider"
    USE_MFA = "use_mfa"
    USE_ALLOWED_NETWORK = "use_allowed_network"
    USE_OTHER_HAND_OVER = "use_other_hand_over"
    USE_OTHER_DOOR = "use_other_door"
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
    """Yes: by this mapping, for `seconds`, narrowed by these policies and tags. The only way into assume.

    mapping_id None: no mapping of ours, but the live assertion of the company's own AWS application gives the role.

    seconds: what may be issued now. longest_seconds: the most that another ask could get, maybe by another mapping;
    for offering choices, never for issuing. ends_by: when the mapping itself ends; no session may outlive it.
    A role that Daypass assumes with a role of its own (chaining) gets one hour at most: that is in both.
    """

    role: RoleFacts
    hand_over: HandOver
    mapping_id: UUID | None
    seconds: int
    longest_seconds: int
    session_policy: str
    policy_arns: tuple[str, ...]
    session_tags: Mapping[str, str]
    ends_by: datetime | None
    reasons: tuple[Reason, ...]
    transitive_tag_keys: tuple[str, ...] = ()


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


class Code(StrEnum):
    """Every reason code. Stable: the audit log and programs rely on them. docs/mappings.md explains each."""

    # speak for the person
    MAPPING_DECIDES = "mapping_decides"
    MAPPING_ALLOWS = "mapping_allows"
    ASSERTED = "asserted"
    DENY_DISABLED = "deny_disabled"
    DENY_OVER = "deny_over"
    # speak against, whatever the mappings say
    DENIED = "denied"
    PERSON_INACTIVE = "person_inactive"
    ACCOUNT_DISABLED = "account_disabled"
    ROLE_DISABLED = "role_disabled"
    DURATION_TOO_SHORT = "duration_too_short"
    NO_MAPPING = "no_mapping"
    DEVICE_CODE_NOT_ALLOWED = "device_code_not_allowed"
    RELAY_OTHER_PROVIDER = "relay_other_provider"
    RELAY_OVER = "relay_over"
    RELAY_NOT_ASKED = "relay_not_asked"
    NOT_ASSERTED = "not_asserted"
    # one mapping does not count
    NOT_A_MEMBER = "not_a_member"
    OTHER_PROVIDER = "other_provider"
    MAPPING_DISABLED = "mapping_disabled"
    NO_LONGER_VALID = "no_longer_valid"
    NOT_YET_VALID = "not_yet_valid"
    WINDOW_CLOSES_TOO_SOON = "window_closes_too_soon"
    LIMIT_TOO_SHORT = "limit_too_short"
    MEMBERSHIP_STALE = "membership_stale"
    SIGN_IN_TOO_OLD = "sign_in_too_old"
    SIGN_IN_TIME_UNKNOWN = "sign_in_time_unknown"
    MFA_MISSING = "mfa_missing"
    NETWORK_NOT_ALLOWED = "network_not_allowed"
    NETWORK_UNKNOWN = "network_unknown"
    HAND_OVER_NOT_ALLOWED = "hand_over_not_allowed"
    DURATION_TOO_LONG = "duration_too_long"
    ATTRIBUTE_MISSING = "attribute_missing"
    ATTRIBUTE_AMBIGUOUS = "attribute_ambiguous"
    ATTRIBUTE_UNFIT = "attribute_unfit"
    TAGS_TOO_LARGE = "tags_too_large"
    SESSION_POLICY_MISSING = "session_policy_missing"
    TAGS_NOT_RELAYED = "tags_not_relayed"
