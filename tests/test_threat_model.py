"""docs/threat-model.md says of every requirement on sign-in what is done, where, and which tests show it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "threat-model.md"

NUMBERS = (*range(1, 10), *range(20, 29), *range(31, 35), 38, *range(44, 48), *range(51, 58))
REQUIREMENTS = [f"R{number}" for number in (*NUMBERS, *range(61, 65))]


def rows(text: str) -> dict[str, tuple[str, str, str]]:
    """Requirement -> (what, where, shown by), as the table has it."""
    found: dict[str, tuple[str, str, str]] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"\| (R\d+) \| (.*) \| (.*) \| (.*) \|", line)
        if match:
            assert match[1] not in found, f"{match[1]} has two rows"
            found[match[1]] = (match[2], match[3], match[4])
    return found


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@cache
def named_in(path: str) -> frozenset[str]:
    """The names of the tests in a file, read and not imported."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text())
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


TABLE = rows(DOCUMENT.read_text())


def test_every_requirement_has_a_row_and_no_other_has_one():
    assert list(TABLE) == REQUIREMENTS


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_a_row_says_what_is_done_and_where(requirement):
    what, where, _ = TABLE[requirement]

    assert len(what.split()) >= 10
    assert quoted(where)
    for place in quoted(where):
        assert (ROOT / place).exists(), place


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_a_row_names_tests_and_they_exist(requirement):
    shown = quoted(TABLE[requirement][2])

    assert shown, "no test shows it"
    for test in shown:
        path, _, name = test.partition("::")
        assert name in named_in(path), f"there is no {test}"


def test_a_row_without_tests_or_with_made_up_ones_would_be_found():
    """The reading itself: what it would say of a careless page."""
    careless = rows(
        "| R1 | words | `accounts/` |  |\n| R2 | words | `accounts/` | `tests/none.py::test_x` |"
    )

    assert quoted(careless["R1"][2]) == []
    path, _, name = quoted(careless["R2"][2])[0].partition("::")
    assert name not in named_in(path)
    assert "R3" not in careless
