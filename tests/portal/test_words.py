"""What the pages say about times and matches, and what they offer after a refusal."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.arns import PARTITIONS
from broker.entitlements.rules import NextStep, Refused
from broker.errors import BadInput
from broker.handover.rules import KeyFacts, key_forms
from broker.portal import rules

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (59, "less than a minute"),
        (900, "15 min"),
        (3600, "1 hour"),
        (5400, "1 h 30 min"),
        (28800, "8 hours"),
    ],
)
def test_lengths_are_said_as_people_say_them(seconds, words):
    assert rules.duration_in_words(seconds) == words


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(minutes=52, seconds=59), "52 min left"),
        (timedelta(hours=1), "1 h left"),
        (timedelta(hours=3, minutes=5), "3 h 5 min left"),
        (timedelta(seconds=30), "less than a minute left"),
        (timedelta(0), "ended"),
        (timedelta(seconds=-1), "ended"),
    ],
)
def test_time_left_never_promises_more_than_there_is(left, words):
    assert rules.time_left(NOW + left, NOW) == words


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (timedelta(seconds=10), "just now"),
        (timedelta(minutes=12), "12 min ago"),
        (timedelta(hours=3), "3 h ago"),
        (timedelta(hours=30), "yesterday"),
        (timedelta(days=4), "4 days ago"),
    ],
)
def test_the_past_is_said_as_people_say_it(ago, words):
    assert rules.time_ago(NOW - ago, NOW) == words


def test_days_have_the_names_that_people_use():
    assert rules.day_of(NOW, NOW) == "Today"
    assert rules.day_of(NOW - timedelta(days=1), NOW) == "Yesterday"
    assert rules.day_of(NOW - timedelta(days=8), NOW) == "Thursday 12 November 2026"


def test_matches_are_marked_whatever_their_case_and_run_together():
    assert rules.highlight("Payments production", ["PROD", "pay", "ments"]) == (
        ("Payments", True),
        (" ", False),
        ("prod", True),
        ("uction", False),
    )


@given(st.text(max_size=40), st.lists(st.text(max_size=5), max_size=4))
def test_highlighting_changes_no_text(text, words):
    assert "".join(piece for piece, _ in rules.highlight(text, words)) == text


def test_lengths_on_offer_end_with_what_is_allowed():
    offered = [seconds for seconds, _ in rules.duration_choices(5400)]

    assert offered == [5400, 3600, 1800, 900]


@pytest.mark.parametrize("step", list(NextStep))
@pytest.mark.parametrize("hand_over", ["console", "keys"])
def test_every_refusal_has_a_way_out_in_words(step, hand_over):
    refused = Refused(code="x", sentence="No.", next_step=step, visible=True, reasons=())

    way = rules.way_out(refused, hand_over)

    assert way.sentence
    assert way.kind == "none" or way.label


def test_the_other_hand_over_is_offered_when_one_is_not_allowed():
    refused = Refused("x", "No.", NextStep.USE_OTHER_HAND_OVER, visible=True, reasons=())

    assert rules.way_out(refused, "console").kind == "keys"
    assert rules.way_out(refused, "keys").kind == "console"


def test_a_length_that_cannot_be_had_is_answered_with_the_one_that_can():
    refused = Refused("x", "No.", NextStep.ASK_FOR_LESS, visible=True, reasons=())

    console, keys = (rules.way_out(refused, one) for one in ("console", "keys"))

    assert console.label == "Open the console for as long as allowed"
    assert keys.label == "Get keys for as long as allowed"
    assert console.sentence == keys.sentence == "Take it for as long as is allowed."


@pytest.mark.parametrize("service", rules.SERVICES)
@pytest.mark.parametrize("partition", PARTITIONS.values(), ids=lambda one: one.name)
def test_every_service_has_a_page_that_the_console_may_land_on(service, partition):
    from broker.arns import safe_console_destination

    url = rules.console_destination(partition, service=service.id, region="")

    assert safe_console_destination(partition, url) == url
    assert f"region={partition.home_region}" in url


def test_a_region_of_another_partition_is_refused():
    with pytest.raises(BadInput, match="This account cannot use cn-north-1"):
        rules.console_destination(PARTITIONS["aws"], service="s3", region="cn-north-1")


def test_masked_keys_show_the_key_id_and_no_secret():
    facts = KeyFacts(
        access_key_id="ASIAEXAMPLEEXAMPLE00",
        secret_access_key="secretSECRETsecret+/=secretSECRETsecretSE",
        session_token="tokenTOKEN" * 40 + "==",
        expires_at=NOW,
        account_id="111122223333",
        region="eu-west-1",
        profile="111122223333_AdministratorAccessForEverybody",
    )

    forms = key_forms(facts)

    assert {form.id for form in forms} == set(rules.KEY_HINTS)
    for form in forms:
        shown = rules.masked(form.text)
        assert "ASIAEXAMPLEEXAMPLE00" in shown
        assert "ecretSECRET" not in shown
        assert "okenTOKEN" not in shown
        assert shown.count("\u2022" * 12) == 2
        assert len(shown.splitlines()) == len(form.text.splitlines())


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/130 Safari/537 Edg/130.0", "Edge on Windows"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko Firefox/130.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) Version/17 Safari/605", "Safari on macOS"),
        ("aws-cli/2.17 md/awscrt", "AWS CLI 2.17"),
        (
            "aws-cli/2.38.1 md/awscrt#0.31 ua/2.1 os/linux#6.1 lang/python#3",
            "AWS CLI 2.38.1 on Linux",
        ),
        ("aws-cli/2.9.19 Python/3.11.2 Linux/6.1.0 source/x86_64", "AWS CLI 2.9.19 on Linux"),
        ("aws-cli/2.38.1 md/awscrt#0.31 ua/2.1 os/macos#24.1", "AWS CLI 2.38.1 on macOS"),
        ("Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/windows#10", "boto3 1.44.5 on Windows"),
        ("aws-sdk-js/3.1169.0 ua/2.1 os/linux#6", "AWS SDK for JavaScript 3.1169.0 on Linux"),
        ("aws-sdk-go-v2/1.41.7 ua/2.1 os/linux", "AWS SDK for Go 1.41.7 on Linux"),
        ("aws-sdk-ruby3/3.257.0 ua/2.1 os/linux#6", "AWS SDK for Ruby 3.257.0 on Linux"),
        ("curl/8.14.1", "curl 8.14.1"),
        ("northwind-robot/1.2", "northwind-robot/1.2"),
        ("", ""),
    ],
)
def test_clients_are_named_as_people_know_them(agent, words):
    assert rules.client_in_words(agent) == words


def test_a_remedy_is_read_in_steps():
    remedy = rules.in_steps("Check: (1) the role exists; (2) it trusts. A new role needs a moment.")

    assert remedy == rules.Remedy(
        "Check:", ("the role exists", "it trusts."), "A new role needs a moment."
    )
    assert rules.in_steps("Look at (a) it.") == rules.Remedy("Look at (a) it.", (), "")


def test_no_word_of_a_remedy_of_aws_is_lost():
    from broker.aws import errors

    remedies = [rule.meaning.remedy for rule in errors.RULES]
    assert any("(1)" in one for one in remedies)
    for one in remedies:
        read = rules.in_steps(one)
        shown = " ".join([read.lead, *read.steps, read.rest])
        assert re.findall(r"\w+", shown) == re.findall(r"\w+", re.sub(r"\([1-9]\) ", "", one))


def test_commands_in_a_sentence_are_marked_and_all_of_it_is_escaped():
    from broker.portal.tags import commands

    assert commands("Run `a <b>` & go.") == (
        'Run <code class="unbroken">a &lt;b&gt;</code> &amp; go.'
    )
    assert commands("Run `a command of many words`.") == "Run <code>a command of many words</code>."
    assert commands("One ` alone <i>.") == "One ` alone &lt;i&gt;."
    assert commands("") == ""
