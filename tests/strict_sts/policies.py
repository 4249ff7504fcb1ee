"""Trust policies and permissions, evaluated."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def allows(
    policy: Mapping[str, Any],
    action: str,
    principals: set[str],
    kind: str,
    context: Mapping[str, Any],
) -> bool:
    """Whether a trust policy allows an action to one of these principals. An explicit Deny wins."""
    statements = policy["Statement"]
    verdict = False
    for statement in statements if isinstance(statements, list) else [statements]:
        if not _about(statement, action, principals, kind):
            continue
        if not _conditions_hold(statement.get("Condition", {}), context):
            continue
        if statement["Effect"] == "Deny":
            return False
        verdict = True
    return verdict


def _about(statement: Mapping[str, Any], action: str, principals: set[str], kind: str) -> bool:
    if not any_like(action, _listed(statement.get("Action", []))):
        return False
    principal = statement.get("Principal", {})
    if principal == "*":
        return kind == "AWS"
    return bool(set(_listed(principal.get(kind, []))) & principals)


def _conditions_hold(conditions: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
    known = {key.lower(): value for key, value in context.items()}
    return all(
        _holds(operator, known.get(key.lower()), _listed(values))
        for operator, keys in conditions.items()
        for key, values in keys.items()
    )


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda found, wanted: found == wanted,
    "StringEqualsIgnoreCase": lambda found, wanted: found.lower() == wanted.lower(),
    "StringLike": lambda found, wanted: _like(found, wanted),
    "ArnEquals": lambda found, wanted: _like(found, wanted),
    "ArnLike": lambda found, wanted: _like(found, wanted),
    "Bool": lambda found, wanted: found.lower() == wanted.lower(),
}


def _holds(operator: str, value: Any, wanted: list[str]) -> bool:
    """One condition. Raises ValueError for an operator that this does not know: a test must not pass by accident."""
    quantifier, _, operator = operator.rpartition(":")
    if operator == "Null":
        return (value is None) is (str(wanted[0]).lower() == "true")
    optional = operator.endswith("IfExists")
    operator = operator.removesuffix("IfExists")
    negated = operator.replace("Not", "") in _TESTS and "Not" in operator
    test = _TESTS.get(operator.replace("Not", "") if negated else operator)
    if test is None or quantifier not in ("", "ForAnyValue", "ForAllValues"):
        raise ValueError(f"unknown condition operator {operator}")
    if value is None:
        return optional or negated or quantifier == "ForAllValues"
    found = [str(one) for one in _listed(value)]

    def fits(one: str) -> bool:
        return any(test(one, str(want)) for want in wanted) is not negated

    return (
        all(map(fits, found)) if quantifier == "ForAllValues" or negated else any(map(fits, found))
    )


def _like(found: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(found, pattern.replace("[", "[[]"))


def any_like(action: str, patterns: Iterable[str]) -> bool:
    return any(_like(action.lower(), pattern.lower()) for pattern in patterns)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
