"""What a mapping demands and limits, in words, for those who look after it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from broker.entitlements.rules.facts import MappingFacts
from broker.entitlements.rules.words import duration, moment


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
