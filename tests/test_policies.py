"""Reading trust policies offline: what AWS would find met, unmet, and what cannot be told from here."""

from __future__ import annotations

import json

import pytest

from broker.policies import Call, Condition, UnreadablePolicy, allows, judge, read_policy

OURS = "arn:aws:iam::111122223333:oidc-provider/daypass.test"
ACTION = "sts:AssumeRoleWithWebIdentity"
CALL = Call(
    ACTION,
    frozenset({("Federated", OURS)}),
    {
        "daypass.test:aud": ("sts",),
        "daypass.test:amr": ("mfa", "pwd"),
        "sts:sourceidentity": ("ada",),
    },
    ("daypass.test:", "sts:", "aws:multifactorauth"),
)


@pytest.mark.parametrize(
    ("operator", "key", "values", "verdict"),
    [
        ("StringEquals", "daypass.test:aud", ("sts",), "met"),
        ("stringequals", "DAYPASS.test:AUD", ("no", "sts"), "met"),
        ("StringEquals", "daypass.test:aud", ("STS",), "unmet"),
        ("StringEqualsIgnoreCase", "daypass.test:aud", ("STS",), "met"),
        ("StringLike", "sts:SourceIdentity", ("a?a",), "met"),
        ("StringLike", "sts:SourceIdentity", ("[a]da",), "unmet"),
        ("StringNotEquals", "daypass.test:aud", ("sts",), "unmet"),
        ("StringNotLike", "daypass.test:aud", ("x*",), "met"),
        ("StringEquals", "sts:ExternalId", ("x",), "unmet"),
        ("StringEqualsIfExists", "sts:ExternalId", ("x",), "met"),
        ("StringNotEquals", "sts:ExternalId", ("x",), "met"),
        ("Null", "sts:ExternalId", ("true",), "met"),
        ("Null", "daypass.test:aud", ("true",), "unmet"),
        ("Bool", "aws:MultiFactorAuthPresent", ("true",), "unmet"),
        ("BoolIfExists", "aws:MultiFactorAuthPresent", ("true",), "met"),
        ("ForAnyValue:StringEquals", "daypass.test:amr", ("mfa",), "met"),
        ("ForAllValues:StringEquals", "daypass.test:amr", ("mfa",), "unmet"),
        ("ForAllValues:StringEquals", "daypass.test:none", ("mfa",), "met"),
        ("IpAddress", "aws:SourceIp", ("192.0.2.0/24",), "unknown"),
        ("StringEquals", "sts:SourceIdentity", ("${saml:sub}",), "unknown"),
        ("StringNotLike", "sts:SourceIdentity", ("${aws:PrincipalTag/name}*",), "unknown"),
        ("StringEquals", "aws:PrincipalOrgID", ("o-1",), "unknown"),
        ("NumericLessThan", "daypass.test:aud", ("3",), "unknown"),
    ],
)
def test_a_condition_is(operator, key, values, verdict):
    assert judge(Condition(operator, key, values), CALL) == verdict


def policy(*statements: dict) -> tuple:
    return read_policy(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


LETS = {"Effect": "Allow", "Principal": {"Federated": OURS}, "Action": "sts:*"}
DENIES = {"Effect": "Deny", "Principal": "*", "Action": ACTION}


@pytest.mark.parametrize(
    ("statements", "verdict"),
    [
        ((LETS,), "met"),
        ((LETS, DENIES), "unmet"),
        ((), "unmet"),
        (({**LETS, "Principal": "*"},), "unmet"),
        (({**LETS, "Principal": {"AWS": OURS}},), "unmet"),
        (({**LETS, "Action": ["sts:TagSession"]},), "unmet"),
        (({"Effect": "Allow", "Principal": {"Federated": OURS}, "NotAction": "s3:*"},), "met"),
        (({**LETS, "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}},), "unknown"),
        ((LETS, {**DENIES, "Condition": {"IpAddress": {"aws:SourceIp": "::/0"}}}), "unknown"),
        ((LETS, {**DENIES, "Condition": {"Null": {"daypass.test:aud": True}}}), "met"),
    ],
)
def test_a_policy_lets_in(statements, verdict):
    assert allows(policy(*statements), CALL) == verdict


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"Statement": 7}', '{"Statement": [{"Condition": []}]}',
     '{"Statement": {"Condition": {"Bool": 1}}}'],
)  # fmt: skip
def test_what_is_no_policy_is_said_to_be_none(text):
    with pytest.raises(UnreadablePolicy):
        read_policy(text)
