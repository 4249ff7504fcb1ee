"""What was deployed is really used: templates and scripts into moto, its IAM read back, and people signed in."""

from __future__ import annotations

import json

import pytest
from django.utils import timezone

from broker.assume.services import Issued, borrow, issue
from broker.entitlements.models import AwsAccount
from broker.entitlements.rules import Ask
from broker.errors import AwsError
from broker.trust import queries
from broker.trust.documents import Format, documents
from broker.trust.setup import Options, managed_policy
from tests import factories as make
from tests.trust import cast
from tests.trust.aws import ACCOUNT

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signing_keys", "published")]


@pytest.fixture
def payments():
    return make.account("Payments", account_id=ACCOUNT, region="eu-west-1")


@pytest.fixture
def alice():
    return make.person("alice", groups=[make.group("developers")])


def given(person, **fields):
    role = make.role(**fields)
    make.mapping(person.memberships.get().group, role)
    return role


def made(language: Format, *, discovery=False, update_metadata=False, **options):
    """The one document for the account, as the page and the command make it."""
    accounts = queries.set_ups(
        AwsAccount.objects.all(), discovery=discovery, update_metadata=update_metadata
    )
    metadata = queries.saml_metadata(accounts, now=timezone.now())
    (document,) = documents(accounts, Options(saml_metadata=metadata, **options), language)
    return document.text


def sign_in(person, role):
    issued = issue(make.principal(person), Ask(role.id, "keys"), now=timezone.now())
    assert isinstance(issued, Issued), issued
    return issued


def deploy(cloud, language: Format, tmp_path, **wanted):
    if language == Format.CLI:
        done = cloud.run(made(language, **wanted), tmp_path)
        assert done.returncode == 0, done.stderr
    else:
        cloud.deploy(made(language, **wanted))


LANGUAGES = (Format.CLOUDFORMATION, Format.CLOUDFORMATION_JSON, Format.CLI)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_person_signs_in_to_what_was_deployed(language, cloud, strict, alice, payments, tmp_path):
    by_token = given(alice, name="Developer", of=payments, path="/teams/", max_seconds=7200)
    by_assertion = given(alice, name="Auditor", of=payments, trust="saml")

    deploy(cloud, language, tmp_path)
    cloud.into(strict)

    for role in (by_token, by_assertion):
        issued = sign_in(alice, role)
        assert strict.given[issued.credentials.access_key_id].source_identity == "alice"
    held = cloud.iam.get_role(RoleName="Developer")["Role"]
    assert (held["Arn"], held["MaxSessionDuration"]) == (by_token.arn, 7200)


@pytest.mark.parametrize("language", LANGUAGES)
def test_daypass_reads_the_account_and_nobody_else_uses_that_role(
    language, cloud, strict, alice, payments, tmp_path
):
    role = given(alice, name="Developer", of=payments)
    deploy(cloud, language, tmp_path, discovery=True)
    cloud.into(strict)
    where = {"account_id": ACCOUNT, "partition": "aws", "region": "eu-west-1"}

    assert borrow(**where, role_name="DaypassDiscovery", purpose="discovery", now=timezone.now())
    with pytest.raises(AwsError):
        borrow(**where, role_name="Developer", purpose="discovery", now=timezone.now())
    as_person = given(alice, name="DaypassDiscovery", of=payments)
    with pytest.raises(AwsError):
        sign_in(alice, as_person)
    assert sign_in(alice, role)
    policy = cloud.iam.get_role_policy(RoleName="DaypassDiscovery", PolicyName="daypass-discovery")[
        "PolicyDocument"
    ]
    policy = policy if isinstance(policy, dict) else json.loads(policy)
    actions = json.dumps([one["Action"] for one in policy["Statement"]])
    assert "iam:ListRoles" in actions
    assert not any(verb in actions for verb in ("Create", "Put", "Delete", "Update", "Pass", ":*"))


def test_a_role_that_was_deployed_for_one_name_is_not_opened_by_another(
    cloud, strict, alice, payments
):
    """The same policy under another name: `sub` and the roles claim pin it."""
    given(alice, name="Developer", of=payments)
    cloud.deploy(made(Format.CLOUDFORMATION))
    cloud.into(strict)
    administrator = given(alice, name="Administrator", of=payments)
    strict.roles[administrator.arn] = strict.roles[f"arn:aws:iam::{ACCOUNT}:role/Developer"]

    with pytest.raises(AwsError) as refused:
        sign_in(alice, administrator)

    assert refused.value.aws_code == "AccessDenied"


def test_an_account_that_has_the_providers_gets_only_the_roles(
    cloud, strict, alice, payments, settings, tmp_path
):
    role = given(alice, name="Developer", of=payments)
    cloud.iam.create_open_id_connect_provider(
        Url=settings.DAYPASS_ISSUER, ClientIDList=[settings.DAYPASS_AUDIENCE]
    )

    cloud.deploy(made(Format.CLOUDFORMATION, make_providers=False))

    cloud.into(strict)
    assert sign_in(alice, role)


def test_a_parameter_leaves_a_provider_out_that_is_there_already(
    cloud, strict, alice, payments, settings
):
    role = given(alice, name="Developer", of=payments)
    cloud.iam.create_open_id_connect_provider(
        Url=settings.DAYPASS_ISSUER, ClientIDList=[settings.DAYPASS_AUDIENCE]
    )

    cloud.deploy(made(Format.CLOUDFORMATION), CreateOidcProvider="no")

    cloud.into(strict)
    assert sign_in(alice, role)


def test_a_script_may_be_run_again_and_changes_nothing_that_others_made(
    cloud, payments, settings, tmp_path
):
    make.role("Developer", of=payments)
    make.role("Auditor", of=payments, trust="saml")
    boundary = managed_policy(f"arn:aws:iam::{ACCOUNT}:policy/Boundary")
    allowed = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
    }
    for name in ("Boundary", "Deployers"):
        cloud.iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(allowed))
    own = {"Version": "2012-10-17", "Statement": [_own()]}
    cloud.iam.create_role(RoleName="Auditor", AssumeRolePolicyDocument=json.dumps(own))
    script = made(
        Format.CLI,
        boundary=boundary,
        policies=(managed_policy("Deployers"),),
    )

    first = cloud.run(script, tmp_path)
    second = cloud.run(script, tmp_path)

    assert first.returncode == second.returncode == 0, (first.stderr, second.stderr)
    assert "Auditor is there" in first.stderr
    assert "Developer is there" in second.stderr
    assert cloud.trust_of("Auditor") == own
    assert cloud.iam.list_attached_role_policies(RoleName="Auditor")["AttachedPolicies"] == []
    held = cloud.iam.get_role(RoleName="Developer")["Role"]
    assert held["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary.arn("aws", ACCOUNT)
    attached = cloud.iam.list_attached_role_policies(RoleName="Developer")["AttachedPolicies"]
    assert [one["PolicyName"] for one in attached] == ["Deployers"]
    (provider,) = cloud.iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
    assert provider["Arn"].endswith(settings.DAYPASS_ISSUER.removeprefix("https://"))


def _own() -> dict:
    return {
        "Effect": "Allow",
        "Principal": {"Service": "ec2.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }


def test_a_script_leaves_a_saml_provider_alone_that_is_not_daypasss(cloud, payments, tmp_path):
    make.role("Auditor", of=payments, trust="saml")
    foreign = cast.METADATA.replace("daypass.example.com", "login.example.net")
    cloud.iam.create_saml_provider(Name="Daypass", SAMLMetadataDocument=foreign)

    done = cloud.run(made(Format.CLI), tmp_path)

    assert done.returncode == 1
    assert "is not Daypass's" in done.stderr
    (provider,) = cloud.iam.list_saml_providers()["SAMLProviderList"]
    held = cloud.iam.get_saml_provider(SAMLProviderArn=provider["Arn"])
    assert held["SAMLMetadataDocument"] == foreign


def test_a_script_stops_with_credentials_of_another_account(cloud, tmp_path):
    make.role("Developer", of=make.account(account_id="999999999999"))

    done = cloud.run(made(Format.CLI), tmp_path)

    assert done.returncode == 1
    assert cloud.iam.list_roles()["Roles"] == []


def test_hostile_names_arrive_in_iam_letter_for_letter(cloud, payments, tmp_path):
    make.role("a+=,.@-b_", of=payments, path=cast.HOSTILE_PATH, description=cast.HOSTILE_WORDS)
    make.role("ab", of=payments, trust="saml", description="-x")

    done = cloud.run(made(Format.CLI), tmp_path)

    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [], "something was executed"
    held = cloud.iam.get_role(RoleName="a+=,.@-b_")["Role"]
    assert held["Path"] == cast.HOSTILE_PATH
    assert "root:" not in held.get("Description", "")


def test_a_mended_trust_policy_lets_people_in_again(cloud, strict, alice, payments):
    """The role exists and trusts others: the statement to add, added with the AWS API."""
    from broker.trust.rules import trust_policy

    role = given(alice, name="Developer", of=payments)
    own = {"Version": "2012-10-17", "Statement": [_own()]}
    cloud.deploy(made(Format.CLOUDFORMATION))
    cloud.iam.update_assume_role_policy(RoleName="Developer", PolicyDocument=json.dumps(own))
    cloud.into(strict)
    with pytest.raises(AwsError):
        sign_in(alice, role)

    mended = trust_policy(queries.role_trust(role), existing=json.dumps(own))
    cloud.iam.update_assume_role_policy(RoleName="Developer", PolicyDocument=mended)

    cloud.into(strict)
    assert sign_in(alice, role)
    assert _own() in cloud.trust_of("Developer")["Statement"]


def test_the_script_of_a_stack_set_may_be_run_again(cloud, tmp_path):
    """moto deploys nothing by service-managed permissions; that the AWS CLI takes every argument is shown."""
    cloud.client("organizations").create_organization(FeatureSet="ALL")
    template, script = documents(cast.several(), cast.FRESH, Format.STACKSET)
    (tmp_path / template.filename).write_text(template.text)

    first = cloud.run(script.text, tmp_path)
    second = cloud.run(script.text, tmp_path)

    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    held = cloud.client("cloudformation").describe_stack_set(StackSetName="daypass")["StackSet"]
    assert held["PermissionModel"] == "SERVICE_MANAGED"
    assert held["TemplateBody"] == template.text
