"""Each partition's endpoints, as AWS publishes them, and that nothing of one is ever used for another."""

from __future__ import annotations

import botocore.session
import pytest

from broker.arns import (
    PARTITIONS,
    endpoint_for,
    endpoints_of,
    parse_role_arn,
    safe_console_destination,
)
from broker.aws import sts
from broker.errors import BadInput

PUBLISHED = [
    # partition, region, STS, sign-in, SAML recipient, audience of assertions, console
    (
        "aws", "", "sts.us-east-1.amazonaws.com", "signin.aws.amazon.com",
        "urn:amazon:webservices", "console.aws.amazon.com",
    ),
    (
        "aws", "us-east-1", "sts.us-east-1.amazonaws.com", "signin.aws.amazon.com",
        "urn:amazon:webservices", "us-east-1.console.aws.amazon.com",
    ),
    (
        "aws", "eu-west-1", "sts.eu-west-1.amazonaws.com", "eu-west-1.signin.aws.amazon.com",
        "urn:amazon:webservices", "eu-west-1.console.aws.amazon.com",
    ),
    (
        "aws-us-gov", "", "sts.us-gov-west-1.amazonaws.com", "signin.amazonaws-us-gov.com",
        "urn:amazon:webservices:govcloud", "console.amazonaws-us-gov.com",
    ),
    (
        "aws-us-gov", "us-gov-west-1", "sts.us-gov-west-1.amazonaws.com", "signin.amazonaws-us-gov.com",
        "urn:amazon:webservices:govcloud", "us-gov-west-1.console.amazonaws-us-gov.com",
    ),
    (
        "aws-us-gov", "us-gov-east-1", "sts.us-gov-east-1.amazonaws.com",
        "us-gov-east-1.signin.amazonaws-us-gov.com",
        "urn:amazon:webservices:govcloud", "us-gov-east-1.console.amazonaws-us-gov.com",
    ),
    (
        "aws-cn", "", "sts.cn-north-1.amazonaws.com.cn", "signin.amazonaws.cn",
        "urn:amazon:webservices:cn-north-1", "console.amazonaws.cn",
    ),
    (
        "aws-cn", "cn-northwest-1", "sts.cn-northwest-1.amazonaws.com.cn",
        "cn-northwest-1.signin.amazonaws.cn",
        "urn:amazon:webservices:cn-north-1", "cn-northwest-1.console.amazonaws.cn",
    ),
    (
        "aws-eusc", "", "sts.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1.signin.amazonaws-eusc.eu",
        "https://eusc-de-east-1.signin.amazonaws-eusc.eu/saml", "console.amazonaws-eusc.eu",
    ),
    (
        "aws-eusc", "eusc-de-east-1", "sts.eusc-de-east-1.amazonaws.eu",
        "eusc-de-east-1.signin.amazonaws-eusc.eu",
        "https://eusc-de-east-1.signin.amazonaws-eusc.eu/saml",
        "eusc-de-east-1.console.amazonaws-eusc.eu",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "region", "sts", "signin", "audience", "console"), PUBLISHED)
def test_the_endpoints_are_those_that_aws_publishes(name, region, sts, signin, audience, console):
    partition = PARTITIONS[name]

    assert partition.sts_origin(region) == f"https://{sts}"
    assert partition.signin_origin(region) == f"https://{signin}"
    assert partition.saml_recipient(region) == f"https://{signin}/saml"
    assert partition.saml_audience == audience
    assert partition.console_url(region).startswith(f"https://{console}/console/home")


def test_the_sdk_asks_exactly_there_in_every_region_of_every_partition(monkeypatch):
    """Never at the global endpoint, whatever the environment wishes: its tokens fail in opt-in regions."""
    monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "legacy")
    sdk = botocore.session.Session()
    for partition in PARTITIONS.values():
        regions = sdk.get_available_regions("sts", partition.name)
        named = [region for region in regions if partition.owns_region(region)]
        assert partition.home_region in named
        for region in named:
            client = sts._build("unsigned", region, f"aws:{region}")
            assert client.meta.endpoint_url == partition.sts_origin(region), region
            assert client.meta.partition == partition.name


def test_no_partition_takes_another_ones_region_or_console():
    for partition in PARTITIONS.values():
        for other in PARTITIONS.values():
            own = partition is other
            assert partition.owns_region(other.home_region) is own
            landing = other.console_url(other.home_region)
            if own:
                assert safe_console_destination(partition, landing) == landing
            else:
                with pytest.raises(BadInput):
                    safe_console_destination(partition, landing)


def test_no_arn_of_another_world_is_taken():
    for partition in PARTITIONS:
        arn = f"arn:{partition}:iam::111122223333:role/x"
        assert parse_role_arn(arn).partition == partition
    for unknown in ("aws-iso", "aws-iso-b", "aws-eusc2", "AWS"):
        with pytest.raises(BadInput):
            parse_role_arn(f"arn:{unknown}:iam::111122223333:role/x")


def test_the_second_region_is_another_one_of_the_same_partition_that_needs_no_opt_in():
    sdk = botocore.session.Session()
    for partition in PARTITIONS.values():
        for region in ["", *sdk.get_available_regions("sts", partition.name)]:
            if region and not partition.owns_region(region):
                continue
            second = partition.second_region(region)
            if partition.name == "aws-eusc":
                assert second == ""
                continue
            assert second != (region or partition.home_region)
            assert partition.owns_region(second)
            assert not partition.needs_opt_in(second)


@pytest.mark.parametrize(
    ("region", "needed"),
    [
        ("eu-west-1", False),
        ("us-east-1", False),
        ("sa-east-1", False),
        ("", False),
        ("eu-south-1", True),
        ("eu-central-2", True),
        ("me-central-1", True),
        ("ap-east-1", True),
        ("ca-west-1", True),
        ("mx-central-1", True),
        ("eu-future-1", True),  # whatever opens next will need one too
    ],
)
def test_regions_that_opened_since_2019_need_an_opt_in(region, needed):
    assert PARTITIONS["aws"].needs_opt_in(region) is needed
    assert not any(p.needs_opt_in(region) for p in PARTITIONS.values() if p.name != "aws")


@pytest.mark.parametrize(
    ("setting", "region", "url"),
    [
        ("", "eu-west-1", ""),
        ("https://sts.example.com/", "eu-west-1", "https://sts.example.com"),
        ("https://sts.{region}.example.com", "eu-west-1", "https://sts.eu-west-1.example.com"),
        ("https://sts.example.com/?a=b", "eu-west-1", "https://sts.example.com/?a=b"),
        ("eu-west-1=https://a.example.com, us-east-1=https://b", "us-east-1", "https://b"),
        ("eu-west-1=https://a.example.com", "eu-west-2", ""),
    ],
)
def test_an_endpoint_is_for_all_regions_or_for_those_it_names(setting, region, url):
    assert endpoint_for(setting, region) == url


@pytest.mark.parametrize(
    ("setting", "urls"),
    [
        ("", ()),
        ("http://sts.example.com", ("http://sts.example.com",)),
        ("a=https://x,b=http://y", ("https://x", "http://y")),
        ("a=https://x,b", ("https://x", "b")),
        ("sts.example.com", ("sts.example.com",)),
    ],
)
def test_every_endpoint_of_a_setting_can_be_checked(setting, urls):
    assert endpoints_of(setting) == urls
