"""The decision: principal + ask + snapshot + now -> Allowed or Refused, each with every reason. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal
from unicodedata import category
from uuid import UUID

from accounts.identity import Principal, Proof
from broker.entitlements import packing

HandOver = Literal["console", "keys"]

Door = Literal["browser", "terminal", "device_code"]
"""Who asks: a browser, a client that was let in from a browser, or one that was let in by a device code."""

SHORTEST_SECONDS = 900
LONGEST_SECONDS = 43200
"""What STS accepts as DurationSeconds, whatever the role allows."""

LONGEST_CHAINED_SECONDS = 3600
"""A role that is assumed with another role's credentials lives for an hour at most, whatever its own maximum says."""

TAG_VALUE_LENGTH = 256
"""The longest value of a session tag."""

ANSWER_TIME = timedelta(seconds=30)
"""Set aside before a mapping ends: a session counts from AWS's answer, which comes after the decision."""

CLOCK_SKEW = timedelta(minutes=5)
"""How far an identity provider's clock may be ahead of ours."""


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


_EFFORT: dict[Code, tuple[int, NextStep]] = {
    Code.DURATION_TOO_LONG: (1, NextStep.ASK_FOR_LESS),
    Code.MEMBERSHIP_STALE: (2, NextStep.SIGN_IN_AGAIN),
    Code.SIGN_IN_TOO_OLD: (2, NextStep.SIGN_IN_AGAIN),
    Code.SIGN_IN_TIME_UNKNOWN: (2, NextStep.SIGN_IN_AGAIN),
    Code.MFA_MISSING: (3, NextStep.USE_MFA),
    Code.HAND_OVER_NOT_ALLOWED: (4, NextStep.USE_OTHER_HAND_OVER),
    Code.NETWORK_NOT_ALLOWED: (5, NextStep.USE_ALLOWED_NETWORK),
    Code.NETWORK_UNKNOWN: (5, NextStep.USE_ALLOWED_NETWORK),
    Code.NOT_YET_VALID: (6, NextStep.WAIT),
    Code.WINDOW_CLOSES_TOO_SOON: (7, NextStep.ASK_ADMINISTRATOR),
    Code.LIMIT_TOO_SHORT: (7, NextStep.ASK_ADMINISTRATOR),
    Code.ATTRIBUTE_MISSING: (7, NextStep.ASK_ADMINISTRATOR),
    Code.ATTRIBUTE_AMBIGUOUS: (7, NextStep.ASK_ADMINISTRATOR),
    Code.ATTRIBUTE_UNFIT: (7, NextStep.ASK_ADMINISTRATOR),
    Code.TAGS_TOO_LARGE: (7, NextStep.ASK_ADMINISTRATOR),
    Code.SESSION_POLICY_MISSING: (7, NextStep.ASK_ADMINISTRATOR),
    Code.TAGS_NOT_RELAYED: (7, NextStep.ASK_ADMINISTRATOR),
    Code.NO_LONGER_VALID: (8, NextStep.ASK_ADMINISTRATOR),
    Code.MAPPING_DISABLED: (8, NextStep.ASK_ADMINISTRATOR),
    Code.OTHER_PROVIDER: (8, NextStep.ASK_ADMINISTRATOR),
    Code.NOT_A_MEMBER: (8, NextStep.ASK_ADMINISTRATOR),
}
"""How much it takes to get past what makes a mapping not count, and the way. The least effort is advised."""

_DEAD = frozenset(
    {Code.NOT_A_MEMBER, Code.OTHER_PROVIDER, Code.MAPPING_DISABLED, Code.NO_LONGER_VALID}
)
"""With one of these, a mapping is no right at all: it does not even make the role visible."""


@dataclass(frozen=True, slots=True)
class _Failure:
    code: Code
    sentence: str
    wait_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What one mapping says by itself. `longest`: the seconds that it could give now, 0 when none."""

    mapping: MappingFacts
    failures: tuple[_Failure, ...]
    longest: int
    tags: Mapping[str, str]

    @property
    def allows(self) -> bool:
        return not self.failures

    @property
    def live(self) -> bool:
        return not any(failure.code in _DEAD for failure in self.failures)

    @property
    def hardest(self) -> _Failure:
        return max(self.failures, key=lambda failure: _EFFORT[failure.code][0])


def decide(principal: Principal, ask: Ask, snapshot: Snapshot, now: datetime) -> Decision:
    """May this person have this role, handed over in this way, now? The only answer to that question.

    A deny in force beats everything. Otherwise every mapping is a right of its own and is looked at by itself: it
    allows the ask when nothing speaks against it. One of those that allow decides and lends its limits, policy and
    tags (docs/decisions/0002-one-mapping-decides.md): first one without a session policy, then the one that lasts
    longest, then the one made first. An ask that names its seconds gets exactly those or nothing from a mapping;
    one that does not gets the longest that the mapping gives. Whatever is unknown, stale or unreadable counts as no.

    Every mapping and every deny of the snapshot appears in the reasons, the one that decided first. The order in
    which they stand in the snapshot does not matter.

    A role with trust relayed_assertion is given by no mapping: whom the company's own AWS application lists it for may
    use it while what it said lives, unless a deny in force, or what refuses everybody, says no.
    """
    if snapshot.role.trust == "relayed_assertion":
        return _decide_asserted(principal, ask, snapshot, now)
    verdicts = [
        _judge(principal, ask, snapshot.role, mapping, now) for mapping in snapshot.mappings
    ]
    bans, idle_denies = _bans(snapshot.denies, now)
    obstacles = _obstacles(principal, ask, snapshot, now)
    allowing = sorted((v for v in verdicts if v.allows), key=_preference)
    failing = sorted((v for v in verdicts if not v.allows), key=_closeness)

    if allowing and not bans and not obstacles:
        chosen = allowing[0]
        return Allowed(
            role=snapshot.role,
            hand_over=ask.hand_over,
            mapping_id=chosen.mapping.id,
            seconds=chosen.longest if ask.seconds is None else ask.seconds,
            longest_seconds=max(verdict.longest for verdict in allowing),
            session_policy=chosen.mapping.session_policy,
            policy_arns=chosen.mapping.policy_arns,
            session_tags=chosen.tags,
            transitive_tag_keys=chosen.mapping.transitive_tag_keys,
            ends_by=chosen.mapping.valid_until,
            reasons=(
                _for(chosen, ask, Code.MAPPING_DECIDES),
                *(_for(verdict, ask, Code.MAPPING_ALLOWS) for verdict in allowing[1:]),
                *(reason for verdict in failing for reason in _against(verdict)),
                *idle_denies,
            ),
        )

    wait_until = None
    if bans:
        code, sentence, step = Code.DENIED, bans[0][0].sentence, NextStep.ASK_ADMINISTRATOR
        ends = [until for _, until in bans]
        if allowing and not obstacles and None not in ends:
            step, wait_until = NextStep.WAIT, max(until for until in ends if until is not None)
    elif obstacles:
        code, sentence, step = obstacles[0]
    else:
        nearest = failing[0].hardest
        code, sentence, wait_until = nearest.code, nearest.sentence, nearest.wait_until
        step = _EFFORT[code][1]
    reasons = (
        *(reason for reason, _ in bans),
        *(Reason(against, why, counts=False) for against, why, _ in obstacles),
        *(reason for verdict in failing for reason in _against(verdict, first=code)),
        *(_for(verdict, ask, Code.MAPPING_ALLOWS) for verdict in allowing),
        *idle_denies,
    )
    return Refused(
        code=code,
        sentence=sentence,
        next_step=step,
        visible=principal.active and any(verdict.live for verdict in verdicts),
        reasons=reasons,
        wait_until=wait_until,
    )


def _decide_asserted(principal: Principal, ask: Ask, snapshot: Snapshot, now: datetime) -> Decision:
    """The decision where the entitlement is the provider's own word of this moment."""
    bans, idle_denies = _bans(snapshot.denies, now)
    obstacles = _obstacles(principal, ask, snapshot, now)
    longest = min(snapshot.role.max_seconds, LONGEST_SECONDS)
    if ask.seconds is not None and ask.seconds > longest:
        sentence = (
            f"You asked for {duration(ask.seconds)}; you can have {duration(longest)} at most."
        )
        obstacles.append((Code.DURATION_TOO_LONG, sentence, NextStep.ASK_FOR_LESS))
    for_them = Reason(
        Code.ASSERTED,
        f"{principal.proof.provider_name} says just now that you may use this role.",
        counts=True,
    )
    if not bans and not obstacles:
        return Allowed(
            role=snapshot.role,
            hand_over=ask.hand_over,
            mapping_id=None,
            seconds=longest if ask.seconds is None else ask.seconds,
            longest_seconds=longest,
            session_policy="",
            policy_arns=(),
            session_tags={},
            ends_by=None,
            reasons=(for_them, *idle_denies),
        )
    if bans:
        code, sentence, step = Code.DENIED, bans[0][0].sentence, NextStep.ASK_ADMINISTRATOR
    else:
        code, sentence, step = obstacles[0]
    theirs = snapshot.role.relay_provider_id == principal.proof.provider_id is not None
    told = {against for against, _, _ in obstacles}
    return Refused(
        code=code,
        sentence=sentence,
        next_step=step,
        # Before the provider was asked nobody knows; afterwards only what it listed is told of.
        visible=principal.active and theirs and Code.NOT_ASSERTED not in told,
        reasons=(
            *(reason for reason, _ in bans),
            *(Reason(against, why, counts=False) for against, why, _ in obstacles),
            *((for_them,) if snapshot.asserted else ()),
            *idle_denies,
        ),
    )


def _preference(verdict: _Verdict) -> tuple[bool, int, datetime, int]:
    """Least first: the mapping that decides among those that allow."""
    mapping = verdict.mapping
    narrowed = bool(mapping.session_policy or mapping.policy_arns)
    return (narrowed, -verdict.longest, *_age(mapping))


def _closeness(verdict: _Verdict) -> tuple[int, int, int, datetime, int]:
    """Least first: the refused mapping that is closest to a yes, whose advice is the most helpful."""
    hardest = _EFFORT[verdict.hardest.code][0]
    return (hardest, len(verdict.failures), -verdict.longest, *_age(verdict.mapping))


def _age(mapping: MappingFacts) -> tuple[datetime, int]:
    return (mapping.created_at or datetime.max.replace(tzinfo=UTC), mapping.id.int)


def _bans(
    denies: tuple[DenyFacts, ...], now: datetime
) -> tuple[list[tuple[Reason, datetime | None]], list[Reason]]:
    """The denies in force, each with its end, and the reasons of those that are not.

    A deny counts even when the membership that it goes by is stale: what is unknown is never to the person's favour.
    """
    in_force: list[tuple[Reason, datetime | None]] = []
    idle: list[Reason] = []
    for deny in sorted(denies, key=lambda one: one.id.int):
        rule = str(deny.id)
        if not deny.enabled:
            sentence = "A rule that would forbid this is switched off."
            idle.append(Reason(Code.DENY_DISABLED, sentence, counts=True, rule_id=rule))
        elif deny.valid_until is not None and deny.valid_until <= now:
            sentence = f"A rule that forbade this ended on {moment(deny.valid_until)}."
            idle.append(Reason(Code.DENY_OVER, sentence, counts=True, rule_id=rule))
        else:
            until = f" (until {moment(deny.valid_until)})" if deny.valid_until else ""
            reason = deny.reason.strip() or "no reason was written down"
            sentence = _full_stop(f"A rule forbids this{until}: {reason}")
            banned = Reason(Code.DENIED, sentence, counts=False, rule_id=rule)
            in_force.append((banned, deny.valid_until))
    return in_force, idle


def _obstacles(
    principal: Principal, ask: Ask, snapshot: Snapshot, now: datetime
) -> list[tuple[Code, str, NextStep]]:
    """What refuses whatever the mappings say."""
    role = snapshot.role
    found: list[tuple[Code, str, NextStep]] = []
    if not principal.active:
        sentence = "Your account in Daypass is switched off."
        found.append((Code.PERSON_INACTIVE, sentence, NextStep.ASK_ADMINISTRATOR))
    if not role.account_enabled:
        sentence = f"The AWS account {role.account_name} is switched off in Daypass."
        found.append((Code.ACCOUNT_DISABLED, sentence, NextStep.ASK_ADMINISTRATOR))
    if not role.enabled:
        sentence = f"The role {role.name} is switched off in Daypass."
        found.append((Code.ROLE_DISABLED, sentence, NextStep.ASK_ADMINISTRATOR))
    if ask.seconds is not None and ask.seconds < SHORTEST_SECONDS:
        sentence = (
            f"You asked for {duration(ask.seconds)}; AWS issues no session shorter than "
            f"{duration(SHORTEST_SECONDS)}."
        )
        found.append((Code.DURATION_TOO_SHORT, sentence, NextStep.ASK_FOR_LESS))
    if not snapshot.mappings and role.trust != "relayed_assertion":
        sentence = "None of your groups gives you this role."
        found.append((Code.NO_MAPPING, sentence, NextStep.ASK_ADMINISTRATOR))
    if role.sensitive and ask.door == "device_code":
        sentence = (
            f"The role {role.name} is marked as sensitive, and none of these is given to a client that was let in by a "
            "device code."
        )
        found.append((Code.DEVICE_CODE_NOT_ALLOWED, sentence, NextStep.USE_OTHER_DOOR))
    if role.trust in ("relayed_token", "relayed_assertion"):
        found += _relay(principal, snapshot, now)
    return found


def _relay(
    principal: Principal, snapshot: Snapshot, now: datetime
) -> list[tuple[Code, str, NextStep]]:
    """Whether this very sign-in brought what AWS wants to see for the role, and it still lives."""
    proof = principal.proof
    if proof.provider_id is None or proof.provider_id != snapshot.role.relay_provider_id:
        sentence = (
            "AWS takes another identity provider's word for this role than the one you signed in with "
            f"({proof.provider_name})."
        )
        return [(Code.RELAY_OTHER_PROVIDER, sentence, NextStep.ASK_ADMINISTRATOR)]
    over = snapshot.relayed_until is None or snapshot.relayed_until <= now
    if snapshot.role.trust == "relayed_assertion":
        if over:
            sentence = (
                f"{proof.provider_name} itself says who may use this role, and has to be asked again "
                "every few minutes."
            )
            return [(Code.RELAY_NOT_ASKED, sentence, NextStep.ASK_PROVIDER)]
        if not snapshot.asserted:
            sentence = f"{proof.provider_name} does not name this role for you."
            return [(Code.NOT_ASSERTED, sentence, NextStep.ASK_ADMINISTRATOR)]
        return []
    if over:
        sentence = (
            f"AWS wants to see what {proof.provider_name} said of you at your sign-in, and that is no longer valid. "
            "Sign in again."
        )
        return [(Code.RELAY_OVER, sentence, NextStep.SIGN_IN_AGAIN)]
    return []


def _judge(
    principal: Principal, ask: Ask, role: RoleFacts, mapping: MappingFacts, now: datetime
) -> _Verdict:
    """One mapping by itself: everything that speaks against it, and the longest session it could give."""
    longest, too_short = _longest(role, mapping, now)
    tags, unfit = _tags(principal, role, mapping)
    unfit = unfit or _too_large(tags, mapping)
    failures = [
        *_membership(principal, mapping, now),
        *_validity(mapping, now),
        *_sign_in(principal.proof, mapping, now),
        *_network(principal.address, mapping),
        *_hand_over(ask.hand_over, mapping),
        *too_short,
        *unfit,
        *_policy_needed(role, mapping),
    ]
    if ask.seconds is not None and longest and ask.seconds > longest:
        why = ""
        if role.trust == "assume_role" and longest == LONGEST_CHAINED_SECONDS:
            why = ", which is all that AWS gives to a role that Daypass assumes with a role of its own"
        failures.append(
            _Failure(
                Code.DURATION_TOO_LONG,
                f"You asked for {duration(ask.seconds)}; {_by(mapping)} you can have "
                f"{duration(longest)} at most{why}.",
            )
        )
    return _Verdict(mapping, tuple(failures), longest, tags)


def _membership(principal: Principal, mapping: MappingFacts, now: datetime) -> list[_Failure]:
    held = next((group for group in principal.groups if group.id == mapping.group_id), None)
    if held is None:
        sentence = f"You are not known to be a member of {mapping.group_name} now."
        return [_Failure(Code.NOT_A_MEMBER, sentence)]
    if held.provider_id != principal.proof.provider_id:
        sentence = (
            f"The group {mapping.group_name} belongs to another identity provider than the one "
            "you signed in with."
        )
        return [_Failure(Code.OTHER_PROVIDER, sentence)]
    if held.fresh_until is not None and held.fresh_until <= now:
        sentence = (
            f"Your membership of {mapping.group_name} was last confirmed too long ago: it counted "
            f"until {moment(held.fresh_until)}. Sign in again to confirm it."
        )
        return [_Failure(Code.MEMBERSHIP_STALE, sentence)]
    return []


def _validity(mapping: MappingFacts, now: datetime) -> list[_Failure]:
    if not mapping.enabled:
        sentence = f"The mapping for {mapping.group_name} is switched off."
        return [_Failure(Code.MAPPING_DISABLED, sentence)]
    if mapping.valid_until is not None and mapping.valid_until <= now:
        sentence = f"{_capital(_by(mapping))} this role ended on {moment(mapping.valid_until)}."
        return [_Failure(Code.NO_LONGER_VALID, sentence)]
    if mapping.valid_from is not None and now < mapping.valid_from:
        sentence = f"{_capital(_by(mapping))} this role begins on {moment(mapping.valid_from)}."
        return [_Failure(Code.NOT_YET_VALID, sentence, wait_until=mapping.valid_from)]
    return []


def _sign_in(proof: Proof, mapping: MappingFacts, now: datetime) -> list[_Failure]:
    failures = []
    if mapping.require_mfa and not proof.mfa:
        sentence = (
            f"{_capital(_by(mapping))} this role needs a sign-in with a second factor; "
            f"{proof.provider_name} did not say that you used one."
        )
        failures.append(_Failure(Code.MFA_MISSING, sentence))
    if mapping.max_sign_in_age is not None:
        age = now - proof.at
        if not proof.at_told:
            sentence = (
                f"{_capital(_by(mapping))} this role needs a recent sign-in, and {proof.provider_name} did not say "
                "when yours was."
            )
            failures.append(_Failure(Code.SIGN_IN_TIME_UNKNOWN, sentence))
        elif age < -CLOCK_SKEW:
            sentence = (
                f"{_capital(_by(mapping))} this role needs a recent sign-in, and the time of yours "
                f"({moment(proof.at)}) lies in the future."
            )
            failures.append(_Failure(Code.SIGN_IN_TIME_UNKNOWN, sentence))
        elif age > timedelta(seconds=mapping.max_sign_in_age):
            sentence = (
                f"{_capital(_by(mapping))} this role needs a sign-in that is at most "
                f"{duration(mapping.max_sign_in_age)} old; yours is {duration(age)} old."
            )
            failures.append(_Failure(Code.SIGN_IN_TOO_OLD, sentence))
    return failures


def _network(address: str, mapping: MappingFacts) -> list[_Failure]:
    if not mapping.networks:
        return []
    listed = ", ".join(mapping.networks)
    known = read_address(address)
    if known is None:
        sentence = (
            f"{_capital(_by(mapping))} this role can be used from {listed} only, and Daypass does "
            "not know which address you come from."
        )
        return [_Failure(Code.NETWORK_UNKNOWN, sentence)]
    if not any(_contains(network, known) for network in mapping.networks):
        sentence = (
            f"{_capital(_by(mapping))} this role can be used from {listed} only; you come from "
            f"{known}."
        )
        return [_Failure(Code.NETWORK_NOT_ALLOWED, sentence)]
    return []


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as a client's side of a connection is told; an IPv4 address mapped into IPv6 is the IPv4 one."""
    try:
        known = ip_address(text)
    except ValueError:
        return None
    mapped = known.ipv4_mapped if isinstance(known, IPv6Address) else None
    return mapped or known


def _contains(network: str, address: IPv4Address | IPv6Address) -> bool:
    """An unreadable network contains nobody; an address of the other family is in no network."""
    try:
        return address in ip_network(network)
    except ValueError:
        return False


def _hand_over(hand_over: HandOver, mapping: MappingFacts) -> list[_Failure]:
    if hand_over == "console" and not mapping.allow_console:
        sentence = f"{_capital(_by(mapping))} this role can be used with keys, not in the console."
        return [_Failure(Code.HAND_OVER_NOT_ALLOWED, sentence)]
    if hand_over == "keys" and not mapping.allow_keys:
        sentence = f"{_capital(_by(mapping))} this role can be used in the console, not with keys."
        return [_Failure(Code.HAND_OVER_NOT_ALLOWED, sentence)]
    return []


def longest_of(trust: str, max_seconds: int) -> int:
    """The longest session that AWS gives of a role with this maximum, when Daypass gets in by this trust."""
    chained = trust == "assume_role"
    return min(max_seconds, LONGEST_CHAINED_SECONDS if chained else LONGEST_SECONDS)


def _longest(role: RoleFacts, mapping: MappingFacts, now: datetime) -> tuple[int, list[_Failure]]:
    """The shortest of all limits, as seconds that AWS accepts; 0 and a failure when there are not enough left."""
    limit = min(longest_of(role.trust, role.max_seconds), mapping.max_seconds or LONGEST_SECONDS)
    if limit < SHORTEST_SECONDS:
        sentence = (
            f"{_capital(_by(mapping))} this role is limited to {duration(limit)}; AWS issues no "
            f"session shorter than {duration(SHORTEST_SECONDS)}."
        )
        return 0, [_Failure(Code.LIMIT_TOO_SHORT, sentence)]
    if mapping.valid_until is None or mapping.valid_until <= now:
        return limit, []
    left = (mapping.valid_until - now - ANSWER_TIME) // timedelta(minutes=1) * 60
    if left < SHORTEST_SECONDS:
        sentence = (
            f"{_capital(_by(mapping))} this role ends on {moment(mapping.valid_until)}; that is "
            f"too soon for the {duration(SHORTEST_SECONDS)} that an AWS session lasts at least."
        )
        return 0, [_Failure(Code.WINDOW_CLOSES_TOO_SOON, sentence)]
    return min(limit, left), []


def _tags(
    principal: Principal, role: RoleFacts, mapping: MappingFacts
) -> tuple[Mapping[str, str], list[_Failure]]:
    """Session tags with their values. A value is taken as it is or refused, never altered or left out."""
    if mapping.session_tags and role.trust == "relayed_token":
        sentence = (
            f"{_capital(_by(mapping))} this role carries session tags to AWS, and Daypass cannot add any to what "
            "your identity provider said."
        )
        return {}, [_Failure(Code.TAGS_NOT_RELAYED, sentence)]
    tags: dict[str, str] = {}
    failures = []
    for key, attribute in sorted(mapping.session_tags.items()):
        values = {value for value in _values(principal, attribute) if value}
        if not values:
            sentence = (
                f"{_capital(_by(mapping))} this role carries your {attribute} to AWS (tag {key}), "
                "and your identity provider did not send one."
            )
            failures.append(_Failure(Code.ATTRIBUTE_MISSING, sentence))
        elif len(values) > 1:
            sentence = (
                f"{_capital(_by(mapping))} this role carries your {attribute} to AWS (tag {key}), "
                f"and you have {len(values)} of them; a tag holds one."
            )
            failures.append(_Failure(Code.ATTRIBUTE_AMBIGUOUS, sentence))
        elif not fit_for_tag(value := values.pop()):
            sentence = (
                f"{_capital(_by(mapping))} this role carries your {attribute} to AWS (tag {key}), "
                "and yours is too long or has characters that AWS does not accept in a tag."
            )
            failures.append(_Failure(Code.ATTRIBUTE_UNFIT, sentence))
        else:
            tags[key] = value
    return tags, failures


def _policy_needed(role: RoleFacts, mapping: MappingFacts) -> list[_Failure]:
    """A federation token without a session policy would be everything that the broker's own user may do."""
    if role.trust != "federation_token" or mapping.session_policy or mapping.policy_arns:
        return []
    sentence = (
        f"{_capital(_by(mapping))} this access has no session policy, and a federation token is never given "
        "without one."
    )
    return [_Failure(Code.SESSION_POLICY_MISSING, sentence)]


def _too_large(tags: Mapping[str, str], mapping: MappingFacts) -> list[_Failure]:
    """What AWS would refuse for certain, said in words; a doubtful case is left to AWS."""
    if not tags:
        return []
    packed = packing.percent(tags, mapping.session_policy, mapping.policy_arns)
    if packed < packing.REFUSED:
        return []
    longest = max(tags, key=lambda key: len(tags[key]))
    sentence = (
        f"{_capital(_by(mapping))} this role carries {len(tags)} tags about you to AWS, and together they are too "
        f"long: about {packed} % of what AWS takes. The longest is your {mapping.session_tags[longest]}, "
        f"with {len(tags[longest])} characters."
    )
    return [_Failure(Code.TAGS_TOO_LARGE, sentence)]


def _values(principal: Principal, attribute: str) -> tuple[str, ...]:
    match attribute:
        case "handle":
            return (principal.handle,)
        case "email":
            return (principal.email,)
        case "name":
            return (principal.name,)
        case _:
            return tuple(principal.attributes.get(attribute, ()))


def fit_for_tag(value: str) -> bool:
    """Whether STS takes this as the value of a session tag: up to 256 of letters, digits, spaces and `_.:/=+-@`."""
    return len(value) <= TAG_VALUE_LENGTH and all(
        character in "_.:/=+-@" or category(character)[0] in "LNZ" for character in value
    )


def _for(verdict: _Verdict, ask: Ask, code: Code) -> Reason:
    mapping = verdict.mapping
    how = "in the console" if ask.hand_over == "console" else "with keys"
    narrowed = ", narrowed by a session policy" if _preference(verdict)[0] else ""
    sentence = (
        f"{_capital(_by(mapping))} you can use this role {how} for up to "
        f"{duration(verdict.longest)}{narrowed}."
    )
    return Reason(code, sentence, counts=True, rule_id=str(mapping.id))


def _against(verdict: _Verdict, *, first: Code | None = None) -> list[Reason]:
    """Its failures, the deciding one before the others."""
    rule = str(verdict.mapping.id)
    ordered = sorted(verdict.failures, key=lambda failure: failure.code is not first)
    return [Reason(one.code, one.sentence, counts=False, rule_id=rule) for one in ordered]


def _by(mapping: MappingFacts) -> str:
    return f"through the group {mapping.group_name}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _full_stop(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def duration(length: int | timedelta) -> str:
    """A length of time in words: "1 hour 30 minutes", "2 days", "45 seconds"."""
    seconds = int(length.total_seconds()) if isinstance(length, timedelta) else length
    seconds = max(seconds, 0)
    words = []
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            words.append(f"{count} {unit}" if count == 1 else f"{count} {unit}s")
    return " ".join(words[:2]) or "0 seconds"


def moment(at: datetime) -> str:
    """A point in time in words, in UTC: "3 March 2026, 14:30 UTC"."""
    at = at.astimezone(UTC)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Condition:
    """What a mapping demands of the sign-in ("mfa", "sign_in_age", "network") or limits, in words."""

    code: str
    sentence: str


def conditions_of(mapping: MappingFacts) -> tuple[Condition, ...]:
    """What depends on how, when and from where somebody signs in, and not on their rights."""
    found = []
    if mapping.require_mfa:
        found.append(Condition("mfa", "signed in with a second factor"))
    if mapping.max_sign_in_age is not None:
        sentence = f"signed in within the last {duration(mapping.max_sign_in_age)}"
        found.append(Condition("sign_in_age", sentence))
    if mapping.networks:
        found.append(Condition("network", f"from {', '.join(mapping.networks)}"))
    return tuple(found)


def limits_of(mapping: MappingFacts) -> tuple[Condition, ...]:
    """What a mapping limits, whoever signs in and however."""
    found = []
    if mapping.max_seconds is not None:
        found.append(Condition("duration", f"up to {duration(mapping.max_seconds)}"))
    if not mapping.allow_keys:
        found.append(Condition("hand_over", "console only"))
    if not mapping.allow_console:
        found.append(Condition("hand_over", "keys only"))
    if mapping.valid_from is not None:
        found.append(Condition("valid_from", f"from {moment(mapping.valid_from)}"))
    if mapping.valid_until is not None:
        found.append(Condition("valid_until", f"until {moment(mapping.valid_until)}"))
    if mapping.session_policy:
        found.append(Condition("session_policy", "narrowed by a session policy"))
    if mapping.policy_arns:
        listed = ", ".join(arn.rpartition("/")[2] for arn in mapping.policy_arns)
        found.append(Condition("policy_arns", f"narrowed to {listed}"))
    for key, attribute in sorted(mapping.session_tags.items()):
        stays = ", also through chained roles" if key in mapping.transitive_tag_keys else ""
        found.append(Condition("session_tag", f"tag {key} from the person's {attribute}{stays}"))
    return tuple(found)


def unconditional(mapping: MappingFacts) -> MappingFacts:
    """The same right with nothing demanded of the sign-in: for explaining who has it, never for issuing."""
    return replace(mapping, require_mfa=False, max_sign_in_age=None, networks=())
