"""Tags that are too long for AWS: told to the administrator who maps them, explained to the employee who has them."""

from __future__ import annotations

import json

import pytest

from broker.assume.services import Issued
from broker.entitlements import packing
from broker.entitlements.queries import tag_space
from broker.entitlements.rules import NextStep, Refused
from broker.errors import AwsError
from broker.sessions.models import Session
from tests import factories as make
from tests.admin.conftest import (  # noqa: F401  (fixtures)
    ada,
    admin_client,
    okta,
)
from tests.ways.cast import World

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("published")]

EXAMPLE = {
    "Version": "2012-10-17",
    "Statement": [{"Sid": "Stmt1", "Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
}
"""The policy of AWS's own example, whose answer says that it takes 6 %."""
POD = {
    "eks-cluster-arn": "arn:aws:eks:eu-west-1:111122223333:cluster/production",
    "eks-cluster-name": "production",
    "kubernetes-namespace": "payments",
    "kubernetes-service-account": "payments-api",
    "kubernetes-pod-name": "payments-api-7d9c5bd7f5-x2x8q",
    "kubernetes-pod-uid": "3f0c9a52-6a53-4a0e-9d53-0f5a9c1a7c11",
}
TAGS = {"Department": "department", "Title": "title", "Office": "office"}


# --- The estimate


@pytest.mark.parametrize(
    ("tags", "policy", "seen"),
    [
        ({f"tag{n}": "x" * 250 for n in range(9)}, "", 498),
        (POD, "", 74),
        ({}, json.dumps(EXAMPLE, separators=(",", ":")), 6),
        ({}, "", 0),
    ],
)
def test_it_comes_within_a_fifth_of_what_aws_was_seen_to_say(tags, policy, seen):
    assert packing.percent(tags, policy) == pytest.approx(seen, rel=0.2, abs=1)


def test_policies_and_tags_share_the_space():
    policy = json.dumps(EXAMPLE)
    arns = ["arn:aws:iam::aws:policy/ReadOnlyAccess"]

    alone = packing.percent(POD)
    assert alone < packing.percent(POD, policy) < packing.percent(POD, policy, arns)


def test_characters_of_several_bytes_take_more():
    assert packing.percent({"Team": "é" * 100}) > packing.percent({"Team": "e" * 100})


# --- The employee


def world_with(strict, client, *lengths: int) -> World:
    values = {
        name: ["x" * length]
        for name, length in zip(("department", "title", "office"), lengths, strict=True)
    }
    return World(strict, client, values)


@pytest.mark.parametrize("trust", ["web_identity", "saml"])
def test_who_certainly_exceeds_is_told_why_before_aws_is_asked(strict, client, trust):
    world = world_with(strict, client, 250, 200, 200)
    role = world.role(trust=trust, session_tags=TAGS)

    refused = world.issue(role)

    assert isinstance(refused, Refused)
    assert (refused.code, refused.next_step) == ("tags_too_large", NextStep.ASK_ADMINISTRATOR)
    assert "3 tags about you" in refused.sentence
    assert "your department, with 250 characters" in refused.sentence
    assert refused.visible
    assert strict.requests == []
    assert not Session.objects.exists()


@pytest.mark.parametrize("trust", ["web_identity", "saml"])
def test_where_it_is_doubtful_aws_decides_and_the_employee_reads_our_words(strict, client, trust):
    world = world_with(strict, client, 250, 140, 100)
    role = world.role(trust=trust, session_tags=TAGS)

    with pytest.raises(AwsError) as told:
        world.issue(role)

    assert strict.refused() == ["PackedPolicyTooLarge"]
    assert told.value.code == "aws_policy_too_large"
    assert told.value.message.startswith("Your details and limits for this role are together too")
    assert "% of it" in told.value.cause


def test_another_mapping_without_such_tags_is_used_instead(strict, client):
    world = world_with(strict, client, 250, 200, 200)
    role = world.role(session_tags=TAGS)
    make.mapping(world.developers, role, session_tags={"Office": "office"})

    assert isinstance(world.issue(role), Issued)


def test_tags_that_fit_are_not_in_the_way(strict, client):
    world = world_with(strict, client, 40, 40, 40)
    role = world.role(session_tags=TAGS)

    world.given(world.issue(role))
    assert packing.CLOSE > Session.objects.get().packed_policy_size > 0


# --- The administrator


def test_what_is_measured_is_the_worst_of_the_people_in_the_group(strict, client):
    world = world_with(strict, client, 40, 40, 40)
    long = {name: ["y" * 200] for name in TAGS.values()}
    make.person("bob", at=world.developers.provider, groups=[world.developers], attributes=long)
    make.person("carol", at=world.developers.provider, attributes=long)  # of no group

    space = tag_space(world.developers.pk, TAGS, "", ())

    assert (space.people, space.over) == (2, 1)
    keys = dict.fromkeys(TAGS, "y" * 200)
    assert space.largest == packing.percent(keys)


def saved(browser, group, role, tags: str) -> str:
    """The page after saving a mapping with these tags."""
    answer = browser.post(
        "/admin/broker/mapping/add/",
        {
            "group": group.pk,
            "roles": [str(role.pk)],
            "enabled": "on",
            "allow_console": "on",
            "allow_keys": "on",
            "session_tags": tags,
            "transitive_tag_keys": "",
            "_continue": "1",
        },
        follow=True,
    )
    assert answer.status_code == 200
    return answer.content.decode()


LINES = "\n".join(f"{key} = {attribute}" for key, attribute in TAGS.items())


def test_saving_a_mapping_warns_when_somebody_known_would_exceed(strict, client, admin_client):  # noqa: F811
    world = world_with(strict, client, 250, 200, 200)

    page = saved(admin_client, world.developers, make.role(), LINES)

    assert "too long for AWS for 1 of 1 person known in the group" in page
    assert (
        f"about {packing.percent({k: 'x' * n for k, n in zip(TAGS, (250, 200, 200), strict=True)})} %"
        in page
    )


def test_saving_a_mapping_warns_when_it_is_close(strict, client, admin_client):  # noqa: F811
    world = world_with(strict, client, 150, 100, 100)

    page = saved(admin_client, world.developers, make.role(), LINES)

    assert "Somebody with longer values may be refused" in page


def test_saving_a_mapping_for_a_new_group_warns_of_what_could_be(admin_client):  # noqa: F811
    many = "\n".join(f"Key{n} = attribute{n}" for n in range(7))

    page = saved(admin_client, make.group("new"), make.role(), many)

    assert "With values of 64 characters" in page


def test_saving_a_mapping_whose_tags_fit_says_what_they_take(strict, client, admin_client):  # noqa: F811
    world = world_with(strict, client, 20, 20, 20)

    page = saved(admin_client, world.developers, make.role(), LINES)

    assert "may be refused" not in page
    assert "would be refused" not in page
    assert "% for 1 person known so far" in page
