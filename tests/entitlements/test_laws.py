"""Laws of the decision that hold for every person, mapping and deny, found by search instead of example."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as some

from accounts.identity import GroupRef
from broker.entitlements.rules import (
    Allowed,
    Ask,
    DenyFacts,
    MappingFacts,
    Refused,
    Snapshot,
    decide,
    fit_for_tag,
)
from tests import factories
from tests.entitlements.made_up import NOW, ROLE_ID, principal, role

# More for an hour's search before a release: DAYPASS_LAW_EXAMPLES=100000
EXAMPLES = int(os.environ.get("DAYPASS_LAW_EXAMPLES", "40"))
# No deadline: how long an example takes says something about the machine, and nothing about the law.
usual = settings(max_examples=EXAMPLES)
thorough = settings(usual, max_examples=2 * EXAMPLES)
PROVIDER = uuid.UUID(int=1)
minutes = some.integers(-3000, 3000).map(lambda n: NOW + timedelta(minutes=n))
perhaps_a_moment = some.none() | minutes
networks = some.lists(
    some.sampled_from(["0.0.0.0/0", "192.0.2.0/24", "2001:db8::/32", "nonsense"]), max_size=2
).map(tuple)

group_refs = some.builds(
    GroupRef,
    id=some.integers(1, 5),
    provider_id=some.sampled_from([PROVIDER, PROVIDER, PROVIDER, uuid.UUID(int=2)]),
    key=some.just("key"),
    name=some.just("name"),
    fresh_until=perhaps_a_moment,
)
group_sets = some.lists(group_refs, max_size=5, unique_by=lambda g: g.id).map(tuple)
hand_overs = some.sampled_from([(True, True), (True, False), (False, True)])


@some.composite
def mappings(draw):
    console, keys = draw(hand_overs)
    group_id = draw(some.integers(1, 5))
    return MappingFacts(
        id=draw(some.uuids()),
        group_id=group_id,
        group_name=f"group {group_id}",
        note="",
        enabled=draw(some.sampled_from([True, True, True, False])),
        max_seconds=draw(some.none() | some.integers(900, 43200)),
        allow_console=console,
        allow_keys=keys,
        require_mfa=draw(some.booleans()),
        max_sign_in_age=draw(some.none() | some.integers(60, 86400)),
        networks=draw(networks),
        valid_from=draw(some.none() | some.none() | minutes),
        valid_until=draw(some.none() | some.none() | minutes),
        session_policy=draw(some.sampled_from(["", "", "{}", '{"Version":"2012-10-17"}'])),
        policy_arns=draw(some.sampled_from([(), (), ("arn:aws:iam::aws:policy/A",)])),
        session_tags=draw(some.sampled_from([{}, {}, {"Team": "team"}, {"Who": "handle"}])),
        created_at=draw(perhaps_a_moment),
    )


denies = some.builds(
    DenyFacts,
    id=some.uuids(),
    reason=some.text(max_size=20),
    enabled=some.booleans(),
    group_id=some.none() | some.integers(1, 5),
    valid_until=perhaps_a_moment,
)
some_mappings = some.lists(mappings(), max_size=6, unique_by=lambda m: m.id).map(tuple)
some_denies = some.lists(denies, max_size=3, unique_by=lambda d: d.id).map(tuple)
roles = some.builds(
    role,
    max_seconds=some.integers(900, 43200),
    enabled=some.sampled_from([True, True, True, False]),
    account_enabled=some.sampled_from([True, True, True, False]),
    sensitive=some.booleans(),
)
snapshots = some.builds(Snapshot, role=roles, mappings=some_mappings, denies=some_denies)
without_denies = some.builds(Snapshot, role=roles, mappings=some_mappings, denies=some.just(()))
people = some.builds(
    principal,
    proof=some.builds(factories.proof, at=minutes, mfa=some.booleans()),
    groups=group_sets,
    active=some.sampled_from([True, True, True, False]),
    address=some.sampled_from(["", "192.0.2.9", "::ffff:192.0.2.9", "2001:db8::1", "nonsense"]),
    attributes=some.sampled_from([{}, {"team": ("blue",)}, {"team": ("a", "b")}]),
)
asks = some.builds(
    Ask,
    role_id=some.just(ROLE_ID),
    hand_over=some.sampled_from(["console", "keys"]),
    seconds=some.none() | some.integers(0, 50000),
    door=some.sampled_from(["browser", "terminal", "device_code"]),
)


@usual
@given(people, asks, snapshots, some.randoms(use_true_random=False))
def test_the_order_of_mappings_denies_and_groups_does_not_matter(who, ask, snapshot, random):
    def shuffled(values):
        values = list(values)
        random.shuffle(values)
        return tuple(values)

    turned = replace(
        snapshot, mappings=shuffled(snapshot.mappings), denies=shuffled(snapshot.denies)
    )

    assert decide(replace(who, groups=shuffled(who.groups)), ask, turned, NOW) == decide(
        who, ask, snapshot, NOW
    )


@usual
@given(people, asks, snapshots, denies)
def test_one_deny_in_force_always_wins(who, ask, snapshot, deny):
    deny = replace(deny, enabled=True, valid_until=None)

    decision = decide(who, ask, replace(snapshot, denies=(*snapshot.denies, deny)), NOW)

    assert isinstance(decision, Refused)
    assert decision.code == "denied"


@thorough
@given(people, asks, without_denies, some.data())
def test_fewer_groups_never_mean_more_rights(who, ask, snapshot, data):
    fewer = data.draw(
        some.lists(some.sampled_from(who.groups), unique=True) if who.groups else some.just([])
    )

    with_fewer = decide(replace(who, groups=tuple(fewer)), ask, snapshot, NOW)
    with_all = decide(who, ask, snapshot, NOW)

    if isinstance(with_fewer, Allowed):
        assert isinstance(with_all, Allowed)
        assert with_all.longest_seconds >= with_fewer.longest_seconds
        if ask.seconds is not None:
            assert with_all.seconds == with_fewer.seconds
        if not narrowed(with_fewer):
            assert not narrowed(with_all)
            assert with_all.seconds >= with_fewer.seconds
    elif with_fewer.visible:
        assert isinstance(with_all, Allowed) or with_all.visible


def narrowed(allowed):
    return bool(allowed.session_policy or allowed.policy_arns)


@thorough
@given(people, asks, snapshots)
def test_nothing_granted_outlives_its_shortest_limit(who, ask, snapshot):
    decision = decide(who, ask, snapshot, NOW)

    if isinstance(decision, Allowed):
        by = next(m for m in snapshot.mappings if m.id == decision.mapping_id)
        assert 900 <= decision.seconds <= decision.longest_seconds <= snapshot.role.max_seconds
        assert decision.seconds <= (by.max_seconds or 43200)
        assert ask.seconds is None or decision.seconds == ask.seconds
        assert decision.ends_by == by.valid_until
        if by.valid_until is not None:
            assert NOW + timedelta(seconds=decision.seconds) < by.valid_until


@usual
@given(people, asks, snapshots)
def test_every_mapping_and_every_deny_appears_in_the_reasons(who, ask, snapshot):
    decision = decide(who, ask, snapshot, NOW)

    rules = {reason.rule_id for reason in decision.reasons} - {""}
    assert rules == {str(rule.id) for rule in (*snapshot.mappings, *snapshot.denies)}
    assert all(reason.sentence.strip() for reason in decision.reasons)


@thorough
@given(people, asks, snapshots)
def test_what_is_allowed_is_allowed_by_one_mapping_that_holds_by_itself(who, ask, snapshot):
    decision = decide(who, ask, snapshot, NOW)

    if isinstance(decision, Allowed):
        by = next(m for m in snapshot.mappings if m.id == decision.mapping_id)
        alone = decide(who, ask, replace(snapshot, mappings=(by,)), NOW)
        assert isinstance(alone, Allowed)
        assert (alone.seconds, alone.session_policy, alone.policy_arns, alone.session_tags) == (
            decision.seconds,
            decision.session_policy,
            decision.policy_arns,
            decision.session_tags,
        )
        held = {g.id: g for g in who.groups}[by.group_id]
        assert who.active
        assert by.enabled
        assert held.provider_id == who.proof.provider_id
        assert held.fresh_until is None or held.fresh_until > NOW
        assert who.proof.mfa or not by.require_mfa
        assert set(decision.session_tags) == set(by.session_tags)
        assert decision.reasons[0].rule_id == str(by.id)
        assert decision.reasons[0].code == "mapping_decides"


@usual
@given(people, asks, snapshots)
def test_the_first_reason_is_the_one_that_decided(who, ask, snapshot):
    decision = decide(who, ask, snapshot, NOW)

    first = decision.reasons[0]
    assert first.counts is isinstance(decision, Allowed)
    if isinstance(decision, Refused):
        assert (first.code, first.sentence) == (decision.code, decision.sentence)
        assert (decision.wait_until is not None) is (decision.next_step == "wait")


@usual
@given(people, some.integers(900, 43200), snapshots)
def test_whoever_may_have_it_for_so_long_may_have_it_for_less(who, seconds, snapshot):
    for hand_over in ("console", "keys"):
        longer = decide(who, Ask(ROLE_ID, hand_over, seconds), snapshot, NOW)
        shorter = decide(who, Ask(ROLE_ID, hand_over, (seconds + 900) // 2), snapshot, NOW)
        anyhow = decide(who, Ask(ROLE_ID, hand_over), snapshot, NOW)

        assert isinstance(shorter, Allowed) or isinstance(longer, Refused)
        assert isinstance(anyhow, Allowed) or isinstance(longer, Refused)
        if isinstance(anyhow, Allowed):
            assert isinstance(longer, Allowed) is (seconds <= anyhow.longest_seconds)


@thorough
@given(people, asks, snapshots)
def test_a_device_code_gets_what_every_other_door_gets_but_nothing_sensitive(who, ask, snapshot):
    by_code = decide(who, replace(ask, door="device_code"), snapshot, NOW)
    in_browser = decide(who, replace(ask, door="browser"), snapshot, NOW)

    assert decide(who, replace(ask, door="terminal"), snapshot, NOW) == in_browser
    if snapshot.role.sensitive:
        assert isinstance(by_code, Refused)
        assert "device_code_not_allowed" in {reason.code for reason in by_code.reasons}
    else:
        assert by_code == in_browser
    if isinstance(in_browser, Refused) and isinstance(by_code, Refused):
        assert by_code.visible == in_browser.visible


@usual
@given(some.text(max_size=300))
def test_a_tag_value_is_accepted_only_if_aws_would_accept_it(value):
    """botocore's model of STS has the pattern: letters, separators and numbers of any script, and _.:/=+-@"""
    accepted = len(value) <= 256 and all(
        c.isalpha() or c.isnumeric() or c.isspace() or c in "_.:/=+-@" for c in value
    )

    if fit_for_tag(value):
        assert accepted
