"""docs/aws-trust.md tells the truth: its policies take what is minted, and its tables are those of the code."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from broker.arns import PARTITIONS, oidc_provider_arn, parse_role_arn
from broker.minting.oidc import mint_web_identity_token
from broker.minting.saml import metadata
from tests.minting.claims import parts_of, web_identity

PAGE = (Path(__file__).parents[2] / "docs" / "aws-trust.md").read_text(encoding="utf-8")
ISSUER = "https://daypass.example.com"
ROLE = "arn:aws:iam::111122223333:role/Developer"


def policies() -> list[dict[str, Any]]:
    return [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)]


def policy(action: str) -> dict[str, Any]:
    (found,) = (p for p in policies() if action in p["Statement"][0]["Action"])
    return found["Statement"][0]


@pytest.fixture
def minted(settings, signing_keys):
    settings.DAYPASS_ISSUER = ISSUER

    def payload(**claims: Any) -> dict[str, Any]:
        token = mint_web_identity_token(web_identity(**claims), now=timezone.now())
        return parts_of(token.reveal())[1]

    return payload


def takes(statement: dict[str, Any], payload: dict[str, Any]) -> bool:
    """The conditions of the web identity policy, as IAM compares them."""
    condition = statement["Condition"]
    pattern = condition["StringLike"]["daypass.example.com:sub"]
    return (
        condition["StringEquals"]["daypass.example.com:aud"] == payload["aud"]
        and fnmatchcase(payload["sub"], pattern)
        and "https://aws.amazon.com/source_identity" in payload
    )


def test_the_web_identity_policy_takes_a_token_for_its_role(minted):
    statement = policy("sts:AssumeRoleWithWebIdentity")

    assert takes(statement, minted(role_arn=ROLE))
    assert takes(statement, minted(role_arn=ROLE.replace("role/", "role/any/path/")))
    role = parse_role_arn(ROLE)
    assert statement["Principal"]["Federated"] == oidc_provider_arn(
        role.partition, role.account_id, ISSUER
    )


@pytest.mark.parametrize(
    "other",
    [
        "arn:aws:iam::111122223333:role/Administrator",
        "arn:aws:iam::111122223333:role/Developer2",
        "arn:aws:iam::111122223333:role/person/Admin",
        "arn:aws:iam::444455556666:role/Developer",
    ],
)
def test_the_web_identity_policy_takes_no_token_for_another_role(minted, other):
    assert not takes(policy("sts:AssumeRoleWithWebIdentity"), minted(role_arn=other))


@pytest.mark.parametrize("action", ["sts:AssumeRoleWithWebIdentity", "sts:AssumeRoleWithSAML"])
def test_the_federated_policies_allow_what_every_token_carries(action):
    assert set(policy(action)["Action"]) == {action, "sts:TagSession", "sts:SetSourceIdentity"}


def test_the_table_of_partitions_is_that_of_the_code():
    for partition in PARTITIONS.values():
        row = (
            f"| {partition.title} | `arn:{partition.name}:` | `{partition.saml_recipient()}` "
            f"| `{partition.saml_recipient('{region}')}` | `{partition.saml_audience}` |"
        )
        assert row in PAGE


def test_the_paths_on_the_page_are_served(client, signing_keys):
    paths = set(re.findall(r"https://daypass\.example\.com(/[\w./-]+)", PAGE))

    assert paths == {
        "/.well-known/openid-configuration",
        "/.well-known/jwks.json",
        "/aws/saml/metadata",
    }
    assert all(client.get(path).status_code == 200 for path in paths)


def test_iam_as_moto_plays_it_takes_the_providers_and_every_policy(sts, signing_keys):
    import boto3

    iam = boto3.client(
        "iam",
        region_name="us-east-1",
        endpoint_url=sts.meta.endpoint_url,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )

    oidc = iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"])
    saml = iam.create_saml_provider(
        Name="Daypass", SAMLMetadataDocument=metadata(now=timezone.now()).decode()
    )

    assert oidc["OpenIDConnectProviderArn"].endswith(":oidc-provider/daypass.example.com")
    assert saml["SAMLProviderArn"].endswith(":saml-provider/Daypass")
    trusting = [one for one in policies() if "Principal" in one["Statement"][0]]
    for number, document in enumerate(trusting):
        iam.create_role(RoleName=f"r{number}", AssumeRolePolicyDocument=json.dumps(document))
    assert len(trusting) == 3
