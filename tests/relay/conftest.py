"""A company whose AWS roles trust its own OpenID Connect provider, and an AWS that truly checks its tokens."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from lxml import etree

from accounts import services
from accounts.models import DirectoryGroup, IdentityProvider, Person
from broker.entitlements.models import AwsRole
from tests import factories as make
from tests.accounts import web
from tests.accounts.conftest import idp, oidc_row, op, refusals, saml_row  # noqa: F401  (fixtures)
from tests.aws.servers import _signin_server, moto, signin_stand_in  # noqa: F401  (fixtures)
from tests.strict_sts import StrictRole, StrictSts

ISSUER = "https://login.globex.example"
PROVIDER_ARN = "arn:aws:iam::111122223333:oidc-provider/login.globex.example"
ROLE_ARN = "arn:aws:iam::111122223333:role/Developer"


def trust(**conditions: str) -> str:
    """The trust policy of a role as companies have them: their provider, Daypass's client id there, and more."""
    equal = {"login.globex.example:aud": "daypass"} | {
        f"login.globex.example:{name}": value for name, value in conditions.items()
    }
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": PROVIDER_ARN},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": equal},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
def globex(op, oidc_row) -> IdentityProvider:  # noqa: F811
    """Globex: its issuer is the https address that AWS knows, its endpoints are on loopback."""

    def known_as(document: dict[str, Any]) -> None:
        document["issuer"] = ISSUER
        document["jwks_uri"] = f"{ISSUER}/jwks"

    op.bend_discovery = known_as
    op.bend_claims = lambda claims: claims.update(iss=ISSUER)
    op.bend_callback = lambda query: query.update(iss=ISSUER)
    oidc_row.issuer = ISSUER
    oidc_row.discovery = {**oidc_row.discovery, "issuer": ISSUER}
    services.set_client_secret(oidc_row, op.client_secret)
    oidc_row.save()
    return oidc_row


@pytest.fixture
def aws(op, globex, settings):  # noqa: F811
    with StrictSts(issuer_urls={ISSUER: op.issuer}) as sts:
        sts.oidc_providers[PROVIDER_ARN] = ["daypass"]
        sts.roles[ROLE_ARN] = StrictRole(trust_policy=trust())
        settings.DAYPASS_STS_ENDPOINT = sts.url
        yield sts


@pytest.fixture
def account(db):
    return make.account("Payments", account_id="111122223333", region="eu-west-1")


@pytest.fixture
def readers(globex) -> DirectoryGroup:
    """A group that Ada is a member of, as Globex's tokens say."""
    return make.group("aws-readers", at=globex)


@pytest.fixture
def role(account, globex, readers) -> AwsRole:
    made = make.role("Developer", of=account, trust="relayed_token", relay_provider=globex)
    make.mapping(readers, made)
    return made


@pytest.fixture
def sign_in(op, globex):  # noqa: F811
    """Sign in at Globex, as whoever `op.person` is, in a new browser or in this one."""

    def begin(browser=None):
        browser = browser or web.browser()
        answer = web.oidc_sign_in(browser, op)
        assert (answer.status_code, web.is_signed_in(browser)) == (302, True), answer.content
        return browser

    return begin


@pytest.fixture
def ada() -> Any:
    return lambda: Person.objects.get(handle="ada")


@pytest.fixture
def at_moto(moto, signin_stand_in, settings):  # noqa: F811
    """moto as AWS, which knows what it issued; the sign-in service remembers what it was given."""
    settings.DAYPASS_STS_ENDPOINT = moto.url

    def arn_of(key: str, secret: str, token: str) -> str:
        """Whose credentials these are, as AWS says."""
        caller = boto3.client(
            "sts",
            region_name="us-east-1",
            endpoint_url=moto.url,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
        ).get_caller_identity()
        return str(caller["Arn"])

    return arn_of


def keys_shown(answer: Any) -> tuple[str, str, str]:
    """The keys on the page that answers who asked for them."""
    assert answer.status_code == 200, answer.content.decode()
    (text,) = etree.HTML(answer.content.decode()).xpath(
        "//*[@id='tab-credential_process']//*[@data-text]"
    )
    document = json.loads("".join(text.itertext()))
    return document["AccessKeyId"], document["SecretAccessKey"], document["SessionToken"]


def keys_given(signin: Any) -> tuple[str, str, str]:
    """The keys for which the sign-in service was asked to open a console."""
    (request,) = signin.requests
    session = json.loads(request.form["Session"])
    return session["sessionId"], session["sessionKey"], session["sessionToken"]
