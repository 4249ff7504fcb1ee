"""The plan: names AWS takes, lengths it gives, and nothing that the decision did not allow."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.assume import rules
from broker.assume.rules import SUFFIX_LENGTH, SUFFIX_LETTERS, Unplannable, make_plan, session_name
from broker.entitlements.rules import Allowed, RoleFacts
from tests import factories as make

SUFFIX = "9f3k2c7d"
ROLE = RoleFacts(
    id=uuid.UUID(int=1),
    arn="arn:aws:iam::111122223333:role/team/Developer",
    name="Developer",
    path="/team/",
    account_id="111122223333",
    account_name="Payments",
    account_enabled=True,
    partition="aws",
    region="eu-west-1",
    environment="Production",
    environment_colour="red",
    production=True,
    description="",
    trust="web_identity",
    console="federation",
    external_id="",
    saml_provider_name="Daypass",
    max_seconds=43200,
    sensitive=False,
    enabled=True,
)


def allowed(seconds: int = 3600, **role) -> Allowed:
    return Allowed(
        role=replace(ROLE, **role),
        hand_over="keys",
        mapping_id=uuid.UUID(int=2),
        seconds=seconds,
        longest_seconds=seconds,
        session_policy='{"Version":"2012-10-17","Statement":[]}',
        policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
        session_tags={"team": "blue"},
        ends_by=None,
        reasons=(),
    )


def alice(**fields):
    return make.principal(handle="alice", **fields)


def test_the_plan_carries_what_was_allowed_and_who_asked():
    principal = alice(signed_in=make.proof(mfa=True))

    plan = make_plan(principal, allowed(), suffix=SUFFIX)

    assert plan.session_name == "alice.9f3k2c7d"
    assert plan.source_identity == "alice"
    assert plan.subject == str(principal.person_id)
    assert plan.session_policy == '{"Version":"2012-10-17","Statement":[]}'
    assert plan.policy_arns == ("arn:aws:iam::aws:policy/ReadOnlyAccess",)
    assert plan.session_tags == {"team": "blue"}
    assert plan.mfa is True
    assert plan.expected_arn == "arn:aws:sts::111122223333:assumed-role/Developer/alice.9f3k2c7d"


def test_saml_parameters_are_those_of_the_roles_partition_and_region():
    arn = "arn:aws-cn:iam::111122223333:role/Developer"

    plan = make_plan(
        alice(), allowed(partition="aws-cn", region="cn-northwest-1", arn=arn), suffix=SUFFIX
    )

    assert plan.saml_provider_arn == "arn:aws-cn:iam::111122223333:saml-provider/Daypass"
    assert plan.recipient == "https://cn-northwest-1.signin.amazonaws.cn/saml"
    assert plan.audience == "urn:amazon:webservices:cn-north-1"


@pytest.mark.parametrize(
    ("trust", "asked", "role_max", "seconds"),
    [
        ("web_identity", 43200, 43200, 43200),
        ("saml", 43200, 43200, 43200),
        ("assume_role", 43200, 43200, 3600),  # chained: an hour, whatever the role says
        ("assume_role", 1800, 43200, 1800),
        ("web_identity", 43200, 7200, 7200),
    ],
)
def test_a_session_is_never_asked_for_longer_than_aws_gives(trust, asked, role_max, seconds):
    plan = make_plan(alice(), allowed(asked, trust=trust, max_seconds=role_max), suffix=SUFFIX)

    assert plan.seconds == seconds
    assert plan.chained is (trust == "assume_role")


def test_less_than_fifteen_minutes_cannot_be_planned():
    with pytest.raises(Unplannable):
        make_plan(alice(), allowed(899), suffix=SUFFIX)


@pytest.mark.parametrize("handle", ["a", "", "alice smith", "alice/bob", "älice", "x" * 65, "a:b"])
def test_a_handle_that_aws_would_not_take_is_a_failure_not_a_changed_name(handle):
    with pytest.raises(Unplannable):
        make_plan(make.principal(handle=handle), allowed(), suffix=SUFFIX)


handles = st.from_regex(r"[a-z0-9][a-z0-9._-]{1,31}", fullmatch=True)
suffixes = st.text(SUFFIX_LETTERS, min_size=SUFFIX_LENGTH, max_size=SUFFIX_LENGTH)


@given(handles, suffixes)
def test_every_session_name_is_one_that_aws_takes_and_people_can_read(handle, suffix):
    name = session_name(handle, suffix)

    assert re.fullmatch(r"[\w+=,.@-]{2,64}", name, re.ASCII)
    assert name.startswith(handle[:32])
    assert name.endswith(f".{suffix}")


@given(handles, handles, suffixes)
def test_two_people_never_share_a_session_name(one, other, suffix):
    assert (session_name(one, suffix) == session_name(other, suffix)) is (one == other)


def test_suffix_letters_are_lower_case_and_not_mistaken_for_each_other():
    assert len(set(SUFFIX_LETTERS)) == 32
    assert not set("ilou") & set(SUFFIX_LETTERS)
    assert SUFFIX_LETTERS.lower() == rules.SUFFIX_LETTERS
