"""What may be written in a draft: what AWS accepts, and a sentence at the field for everything else."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import pytest

from broker.arns import parse_role_arn
from broker.entitlements.drafts import (
    AccountDraft,
    DenyDraft,
    EnvironmentDraft,
    FieldErrors,
    MappingDraft,
    RoleDraft,
    check_account,
    check_deny,
    check_environment,
    check_mapping,
    check_role,
    problem_of_policy_arns,
)
from broker.errors import BadInput

ARN = "arn:aws:iam::111122223333:role/Developer"
ROLE = uuid.UUID(int=1)


def errors_of(check, draft):
    with pytest.raises(FieldErrors) as refused:
        check(draft)
    return refused.value.errors


def policy(**statement):
    whole = {"Effect": "Allow", "Action": "*", "Resource": "*"} | statement
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{k: v for k, v in whole.items() if v is not None}],
        }
    )


def test_field_errors_are_bad_input_with_a_sentence_a_field():
    errors = FieldErrors({"name": "Fill this in.", "arn": "What is this?"})

    assert isinstance(errors, BadInput)
    assert errors.message == "Fill this in. What is this?"
    assert errors.errors["arn"] == "What is this?"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"account_id": "1234"}, "account_id"),
        ({"account_id": "١١١١٢٢٢٢٣٣٣٣"}, "account_id"),
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "Pay\u202ements"}, "name"),
        ({"name": "Pay\u200bments"}, "name"),
        ({"name": "Pay\nments"}, "name"),
        ({"partition": "aws-moon"}, "partition"),
        ({"alias": "Acme"}, "alias"),
        ({"alias": "ac"}, "alias"),
        ({"alias": "-acme"}, "alias"),
        ({"alias": "acme--pay"}, "alias"),
        ({"alias": "111122223333"}, "alias"),
        ({"region": "cn-north-1"}, "region"),
        ({"region": "nowhere"}, "region"),
        ({"saml_provider_name": ""}, "saml_provider_name"),
        ({"saml_provider_name": "a/b"}, "saml_provider_name"),
    ],
)
def test_an_account_that_cannot_be_is_refused_at_its_field(fields, field):
    draft = AccountDraft(**({"account_id": "111122223333", "name": "Payments"} | fields))

    assert set(errors_of(check_account, draft)) == {field}


def test_everything_that_is_wrong_is_told_at_once():
    errors = errors_of(check_account, AccountDraft("1", "", "aws-moon", alias="!"))

    assert list(errors) == ["account_id", "name", "partition", "alias"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"arn": "arn:aws:iam::111122223333:user/x"}, "arn"),
        ({"arn": "arn:aws:iam::111122223333:role/AWSReservedSSO_Admin_0123456789abcdef"}, "arn"),
        ({"arn": "arn:aws:iam::111122223333:role/aws-service-role/x.amazonaws.com/X"}, "arn"),
        ({"description": "x" * 201}, "description"),
        ({"trust": "magic"}, "trust"),
        ({"console": "window"}, "console"),
        ({"console": "saml_form"}, "console"),
        ({"external_id": "x1"}, "external_id"),
        ({"trust": "assume_role", "external_id": "x"}, "external_id"),
        ({"trust": "assume_role", "external_id": "x y"}, "external_id"),
        ({"max_seconds": 899}, "max_seconds"),
        ({"max_seconds": 43201}, "max_seconds"),
    ],
)
def test_a_role_that_cannot_be_is_refused_at_its_field(fields, field):
    assert set(errors_of(check_role, RoleDraft(**({"arn": ARN} | fields)))) == {field}


@pytest.mark.parametrize(
    ("trust", "path"),
    [("web_identity", "/a;b/"), ("web_identity", "/a*/"), ("saml", "/a,b/"), ("saml", "/a?/")],
)
def test_an_arn_that_aws_would_read_as_two_roles_is_not_registered(trust, path):
    draft = RoleDraft(f"arn:aws:iam::111122223333:role{path}Dev", trust=trust)

    assert set(errors_of(check_role, draft)) == {"arn"}


@pytest.mark.parametrize(
    ("trust", "path"), [("web_identity", "/a,b/"), ("saml", "/a;b/"), ("assume_role", "/a;b/")]
)
def test_an_arn_that_nothing_splits_is_registered(trust, path):
    draft = RoleDraft(f"arn:aws:iam::111122223333:role{path}Dev", trust=trust)

    _, arn = check_role(draft)

    assert arn.path == path


def test_a_role_is_kept_with_its_arn_understood():
    draft, arn = check_role(
        RoleDraft(f" {ARN}\n", trust="assume_role", external_id=" a:b/c-1 ", description=" Do ")
    )

    assert (draft.arn, draft.external_id, draft.description) == (ARN, "a:b/c-1", "Do")
    assert (arn.account_id, arn.name) == ("111122223333", "Developer")


LATER, EARLIER = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("limits", "field", "words"),
    [
        ({"roles": ()}, "roles", "at least one"),
        ({"roles": tuple(uuid.UUID(int=n) for n in range(1001))}, "roles", "at most 1000"),
        ({"note": "x" * 201}, "note", "200"),
        ({"max_seconds": 0}, "max_seconds", "15 minutes to 12 hours"),
        ({"max_seconds": 43201}, "max_seconds", "900 to 43200"),
        ({"allow_console": False, "allow_keys": False}, "allow_console", "console, keys"),
        ({"max_sign_in_age": 59}, "max_sign_in_age", "1 minute"),
        ({"max_sign_in_age": 99_999_999}, "max_sign_in_age", "30 days"),
        ({"valid_from": datetime(2026, 1, 1)}, "valid_from", "time zone"),  # noqa: DTZ001
        ({"valid_until": datetime(2026, 1, 1)}, "valid_until", "time zone"),  # noqa: DTZ001
        ({"valid_from": LATER, "valid_until": EARLIER}, "valid_until", "before it begins"),
        ({"valid_from": LATER, "valid_until": LATER}, "valid_until", "before it begins"),
        ({"networks": ("everywhere",)}, "networks", "192.0.2.0/24"),
        ({"networks": ("",)}, "networks", "not a network"),
        ({"networks": ("192.0.2.0/33",)}, "networks", "not a network"),
        ({"networks": ("192.0.2.7/24",)}, "networks", "did you mean 192.0.2.0/24?"),
        ({"networks": ("2001:db8::1/32",)}, "networks", "did you mean 2001:db8::/32?"),
        ({"networks": ("::ffff:192.0.2.0/120",)}, "networks", "as an IPv4 network"),
        ({"networks": tuple(f"10.0.{n}.0/24" for n in range(51))}, "networks", "at most 50"),
        ({"session_policy": "{"}, "session_policy", "line 1, column 2"),
        ({"session_policy": "[]"}, "session_policy", "JSON object"),
        ({"session_policy": "NaN"}, "session_policy", "NaN"),
        ({"session_policy": "[" * 20_000}, "session_policy", "nested too deeply"),
        ({"session_policy": " " + "x" * 30_000}, "session_policy", "at most 2048"),
        ({"session_policy": '{"Version":"2012-10-17"}'}, "session_policy", "at least one"),
        ({"session_policy": '{"Statement":[]}'}, "session_policy", "2012-10-17"),
        (
            {"session_policy": '{"Version":"2012-10-17","Statement":[]}'},
            "session_policy",
            "at least one",
        ),
        (
            {"session_policy": '{"Version":"2012-10-17","Statement":[1]}'},
            "session_policy",
            "Statement 1: it has to be",
        ),
        (
            {"session_policy": '{"Version":"2012-10-17","Version":"2012-10-17"}'},
            "session_policy",
            "twice",
        ),
        (
            {"session_policy": '{"Version":"2012-10-17","Statment":[],"Statement":{}}'},
            "session_policy",
            "'Statment'",
        ),
        ({"session_policy": policy(Effect="allow")}, "session_policy", '"Effect"'),
        ({"session_policy": policy(Principal="*")}, "session_policy", "no principal"),
        ({"session_policy": policy(Action=None)}, "session_policy", '"Action" or "NotAction"'),
        ({"session_policy": policy(NotAction="*")}, "session_policy", '"Action" or "NotAction"'),
        ({"session_policy": policy(Resource=None)}, "session_policy", '"Resource"'),
        ({"session_policy": policy(Actions="*")}, "session_policy", "'Actions'"),
        ({"session_policy": policy(Sid="x" * 2100)}, "session_policy", "this policy has 2"),
        ({"policy_arns": ("ReadOnlyAccess",)}, "policy_arns", "ARN of a managed policy"),
        (
            {"policy_arns": tuple(f"arn:aws:iam::aws:policy/P{n}" for n in range(11))},
            "policy_arns",
            "at most 10",
        ),
        ({"session_tags": {"": "team"}}, "session_tags", "1 to 128"),
        ({"session_tags": {"x" * 129: "team"}}, "session_tags", "1 to 128"),
        ({"session_tags": {"a*b": "team"}}, "session_tags", "letters"),
        ({"session_tags": {"AWS:x": "team"}}, "session_tags", "reserved"),
        ({"session_tags": {"Team": "team", "team": "team"}}, "session_tags", "twice"),
        ({"session_tags": {"Team": " "}}, "session_tags", "which attribute"),
        ({"session_tags": {f"T{n}": "team" for n in range(51)}}, "session_tags", "at most 50"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_at_its_field(limits, field, words):
    draft = MappingDraft(**({"group": 1, "roles": (ROLE,)} | limits))

    errors = errors_of(check_mapping, draft)

    assert set(errors) == {field}
    assert words in errors[field]


def test_a_mapping_is_kept_in_its_normal_form():
    draft = check_mapping(
        MappingDraft(
            group=1,
            roles=(ROLE, ROLE),
            note=" why\u0301 ",
            networks=("192.0.2.0/255.255.255.0", "198.51.100.7", "2001:DB8:0::/32", "192.0.2.0/24"),
            session_policy=policy(),
            policy_arns=(" arn:aws:iam::aws:policy/job-function/Billing ",) * 2,
            session_tags={" Team ": " team ", "Ort": "ort"},
            valid_from=EARLIER,
            valid_until=LATER,
        )
    )

    assert draft.roles == (ROLE,)
    assert draft.note == "wh\u00fd"
    assert draft.networks == ("192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32")
    assert " " not in draft.session_policy
    assert json.loads(draft.session_policy) == json.loads(policy())
    assert draft.policy_arns == ("arn:aws:iam::aws:policy/job-function/Billing",)
    assert draft.session_tags == {"Team": "team", "Ort": "ort"}


@pytest.mark.parametrize(
    "resource", ["arn:aws:s3:::zürich/*", "arn:aws:s3:::δοκιμή/*", "x\u007f\n"]
)
def test_a_session_policy_is_kept_in_characters_that_sts_takes(resource):
    kept = check_mapping(
        MappingDraft(1, (ROLE,), session_policy=policy(Resource=resource))
    ).session_policy

    assert json.loads(kept)["Statement"][0]["Resource"] == resource
    assert all(c in "\t\n\r" or "\x20" <= c <= "\xff" for c in kept)


@pytest.mark.parametrize(
    ("arn", "roles", "words"),
    [
        ("arn:aws:iam::aws:policy/A", [ARN], ""),
        ("arn:aws:iam::111122223333:policy/A", [ARN], ""),
        (
            "arn:aws:iam::111122223333:policy/A",
            [ARN, "arn:aws:iam::444455556666:role/R"],
            "444455556666",
        ),
        ("arn:aws-cn:iam::aws:policy/A", [ARN], "partition aws-cn"),
        (
            "arn:aws:iam::aws:policy/A",
            [ARN, "arn:aws-cn:iam::111122223333:role/R"],
            "aws-cn",
        ),
        ("nonsense", [ARN], "not the ARN"),
        ("arn:aws:iam::111122223333:policy/A", [], ""),
    ],
)
def test_a_policy_lives_where_its_roles_do(arn, roles, words):
    problem = problem_of_policy_arns([arn], [parse_role_arn(role) for role in roles])

    assert (words in problem) if words else problem == ""


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"reason": " "}, "reason", ""),
        ({"reason": "x" * 201}, "reason", ""),
        ({"group": None}, "group", "Name either a group or a person."),
        ({"person": ROLE}, "group", "Name a group or a person, not both."),
        ({"role": ROLE, "account": 1}, "role", "Name a role or an account, not both."),
        ({"valid_until": datetime(2026, 1, 1)}, "valid_until", ""),  # noqa: DTZ001
    ],
)
def test_a_deny_that_cannot_be_is_refused_at_its_field(fields, field, words):
    draft = DenyDraft(**({"reason": "Gone", "group": 1} | fields))

    errors = errors_of(check_deny, draft)

    assert set(errors) == {field}
    assert words in str(errors[field])


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"name": ""}, "name"), ({"colour": "#f00"}, "colour"), ({"position": -1}, "position")],
)
def test_an_environment_that_cannot_be_is_refused_at_its_field(fields, field):
    draft = EnvironmentDraft(**({"name": "Production"} | fields))

    assert set(errors_of(check_environment, draft)) == {field}
