"""The page that explains the decision knows every rule of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.entitlements.rules import Allowed, Ask, Code, decide
from tests.entitlements.made_up import DEVELOPERS, ROLE_ID, mapping, principal, snapshot

PAGE = (Path(__file__).parents[2] / "docs" / "mappings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", list(Code))
def test_every_reason_code_is_explained(code):
    assert f"`{code}`" in PAGE


def test_the_example_with_two_mappings_is_true():
    full, narrowed = mapping(1, max_seconds=3600), mapping(2, session_policy="{}")
    both = snapshot(full, narrowed)
    now = datetime(2026, 3, 3, 14, 30, tzinfo=UTC)

    plain = decide(principal(), Ask(ROLE_ID, "console"), both, now)
    longer = decide(principal(), Ask(ROLE_ID, "console", 4 * 3600), both, now)

    assert isinstance(plain, Allowed)
    assert (plain.mapping_id, plain.seconds) == (full.id, 3600)
    assert (longer.mapping_id, longer.seconds) == (narrowed.id, 4 * 3600)


@pytest.mark.parametrize(("hour", "minute", "minutes"), [(16, 0, 59), (16, 44, 15), (16, 45, None)])
def test_the_example_of_a_mapping_that_ends_is_true(hour, minute, minutes):
    ends = mapping(valid_until=datetime(2026, 3, 3, 17, 0, tzinfo=UTC))
    now = datetime(2026, 3, 3, hour, minute, tzinfo=UTC)
    member = principal(groups=(replace(DEVELOPERS, fresh_until=None),))

    decision = decide(member, Ask(ROLE_ID, "keys"), snapshot(ends), now)

    if minutes is None:
        assert decision.code == "window_closes_too_soon"
    else:
        assert decision.seconds == minutes * 60
