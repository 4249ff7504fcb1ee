"""A region away or switched off, with an STS that truly checks what Daypass signs for the one that stands in."""

from __future__ import annotations

import pytest

from broker.assume.services import Issued
from broker.errors import AwsError, AwsUnavailable
from tests.strict_sts import DROPPED, INTERNAL, THROTTLED, UNAVAILABLE
from tests.ways.cast import World

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("published")]

FEDERATED = ("web_identity", "saml")


@pytest.fixture
def world(strict, client, settings) -> World:
    settings.DAYPASS_STS_ENDPOINT = strict.regional_url
    return World(strict, client, region="eu-west-1")


def asked(world: World) -> list[str]:
    return [request.region for request in world.sts.requests]


@pytest.mark.parametrize("trust", FEDERATED)
@pytest.mark.parametrize(
    "outage", [INTERNAL, UNAVAILABLE, THROTTLED, DROPPED], ids=["500", "503", "throttled", "cut"]
)
def test_the_second_region_takes_what_is_signed_anew(world, trust, outage):
    role = world.role(trust=trust)
    world.sts.outages["eu-west-1"] = outage

    issued = world.issue(role)

    assert isinstance(issued, Issued)
    assert asked(world) == ["eu-west-1", "eu-central-1"]
    assert world.given(issued)


@pytest.mark.parametrize("trust", FEDERATED)
def test_a_region_that_is_switched_off_is_explained_and_not_gone_round(world, trust):
    """Going to another region in silence would hide what the administrator has to mend."""
    role = world.role(trust=trust)
    world.sts.disabled_regions.add("eu-west-1")

    with pytest.raises(AwsError) as told:
        world.issue(role)

    assert told.value.code == "aws_region_disabled"
    assert "eu-west-1" in told.value.remedy
    assert asked(world) == ["eu-west-1"]


def test_when_both_regions_are_away_the_failure_names_both(world):
    role = world.role()
    world.sts.outages["*"] = UNAVAILABLE

    with pytest.raises(AwsUnavailable) as told:
        world.issue(role)

    assert "eu-west-1" in told.value.cause and "eu-central-1" in told.value.cause
    assert asked(world) == ["eu-west-1", "eu-central-1", "eu-west-1"]
