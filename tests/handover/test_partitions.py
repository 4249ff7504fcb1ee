"""Every partition through the whole spine: what AWS is sent there, and where the browser lands."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit

import pytest
from django.utils import timezone
from lxml import etree

from broker.arns import PARTITIONS
from broker.assume.services import Issued, issue
from broker.aws import regions
from broker.entitlements.rules import Ask
from broker.handover.console import ConsoleLink, SamlForm, open_console
from broker.minting.rules import recipient as fit_recipient
from tests import factories as make
from tests.aws.servers import Answer, StandIn, signin_answer, sts_answer
from tests.minting.claims import parts_of

pytestmark = pytest.mark.django_db

ACCOUNT = "111122223333"
SAML = {"saml": "urn:oasis:names:tc:SAML:2.0:assertion"}
PLACES = [
    ("aws", "", "https://signin.aws.amazon.com/saml", "urn:amazon:webservices",
     "https://console.aws.amazon.com/"),
    ("aws", "eu-west-1", "https://eu-west-1.signin.aws.amazon.com/saml", "urn:amazon:webservices",
     "https://eu-west-1.console.aws.amazon.com/"),
    ("aws-us-gov", "us-gov-west-1", "https://signin.amazonaws-us-gov.com/saml",
     "urn:amazon:webservices:govcloud", "https://us-gov-west-1.console.amazonaws-us-gov.com/"),
    ("aws-us-gov", "us-gov-east-1", "https://us-gov-east-1.signin.amazonaws-us-gov.com/saml",
     "urn:amazon:webservices:govcloud", "https://us-gov-east-1.console.amazonaws-us-gov.com/"),
    ("aws-cn", "", "https://signin.amazonaws.cn/saml", "urn:amazon:webservices:cn-north-1",
     "https://console.amazonaws.cn/"),
    ("aws-cn", "cn-northwest-1", "https://cn-northwest-1.signin.amazonaws.cn/saml",
     "urn:amazon:webservices:cn-north-1", "https://cn-northwest-1.console.amazonaws.cn/"),
    ("aws-eusc", "eusc-de-east-1", "https://eusc-de-east-1.signin.amazonaws-eusc.eu/saml",
     "https://eusc-de-east-1.signin.amazonaws-eusc.eu/saml",
     "https://eusc-de-east-1.console.amazonaws-eusc.eu/"),
]  # fmt: skip


@pytest.fixture
def place(sts_stand_in, monkeypatch):
    """STS of a partition: sessions of a role get that partition's ARNs."""

    def of(partition: str) -> StandIn:
        def answer(request):
            role = request.form["RoleArn"].rsplit("/")[-1]
            name = request.form.get("RoleSessionName") or session_name(request)
            return sts_answer(
                request, arn=f"arn:{partition}:sts::{ACCOUNT}:assumed-role/{role}/{name}"
            )

        monkeypatch.setattr(sts_stand_in, "otherwise", answer)
        return sts_stand_in

    return of


def assertion_of(text: str) -> etree._Element:
    return etree.fromstring(base64.b64decode(text)).find("saml:Assertion", SAML)


def session_name(request) -> str:
    for attribute in assertion_of(request.form["SAMLAssertion"]).iterfind(
        ".//saml:Attribute", SAML
    ):
        if attribute.get("Name").endswith("/RoleSessionName"):
            return attribute[0].text
    raise AssertionError("no session name")


def said_by(assertion: etree._Element) -> tuple[str, str]:
    """Recipient and audience."""
    data = assertion.find(".//saml:SubjectConfirmationData", SAML)
    return data.get("Recipient"), assertion.findtext(".//saml:Audience", namespaces=SAML)


def role_in(role_for, partition: str, region: str, **fields):
    return role_for(of={"account_id": ACCOUNT, "partition": partition, "region": region}, **fields)


def keys(alice, role) -> Issued:
    issued = issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())
    assert isinstance(issued, Issued)
    return issued


@pytest.mark.parametrize(("partition", "region", "recipient", "audience", "console"), PLACES)
def test_a_token_of_ours_opens_a_role_of_the_partition(
    alice, role_for, place, partition, region, recipient, audience, console
):
    asked = place(partition)
    role = role_in(role_for, partition, region)

    keys(alice, role)

    form = asked.requests[0].form
    assert form["RoleArn"] == f"arn:{partition}:iam::{ACCOUNT}:role/Developer"
    claims = parts_of(form["WebIdentityToken"])[1]
    assert claims["aud"] == "sts.amazonaws.com"
    assert form["RoleArn"] in claims["https://aws.amazon.com/roles"]


@pytest.mark.parametrize(("partition", "region", "recipient", "audience", "console"), PLACES)
def test_an_assertion_of_ours_names_the_partitions_own_door_and_audience(
    alice, role_for, place, partition, region, recipient, audience, console
):
    asked = place(partition)
    role = role_in(role_for, partition, region, trust="saml")

    keys(alice, role)

    form = asked.requests[0].form
    assert form["PrincipalArn"] == f"arn:{partition}:iam::{ACCOUNT}:saml-provider/Daypass"
    assert said_by(assertion_of(form["SAMLAssertion"])) == (recipient, audience)
    assert fit_recipient(recipient, partition=partition) == recipient


@pytest.mark.parametrize(("partition", "region", "recipient", "audience", "console"), PLACES)
def test_the_console_opens_at_the_partitions_own_pages(
    alice, role_for, place, signin_stand_in, partition, region, recipient, audience, console
):
    place(partition)
    role = role_in(role_for, partition, region)

    link = open_console(make.principal(alice), Ask(role.id, "console"), now=timezone.now())

    assert isinstance(link, ConsoleLink)
    (destination,) = parse_qs(urlsplit(link.url).query)["Destination"]
    assert destination.startswith(console)
    assert urlsplit(destination).netloc.endswith(PARTITIONS[partition].console_domain)


# --- Fail-over through the whole spine


@pytest.fixture
def sign_in_of(settings):
    """A sign-in host for each of two regions."""
    made = {region: StandIn(signin_answer) for region in ("eu-west-1", "eu-north-1")}
    settings.DAYPASS_SIGNIN_ENDPOINT = ",".join(f"{name}={host.url}" for name, host in made.items())
    yield made
    for host in made.values():
        host.stop()


def test_the_accounts_second_region_answers_for_a_first_one_that_does_not(
    alice, role_for, sts_stand_in, sign_in_of, settings
):
    settings.DAYPASS_STS_ENDPOINT = f"{sts_stand_in.url}/{{region}}"
    role = role_for(of={"second_region": "eu-north-1"})
    sts_stand_in.will(Answer(503))
    sign_in_of["eu-west-1"].will(Answer(503))

    link = open_console(make.principal(alice), Ask(role.id, "console"), now=timezone.now())

    assert [request.path for request in sts_stand_in.requests] == ["/eu-west-1", "/eu-north-1"]
    assert link.url.startswith(f"{sign_in_of['eu-north-1'].url}/federation?")


def test_the_saml_form_goes_to_the_second_region_and_its_assertion_says_so(
    alice, role_for, sign_in_of
):
    role = role_for(trust="saml", console="saml_form", of={"second_region": "eu-north-1"})
    sign_in_of["eu-west-1"].will(Answer(503))

    form = open_console(make.principal(alice), Ask(role.id, "console"), now=timezone.now())

    assert isinstance(form, SamlForm)
    assert form.action == f"{sign_in_of['eu-north-1'].url}/saml"
    recipient, _ = said_by(assertion_of(form.fields["SAMLResponse"]))
    assert recipient == "https://eu-north-1.signin.aws.amazon.com/saml"
    (seen,) = regions.avoided("signin", [urlsplit(sign_in_of["eu-west-1"].url).netloc])
    assert seen.why == "aws_internal"
