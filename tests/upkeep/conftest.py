"""An STS and an IAM that truly check, with one account whose people come in by SAML."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings as now_settings
from django.utils import timezone

from broker.arns import PARTITIONS
from broker.aws import clock
from broker.entitlements.models import AwsAccount
from broker.minting.saml import metadata
from broker.trust.rules import RoleTrust, trust_policy
from tests import factories as make
from tests.strict_sts import Published, StrictRole, StrictSts

ISSUER = "https://daypass.test"
ACCOUNT = "111122223333"
PROVIDER = f"arn:aws:iam::{ACCOUNT}:saml-provider/Daypass"
OIDC_PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/daypass.test"
KEEPER = f"arn:aws:iam::{ACCOUNT}:role/DaypassDiscovery"


def trusting(role_name: str, trust: str, **more) -> str:
    """The policy that Daypass itself shows for such a role."""
    return trust_policy(
        RoleTrust(
            account_id=ACCOUNT,
            partition="aws",
            role_name=role_name,
            trust=trust,
            issuer=ISSUER,
            audience=now_settings.DAYPASS_AUDIENCE,
            saml_provider_name="Daypass",
            recipient=PARTITIONS["aws"].saml_recipient(),
            **more,
        )
    )


@pytest.fixture
def documents() -> Iterator[Published]:
    with Published() as published:
        yield published


@pytest.fixture
def strict(documents, client, settings, signing_keys) -> Iterator[StrictSts]:
    """AWS with the account as it was set up on the first day: OIDC provider, SAML provider, keeper's role."""
    documents.publish_daypass(client)
    with StrictSts(issuer_urls={ISSUER: documents.url}) as sts:
        settings.DAYPASS_STS_ENDPOINT = sts.url
        settings.DAYPASS_IAM_ENDPOINT = sts.url
        sts.oidc_providers[OIDC_PROVIDER] = [settings.DAYPASS_AUDIENCE]
        sts.saml_providers[PROVIDER] = metadata(now=timezone.now())
        sts.roles[KEEPER] = StrictRole(
            trust_policy=trusting("DaypassDiscovery", "web_identity", caller="task"),
            permissions=["iam:GetSAMLProvider", "iam:UpdateSAMLProvider"],
        )
        yield sts
    clock.forget()


@pytest.fixture
def payments(db) -> AwsAccount:
    """An account with a SAML role, and with a role through which Daypass may look after it."""
    account = make.account("Payments", account_id=ACCOUNT, discovery_role="DaypassDiscovery")
    make.role("Developer", of=account, trust="saml")
    return account
