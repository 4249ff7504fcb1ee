"""Every way in through the real spine, against an STS that verifies what Daypass signs and reads its trust policies."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from django.utils import timezone

from broker.arns import parse_role_arn
from broker.assume.services import Issued
from broker.entitlements.rules import Refused
from broker.errors import AwsError
from broker.minting.keys import forget_opened_keys
from broker.minting.models import SigningKey
from broker.minting.oidc import WebIdentityClaims, mint_web_identity_token
from broker.minting.saml import AssertionClaims, mint_saml_response
from broker.sessions.models import Session
from tests import factories as make
from tests.minting.claims import attributes_of, parts_of
from tests.ways.cast import ACCOUNT, BROKER, OIDC_PROVIDER, SAML_PROVIDER, World

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("published")]

FEDERATED = ("web_identity", "saml")


@pytest.fixture
def world(strict, client, monkeypatch) -> World:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    attributes = {"department": ["blue team"], "cost_center": ["12345"]}
    return World(strict, client, attributes)


@pytest.fixture
def ambient(world, monkeypatch):
    """Daypass runs with a role of its own."""
    keys = world.sts.lend(BROKER)
    for name, value in zip(
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"), keys, strict=True
    ):
        monkeypatch.setenv(name, value)
    from broker.aws import sts

    sts._clients.clear()
    yield keys
    sts._clients.clear()


@pytest.fixture
def way(request, world) -> str:
    """The trust of this case; AssumeRole needs credentials of Daypass's own."""
    if request.param == "assume_role":
        request.getfixturevalue("ambient")
    return request.param


every_way = pytest.mark.parametrize("way", [*FEDERATED, "assume_role"], indirect=True)


# --- Let in


@every_way
def test_the_role_lets_alice_in_under_her_name(world, way):
    role = world.role(trust=way)

    issued = world.issue(role)

    given = world.given(issued)
    assert given.arn == world.whoami(issued)
    assert re.fullmatch(
        rf"arn:aws:sts::{ACCOUNT}:assumed-role/Developer/alice\.[0-9a-z]{{8}}", given.arn
    )
    assert given.source_identity == "alice"
    assert Session.objects.get().assumed_role_arn == given.arn


@every_way
def test_tags_come_from_attributes_and_the_chosen_ones_stay_on(world, way):
    role = world.role(
        trust=way,
        session_tags={"Team": "department", "Person": "handle", "CostCenter": "cost_center"},
        transitive_tag_keys=["Team"],
    )

    given = world.given(world.issue(role))

    assert given.tags == {"Team": "blue team", "Person": "alice", "CostCenter": "12345"}
    assert given.transitive_tag_keys == ("Team",)


@every_way
def test_a_session_is_named_as_the_role_says(world, way):
    role = world.role(trust=way, session_name="ops-{handle}-{random}")

    given = world.given(world.issue(role))

    assert re.search(r"/ops-alice-[0-9a-z]{8}$", given.arn)
    assert given.source_identity == "alice"


@pytest.mark.parametrize("trust", FEDERATED)
def test_no_aws_key_is_needed_and_the_role_gives_its_longest(world, trust):
    role = world.role(trust=trust, max_seconds=43200)

    assert world.given(world.issue(role)).seconds == 43200
    [seen] = world.sts.requests
    assert (
        seen.action
        == {
            "web_identity": "AssumeRoleWithWebIdentity",
            "saml": "AssumeRoleWithSAML",
        }[trust]
    )


def test_a_regional_account_posts_assertions_to_its_regional_address(strict, client, settings):
    settings.DAYPASS_STS_ENDPOINT = strict.regional_url
    world = World(strict, client, region="eu-central-1")
    role = world.role(trust="saml")

    world.given(world.issue(role))

    [seen] = strict.requests
    assert seen.region == "eu-central-1"
    assert "https://eu-central-1.signin.aws.amazon.com/saml" in decoded(seen.form["SAMLAssertion"])


def decoded(assertion: str) -> str:
    import base64

    return base64.b64decode(assertion).decode()


def test_sub_is_the_same_for_ever_opaque_and_of_this_role_only(world):
    role, other = world.role(), world.role("Operator")

    for one in (role, role, other):
        world.given(world.issue(one))

    subjects = [parts_of(seen.form["WebIdentityToken"])[1]["sub"] for seen in world.sts.requests]
    assert subjects[0] == subjects[1] == f"role/{ACCOUNT}/Developer/person/{world.alice.pk}"
    assert subjects[2] == f"role/{ACCOUNT}/Operator/person/{world.alice.pk}"
    assert "alice" not in "".join(subjects)


def test_a_renamed_person_stays_the_same_to_aws(world):
    role = world.role()
    world.issue(role)
    world.alice.email = "alice.jones@example.com"
    world.alice.name = "Alice Jones"
    world.alice.save()

    world.issue(role)

    first, second = (parts_of(seen.form["WebIdentityToken"])[1] for seen in world.sts.requests)
    assert first["sub"] == second["sub"]
    assert first["https://aws.amazon.com/source_identity"] == "alice"


# --- Not let in


@every_way
@pytest.mark.parametrize(
    ("action", "code"),
    [
        ("sts:TagSession", "aws_tag_session_denied"),
        ("sts:SetSourceIdentity", "aws_source_identity_denied"),
    ],
)
def test_an_action_missing_from_the_trust_is_named_to_the_administrator(world, way, action, code):
    role = world.role(trust=way, session_tags={"Team": "department"})
    policy = json.loads(world.sts.roles[role.arn].trust_policy)
    for statement in policy["Statement"]:
        listed = statement["Action"]
        statement["Action"] = [
            one for one in ([listed] if isinstance(listed, str) else listed) if one != action
        ]
    world.sts.roles[role.arn].trust_policy = policy

    with pytest.raises(AwsError) as told:
        world.issue(role)

    assert (told.value.code, told.value.aws_code) == (code, "AccessDenied")
    assert Session.objects.get().state == "failed"
    assert world.sts.given == {}


@pytest.mark.parametrize("trust", FEDERATED)
def test_a_key_that_aws_does_not_know_opens_nothing(world, trust, published):
    """A foreign key: as if somebody had made a key of their own, or AWS still had an old set."""
    role = world.role(trust=trust)
    purpose = SigningKey.Purpose.OIDC if trust == "web_identity" else SigningKey.Purpose.SAML
    SigningKey.objects.filter(purpose=purpose).delete()
    forget_opened_keys()

    with pytest.raises(AwsError) as told:
        world.issue(role)

    assert told.value.aws_code == "InvalidIdentityToken"
    assert told.value.code in ("aws_cannot_fetch_keys", "aws_signature_refused")
    assert world.sts.given == {}


def unsigned(world: World):
    config = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1})
    return boto3.client("sts", region_name="us-east-1", endpoint_url=world.sts.url, config=config)


def a_token(role, *, now=None) -> str:
    claims = WebIdentityClaims(
        subject="3f0c9a52", role_arn=role.arn, source_identity="alice", session_tags={}
    )
    return mint_web_identity_token(claims, now=now or timezone.now()).reveal()


def an_assertion(role, *, now=None) -> str:
    claims = AssertionClaims(
        role_arn=role.arn,
        saml_provider_arn=SAML_PROVIDER,
        session_name="alice.9f3k2c7d",
        source_identity="alice",
        session_tags={},
        transitive_tag_keys=(),
        session_seconds=3600,
        subject="3f0c9a52",
        recipient="https://signin.aws.amazon.com/saml",
        audience="urn:amazon:webservices",
    )
    return mint_saml_response(claims, now=now or timezone.now()).reveal()


def present(world: World, trust: str, proof: str, role) -> None:
    """As whoever holds a token or an assertion may present it to AWS, for a role of their choice."""
    sts = unsigned(world)
    if trust == "web_identity":
        sts.assume_role_with_web_identity(
            RoleArn=role.arn, RoleSessionName="mallory", WebIdentityToken=proof
        )
    else:
        sts.assume_role_with_saml(RoleArn=role.arn, PrincipalArn=SAML_PROVIDER, SAMLAssertion=proof)


MINT = {"web_identity": a_token, "saml": an_assertion}


@pytest.mark.parametrize("trust", FEDERATED)
def test_what_is_signed_for_one_role_opens_no_other(world, trust):
    role, other = world.role(trust=trust), world.role("Administrator", trust=trust)
    proof = MINT[trust](role)

    present(world, trust, proof, role)
    with pytest.raises(ClientError):
        present(world, trust, proof, other)

    assert world.sts.refused() == [
        "InvalidIdentityToken" if trust == "web_identity" else "AccessDenied"
    ]


def test_a_token_for_another_role_is_stopped_by_its_subject_alone(world):
    """Where AWS does not know the roles claim yet: the trust policy pins the role in `sub`."""
    role, other = world.role(), world.role("Administrator")
    policy = json.loads(world.sts.roles[other.arn].trust_policy)
    for statement in policy["Statement"]:
        statement["Condition"].pop("Bool", None)
    world.sts.roles[other.arn].trust_policy = policy
    world.sts.knows_roles_claim = False
    token = a_token(role)
    claims = parts_of(token)[1]

    assert claims["sub"].startswith(f"role/{ACCOUNT}/{parse_role_arn(role.arn).name}/")
    with pytest.raises(ClientError):
        present(world, "web_identity", token, other)


@pytest.mark.parametrize(
    ("trust", "age"),
    [("web_identity", timedelta(minutes=11)), ("saml", timedelta(minutes=6))],
)
def test_what_is_too_old_opens_nothing(world, trust, age):
    role = world.role(trust=trust)
    proof = MINT[trust](role, now=timezone.now() - age)

    with pytest.raises(ClientError):
        present(world, trust, proof, role)

    assert world.sts.refused() == ["ExpiredTokenException"]


@pytest.mark.parametrize("trust", FEDERATED)
def test_what_was_used_once_is_worth_nothing_when_it_is_found_later(world, trust):
    """AWS takes a token again while it lives, so Daypass lets none live longer than five minutes."""
    role = world.role(trust=trust)
    world.given(world.issue(role))
    [used] = world.sts.requests
    proof = used.form.get("WebIdentityToken") or used.form["SAMLAssertion"]

    world.sts.clock_skew = timedelta(minutes=5 if trust == "saml" else 10, seconds=1)
    with pytest.raises(ClientError):
        present(world, trust, proof, role)

    assert world.sts.refused() == ["ExpiredTokenException"]


@pytest.mark.parametrize("trust", FEDERATED)
def test_another_account_takes_nothing_that_was_signed_for_this_one(world, trust):
    role = world.role(trust=trust)
    elsewhere = make.role("Developer", of=make.account("Other", account_id="444455556666"))
    world.sts.roles[elsewhere.arn] = world.sts.roles[role.arn]
    proof = MINT[trust](role)

    with pytest.raises(ClientError):
        present(world, trust, proof, elsewhere)

    assert world.sts.given == {}


def test_a_task_of_daypass_and_a_person_do_not_open_each_others_roles(world):
    from broker.assume.services import borrow

    role = world.role("DaypassDiscovery")

    with pytest.raises(AwsError) as told:
        borrow(
            account_id=ACCOUNT,
            partition="aws",
            region="",
            role_name="DaypassDiscovery",
            purpose="discovery",
            now=timezone.now(),
        )
    assert told.value.aws_code == "AccessDenied"

    policy = world.sts.roles[role.arn].trust_policy
    world.sts.roles[role.arn].trust_policy = policy.replace("/person/*", "/task/*")
    borrow(
        account_id=ACCOUNT,
        partition="aws",
        region="",
        role_name="DaypassDiscovery",
        purpose="discovery",
        now=timezone.now(),
    )
    with pytest.raises(AwsError):
        world.issue(role)


def test_the_wrong_audience_is_explained(world):
    role = world.role()
    world.sts.oidc_providers[OIDC_PROVIDER] = ["somebody.else"]

    with pytest.raises(AwsError) as told:
        world.issue(role)

    assert told.value.code == "aws_audience_wrong"


@pytest.mark.parametrize("trust", FEDERATED)
def test_a_missing_provider_is_explained(world, trust):
    role = world.role(trust=trust)
    world.sts.oidc_providers.clear()
    world.sts.saml_providers.clear()

    with pytest.raises(AwsError) as told:
        world.issue(role)

    assert told.value.code == "aws_provider_missing"


# --- AssumeRole


def test_the_external_id_is_the_roles_own_or_else_the_accounts(world, ambient):
    world.account.external_id = "account-7"
    world.account.save()
    own, shared = world.role("Own", trust="assume_role", external_id="own-8"), None
    shared = world.role("Shared", trust="assume_role")

    for role in (own, shared):
        world.given(world.issue(role))

    assert [seen.form["ExternalId"] for seen in world.sts.requests] == ["own-8", "account-7"]


def test_an_external_id_is_not_sent_where_nobody_set_one(world, ambient):
    world.given(world.issue(world.role(trust="assume_role")))

    [seen] = world.sts.requests
    assert "ExternalId" not in seen.form


def test_a_wrong_external_id_opens_nothing(world, ambient):
    role = world.role(trust="assume_role", external_id="right-1")
    role.external_id = "wrong-2"
    role.save()

    with pytest.raises(AwsError) as told:
        world.issue(role)

    assert told.value.code == "aws_access_denied"
    assert "sts:ExternalId" in told.value.remedy


def test_a_chained_session_is_asked_for_an_hour_at_most(world, ambient):
    role = world.role(trust="assume_role", max_seconds=43200)

    issued = world.issue(role)

    assert world.given(issued).seconds == 3600
    assert isinstance(issued, Issued)
    assert issued.chained


# --- What the assertion says beside


def test_the_assertion_lists_the_tags_that_stay_on(world):
    role = world.role(
        trust="saml", session_tags={"Team": "department"}, transitive_tag_keys=["Team"]
    )
    world.given(world.issue(role))

    said = attributes_of(world.sts.requests[0].form["SAMLAssertion"])
    assert said["TransitiveTagKeys"] == ["Team"]
    assert said["PrincipalTag:Team"] == ["blue team"]


def test_whoever_may_not_is_refused_before_aws_is_asked(world):
    role = world.role()
    bob = make.person("bob", at=world.developers.provider)

    assert isinstance(world.issue(role, who=bob), Refused)
    assert world.sts.requests == []
