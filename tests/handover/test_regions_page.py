"""What administrators see of regions: which are asked, which need an opt-in, which are being avoided."""

from __future__ import annotations

import html
import re

import pytest

from broker.aws import regions
from broker.entitlements.models import AwsAccount
from tests import factories as make
from tests.admin.conftest import ada, admin_client, okta  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db


def words(answer) -> str:
    assert answer.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", answer.content.decode())).split())


def page(client, account: AwsAccount) -> str:
    return words(client.get(f"/admin/broker/awsaccount/{account.pk}/change/"))


def account(**fields) -> AwsAccount:
    made = make.account("Payments")
    AwsAccount.objects.filter(pk=made.pk).update(**fields)
    made.refresh_from_db()
    return made


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"region": "eu-west-1"},
            "STS is asked in eu-west-1. When it does not answer, in eu-central-1, which is nearby and always on.",
        ),
        (
            {"region": "eu-west-1", "second_region": "eu-north-1"},
            "STS is asked in eu-west-1. When it does not answer, in eu-north-1.",
        ),
        (
            {"region": ""},
            "STS is asked in us-east-1, the partition's own. When it does not answer, in us-west-2",
        ),
        (
            {"partition": "aws-eusc", "region": "eusc-de-east-1"},
            "STS is asked in eusc-de-east-1. The partition has no other region.",
        ),
    ],
)
def test_the_page_of_an_account_says_where_is_asked(admin_client, fields, said):  # noqa: F811
    assert said in page(admin_client, account(**fields))


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        ({"region": "eu-south-1"}, "eu-south-1 is a region that every account has to enable first"),
        (
            {"region": "eu-west-1", "second_region": "eu-central-2"},
            "eu-central-2 is a region that every account has to enable first",
        ),
        ({"region": "eu-west-1", "second_region": "us-east-1"}, ""),
        ({"partition": "aws-cn", "region": "cn-northwest-1"}, ""),
    ],
)
def test_regions_that_need_an_opt_in_are_warned_about(admin_client, fields, warned):  # noqa: F811
    said = page(admin_client, account(**fields))

    assert (warned in said) if warned else ("has to enable first" not in said)


def test_a_region_that_is_avoided_is_seen_by_the_administrator(admin_client):  # noqa: F811
    made = account(region="eu-west-1", second_region="eu-north-1")
    regions.failed("sts", "eu-west-1", "aws_no_answer")
    regions.failed("signin", "eu-west-1.signin.aws.amazon.com", "aws_unreachable")

    own = page(admin_client, made)
    health = words(admin_client.get("/admin/health/"))
    today = words(admin_client.get("/admin/"))

    assert "avoided STS in eu-west-1 does not answer in time, since" in own
    assert "STS in eu-west-1 does not answer in time, since" in health
    assert "The sign-in host eu-west-1.signin.aws.amazon.com cannot be reached, since" in health
    assert "STS in eu-west-1 does not answer in time. Another region is asked meanwhile." in today


def test_when_all_is_well_nothing_is_said_on_the_first_page(admin_client):  # noqa: F811
    account(region="eu-west-1")
    regions.failed("sts", "eu-west-1", "aws_no_answer")
    regions.answered("sts", "eu-west-1")

    assert "No region is being avoided." in words(admin_client.get("/admin/health/"))
    assert "Another region" not in words(admin_client.get("/admin/"))


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ("eu-west-1", "Name another region than the first one."),
        ("cn-north-1", "cn-north-1 is not a region of the partition AWS; one is us-east-1."),
        ("anywhere", "anywhere is not a region of the partition AWS; one is us-east-1."),
    ],
)
def test_a_second_region_has_to_be_another_one_of_the_same_partition(
    admin_client,  # noqa: F811
    second,
    problem,
):
    made = account(region="eu-west-1")
    sent = {
        "name": made.name,
        "region": "eu-west-1",
        "second_region": second,
        "saml_provider_name": "Daypass",
        "enabled": "on",
    }

    answer = admin_client.post(f"/admin/broker/awsaccount/{made.pk}/change/", sent)
    assert problem in words(answer)

    answer = admin_client.post(
        f"/admin/broker/awsaccount/{made.pk}/change/", sent | {"second_region": "eu-north-1"}
    )
    assert answer.status_code == 302
    made.refresh_from_db()
    assert made.second_region == "eu-north-1"
