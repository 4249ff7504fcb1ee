"""Session names: whatever template an administrator writes, no two people share a name and AWS takes it."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from accounts.rules import HANDLE
from broker.assume.rules import SUFFIX_LENGTH, SUFFIX_LETTERS
from broker.entitlements.drafts import FieldErrors, RoleDraft, check_role
from broker.entitlements.names import DEFAULT, example, fill, problem_of_template

AWS_TAKES = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
handles = st.from_regex(HANDLE, fullmatch=True)
randoms = st.text(SUFFIX_LETTERS, min_size=SUFFIX_LENGTH, max_size=SUFFIX_LENGTH)
literals = st.text("aZ9_+,.@-", max_size=8)
orders = st.permutations(["{handle}", "{random}"])


@st.composite
def templates(draw) -> str:
    first, second = draw(orders)
    return draw(literals) + first + draw(literals) + second + draw(literals)


@given(templates(), handles, handles, randoms, randoms)
def test_two_people_never_come_by_the_same_name(template, one, other, first, second):
    assume(one != other)
    assert problem_of_template(template) == ""

    assert fill(template, handle=one, random=first) != fill(template, handle=other, random=second)


@given(templates(), handles, randoms)
def test_aws_takes_every_name(template, handle, random):
    assert AWS_TAKES.fullmatch(fill(template, handle=handle, random=random))


pieces = st.sampled_from(["", "{", "}", "{email}", "a", ".", "=", " ", "/", "\n", "x" * 30])


@given(templates(), pieces, st.integers(0, 60))
def test_whatever_passes_the_check_makes_a_name_that_aws_takes(template, piece, place):
    template = template[:place] + piece + template[place:]
    assume(problem_of_template(template) == "")

    assert AWS_TAKES.fullmatch(fill(template, handle="a" * 32, random="0" * 8))
    assert AWS_TAKES.fullmatch(fill(template, handle="ab", random="0" * 8))


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{handle}", "{random} exactly once"),
        ("{random}", "{handle} exactly once"),
        ("{handle}{handle}{random}", "{handle} exactly once"),
        ("{email}.{random}", "There is no {email}"),
        ("{handle}.{random}!", "letters, digits"),
        ("daypass={handle}.{random}", "equals sign"),
        ("{handle}.{random}}", "letters, digits"),
        ("team payments {handle}.{random}", "letters, digits"),
        ("a-very-long-name-of-a-team-{handle}.{random}", "Leave out 4"),
        ("{handle}.{random}\n", "letters, digits"),
    ],
)
def test_a_template_that_could_mislead_is_refused_with_the_reason(template, told):
    assert told in problem_of_template(template)


def test_a_role_without_a_template_uses_the_usual_one():
    assert fill("", handle="alice", random="9f3k2c7d") == "alice.9f3k2c7d"
    assert example("") == example(DEFAULT) == "alice.9f3k2c7d"
    assert example("ops-{handle}-{random}") == "ops-alice-9f3k2c7d"


def test_a_role_is_not_saved_with_a_template_that_could_mislead():
    arn = "arn:aws:iam::111122223333:role/Developer"

    with pytest.raises(FieldErrors) as told:
        check_role(RoleDraft(arn=arn, session_name="{handle}"))
    kept, _ = check_role(RoleDraft(arn=arn, session_name=" ops-{handle}-{random} "))

    assert list(told.value.errors) == ["session_name"]
    assert kept.session_name == "ops-{handle}-{random}"
