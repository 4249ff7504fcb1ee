"""Reading IAM trust policies offline: who is let in, to do what, under which conditions, and what is not met. Pure.

Specification: "IAM JSON policy elements" and "Policy evaluation logic" in the IAM user guide. Only what a trust policy
can say is read; what cannot be judged from here (an address, a tag of the caller) is said to be unknown, never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from broker.errors import BadInput

Verdict = Literal["met", "unmet", "unknown"]


class UnreadablePolicy(BadInput):
    """A document that is no policy."""

    code = "unreadable_policy"
    message = "This is not an IAM policy."


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of a Condition block. operator as written, with ForAnyValue: and IfExists; values: any of them."""

    operator: str
    key: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.operator} {self.key} = {' or '.join(self.values) or '(nothing)'}"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. principals: (type, value), ("*", "*") for everybody. but: whether actions are a NotAction."""

    effect: str
    principals: tuple[tuple[str, str], ...]
    actions: tuple[str, ...]
    conditions: tuple[Condition, ...]
    sid: str = ""
    but: bool = False
    other_principals: bool = False
    """Whether principals are a NotPrincipal."""

    def covers(self, action: str) -> bool:
        named = any(_like(action.lower(), pattern.lower()) for pattern in self.actions)
        return named != self.but

    def admits(self, names: frozenset[tuple[str, str]]) -> bool:
        """Whether one of these names of the caller is its principal. A plain `*` lets no federated caller in, but
        denies everybody."""
        if self.other_principals:
            return not any(name in names for name in self.principals)
        everybody = ("*", "*") in self.principals or ("AWS", "*") in self.principals
        if everybody and (self.effect == "Deny" or any(kind == "AWS" for kind, _ in names)):
            return True
        return any(name in names for name in self.principals)


@dataclass(frozen=True, slots=True)
class Call:
    """A call as AWS sees it. names: what the caller is known by. context: condition key, in lower case -> its values.

    known: beginnings of keys (lower case) of which everything is in context: one that is missing there is absent.
    """

    action: str
    names: frozenset[tuple[str, str]]
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    known: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """How one statement fits one call."""

    statement: Statement
    admits: bool
    covers: bool
    unmet: tuple[Condition, ...]
    unknown: tuple[Condition, ...]

    @property
    def applies(self) -> bool:
        return self.admits and self.covers and not self.unmet and not self.unknown


def read_policy(text: str) -> tuple[Statement, ...]:
    """The statements of a policy document. Raises UnreadablePolicy."""
    try:
        document = json.loads(text)
    except ValueError:
        raise UnreadablePolicy("This is not JSON.") from None
    if not isinstance(document, dict) or "Statement" not in document:
        raise UnreadablePolicy("A policy is an object with a Statement.")
    written = document["Statement"]
    entries = written if isinstance(written, list) else [written]
    if not all(isinstance(entry, dict) for entry in entries):
        raise UnreadablePolicy("A statement is an object.")
    return tuple(_statement(entry) for entry in entries)


def read(statement: Statement, call: Call) -> Reading:
    """How this statement fits this call."""
    judged = [(condition, judge(condition, call)) for condition in statement.conditions]
    return Reading(
        statement,
        admits=statement.admits(call.names),
        covers=statement.covers(call.action),
        unmet=tuple(condition for condition, verdict in judged if verdict == "unmet"),
        unknown=tuple(condition for condition, verdict in judged if verdict == "unknown"),
    )


def allows(statements: tuple[Statement, ...], call: Call) -> Verdict:
    """Whether a policy lets this call in: an allowing statement applies and no denying one does."""
    readings = [read(statement, call) for statement in statements]
    about = [reading for reading in readings if reading.admits and reading.covers]
    denies = [reading for reading in about if reading.statement.effect == "Deny"]
    if any(reading.applies for reading in denies):
        return "unmet"
    letting = [reading for reading in about if reading.statement.effect == "Allow"]
    doubtful = any(not reading.unmet for reading in denies)
    if any(reading.applies for reading in letting):
        return "unknown" if doubtful else "met"
    return "unknown" if any(not reading.unmet for reading in letting) else "unmet"


# --- Reading


def _statement(entry: Mapping[str, Any]) -> Statement:
    but = "NotAction" in entry
    others = "NotPrincipal" in entry
    return Statement(
        effect=str(entry.get("Effect", "")),
        principals=tuple(_principals(entry.get("NotPrincipal" if others else "Principal", ()))),
        actions=_texts(entry.get("NotAction" if but else "Action", ())),
        conditions=tuple(_conditions(entry.get("Condition", {}))),
        sid=str(entry.get("Sid", "")),
        but=but,
        other_principals=others,
    )


def _principals(written: Any) -> Iterator[tuple[str, str]]:
    if isinstance(written, Mapping):
        for kind, values in written.items():
            yield from ((str(kind), value) for value in _texts(values))
    elif written == "*":
        yield "*", "*"


def _conditions(written: Any) -> Iterator[Condition]:
    if not isinstance(written, Mapping):
        raise UnreadablePolicy("A Condition is an object.")
    for operator, block in written.items():
        if not isinstance(block, Mapping):
            raise UnreadablePolicy("A Condition is an object of objects.")
        for key, values in block.items():
            yield Condition(str(operator), str(key), _texts(values))


def _texts(written: Any) -> tuple[str, ...]:
    """AWS takes one value for a list of one, and true for "true"."""
    values = written if isinstance(written, list | tuple) else [written]
    return tuple(str(v).lower() if isinstance(v, bool) else str(v) for v in values)


# --- Conditions

_OPERATOR = re.compile(r"(?:(ForAnyValue|ForAllValues):)?([A-Za-z]+?)(IfExists)?", re.IGNORECASE)


def judge(condition: Condition, call: Call) -> Verdict:
    """Whether a condition is met by what is known of the call."""
    match = _OPERATOR.fullmatch(condition.operator)
    if match is None:
        return "unknown"
    quantifier, operator, if_exists = (part or "" for part in match.groups())
    operator, quantifier = operator.lower(), quantifier.lower()
    key = condition.key.lower()
    had = call.context.get(key)
    if had is None and not key.startswith(call.known):
        return "unknown"
    if operator == "null":
        return _verdict((had is None) == (condition.values == ("true",)))
    negative = operator.startswith(("stringnot", "arnnot"))
    if had is None:
        # A missing key fails every comparison, but for the negative ones, IfExists and ForAllValues.
        return _verdict(bool(if_exists) or negative or quantifier == "forallvalues")
    if any("${" in wanted for wanted in condition.values):
        return "unknown"  # a policy variable stands for what AWS knows of the call
    compare = _COMPARISONS.get(operator.replace("not", "", 1) if negative else operator)
    if compare is None:
        return "unknown"
    hits = [any(compare(value, wanted) for wanted in condition.values) != negative for value in had]
    return _verdict(any(hits) if quantifier == "foranyvalue" else all(hits))


def _verdict(met: bool) -> Verdict:
    return "met" if met else "unmet"


def _like(text: str, pattern: str) -> bool:
    return (
        re.fullmatch(
            "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), text, re.DOTALL
        )
        is not None
    )


def _fold(value: str, wanted: str) -> bool:
    return value.lower() == wanted.lower()


_COMPARISONS = {
    "stringequals": str.__eq__,
    "stringequalsignorecase": _fold,
    "stringlike": _like,
    "arnequals": _like,
    "arnlike": _like,
    "bool": _fold,
}
