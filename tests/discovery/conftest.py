"""An organisation on moto: a management account and a member, each with a role that trusts this Daypass."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
import requests

from broker.entitlements.models import AwsAccount
from broker.trust.rules import RoleTrust, trust_policy
from tests import factories as make
from tests.aws.servers import moto  # noqa: F401  (fixture)
from tests.minting.conftest import together  # noqa: F401  (fixture)

ISSUER = "https://daypass.test"
MANAGEMENT = "111122223333"


@dataclass
class Amazon:
    """moto, seen by whoever made the accounts."""

    url: str

    def client(self, service: str, account: str) -> Any:
        """A client that acts in this account."""
        sts = boto3.client("sts", **self._with("setup", "setup"))
        given = sts.assume_role(
            RoleArn=f"arn:aws:iam::{account}:role/setup", RoleSessionName="setup"
        )["Credentials"]
        return boto3.client(
            service,
            aws_session_token=given["SessionToken"],
            **self._with(given["AccessKeyId"], given["SecretAccessKey"]),
        )

    def _with(self, key_id: str, secret: str) -> dict[str, str]:
        return {
            "endpoint_url": self.url,
            "region_name": "us-east-1",
            "aws_access_key_id": key_id,
            "aws_secret_access_key": secret,
        }

    def role(self, account: str, name: str, policy: str | dict, **more: Any) -> None:
        text = policy if isinstance(policy, str) else json.dumps(policy)
        self.client("iam", account).create_role(
            RoleName=name, AssumeRolePolicyDocument=text, **more
        )

    def trusting(self, account: str, name: str, trust: str = "web_identity", **more: Any) -> None:
        """A role that trusts this Daypass."""
        self.role(account, name, trust_policy(subject(account, name, trust)), **more)


def subject(account: str, name: str, trust: str = "web_identity", caller: str = "person"):
    return RoleTrust(
        account_id=account,
        partition="aws",
        role_name=name,
        trust=trust,
        issuer=ISSUER,
        audience="sts.amazonaws.com",
        saml_provider_name="Daypass",
        caller=caller,
    )


@pytest.fixture
def amazon(db, moto, settings, signing_keys) -> Amazon:  # noqa: F811
    requests.post(f"{moto.url}/moto-api/reset", timeout=10)
    settings.DAYPASS_STS_ENDPOINT = moto.url
    settings.DAYPASS_IAM_ENDPOINT = moto.url
    settings.DAYPASS_ORGANIZATIONS_ENDPOINT = moto.url
    return Amazon(moto.url)


@pytest.fixture
def management(amazon) -> AwsAccount:
    """The management account, in the catalogue."""
    amazon.client("organizations", MANAGEMENT).create_organization(FeatureSet="ALL")
    return make.account(
        "Management",
        account_id=MANAGEMENT,
        region="eu-west-1",
        discovery_role="DaypassDiscovery",
        management=True,
    )
