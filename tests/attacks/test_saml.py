"""Every SAML attack of the corpus is refused, and every positive control is let in."""

from __future__ import annotations

import pytest

import tests.attacks.saml  # noqa: F401 (fills the registry)
from tests.attacks import registry
from tests.attacks.registry import Attack, Control

ATTACKS = [one for one in registry.ATTACKS if one.protocol == "saml"]
CONTROLS = [one for one in registry.CONTROLS if one.protocol == "saml"]


@pytest.mark.parametrize("one", ATTACKS, ids=lambda one: one.name)
def test_the_attack_is_refused(db, one: Attack):
    outcome = registry.carry_out(one)

    assert outcome.problems == (), outcome


@pytest.mark.parametrize("one", CONTROLS, ids=lambda one: one.name)
def test_the_honest_are_let_in(db, one: Control):
    outcome = registry.let_in(one)

    assert outcome.problems == (), outcome
