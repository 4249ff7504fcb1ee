"""The decision: principal + ask + snapshot + now -> Allowed or Refused, each with every reason."""

from __future__ import annotations

from datetime import UTC, datetime

from accounts.identity import Principal
from broker.entitlements.rules.answers import Allowed, Code, Decision, NextStep, Reason, Refused
from broker.entitlements.rules.facts import Ask, DenyFacts, MappingFacts, Snapshot
from broker.entitlements.rules.judging import EFFORT, Verdict, judge
from broker.entitlements.rules.lengths import LONGEST_SECONDS, SHORTEST_SECONDS
from broker.entitlements.rules.words import by, capital, duration, full_stop, moment


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
    verdicts = [judge(principal, ask, snapshot.role, mapping, now) for mapping in snapshot.mappings]
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
        step = EFFORT[code][1]
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


def _preference(verdict: Verdict) -> tuple[bool, int, datetime, int]:
    """Least first: the mapping that decides among those that allow."""
    mapping = verdict.mapping
    narrowed = bool(mapping.session_policy or mapping.policy_arns)
    return (narrowed, -verdict.longest, *_age(mapping))


def _closeness(verdict: Verdict) -> tuple[int, int, int, datetime, int]:
    """Least first: the refused mapping that is closest to a yes, whose advice is the most helpful."""
    hardest = EFFORT[verdict.hardest.code][0]
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
            sentence = full_stop(f"A rule forbids this{until}: {reason}")
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
            f"{role.name} is a sensitive role: it is never given to another computer by a code."
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
            f"AWS wants to see what {proof.provider_name} said of you at your sign-in, and that is "
            "no longer valid."
        )
        return [(Code.RELAY_OVER, sentence, NextStep.SIGN_IN_AGAIN)]
    return []


def _for(verdict: Verdict, ask: Ask, code: Code) -> Reason:
    mapping = verdict.mapping
    how = "in the console" if ask.hand_over == "console" else "with keys"
    narrowed = ", narrowed by a session policy" if _preference(verdict)[0] else ""
    sentence = (
        f"{capital(by(mapping))} you can use this role {how} for up to "
        f"{duration(verdict.longest)}{narrowed}."
    )
    return Reason(code, sentence, counts=True, rule_id=str(mapping.id))


def _against(verdict: Verdict, *, first: Code | None = None) -> list[Reason]:
    """Its failures, the deciding one before the others."""
    rule = str(verdict.mapping.id)
    ordered = sorted(verdict.failures, key=lambda failure: failure.code is not first)
    return [Reason(one.code, one.sentence, counts=False, rule_id=rule) for one in ordered]
