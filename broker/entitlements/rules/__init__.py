"""The decision: principal + ask + snapshot + now -> Allowed or Refused, each with every reason. Pure.

facts.py is what goes in, answers.py what comes out; deciding.py is the decision, over what judging.py says of each
mapping by itself. describing.py says in words what a mapping demands.
"""

from __future__ import annotations

from broker.entitlements.rules.answers import Allowed, Code, Decision, NextStep, Reason, Refused
from broker.entitlements.rules.deciding import decide
from broker.entitlements.rules.describing import Condition, conditions_of, limits_of, unconditional
from broker.entitlements.rules.facts import (
    Ask,
    DenyFacts,
    Door,
    HandOver,
    MappingFacts,
    RoleFacts,
    Snapshot,
)
from broker.entitlements.rules.judging import fit_for_tag
from broker.entitlements.rules.lengths import (
    LONGEST_CHAINED_SECONDS,
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    longest_of,
)
from broker.entitlements.rules.words import duration, moment

__all__ = [
    "LONGEST_CHAINED_SECONDS",
    "LONGEST_SECONDS",
    "SHORTEST_SECONDS",
    "Allowed",
    "Ask",
    "Code",
    "Condition",
    "Decision",
    "DenyFacts",
    "Door",
    "HandOver",
    "MappingFacts",
    "NextStep",
    "Reason",
    "Refused",
    "RoleFacts",
    "Snapshot",
    "conditions_of",
    "decide",
    "duration",
    "fit_for_tag",
    "limits_of",
    "longest_of",
    "moment",
    "unconditional",
]
