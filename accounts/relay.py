"""What an AWS application's response says about roles, and to whom in AWS it has to be made out. Pure.

Specification: "Configure SAML assertions for the authentication response" in the IAM user guide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from broker.arns import PARTITIONS

ROLE = "https://aws.amazon.com/SAML/Attributes/Role"
MOST_ROLES = 2000

_ROLE_ARN = re.compile(r"arn:([a-z-]{3,12}):iam::([0-9]{12}):role/[\x21-\x2b\x2d-\x7e]{1,1024}")
_PROVIDER_ARN = re.compile(
    r"arn:([a-z-]{3,12}):iam::([0-9]{12}):saml-provider/[\w.-]{1,128}", re.ASCII
)

_REGIONS = {
    "aws": (
        "af-south-1", "ap-east-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
        "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ca-central-1", "ca-west-1",
        "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3",
        "il-central-1", "me-central-1", "me-south-1", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
    ),
    "aws-us-gov": ("us-gov-east-1", "us-gov-west-1"),
    "aws-cn": ("cn-north-1", "cn-northwest-1"),
    "aws-eusc": ("eusc-de-east-1",),
}  # fmt: skip
"""Regions whose sign-in address an application may be made out to."""


def recipients_of(partition: str) -> tuple[str, ...]:
    """Every sign-in address of a partition, its own first."""
    world = PARTITIONS[partition]
    regional = (world.saml_recipient(region) for region in _REGIONS[partition])
    return tuple(dict.fromkeys((world.saml_recipient(), *regional)))


def audience_of(partition: str) -> str:
    """What the Audience of an assertion for a partition says."""
    return PARTITIONS[partition].saml_audience


def role_pairs(values: Iterable[object], partition: str) -> tuple[tuple[str, str], ...]:
    """(role ARN, SAML provider ARN) of each value of the Role attribute, in whichever order it has the two.

    What is not exactly such a pair, of one account of this partition, is left out: AWS would not take it either. Of
    several pairs for one role the first counts.
    """
    found: dict[str, str] = {}
    for value in values:
        if not isinstance(value, str) or len(found) >= MOST_ROLES:
            continue
        parts = value.split(",")
        if len(parts) != 2:
            continue
        first, second = parts if ":role/" in parts[0] else reversed(parts)
        role, provider = _ROLE_ARN.fullmatch(first), _PROVIDER_ARN.fullmatch(second)
        if role is None or provider is None or role.groups() != provider.groups():
            continue
        if role[1] == partition:
            found.setdefault(first, second)
    return tuple(found.items())
