"""Who plays in these tests: one account of AWS as the strict STS knows it, one person of Daypass who may use a role."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config
from django.test import Client
from django.utils import timezone

from accounts.models import Person
from broker.assume.services import Issued, issue
from broker.entitlements.models import AwsRole
from broker.entitlements.rules import Ask, Refused
from broker.trust.rules import RoleTrust, trust_policy
from tests import factories as make
from tests.strict_sts import Given, StrictRole, StrictSts

ACCOUNT = "111122223333"
BROKER = "arn:aws:iam::999988887777:role/Daypass"
OIDC_PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/daypass.test"
SAML_PROVIDER = f"arn:aws:iam::{ACCOUNT}:saml-provider/Daypass"


@dataclass
class World:
    """The account at AWS and the same account in Daypass. attributes: what the provider said about alice."""

    sts: StrictSts
    client: Client
    attributes: dict[str, list[str]] = field(default_factory=dict)
    region: str = ""

    def __post_init__(self) -> None:
        self.sts.oidc_providers[OIDC_PROVIDER] = ["sts.amazonaws.com"]
        self.sts.saml_providers[SAML_PROVIDER] = self.client.get("/aws/saml/metadata").content
        self.account = make.account("Payments", account_id=ACCOUNT, region=self.region)
        self.developers = make.group("developers")
        self.alice = make.person("alice", groups=[self.developers], attributes=self.attributes)

    def role(
        self, name: str = "Developer", *, trust: str = "web_identity", **fields: Any
    ) -> AwsRole:
        """A role that trusts Daypass as Daypass's own trust policy says, and that alice may use."""
        limits = {
            limit: fields.pop(limit)
            for limit in ("session_tags", "transitive_tag_keys", "session_policy", "policy_arns")
            if limit in fields
        }
        most = fields.setdefault("max_seconds", 7200)
        row = make.role(name, of=self.account, trust=trust, **fields)
        subject = RoleTrust(
            account_id=ACCOUNT,
            partition="aws",
            role_name=name,
            trust=trust,
            issuer="https://daypass.test",
            audience="sts.amazonaws.com",
            saml_provider_name="Daypass",
            recipient=f"https://{self.region}.signin.aws.amazon.com/saml" if self.region else "",
            external_id=row.external_id or self.account.external_id,
            broker_arn=BROKER,
        )
        self.sts.roles[row.arn] = StrictRole(trust_policy(subject), max_seconds=most)
        make.mapping(self.developers, row, **limits)
        return row

    def issue(
        self, role: AwsRole, *, who: Person | None = None, seconds: int | None = None
    ) -> Issued | Refused:
        principal = make.principal(who or self.alice)
        return issue(principal, Ask(role.id, "keys", seconds), now=timezone.now())

    def given(self, issued: Issued | Refused) -> Given:
        """What AWS knows of the session."""
        assert isinstance(issued, Issued), issued
        return self.sts.given[issued.credentials.access_key_id]

    def whoami(self, issued: Issued | Refused) -> str:
        assert isinstance(issued, Issued), issued
        revealed = issued.credentials.reveal()
        caller = boto3.client(
            "sts",
            region_name="us-east-1",
            endpoint_url=self.sts.url,
            aws_access_key_id=revealed.access_key_id,
            aws_secret_access_key=revealed.secret_access_key,
            aws_session_token=revealed.session_token,
            config=Config(retries={"total_max_attempts": 1}),
        ).get_caller_identity()
        return str(caller["Arn"])
