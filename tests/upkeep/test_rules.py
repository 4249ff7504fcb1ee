"""When a key changes: never before AWS can know it, never while somebody who must know it does not."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.minting import keys
from broker.upkeep import rules
from broker.upkeep.rules import KeyFacts, Planned, Situation, held_by, listed, plan

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SIGNING = KeyFacts("old", "signing", NOW, NOW, None, NOW + 1095 * DAY)
WAITING = KeyFacts("new", "published", NOW + 89 * DAY, None, None, NOW + 1184 * DAY)
RETIRED = KeyFacts("gone", "retired", NOW - 90 * DAY, NOW - 89 * DAY, NOW, NOW + 900 * DAY)


def situation(*found: KeyFacts, **more) -> Situation:
    return Situation(keys=found, **{"every": 90 * DAY, **more})


def test_the_overlap_is_the_one_that_minting_insists_on():
    assert keys.PUBLISH_AHEAD == keys.KEEP_RETIRED == rules.OVERLAP


def test_the_next_key_is_published_so_early_that_it_can_sign_when_its_time_comes():
    assert plan(situation(SIGNING)) == (Planned("publish", "", NOW + 89 * DAY),)


def test_a_saml_key_is_published_two_weeks_ahead_for_people_to_upload_it():
    [planned] = plan(situation(SIGNING, every=365 * DAY, lead=rules.SAML_LEAD))

    assert planned.at == NOW + 351 * DAY


def test_without_a_schedule_nothing_is_published_and_nothing_signs_by_itself():
    assert plan(situation(SIGNING, every=None)) == ()
    [planned] = plan(situation(SIGNING, WAITING, every=None))
    assert planned.by_hand
    assert not planned.due(NOW + 1000 * DAY)


def test_a_certificate_that_ends_brings_the_change_forward():
    ending = replace(SIGNING, expires_at=NOW + 70 * DAY)

    [planned] = plan(situation(ending))

    assert planned.at == NOW + 9 * DAY


def test_a_published_key_signs_after_a_day_and_not_a_moment_earlier():
    [planned] = plan(situation(SIGNING, WAITING))

    assert planned == Planned("rotate", "new", NOW + 90 * DAY)
    assert not planned.due(NOW + 90 * DAY - timedelta(seconds=1))
    assert planned.due(NOW + 90 * DAY)


def test_with_a_published_copy_the_day_begins_when_the_copy_holds_the_key():
    late = replace(WAITING, copied_at=WAITING.created_at + 7 * HOUR)

    [planned] = plan(situation(SIGNING, late, copy=True))

    assert planned.at == NOW + 90 * DAY + 7 * HOUR
    assert planned.obstacles == ()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"copy": True}, "does not hold the key yet"),
        ({"copy": True, "copy_problem": "disk full"}, "disk full"),
        ({"behind": ("Payments (111122223333)",)}, "Payments (111122223333) is not known"),
    ],
)
def test_what_is_in_the_way_stops_it_for_as_long_as_it_is_there(more, said):
    planned = plan(situation(SIGNING, WAITING, **more))[0]

    assert any(said in obstacle for obstacle in planned.obstacles)
    assert not planned.due(NOW + 1000 * DAY)


def test_without_a_kms_key_to_follow_nothing_is_published():
    [planned] = plan(situation(SIGNING, no_next="Create one."))

    assert planned.obstacles == ("Create one.",)


def test_a_retired_key_is_removed_a_day_later():
    assert plan(situation(SIGNING, RETIRED, every=None)) == (Planned("remove", "gone", NOW + DAY),)


def test_the_first_key_that_was_published_is_the_first_to_sign():
    later = replace(WAITING, kid="newer", created_at=WAITING.created_at + HOUR)

    [planned] = plan(situation(SIGNING, later, WAITING))

    assert planned.kid == "new"


moments = st.integers(0, 1000 * 24).map(lambda hours: NOW + hours * HOUR)


@given(
    published=moments,
    copied=st.none() | moments,
    now=moments,
    copy=st.booleans(),
    problem=st.sampled_from(["", "disk full"]),
    behind=st.lists(st.just("an account"), max_size=2),
)
def test_no_key_ever_signs_that_somebody_could_not_know_for_a_day(
    published, copied, now, copy, problem, behind
):
    waiting = KeyFacts("new", "published", published, None, None, NOW + 3000 * DAY, copied)
    facts = situation(SIGNING, waiting, copy=copy, copy_problem=problem, behind=tuple(behind))

    for planned in plan(facts):
        if planned.deed == "rotate" and planned.due(now):
            assert now - published >= DAY
            assert not behind
            if copy:
                assert not problem
                assert now - copied >= DAY


METADATA = """<?xml version="1.0"?>
<md:EntityDescriptor xmlns:md="m" entityID="https://daypass.test/aws/saml/metadata">
<ds:X509Certificate>AAAA
 BBBB</ds:X509Certificate><X509Certificate a="b">CCCC</X509Certificate></md:EntityDescriptor>"""


def test_what_a_provider_holds_is_read_from_its_metadata():
    held = held_by(METADATA)

    assert held.entity_id == "https://daypass.test/aws/saml/metadata"
    assert held.certificates == {"AAAABBBB", "CCCC"}


@pytest.mark.parametrize("text", ["", "{}", "<EntityDescriptor>", "<a entityID='x'/>"])
def test_of_what_is_no_metadata_nothing_is_read(text):
    assert held_by(text) == rules.Held("", frozenset())


def test_reading_takes_no_longer_than_the_text_is_long():
    hostile = "<EntityDescriptor " * 50_000 + "<X509Certificate " * 50_000 + "<aaaaaaa" * 50_000

    def spent(text: str) -> float:
        began = time.process_time()
        held_by(text)
        return time.process_time() - began

    assert spent(hostile) < 5


def test_ending_sessions_names_the_moment_in_a_policy_that_is_json():
    import json
    import shlex

    chore = rules.end_sessions(role_name="Developer", account="Payments", at=NOW)

    words = shlex.split(chore.commands[0])
    policy = json.loads(words[words.index("--policy-document") + 1])
    assert policy["Statement"][0]["Condition"] == {
        "DateLessThan": {"aws:TokenIssueTime": "2026-03-02T09:00:00Z"}
    }


@pytest.mark.parametrize(
    ("names", "said"),
    [([], ""), (["A", "B", "C"], "A, B, C"), (["A", "B", "C", "D", "E"], "A, B, C and 2 more")],
)
def test_many_names_are_cut_short(names, said):
    assert listed(names) == said
