"""decide(): each rule with a yes and a no, the reason it gives, and the way out that it shows."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.entitlements.rules import (
    Allowed,
    Ask,
    NextStep,
    Refused,
    conditions_of,
    decide,
    duration,
    limits_of,
    moment,
    unconditional,
)
from tests import factories
from tests.entitlements.made_up import (
    CONSOLE,
    DEVELOPERS,
    KEYS,
    NOW,
    ROLE_ID,
    deny,
    mapping,
    principal,
    role,
    snapshot,
)

HOUR = timedelta(hours=1)


def asked(who=None, ask=CONSOLE, now=NOW, *, of):
    return decide(who or principal(), ask, of, now)


def codes(decision):
    return [str(reason.code) for reason in decision.reasons]


def test_a_member_of_a_mapped_group_is_allowed_for_as_long_as_the_role_allows():
    allowed = asked(of=snapshot(mapping(), max_seconds=7200))

    assert isinstance(allowed, Allowed)
    assert allowed.seconds == allowed.longest_seconds == 7200
    assert allowed.mapping_id == uuid.UUID(int=1)
    assert allowed.hand_over == "console"
    assert allowed.role.id == ROLE_ID
    assert (allowed.session_policy, allowed.policy_arns, allowed.session_tags) == ("", (), {})
    assert allowed.ends_by is None
    assert [(r.code, r.counts, r.rule_id) for r in allowed.reasons] == [
        ("mapping_decides", True, str(uuid.UUID(int=1)))
    ]
    assert allowed.reasons[0].sentence == (
        "Through the group developers you can use this role in the console for up to 2 hours."
    )


def test_nothing_means_no_and_the_role_stays_untold():
    refused = asked(of=snapshot())

    assert isinstance(refused, Refused)
    assert refused.code == "no_mapping"
    assert refused.next_step is NextStep.ASK_ADMINISTRATOR
    assert refused.visible is False
    assert codes(refused) == ["no_mapping"]


YES, STEP = True, NextStep
RULES = [
    # mapping limits, principal, ask, expected code (None: allowed), next step, visible
    ("enabled", {"enabled": False}, {}, CONSOLE, "mapping_disabled", STEP.ASK_ADMINISTRATOR, False),
    (
        "not a member",
        {},
        {"groups": ()},
        CONSOLE,
        "not_a_member",
        STEP.ASK_ADMINISTRATOR,
        False,
    ),
    (
        "member of a group of another provider",
        {},
        {"groups": (replace(DEVELOPERS, provider_id=uuid.UUID(int=2)),)},
        CONSOLE,
        "other_provider",
        STEP.ASK_ADMINISTRATOR,
        False,
    ),
    (
        "fresh until just now",
        {},
        {"groups": (replace(DEVELOPERS, fresh_until=NOW),)},
        CONSOLE,
        "membership_stale",
        STEP.SIGN_IN_AGAIN,
        True,
    ),
    (
        "fresh for a moment more",
        {},
        {"groups": (replace(DEVELOPERS, fresh_until=NOW + timedelta(microseconds=1)),)},
        CONSOLE,
        None,
        None,
        True,
    ),
    (
        "kept current",
        {},
        {"groups": (replace(DEVELOPERS, fresh_until=None),)},
        CONSOLE,
        None,
        None,
        True,
    ),
    ("begins later", {"valid_from": NOW + HOUR}, {}, CONSOLE, "not_yet_valid", STEP.WAIT, True),
    ("begins now", {"valid_from": NOW}, {}, CONSOLE, None, None, True),
    (
        "ended now",
        {"valid_until": NOW},
        {},
        CONSOLE,
        "no_longer_valid",
        STEP.ASK_ADMINISTRATOR,
        False,
    ),
    (
        "ends in a quarter of an hour",
        {"valid_until": NOW + timedelta(minutes=15)},
        {},
        CONSOLE,
        "window_closes_too_soon",
        STEP.ASK_ADMINISTRATOR,
        True,
    ),
    (
        "ends just late enough",
        {"valid_until": NOW + timedelta(minutes=15, seconds=30)},
        {},
        CONSOLE,
        None,
        None,
        True,
    ),
    ("one factor", {"require_mfa": True}, {}, CONSOLE, "mfa_missing", STEP.USE_MFA, True),
    (
        "two factors",
        {"require_mfa": True},
        {"proof": factories.proof(at=NOW, mfa=True)},
        CONSOLE,
        None,
        None,
        True,
    ),
    (
        "signed in too long ago",
        {"max_sign_in_age": 599},
        {},
        CONSOLE,
        "sign_in_too_old",
        STEP.SIGN_IN_AGAIN,
        True,
    ),
    ("signed in just in time", {"max_sign_in_age": 600}, {}, CONSOLE, None, None, True),
    (
        "signed in a little in the future",
        {"max_sign_in_age": 600},
        {"proof": factories.proof(at=NOW + timedelta(minutes=5))},
        CONSOLE,
        None,
        None,
        True,
    ),
    (
        "signed in far in the future",
        {"max_sign_in_age": 600},
        {"proof": factories.proof(at=NOW + timedelta(minutes=5, seconds=1))},
        CONSOLE,
        "sign_in_time_unknown",
        STEP.SIGN_IN_AGAIN,
        True,
    ),
    (
        "signed in nobody knows when",
        {"max_sign_in_age": 600},
        {"proof": replace(factories.proof(at=NOW), at_told=False)},
        CONSOLE,
        "sign_in_time_unknown",
        STEP.SIGN_IN_AGAIN,
        True,
    ),
    (
        "signed in nobody knows when, where it does not matter",
        {},
        {"proof": replace(factories.proof(at=NOW), at_told=False)},
        CONSOLE,
        None,
        None,
        True,
    ),
    (
        "from elsewhere",
        {"networks": ("192.0.2.0/24", "2001:db8::/32")},
        {"address": "198.51.100.7"},
        CONSOLE,
        "network_not_allowed",
        STEP.USE_ALLOWED_NETWORK,
        True,
    ),
    (
        "from the network",
        {"networks": ("203.0.113.0/24", "192.0.2.0/24")},
        {"address": "192.0.2.255"},
        CONSOLE,
        None,
        None,
        True,
    ),
    (
        "from the network, as IPv6 writes IPv4",
        {"networks": ("192.0.2.0/24",)},
        {"address": "::ffff:192.0.2.1"},
        CONSOLE,
        None,
        None,
        True,
    ),
    (
        "from elsewhere, as IPv6 writes IPv4",
        {"networks": ("::ffff:0:0/96", "198.51.100.0/24")},
        {"address": "::ffff:192.0.2.1"},
        CONSOLE,
        "network_not_allowed",
        STEP.USE_ALLOWED_NETWORK,
        True,
    ),
    (
        "from the IPv6 network",
        {"networks": ("2001:db8::/32",)},
        {"address": "2001:DB8::1"},
        CONSOLE,
        None,
        None,
        True,
    ),
    (
        "from nobody knows where",
        {"networks": ("0.0.0.0/0", "::/0")},
        {"address": ""},
        CONSOLE,
        "network_unknown",
        STEP.USE_ALLOWED_NETWORK,
        True,
    ),
    (
        "from what is no address",
        {"networks": ("0.0.0.0/0",)},
        {"address": "192.0.2.1, 198.51.100.7"},
        CONSOLE,
        "network_unknown",
        STEP.USE_ALLOWED_NETWORK,
        True,
    ),
    (
        "a network that cannot be read",
        {"networks": ("everywhere",)},
        {},
        CONSOLE,
        "network_not_allowed",
        STEP.USE_ALLOWED_NETWORK,
        True,
    ),
    ("limited to what AWS can", {"max_seconds": 900}, {}, CONSOLE, None, None, True),
    (
        "a value of 256 characters",
        {"session_tags": {"CostCenter": "cost_center"}},
        {"attributes": {"cost_center": ("x" * 256,)}},
        CONSOLE,
        None,
        None,
        True,
    ),
    ("from anywhere", {"networks": ()}, {"address": ""}, CONSOLE, None, None, True),
    (
        "no console",
        {"allow_console": False},
        {},
        CONSOLE,
        "hand_over_not_allowed",
        STEP.USE_OTHER_HAND_OVER,
        True,
    ),
    ("console only", {"allow_keys": False}, {}, CONSOLE, None, None, True),
    (
        "no keys",
        {"allow_keys": False},
        {},
        KEYS,
        "hand_over_not_allowed",
        STEP.USE_OTHER_HAND_OVER,
        True,
    ),
    ("keys only", {"allow_console": False}, {}, KEYS, None, None, True),
    (
        "longer than the mapping",
        {"max_seconds": 3600},
        {},
        Ask(ROLE_ID, "keys", 3601),
        "duration_too_long",
        STEP.ASK_FOR_LESS,
        True,
    ),
    (
        "as long as the mapping",
        {"max_seconds": 3600},
        {},
        Ask(ROLE_ID, "keys", 3600),
        None,
        None,
        1,
    ),
    (
        "longer than the role",
        {},
        {},
        Ask(ROLE_ID, "keys", 43201),
        "duration_too_long",
        STEP.ASK_FOR_LESS,
        True,
    ),
    (
        "longer than the window",
        {"valid_until": NOW + HOUR},
        {},
        Ask(ROLE_ID, "keys", 3600),
        "duration_too_long",
        STEP.ASK_FOR_LESS,
        True,
    ),
    (
        "shorter than AWS can",
        {},
        {},
        Ask(ROLE_ID, "keys", 899),
        "duration_too_short",
        STEP.ASK_FOR_LESS,
        True,
    ),
    ("as short as AWS can", {}, {}, Ask(ROLE_ID, "keys", 900), None, None, True),
    (
        "a limit that AWS cannot keep",
        {"max_seconds": 600},
        {},
        CONSOLE,
        "limit_too_short",
        STEP.ASK_ADMINISTRATOR,
        True,
    ),
    (
        "no such attribute",
        {"session_tags": {"CostCenter": "cost_center"}},
        {},
        CONSOLE,
        "attribute_missing",
        STEP.ASK_ADMINISTRATOR,
        True,
    ),
    (
        "an empty attribute",
        {"session_tags": {"CostCenter": "cost_center"}},
        {"attributes": {"cost_center": ("",)}},
        CONSOLE,
        "attribute_missing",
        STEP.ASK_ADMINISTRATOR,
        True,
    ),
    (
        "two values",
        {"session_tags": {"CostCenter": "cost_center"}},
        {"attributes": {"cost_center": ("12", "13")}},
        CONSOLE,
        "attribute_ambiguous",
        STEP.ASK_ADMINISTRATOR,
        True,
    ),
    (
        "a value AWS refuses",
        {"session_tags": {"CostCenter": "cost_center"}},
        {"attributes": {"cost_center": ("12*",)}},
        CONSOLE,
        "attribute_unfit",
        STEP.ASK_ADMINISTRATOR,
        True,
    ),
    (
        "a value of 257 characters",
        {"session_tags": {"CostCenter": "cost_center"}},
        {"attributes": {"cost_center": ("x" * 257,)}},
        CONSOLE,
        "attribute_unfit",
        STEP.ASK_ADMINISTRATOR,
        True,
    ),
    (
        "values too long together",
        {"session_tags": {"CostCenter": "cost_center", "Team": "team", "Office": "office"}},
        {"attributes": dict.fromkeys(("cost_center", "team", "office"), ("x" * 240,))},
        CONSOLE,
        "tags_too_large",
        STEP.ASK_ADMINISTRATOR,
        True,
    ),
    ("inactive", {}, {"active": False}, CONSOLE, "person_inactive", STEP.ASK_ADMINISTRATOR, False),
]


@pytest.mark.parametrize(
    ("limits", "who", "ask", "code", "step", "visible"),
    [row[1:] for row in RULES],
    ids=[row[0] for row in RULES],
)
def test_each_rule_gives_its_reason_and_the_way_out(limits, who, ask, code, step, visible):
    decision = asked(principal(**who), ask, of=snapshot(mapping(**limits)))

    if code is None:
        assert isinstance(decision, Allowed)
        assert codes(decision) == ["mapping_decides"]
    else:
        assert isinstance(decision, Refused)
        assert (decision.code, decision.next_step) == (code, step)
        assert decision.visible is visible
        assert codes(decision) in ([code], [code, "mapping_allows"])
        first = decision.reasons[0]
        assert (first.code, first.counts, first.sentence) == (code, False, decision.sentence)
        assert decision.sentence[0].isupper()
        assert decision.sentence.endswith(".")


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"enabled": False}, "role_disabled", "The role Developer is switched off"),
        ({"account_enabled": False}, "account_disabled", "Payments production is switched off"),
    ],
)
def test_a_role_that_is_switched_off_is_refused_whatever_the_mappings_say(fields, code, words):
    refused = asked(of=snapshot(mapping(), **fields))

    assert isinstance(refused, Refused)
    assert refused.code == code
    assert words in refused.sentence
    assert refused.visible
    assert codes(refused) == [code, "mapping_allows"]


def test_an_account_that_is_switched_off_is_said_before_its_role():
    refused = asked(ask=Ask(ROLE_ID, "keys", 60), of=snapshot(enabled=False, account_enabled=False))

    assert codes(refused) == [
        "account_disabled",
        "role_disabled",
        "duration_too_short",
        "no_mapping",
    ]
    assert refused.code == "account_disabled"


BY_DEVICE_CODE = Ask(ROLE_ID, "keys", door="device_code")


@pytest.mark.parametrize("hand_over", ["console", "keys"])
@pytest.mark.parametrize("trust", ["web_identity", "saml", "assume_role"])
def test_a_device_code_gives_no_sensitive_role_whatever_the_mappings_say(hand_over, trust):
    ask = Ask(ROLE_ID, hand_over, door="device_code")
    second_factor = principal(proof=factories.proof(at=NOW, mfa=True))

    refused = asked(second_factor, ask, of=snapshot(mapping(), sensitive=True, trust=trust))

    assert isinstance(refused, Refused)
    assert (refused.code, refused.next_step) == ("device_code_not_allowed", NextStep.USE_OTHER_DOOR)
    assert refused.sentence.startswith("Developer is a sensitive role")
    assert refused.visible
    assert codes(refused) == ["device_code_not_allowed", "mapping_allows"]


def test_a_device_code_gives_roles_that_are_not_sensitive():
    allowed = asked(ask=BY_DEVICE_CODE, of=snapshot(mapping(), sensitive=False))

    assert isinstance(allowed, Allowed)
    assert codes(allowed) == ["mapping_decides"]


@pytest.mark.parametrize("door", ["browser", "terminal"])
def test_every_other_door_gives_sensitive_roles(door):
    allowed = asked(ask=Ask(ROLE_ID, "keys", door=door), of=snapshot(mapping(), sensitive=True))

    assert isinstance(allowed, Allowed)


def test_a_sensitive_role_that_somebody_has_no_right_to_stays_untold_at_a_device_code():
    refused = asked(ask=BY_DEVICE_CODE, of=snapshot(sensitive=True))

    assert codes(refused) == ["no_mapping", "device_code_not_allowed"]
    assert refused.code == "no_mapping"
    assert refused.visible is False


def test_a_deny_that_ends_is_not_waited_for_where_a_device_code_gets_nothing_anyway():
    bans = (deny(valid_until=NOW + HOUR),)

    refused = asked(ask=BY_DEVICE_CODE, of=snapshot(mapping(), denies=bans, sensitive=True))

    assert (refused.code, refused.next_step) == ("denied", NextStep.ASK_ADMINISTRATOR)
    assert codes(refused) == ["denied", "device_code_not_allowed", "mapping_allows"]


@pytest.mark.parametrize("sensitive", [True, False])
def test_a_device_code_is_refused_an_asserted_role_that_is_sensitive(sensitive):
    listed = replace(
        snapshot(
            sensitive=sensitive, trust="relayed_assertion", relay_provider_id=uuid.UUID(int=1)
        ),
        relayed_until=NOW + HOUR,
        asserted=True,
    )

    decision = asked(ask=BY_DEVICE_CODE, of=listed)

    if sensitive:
        assert (decision.code, decision.visible) == ("device_code_not_allowed", True)
        assert decision.next_step is NextStep.USE_OTHER_DOOR
    else:
        assert isinstance(decision, Allowed)


def test_which_terminal_asks_decides_nothing():
    ask = Ask(ROLE_ID, "keys", door="terminal")

    assert asked(ask=replace(ask, terminal=uuid.UUID(int=9)), of=snapshot(mapping())) == asked(
        ask=ask, of=snapshot(mapping())
    )


def test_the_other_way_of_handing_over_is_named():
    console_only, keys_only = mapping(allow_keys=False), mapping(allow_console=False)

    keys = asked(ask=KEYS, of=snapshot(console_only))
    console = asked(ask=CONSOLE, of=snapshot(keys_only))

    assert keys.sentence.endswith("can be used in the console, not with keys.")
    assert console.sentence.endswith("can be used with keys, not in the console.")


def test_sentences_name_the_numbers_the_time_and_the_networks():
    who = principal(groups=(replace(DEVELOPERS, fresh_until=NOW - HOUR),), address="198.51.100.7")
    limits = mapping(
        require_mfa=True,
        max_sign_in_age=300,
        networks=("192.0.2.0/24",),
        valid_from=NOW + HOUR,
        allow_keys=False,
        max_seconds=1800,
    )

    refused = asked(who, Ask(ROLE_ID, "keys", 5400), of=snapshot(limits))

    text = "\n".join(reason.sentence for reason in refused.reasons)
    assert set(codes(refused)) == {
        "membership_stale",
        "not_yet_valid",
        "mfa_missing",
        "sign_in_too_old",
        "network_not_allowed",
        "hand_over_not_allowed",
        "duration_too_long",
    }
    for words in (
        "3 March 2026, 13:30 UTC",
        "3 March 2026, 15:30 UTC",
        "5 minutes",
        "10 minutes old",
        "192.0.2.0/24",
        "198.51.100.7",
        "1 hour 30 minutes",
        "30 minutes at most",
    ):
        assert words in text
    assert refused.wait_until == NOW + HOUR
    assert refused.next_step is NextStep.WAIT


# --- denies


def test_a_deny_beats_every_mapping_and_shows_its_reason():
    refused = asked(of=snapshot(mapping(1), mapping(2), denies=(deny(),)))

    assert isinstance(refused, Refused)
    assert refused.code == "denied"
    assert refused.sentence == "A rule forbids this: Under investigation."
    assert refused.next_step is NextStep.ASK_ADMINISTRATOR
    assert refused.visible
    assert codes(refused) == ["denied", "mapping_allows", "mapping_allows"]
    assert [reason.counts for reason in refused.reasons] == [False, True, True]


def test_a_deny_without_a_mapping_tells_nobody_of_the_role():
    refused = asked(of=snapshot(denies=(deny(),)))

    assert refused.code == "denied"
    assert refused.visible is False


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"enabled": False}, "deny_disabled"),
        ({"valid_until": NOW}, "deny_over"),
    ],
)
def test_a_deny_that_is_not_in_force_is_mentioned_and_does_not_refuse(fields, code):
    allowed = asked(of=snapshot(mapping(), denies=(deny(**fields),)))

    assert isinstance(allowed, Allowed)
    assert codes(allowed) == ["mapping_decides", code]
    assert allowed.reasons[1].counts
    assert allowed.reasons[1].rule_id == str(deny().id)


def test_a_deny_counts_for_a_member_whose_membership_is_stale():
    who = principal(groups=(replace(DEVELOPERS, fresh_until=NOW - HOUR),))

    refused = asked(who, of=snapshot(mapping(), denies=(deny(group_id=DEVELOPERS.id),)))

    assert refused.code == "denied"


def test_denies_that_end_say_until_when_to_wait():
    first, last = deny(1, valid_until=NOW + HOUR), deny(2, valid_until=NOW + 2 * HOUR)

    refused = asked(of=snapshot(mapping(), denies=(first, last)))

    assert refused.next_step is NextStep.WAIT
    assert refused.wait_until == NOW + 2 * HOUR
    assert "(until 3 March 2026, 15:30 UTC)" in refused.sentence


@pytest.mark.parametrize(
    ("denies", "limits", "fields"),
    [
        ((deny(1, valid_until=NOW + HOUR), deny(2)), {}, {}),
        ((deny(1, valid_until=NOW + HOUR),), {"require_mfa": True}, {}),
        ((deny(1, valid_until=NOW + HOUR),), {}, {"enabled": False}),
    ],
    ids=["another deny does not end", "the mapping refuses as well", "the role is switched off"],
)
def test_waiting_is_not_advised_where_it_would_not_help(denies, limits, fields):
    refused = asked(of=snapshot(mapping(**limits), denies=denies, **fields))

    assert refused.code == "denied"
    assert refused.next_step is NextStep.ASK_ADMINISTRATOR
    assert refused.wait_until is None


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("Gone", "A rule forbids this: Gone."),
        ("Ask Bob!", "A rule forbids this: Ask Bob!"),
        ("  ", "A rule forbids this: no reason was written down."),
        ("{0} %s $x", "A rule forbids this: {0} %s $x."),
    ],
)
def test_the_reason_of_a_deny_is_taken_as_it_was_written(reason, sentence):
    assert asked(of=snapshot(mapping(), denies=(deny(reason=reason),))).sentence == sentence


# --- several mappings


def test_a_mapping_without_a_session_policy_decides_before_a_longer_one_with_it():
    narrowed = mapping(1, session_policy="{}", max_seconds=43200)
    by_arn = mapping(2, policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",), max_seconds=43200)
    plain = mapping(3, max_seconds=3600)

    allowed = asked(of=snapshot(narrowed, by_arn, plain))

    assert allowed.mapping_id == plain.id
    assert allowed.seconds == 3600
    assert allowed.longest_seconds == 43200
    assert allowed.session_policy == ""
    assert codes(allowed) == ["mapping_decides", "mapping_allows", "mapping_allows"]


def test_an_ask_for_longer_is_met_by_the_mapping_that_gives_it_with_its_policy():
    narrowed = mapping(1, session_policy="{}", max_seconds=43200)
    plain = mapping(3, max_seconds=3600)

    allowed = asked(ask=Ask(ROLE_ID, "console", 7200), of=snapshot(narrowed, plain))

    assert (allowed.mapping_id, allowed.seconds, allowed.session_policy) == (
        narrowed.id,
        7200,
        "{}",
    )
    assert "narrowed by a session policy" in allowed.reasons[0].sentence
    assert codes(allowed) == ["mapping_decides", "duration_too_long"]


def test_among_equals_the_longest_decides_and_then_the_one_made_first():
    short = mapping(1, max_seconds=900)
    later, first = mapping(2, created_at=NOW), mapping(3, created_at=NOW - HOUR)

    allowed = asked(of=snapshot(short, later, first))

    assert allowed.mapping_id == first.id


def test_without_a_time_of_making_the_lower_id_decides():
    made = [replace(mapping(number), created_at=None) for number in (5, 4)]

    assert asked(of=snapshot(*made)).mapping_id == made[1].id


def test_policies_and_tags_of_two_mappings_are_never_mixed():
    first = mapping(1, policy_arns=("arn:aws:iam::aws:policy/A",), session_tags={"Team": "team"})
    second = mapping(2, session_policy='{"a":1}', max_seconds=900)

    allowed = asked(principal(attributes={"team": ("blue",)}), of=snapshot(first, second))

    assert allowed.mapping_id == first.id
    assert allowed.policy_arns == ("arn:aws:iam::aws:policy/A",)
    assert allowed.session_policy == ""
    assert allowed.session_tags == {"Team": "blue"}


def test_the_mapping_closest_to_a_yes_gives_the_advice():
    far = mapping(1, valid_until=NOW - HOUR)
    later = mapping(2, valid_from=NOW + HOUR)
    near = mapping(3, require_mfa=True, max_sign_in_age=60)

    refused = asked(of=snapshot(far, later, near))

    assert refused.code == "mfa_missing"
    assert refused.next_step is NextStep.USE_MFA
    assert codes(refused) == [
        "mfa_missing",
        "sign_in_too_old",
        "not_yet_valid",
        "no_longer_valid",
    ]


def test_of_two_that_are_as_far_the_one_with_less_against_it_advises():
    twice = mapping(1, require_mfa=True, max_sign_in_age=60)
    once = mapping(2, require_mfa=True)

    refused = asked(of=snapshot(twice, once))

    assert refused.reasons[0].rule_id == str(once.id)


def test_of_mappings_that_are_too_short_the_longest_says_what_can_be_had():
    short, longer = mapping(1, max_seconds=900), mapping(2, max_seconds=1800)

    refused = asked(ask=Ask(ROLE_ID, "keys", 3600), of=snapshot(short, longer))

    assert refused.sentence == (
        "You asked for 1 hour; through the group developers you can have 30 minutes at most."
    )


def test_a_mapping_that_waits_says_until_when():
    refused = asked(of=snapshot(mapping(valid_from=NOW + HOUR)))

    assert refused.wait_until == NOW + HOUR


# --- limits and tags


@pytest.mark.parametrize(
    ("until", "seconds"),
    [
        (timedelta(minutes=16), 900),
        (timedelta(minutes=16, seconds=29), 900),
        (timedelta(minutes=16, seconds=30), 960),
        (timedelta(hours=2), 3600),
    ],
)
def test_a_session_ends_before_its_mapping_does(until, seconds):
    allowed = asked(of=snapshot(mapping(valid_until=NOW + until), max_seconds=3600))

    assert allowed.seconds == seconds
    assert allowed.ends_by == NOW + until


@pytest.mark.parametrize(
    ("console", "ask", "seconds"),
    [
        ("saml_form", CONSOLE, 54 * 60),
        ("saml_form", KEYS, 59 * 60),
        ("federation", CONSOLE, 59 * 60),
    ],
)
def test_a_session_by_the_saml_form_ends_before_its_mapping_however_late_aws_gets_it(
    console, ask, seconds
):
    """AWS takes the form for five minutes, and counts the session from then."""
    of = snapshot(mapping(valid_until=NOW + HOUR), max_seconds=7200, trust="saml", console=console)

    assert asked(ask=ask, of=of).seconds == seconds


def test_tags_carry_the_values_of_the_person_and_their_own_names_cannot_be_forged():
    tags = {"Team": "team", "Who": "handle", "Mail": "email", "Name": "name"}
    who = principal(
        handle="alice",
        email="alice@example.com",
        name="Älice Ω",
        attributes={"team": ("blue team", "blue team"), "handle": ("root",), "email": ("x@y.z",)},
    )

    allowed = asked(who, of=snapshot(mapping(session_tags=tags)))

    assert allowed.session_tags == {
        "Team": "blue team",
        "Who": "alice",
        "Mail": "alice@example.com",
        "Name": "Älice Ω",
    }


# --- words


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (0, "0 seconds"),
        (-5, "0 seconds"),
        (1, "1 second"),
        (900, "15 minutes"),
        (3600, "1 hour"),
        (3661, "1 hour 1 minute"),
        (43200, "12 hours"),
        (90000, "1 day 1 hour"),
        (timedelta(days=2), "2 days"),
    ],
)
def test_a_length_of_time_reads_as_people_say_it(length, words):
    assert duration(length) == words


def test_a_moment_is_told_in_utc():
    assert moment(NOW) == "3 March 2026, 14:30 UTC"


def test_a_mapping_can_say_what_it_demands_and_what_it_limits():
    everything = mapping(
        max_seconds=3600,
        allow_keys=False,
        require_mfa=True,
        max_sign_in_age=3600,
        networks=("192.0.2.0/24",),
        valid_from=NOW,
        valid_until=NOW + HOUR,
        session_policy="{}",
        policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
        session_tags={"Team": "team"},
    )

    assert [c.code for c in conditions_of(everything)] == ["mfa", "sign_in_age", "network"]
    assert [c.sentence for c in limits_of(everything)] == [
        "up to 1 hour",
        "console only",
        "from 3 March 2026, 14:30 UTC",
        "until 3 March 2026, 15:30 UTC",
        "narrowed by a session policy",
        "narrowed to ReadOnlyAccess",
        "tag Team from the person's team",
    ]
    assert limits_of(mapping(allow_console=False))[0].sentence == "keys only"
    assert conditions_of(unconditional(everything)) == ()
    assert limits_of(unconditional(everything)) == limits_of(everything)
    assert (conditions_of(mapping()), limits_of(mapping())) == ((), ())


def test_the_role_facts_are_handed_through_untouched():
    facts = role(external_id="x", trust="assume_role")

    allowed = asked(of=snapshot(mapping(), external_id="x", trust="assume_role"))

    assert allowed.role == facts


# --- Roles that Daypass assumes with a role of its own


def test_a_chained_role_offers_an_hour_at_most_whatever_its_maximum_says():
    of = snapshot(mapping(), trust="assume_role", max_seconds=43200)

    decision = asked(principal(), CONSOLE, of=of)

    assert isinstance(decision, Allowed)
    assert (decision.seconds, decision.longest_seconds) == (3600, 3600)


def test_more_than_an_hour_of_a_chained_role_is_refused_with_the_reason():
    of = snapshot(mapping(), trust="assume_role", max_seconds=43200)

    decision = asked(principal(), Ask(ROLE_ID, "keys", 7200), of=of)

    assert isinstance(decision, Refused)
    assert decision.code == "duration_too_long"
    assert "1 hour at most, which is all that AWS gives" in decision.sentence


def test_the_tags_that_stay_on_are_those_of_the_mapping_that_decides():
    tags = {"Person": "handle", "Mail": "email"}
    of = snapshot(mapping(session_tags=tags, transitive_tag_keys=("Person",)))

    decision = asked(principal(), CONSOLE, of=of)

    assert isinstance(decision, Allowed)
    assert decision.transitive_tag_keys == ("Person",)
