"""The table of AWS's failures: complete, readable, harmless, and the same as in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import botocore.exceptions
import pytest
from botocore.exceptions import ClientError

from broker.aws.errors import _UNKNOWN, RULES, Asked, explain, translate
from broker.errors import AwsError, AwsUnavailable

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "aws-errors.md"
MEANINGS = [rule.meaning for rule in RULES] + [_UNKNOWN]
ASKED = Asked(
    action="AssumeRoleWithWebIdentity",
    role_arn="arn:aws:iam::111122223333:role/Developer",
    region="eu-west-1",
    seconds=3600,
    trusted="https://daypass.example.com",
    tag_keys=("team",),
    source_identity=True,
)


def client_error(code: str, message: str = "", status: int = 400) -> ClientError:
    answer = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "AssumeRole")


def test_every_meaning_is_in_the_documentation_with_what_the_employee_sees_and_the_remedy():
    text = " ".join(DOCUMENT.read_text().split())

    for meaning in MEANINGS:
        assert f"`{meaning.code}`" in text
        assert meaning.message in text
        assert re.sub(r"\{(\w+)\}", r"*\1*", meaning.cause) in text
        assert re.sub(r"\{(\w+)\}", r"*\1*", meaning.remedy) in text


def test_the_documentation_names_no_code_that_does_not_exist():
    named = set(re.findall(r"`(aws_[a-z_]+)`", DOCUMENT.read_text()))

    assert named == {meaning.code for meaning in MEANINGS}


@pytest.mark.parametrize("meaning", MEANINGS, ids=lambda m: m.code)
def test_the_employee_reads_plain_sentences_without_names_of_the_inside(meaning):
    assert re.fullmatch(r"[A-Z][^{}]+\.", meaning.message)
    assert len(meaning.message) < 200
    for inside in ("STS", "trust", "policy", "ARN", "JWT", "SAML", "sts:"):
        assert inside not in meaning.message


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.meaning.code)
def test_what_daypass_tries_again_the_employee_may_try_again_too(rule):
    assert rule.meaning.retry or not rule.meaning.again
    assert rule.meaning.again or not rule.meaning.elsewhere


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.meaning.code)
def test_cause_and_remedy_fit_their_columns(rule):
    action = next(iter(rule.actions), "AssumeRoleWithWebIdentity")
    asked = Asked(**{**{f: getattr(ASKED, f) for f in ASKED.__slots__}, "action": action})
    says = "Packed 142% " + "word " * 200
    if rule.says:
        says = f"{rule.says.pattern.replace('?', '')} {says}"

    problem = translate(client_error(sorted(rule.aws_codes)[0], says), asked)

    assert problem.code == rule.meaning.code
    assert "{" not in problem.cause + problem.remedy
    assert len(problem.remedy) <= 1000
    assert isinstance(problem, AwsUnavailable) is rule.meaning.retry


def test_a_client_error_without_an_error_in_it_is_explained_by_its_status():
    def problem(status: int) -> AwsError:
        return translate(ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "x"), ASKED)

    assert problem(503).code == "aws_internal"
    assert problem(429).code == "aws_throttled"
    assert problem(418).code == "aws_failed"
    assert translate(ClientError({}, "x"), ASKED).code == "aws_failed"


def test_every_failure_of_botocore_is_explained_somehow():
    for name in dir(botocore.exceptions):
        kind = getattr(botocore.exceptions, name)
        if isinstance(kind, type) and issubclass(kind, botocore.exceptions.BotoCoreError):
            error = kind.__new__(kind)
            Exception.__init__(error, "secret-in-message")

            problem = explain(error, ASKED).problem

            assert problem.aws_code == kind.__name__
            assert "secret-in-message" not in problem.cause


def test_the_percent_of_a_too_large_policy_is_passed_on():
    problem = translate(
        client_error(
            "PackedPolicyTooLarge", "Packed size of session tags consumes 142% of allotted space."
        ),
        ASKED,
    )

    assert "(142 % of it)" in problem.cause
