"""One mapping by itself: everything that speaks against it, and the longest session that it could give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from unicodedata import category

from accounts.identity import Principal, Proof
from broker.entitlements import packing
from broker.entitlements.rules.answers import Code, NextStep
from broker.entitlements.rules.facts import Ask, HandOver, MappingFacts, RoleFacts
from broker.entitlements.rules.lengths import (
    LONGEST_CHAINED_SECONDS,
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    longest_of,
)
from broker.entitlements.rules.words import by, capital, duration, moment

TAG_VALUE_LENGTH = 256
"""The longest value of a session tag."""

ANSWER_TIME = timedelta(seconds=30)
"""Set aside before a mapping ends: a session counts from AWS's answer, which comes after the decision."""

FORM_TIME = timedelta(minutes=5)
"""Set aside besides for the SAML form: AWS redeems what the browser brings for so long, and counts from there."""

CLOCK_SKEW = timedelta(minutes=5)
"""How far an identity provider's clock may be ahead of ours."""

EFFORT: dict[Code, tuple[int, NextStep]] = {
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
class Verdict:
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
        return max(self.failures, key=lambda failure: EFFORT[failure.code][0])


def judge(
    principal: Principal, ask: Ask, role: RoleFacts, mapping: MappingFacts, now: datetime
) -> Verdict:
    """One mapping by itself: everything that speaks against it, and the longest session it could give."""
    longest, too_short = _longest(role, ask.hand_over, mapping, now)
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
                f"You asked for {duration(ask.seconds)}; {by(mapping)} you can have "
                f"{duration(longest)} at most{why}.",
            )
        )
    return Verdict(mapping, tuple(failures), longest, tags)


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
        sentence = f"{capital(by(mapping))} this role ended on {moment(mapping.valid_until)}."
        return [_Failure(Code.NO_LONGER_VALID, sentence)]
    if mapping.valid_from is not None and now < mapping.valid_from:
        sentence = f"{capital(by(mapping))} this role begins on {moment(mapping.valid_from)}."
        return [_Failure(Code.NOT_YET_VALID, sentence, wait_until=mapping.valid_from)]
    return []


def _sign_in(proof: Proof, mapping: MappingFacts, now: datetime) -> list[_Failure]:
    failures = []
    if mapping.require_mfa and not proof.mfa:
        sentence = (
            f"{capital(by(mapping))} this role needs a sign-in with a second factor; "
            f"{proof.provider_name} did not say that you used one."
        )
        failures.append(_Failure(Code.MFA_MISSING, sentence))
    if mapping.max_sign_in_age is not None:
        age = now - proof.at
        if not proof.at_told:
            sentence = (
                f"{capital(by(mapping))} this role needs a recent sign-in, and {proof.provider_name} did not say "
                "when yours was."
            )
            failures.append(_Failure(Code.SIGN_IN_TIME_UNKNOWN, sentence))
        elif age < -CLOCK_SKEW:
            sentence = (
                f"{capital(by(mapping))} this role needs a recent sign-in, and the time of yours "
                f"({moment(proof.at)}) lies in the future."
            )
            failures.append(_Failure(Code.SIGN_IN_TIME_UNKNOWN, sentence))
        elif age > timedelta(seconds=mapping.max_sign_in_age):
            sentence = (
                f"{capital(by(mapping))} this role needs a sign-in that is at most "
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
            f"{capital(by(mapping))} this role can be used from {listed} only, and Daypass does "
            "not know which address you come from."
        )
        return [_Failure(Code.NETWORK_UNKNOWN, sentence)]
    if not any(_contains(network, known) for network in mapping.networks):
        sentence = (
            f"{capital(by(mapping))} this role can be used from {listed} only; you come from "
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
        sentence = f"{capital(by(mapping))} this role can be used with keys, not in the console."
        return [_Failure(Code.HAND_OVER_NOT_ALLOWED, sentence)]
    if hand_over == "keys" and not mapping.allow_keys:
        sentence = f"{capital(by(mapping))} this role can be used in the console, not with keys."
        return [_Failure(Code.HAND_OVER_NOT_ALLOWED, sentence)]
    return []


def _longest(
    role: RoleFacts, hand_over: HandOver, mapping: MappingFacts, now: datetime
) -> tuple[int, list[_Failure]]:
    """The shortest of all limits, as seconds that AWS accepts; 0 and a failure when there are not enough left."""
    limit = min(longest_of(role.trust, role.max_seconds), mapping.max_seconds or LONGEST_SECONDS)
    if limit < SHORTEST_SECONDS:
        sentence = (
            f"{capital(by(mapping))} this role is limited to {duration(limit)}; AWS issues no "
            f"session shorter than {duration(SHORTEST_SECONDS)}."
        )
        return 0, [_Failure(Code.LIMIT_TOO_SHORT, sentence)]
    if mapping.valid_until is None or mapping.valid_until <= now:
        return limit, []
    by_form = role.console == "saml_form" and hand_over == "console"
    begins = now + ANSWER_TIME + (FORM_TIME if by_form else timedelta())
    left = (mapping.valid_until - begins) // timedelta(minutes=1) * 60
    if left < SHORTEST_SECONDS:
        sentence = (
            f"{capital(by(mapping))} this role ends on {moment(mapping.valid_until)}; that is "
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
            f"{capital(by(mapping))} this role is set up to send details about you to AWS (session tags). AWS takes "
            "your identity provider's own word for this role, and Daypass cannot add anything to that."
        )
        return {}, [_Failure(Code.TAGS_NOT_RELAYED, sentence)]
    tags: dict[str, str] = {}
    failures = []
    for key, attribute in sorted(mapping.session_tags.items()):
        values = {value for value in _values(principal, attribute) if value}
        if not values:
            sentence = (
                f"{capital(by(mapping))} this role carries your {attribute} to AWS (tag {key}), "
                "and your identity provider did not send one."
            )
            failures.append(_Failure(Code.ATTRIBUTE_MISSING, sentence))
        elif len(values) > 1:
            sentence = (
                f"{capital(by(mapping))} this role carries your {attribute} to AWS (tag {key}), "
                f"and you have {len(values)} of them; a tag holds one."
            )
            failures.append(_Failure(Code.ATTRIBUTE_AMBIGUOUS, sentence))
        elif not fit_for_tag(value := values.pop()):
            sentence = (
                f"{capital(by(mapping))} this role carries your {attribute} to AWS (tag {key}), "
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
        f"{capital(by(mapping))} this access has no session policy, and a federation token is never given "
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
        f"{capital(by(mapping))} this role carries {len(tags)} tags about you to AWS, and together they are too "
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
