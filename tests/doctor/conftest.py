"""A company that did everything right: one account, one role, and an STS that truly checks. Tests break one thing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from broker.arns import oidc_provider_arn, saml_provider_arn
from broker.audit.services import Actor
from broker.aws import clock
from broker.doctor import services
from broker.doctor.models import TrustCheck
from broker.doctor.services import Who
from broker.entitlements.models import AwsAccount, AwsRole
from broker.minting import saml
from broker.trust.queries import role_trust
from broker.trust.rules import RoleTrust, trust_document, trust_policy
from tests import factories as make
from tests.accounts.test_outbound_hostile import Authority
from tests.aws.servers import _signin_server, signin_stand_in  # noqa: F401  (fixtures)
from tests.doctor.internet import Internet
from tests.strict_sts import Published, Refusal, StrictRole, StrictSts

ISSUER = "https://daypass.test"
DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/.well-known/jwks.json"


class Sts(StrictSts):
    """The strict one; `refusal`: what it says of the role Developer in place of looking, for what it cannot look at."""

    refusal: Refusal | None = None

    def _perform(self, action: str, form: Any, *rest: Any) -> str:
        if self.refusal is not None and form.get("RoleArn", "").endswith("/Developer"):
            raise self.refusal
        return super()._perform(action, form, *rest)


@dataclass
class World:
    """What a test may break. trust: the role's present trust policy, as a document."""

    settings: Any
    sts: Sts
    published: Published
    internet: Internet
    account: AwsAccount
    role: AwsRole
    trust: dict[str, Any]
    signin: Any = None
    monkeypatch: Any = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def statement(self) -> dict[str, Any]:
        return self.trust["Statement"][0]

    @property
    def strict(self) -> StrictRole:
        return self.sts.roles[self.role.arn]

    def publish(self) -> None:
        self.published.publish_daypass(Client(headers={"host": "daypass.test"}))
        self.internet.pages = dict(self.published.documents)

    def says(self, name: str, **changed: Any) -> None:
        """One of the two documents, for everybody, with some of it changed."""
        document = json.loads(self.published.documents[name]) | changed
        self.published.documents[name] = json.dumps(document).encode()
        self.internet.pages = dict(self.published.documents)

    def mapping(self, **limits: Any) -> Any:
        return make.mapping(make.group(), self.role, **limits)

    def check(self) -> TrustCheck:
        clock.forget()
        role = AwsRole.objects.select_related("account").get(pk=self.role.pk)
        who = Who(Actor.task("doctor"))
        return services.check_role(role, who=who, now=timezone.now())


@pytest.fixture(scope="session")
def _authority(tmp_path_factory):
    """One authority and one certificate for each name: making a key takes half a second."""
    made = Authority(tmp_path_factory.mktemp("authority"))
    contexts: dict[str, Any] = {}
    return made.bundle, lambda host: contexts.setdefault(host, made.context(host))


@pytest.fixture
def everything(
    db,
    settings,
    _authority,
    signing_keys,
    monkeypatch,
    request,
):
    bundle, context_for = _authority
    internet = Internet(context_for)
    published = Published()
    sts = Sts(issuer_urls={ISSUER: published.url})
    settings.DAYPASS_CA_BUNDLE = str(bundle)
    settings.DAYPASS_EGRESS_PROXY = internet.proxy
    settings.DAYPASS_STS_ENDPOINT = sts.regional_url
    settings.DAYPASS_IAM_ENDPOINT = sts.url
    clock.forget()
    yield {
        "settings": settings,
        "sts": sts,
        "published": published,
        "internet": internet,
        "signin": request.getfixturevalue("signin_stand_in"),
        "monkeypatch": monkeypatch,
    }
    clock.forget()
    sts.stop()
    published.stop()
    internet.stop()


@pytest.fixture
def company(everything):
    """Makes the World of one kind of trust: company("web_identity", max_seconds=...)."""

    def made(trust: str, *, region: str = "eu-west-1", of: dict | None = None, **fields: Any):
        account = make.account(
            "Payments",
            account_id="111122223333",
            region=region,
            discovery_role="DaypassDiscovery",
            **(of or {}),
        )
        role = make.role("Developer", of=account, trust=trust, **fields)
        sts = everything["sts"]
        partition = account.partition
        issuer_arn = oidc_provider_arn(partition, account.account_id, ISSUER)
        sts.oidc_providers[issuer_arn] = ["sts.amazonaws.com"]
        sts.saml_providers[saml_provider_arn(partition, account.account_id, "Daypass")] = (
            saml.metadata(now=timezone.now())
        )
        task = RoleTrust(
            account_id=account.account_id,
            partition=partition,
            role_name="DaypassDiscovery",
            trust="web_identity",
            issuer=ISSUER,
            audience="sts.amazonaws.com",
            caller="task",
        )
        sts.roles[f"arn:{partition}:iam::{account.account_id}:role/DaypassDiscovery"] = StrictRole(
            trust_policy=trust_policy(task), permissions=("iam:Get*", "iam:List*")
        )
        broker_arn = ""
        if trust == "assume_role":
            broker_arn = f"arn:{partition}:iam::999988887777:role/Daypass"
            sts.roles[broker_arn] = StrictRole(trust_policy={"Statement": []})
            key_id, secret, token = sts.lend(broker_arn)
            for name, value in (
                ("AWS_ACCESS_KEY_ID", key_id),
                ("AWS_SECRET_ACCESS_KEY", secret),
                ("AWS_SESSION_TOKEN", token),
            ):
                everything["monkeypatch"].setenv(name, value)
        wanted = role_trust(role, broker_arn=broker_arn)
        document = trust_document(wanted)
        sts.roles[role.arn] = StrictRole(trust_policy=document, max_seconds=role.max_seconds)
        world = World(account=account, role=role, trust=document, **everything)
        world.publish()
        return world

    return made
