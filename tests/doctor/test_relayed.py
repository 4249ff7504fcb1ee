"""Roles that only an employee's own token or assertion opens: never tried, and read in IAM as far as that goes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from accounts.models import RelayApplication
from broker.doctor.models import TrustCheck
from broker.entitlements.models import AwsAccount, AwsRole
from tests import factories as make
from tests.accounts.idp_saml import SamlIdp
from tests.doctor.conftest import World

pytestmark = pytest.mark.django_db

ISSUER, CLIENT = "https://login.example.com/tenant", "0oa1client"
OIDC = "arn:aws:iam::111122223333:oidc-provider/login.example.com/tenant"
SAML = "arn:aws:iam::111122223333:saml-provider/Company"


@pytest.fixture(scope="session")
def application() -> SamlIdp:
    return SamlIdp(entity_id="https://idp.example/aws-application")


@pytest.fixture
def by_token(company) -> World:
    """A role that trusts the company's own OpenID Connect provider, as it has to be."""
    world = company("web_identity")
    provider = make.provider("okta", name="Okta", issuer=ISSUER, client_id=CLIENT)
    AwsRole.objects.filter(pk=world.role.pk).update(trust="relayed_token", relay_provider=provider)
    world.sts.oidc_providers[OIDC] = [CLIENT]
    world.trust["Statement"] = [
        {
            "Effect": "Allow",
            "Principal": {"Federated": OIDC},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {"login.example.com/tenant:aud": CLIENT}},
        }
    ]
    return world


@pytest.fixture
def by_assertion(company, application) -> World:
    """A role that trusts the company's own SAML application for AWS."""
    world = company("saml")
    provider = make.provider("okta", name="Okta")
    RelayApplication.objects.create(
        provider=provider,
        entity_id=application.entity_id,
        certificates=re.findall(r"X509Certificate>([^<]+)<", application.metadata)[:1],
        start_url="https://idp.example/start",
    )
    AwsRole.objects.filter(pk=world.role.pk).update(
        trust="relayed_assertion", relay_provider=provider
    )
    world.sts.saml_providers[SAML] = application.metadata
    world.trust["Statement"] = [
        {
            "Effect": "Allow",
            "Principal": {"Federated": SAML},
            "Action": "sts:AssumeRoleWithSAML",
            "Condition": {"StringEquals": {"SAML:aud": "https://signin.aws.amazon.com/saml"}},
        }
    ]
    return world


def states(check: TrustCheck) -> dict[str, str]:
    return {step["step"]: step["state"] for step in check.steps}


def never_tried(world: World) -> bool:
    return not [seen for seen in world.sts.requests if seen.form.get("RoleArn") == world.role.arn]


def test_a_role_for_the_providers_tokens_is_read_and_never_tried(by_token):
    check = by_token.check()

    assert (check.outcome, check.code) == ("unsure", "not_tried")
    assert "only an employee's own ID token of Okta opens this role" in check.cause
    assert "Checked instead, in IAM, and right: " in check.cause
    found = states(check)
    assert [s for s, state in found.items() if state == "ok"] == [
        "provider", "audience", "role", "trust", "duration",
    ]  # fmt: skip
    assert "bad" not in found.values()
    assert never_tried(by_token)


def test_a_role_for_the_applications_assertions_is_read_and_never_tried(by_assertion):
    check = by_assertion.check()

    assert (check.outcome, check.code) == ("unsure", "not_tried")
    assert "only the assertion that Okta's application for AWS makes" in check.cause
    found = states(check)
    assert [s for s, state in found.items() if state == "ok"] == [
        "provider", "certificate", "role", "duration",
    ]  # fmt: skip
    # To which of AWS's addresses the application posts shows when somebody does.
    trust = next(step for step in check.steps if step["step"] == "trust")
    assert trust["state"] == "unknown" and "SAML:aud" in trust["said"]
    assert never_tried(by_assertion)


def test_without_a_discovery_role_it_says_that_nothing_could_be_checked(by_token):
    AwsAccount.objects.update(discovery_role="")

    check = by_token.check()

    assert (check.outcome, check.code) == ("unsure", "not_tried")
    assert "Nothing could be checked instead: no discovery role is set" in check.cause
    assert "ok" not in states(check).values()


def broken(world: World, what: str) -> Any:
    statement = world.statement
    match what:
        case "role":
            del world.sts.roles[world.role.arn]
        case "provider":
            world.sts.oidc_providers.pop(OIDC, None)
            world.sts.saml_providers.pop(SAML, None)
        case "client id":
            world.sts.oidc_providers[OIDC] = ["another"]
        case "principal":
            statement["Principal"] = {"Federated": OIDC + "/another"}
        case "saml principal":
            statement["Principal"] = {"AWS": "*"}
        case "action":
            statement["Action"] = "sts:AssumeRole"
        case "audience":
            statement["Condition"]["StringEquals"]["login.example.com/tenant:aud"] = "another"
        case "deny":
            world.trust["Statement"].append(
                {**statement, "Effect": "Deny", "Condition": {}, "Sid": "Frozen"}
            )
        case "entity id":
            other = SamlIdp(entity_id="https://idp.example/another")
            world.sts.saml_providers[SAML] = other.metadata
        case "certificate":
            RelayApplication.objects.update(certificates=["bm90IHRoaXMgb25l"])
        case "duration":
            AwsRole.objects.filter(pk=world.role.pk).update(max_seconds=7200)


@pytest.mark.parametrize(
    ("what", "code", "says"),
    [
        ("role", "role_missing", "has no role Developer"),
        ("provider", "provider_missing", f"has no OIDC provider {OIDC}"),
        ("client id", "audience_missing", f"does not list the audience {CLIENT}"),
        ("principal", "trust_principal_missing", f"names {OIDC}; it names Federated {OIDC}/an"),
        ("action", "trust_action_missing", "and not sts:AssumeRoleWithWebIdentity"),
        ("audience", "trust_audience", f"what is passed on says {CLIENT}"),
        ("deny", "trust_denies", "A Deny in the trust policy"),
        ("duration", "duration_too_long", "sessions of up to 7200 seconds"),
    ],
)
def test_what_is_wrong_for_every_token_is_named(by_token, what, code, says):
    broken(by_token, what)

    check = by_token.check()

    assert (check.outcome, check.code) == ("fails", code)
    assert says in check.cause
    assert "This was read in IAM. Not tried: " in check.cause
    assert check.remedy and "below" not in check.remedy
    assert never_tried(by_token)


@pytest.mark.parametrize(
    ("what", "code", "says"),
    [
        ("provider", "provider_missing", f"names {SAML}, and the account 111122223333 has no such"),
        ("saml principal", "trust_principal_missing", "names a SAML provider; it names AWS *"),
        ("entity id", "saml_metadata_of_another", "of another entity id than"),
        ("certificate", "saml_metadata_outdated", "none of the certificates"),
    ],
)
def test_what_is_wrong_for_every_assertion_is_named(by_assertion, what, code, says):
    broken(by_assertion, what)

    check = by_assertion.check()

    assert (check.outcome, check.code) == ("fails", code)
    assert says in check.cause
    assert never_tried(by_assertion)


def test_metadata_of_any_spelling_is_known_as_the_applications(by_assertion):
    """It comes from whatever program the company uses, and IAM gives it back as it was uploaded."""
    metadata = by_assertion.sts.saml_providers[SAML]
    text = metadata.decode() if isinstance(metadata, bytes) else metadata
    spelt = re.sub(r'entityID="([^"]*)"', r"entityID = '\1'", text)
    assert spelt != text
    by_assertion.sts.saml_providers[SAML] = spelt

    check = by_assertion.check()

    assert (check.outcome, check.code) == ("unsure", "not_tried")


def test_a_condition_on_the_person_is_left_open_and_named(by_token):
    by_token.statement["Condition"]["StringLike"] = {"login.example.com/tenant:sub": "u-*"}

    check = by_token.check()

    assert (check.outcome, check.code) == ("unsure", "not_tried")
    trust = next(step for step in check.steps if step["step"] == "trust")
    assert trust["state"] == "unknown" and "tenant:sub = u-*" in trust["said"]


def test_an_issuer_that_aws_knows_by_itself_needs_no_provider_in_the_account(by_token):
    provider = AwsRole.objects.get().relay_provider
    provider.issuer = "https://accounts.google.com"
    provider.save()
    by_token.sts.oidc_providers.pop(OIDC)
    by_token.statement["Principal"] = {"Federated": "accounts.google.com"}
    by_token.statement["Condition"] = {"StringEquals": {"accounts.google.com:aud": CLIENT}}

    check = by_token.check()

    assert (check.outcome, check.code) == ("unsure", "not_tried")
    assert states(check)["provider"] == states(check)["trust"] == "ok"
