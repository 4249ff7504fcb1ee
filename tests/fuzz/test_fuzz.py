"""A short run of the fuzzing, the same every time. `python -m tests.fuzz --minutes 10` runs for longer."""

from __future__ import annotations

from random import Random

import pytest

import tests.attacks.oidc
import tests.attacks.saml  # noqa: F401 (both fill the registry of stages)
from tests.fuzz.rounds import DOORS, Ended, World, _judge, play, stage_for

ROUNDS = {"acs": 120, "callback": 100, "sls": 60, "back-channel": 60}


@pytest.mark.parametrize("door", sorted(DOORS))
@pytest.mark.django_db
def test_changed_messages_sign_nobody_in_who_was_not_signed(door):
    finds = []
    with stage_for(door) as stage:
        for number in range(ROUNDS[door]):
            _, _, found = play(door, Random(f"7:{door}:{number}"), stage)
            if found:
                finds.append((number, found.problem))

    assert finds == []


@pytest.mark.django_db
def test_the_judge_sees_whoever_comes_in_without_a_signature():
    """What the rounds rely on: an honest sign-in is a find as soon as the provider is said to have signed another."""
    with stage_for("acs") as stage:
        before = World.now()
        browser, root = stage.ask()
        answer = stage.send(browser, stage.sign(root))
        after = World.now()

        good = Ended(answer.status_code, b"", {"u-0001": {"aws-admins", "aws-readers"}})
        fewer = Ended(answer.status_code, b"", {"u-0001": {"aws-readers"}})
        nobody = Ended(answer.status_code, b"", {})

        assert _judge(good, before, after, "acs") == ""
        assert "came in with" in _judge(fewer, before, after, "acs")
        assert "came in; the provider signed" in _judge(nobody, before, after, "acs")
        assert "session ended" in _judge(nobody, after, before, "sls")
