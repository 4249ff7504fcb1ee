"""The table: one thing wrong at a time, what AWS says to it, and the doctor naming it, with a fix that mends it.

Each row breaks a company in which everything works (conftest.py). AWS's answer comes from a stand-in that truly checks;
only where it cannot look (a certificate authority, another policy than the trust policy) it says AWS's words. Where the
doctor shows a policy, the policy is put in place and the role is tried again: the fix has to mend it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from broker.doctor.rules import Step
from broker.minting import keys, saml
from broker.minting.models import SigningKey
from tests.aws.servers import Answer
from tests.doctor.conftest import DISCOVERY, ISSUER, JWKS, World
from tests.strict_sts import INTERNAL, THROTTLED, Outage, Refusal

pytestmark = pytest.mark.django_db

OIDC = "arn:aws:iam::111122223333:oidc-provider/daypass.test"
SAML = "arn:aws:iam::111122223333:saml-provider/Daypass"
DENIED = "Not authorized to perform sts:AssumeRoleWithWebIdentity"
NO_KEY = "Couldn't retrieve verification key from your identity provider"


@dataclass
class Row:
    """name: what is wrong. breaks: how. aws: the code and words of AWS's answer. code, step: what the doctor says.

    mends: whether the shown policy mends it; None: no policy is shown. says, fix: in cause and remedy.
    """

    name: str
    breaks: Callable[[World], Any]
    aws: tuple[str, str]
    code: str
    step: Step
    trust: str = "web_identity"
    mends: bool | None = None
    says: str = ""
    fix: str = ""
    outcome: str = "fails"
    fields: dict[str, Any] = field(default_factory=dict)
    unread: bool = False
    """Without a discovery role: by AWS's answer alone."""


ROWS: list[Row] = []


def row(name: str, aws: tuple[str, str], code: str, step: Step, **more: Any):
    def add(breaks: Callable[[World], Any]) -> Callable[[World], Any]:
        ROWS.append(Row(name, breaks, aws, code, step, **more))
        return breaks

    return add


# --- The provider


@row(
    "provider missing",
    ("InvalidIdentityToken", "No OpenIDConnect provider found in your account"),
    "provider_missing",
    Step.PROVIDER,
    fix=f"--url {ISSUER} --client-id-list sts.amazonaws.com",
)
def provider_missing(world):
    del world.sts.oidc_providers[OIDC]


@row(
    "provider registered with a slash at its end",
    ("InvalidIdentityToken", "No OpenIDConnect provider found in your account"),
    "provider_missing",
    Step.PROVIDER,
    # There is no way in for the discovery role either, so that the near one cannot be seen.
    says="has no OIDC provider",
)
def provider_with_slash(world):
    world.sts.oidc_providers[OIDC + "/"] = world.sts.oidc_providers.pop(OIDC)


@row(
    "account registered in another partition than it is in",
    ("InvalidIdentityToken", "No OpenIDConnect provider found in your account"),
    "provider_missing",
    Step.PROVIDER,
    fix="in another partition than aws",
)
def partition_wrong(world):
    del world.sts.oidc_providers[OIDC]
    there = OIDC.replace("arn:aws:", "arn:aws-us-gov:")
    world.sts.oidc_providers[there] = ["sts.amazonaws.com"]


@row(
    "audience not among the provider's client ids",
    ("InvalidIdentityToken", "Incorrect token audience"),
    "audience_missing",
    Step.AUDIENCE,
    fix=f"add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn {OIDC}",
)
def audience_missing(world):
    world.sts.oidc_providers[OIDC] = ["something-else"]


@row(
    "certificate of no public authority, and another thumbprint",
    (
        "InvalidIdentityToken",
        "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint",
    ),
    "thumbprint_wrong",
    Step.CERTIFICATE,
    fix="update-open-id-connect-provider-thumbprint",
)
def thumbprint_wrong(world):
    words = "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint"
    world.sts.refusal = Refusal("InvalidIdentityToken", words)


# --- What AWS fetches


@row(
    "issuer does not answer",
    ("InvalidIdentityToken", NO_KEY),
    "issuer_unreachable",
    Step.ISSUER,
    says="could not be fetched",
    fix="without sign-in, redirect or rate limit",
)
def issuer_down(world):
    world.published.documents.clear()
    world.internet.down = True


@row(
    "issuer redirects to a sign-in page",
    ("InvalidIdentityToken", NO_KEY),
    "issuer_unreachable",
    Step.ISSUER,
    says="redirect",
)
def issuer_redirects(world):
    world.published.documents.clear()
    world.internet.answers[DISCOVERY] = (
        b"HTTP/1.1 302 Found\r\nLocation: https://sso.example.com/\r\nContent-Length: 0\r\n\r\n"
    )


@row(
    "discovery document is larger than anybody reads",
    ("InvalidIdentityToken", NO_KEY),
    "issuer_unreachable",
    Step.ISSUER,
    says="longer than",
)
def discovery_too_large(world):
    world.published.documents.clear()
    world.internet.pages[DISCOVERY] = b'{"x": "' + b"x" * 400_000 + b'"}'


@row(
    "certificate in front of the issuer is for another name",
    ("InvalidIdentityToken", NO_KEY),
    "issuer_unreachable",
    Step.ISSUER,
    says="certificate is not trusted",
)
def tls_wrong(world):
    world.published.documents.clear()
    world.settings.DAYPASS_CA_BUNDLE = ""


@row(
    "a firewall lets Daypass fetch the documents, and AWS not",
    ("InvalidIdentityToken", NO_KEY),
    "issuer_not_reachable_for_aws",
    Step.ISSUER,
    says="From Daypass itself the documents look right",
)
def firewalled(world):
    world.published.documents.clear()


@row(
    "discovery document names another issuer",
    ("InvalidIdentityToken", "does not match the issuer"),
    "issuer_differs",
    Step.ISSUER,
    says="https://daypass.test/;",
    fix="letter|unchanged",
)
def issuer_differs(world):
    world.says(DISCOVERY, issuer="https://daypass.test/")


@row(
    "key set without the key that signs",
    ("InvalidIdentityToken", NO_KEY),
    "key_not_published",
    Step.ISSUER,
    fix="Publish the current key set",
)
def key_not_published(world):
    world.says(JWKS, keys=[])


# --- STS itself


@row(
    "clock ten minutes behind",
    ("ExpiredTokenException", "Token expired"),
    "clock_skew",
    Step.CLOCK,
    says="behind AWS's",
    fix="Synchronise the clocks",
)
def clock_behind(world):
    world.sts.clock_skew = timedelta(minutes=11)


@row(
    "STS switched off in the region",
    ("RegionDisabledException", "not activated in this region"),
    "aws_region_disabled",
    Step.STS,
    says="eu-west-1",
)
def region_disabled(world):
    world.sts.disabled_regions.add("eu-west-1")


@row(
    "too many calls",
    ("Throttling", "Rate exceeded"),
    "aws_throttled",
    Step.STS,
    outcome="unsure",
)
def throttled(world):
    world.sts.outages["*"] = THROTTLED


@row(
    "STS has a problem of its own",
    ("InternalFailure", ""),
    "aws_internal",
    Step.STS,
    outcome="unsure",
)
def internal(world):
    world.sts.outages["*"] = INTERNAL


@row(
    "account suspended",
    ("OptInRequired", ""),
    "aws_account_not_ready",
    Step.STS,
    says="suspended",
)
def suspended(world):
    world.sts.outages["*"] = Outage(403, "OptInRequired")


# --- The role


@row(
    "role missing",
    ("AccessDenied", DENIED),
    "role_missing",
    Step.ROLE,
    says="It has a role Developers",
    mends=False,
)
def role_missing(world):
    world.sts.roles[world.role.arn + "s"] = world.sts.roles.pop(world.role.arn)


@row(
    "role has another path",
    ("AccessDenied", DENIED),
    "role_path_wrong",
    Step.ROLE,
    fix="role/team/Developer",
)
def role_path_wrong(world):
    role = world.sts.roles.pop(world.role.arn)
    world.sts.roles["arn:aws:iam::111122223333:role/team/Developer"] = role


@row(
    "denied by a service control policy",
    ("AccessDenied", "explicit deny in a service control policy"),
    "denied_by_scp",
    Step.TRUST,
    fix="AWS Organizations",
)
def denied_by_scp(world):
    world.sts.denied_by_scp.add(world.role.arn)


@row(
    "denied by a resource control policy",
    ("AccessDenied", "explicit deny in a resource control policy"),
    "denied_by_rcp",
    Step.TRUST,
)
def denied_by_rcp(world):
    words = f"{DENIED} with an explicit deny in a resource control policy"
    world.sts.refusal = Refusal("AccessDenied", words, 403)


@row(
    "trust policy is right, and something else denies in silence",
    ("AccessDenied", DENIED),
    "denied_elsewhere",
    Step.TRUST,
    says="is right, and AWS refuses all the same",
)
def denied_in_silence(world):
    world.sts.refusal = Refusal("AccessDenied", DENIED, 403)


# --- The trust policy, for web identity


@row(
    "wrong aud in the trust policy",
    ("AccessDenied", DENIED),
    "trust_audience",
    Step.TRUST,
    mends=True,
)
def trust_audience(world):
    world.statement["Condition"]["StringEquals"]["daypass.test:aud"] = "sigstore"


@row(
    "wrong sub in the trust policy",
    ("AccessDenied", DENIED),
    "trust_subject",
    Step.TRUST,
    mends=True,
)
def trust_subject(world):
    world.statement["Condition"]["StringLike"]["daypass.test:sub"] = "role/111122223333/Other/*"


@row(
    "sts:RoleAuthorizedByIdp the wrong way round",
    ("AccessDenied", DENIED),
    "trust_roles_claim",
    Step.TRUST,
    mends=True,
)
def trust_roles_claim(world):
    world.statement["Condition"]["Bool"]["sts:RoleAuthorizedByIdp"] = "false"


@row(
    "source identity of another form demanded",
    ("AccessDenied", DENIED),
    "trust_source_identity",
    Step.SOURCE_IDENTITY,
    mends=True,
)
def trust_source_identity(world):
    world.statement["Condition"]["StringLike"]["sts:SourceIdentity"] = "*@example.com"


@row(
    "aws:MultiFactorAuthPresent demanded, which federation never has",
    ("AccessDenied", DENIED),
    "trust_mfa",
    Step.TRUST,
    mends=True,
)
def trust_mfa(world):
    world.statement["Condition"]["Bool"]["aws:MultiFactorAuthPresent"] = "true"


@row(
    "a condition on something that only AWS knows",
    ("AccessDenied", DENIED),
    "trust_condition_unjudged",
    Step.TRUST,
    says="aws:PrincipalOrgID",
    mends=False,
)
def trust_unjudged(world):
    world.statement["Condition"]["StringEquals"]["aws:PrincipalOrgID"] = "o-example"


@row(
    "no sts:TagSession, and a mapping sends tags",
    ("AccessDenied", "sts:TagSession"),
    "tags_not_allowed",
    Step.TAGS,
    mends=True,
    says="team",
)
def no_tag_session(world):
    world.statement["Action"].remove("sts:TagSession")
    world.mapping(session_tags={"team": "department"})


@row(
    "no sts:SetSourceIdentity",
    ("AccessDenied", "sts:SetSourceIdentity"),
    "source_identity_not_allowed",
    Step.SOURCE_IDENTITY,
    mends=True,
)
def no_set_source_identity(world):
    world.statement["Action"].remove("sts:SetSourceIdentity")


@row(
    "another action in the trust policy",
    ("AccessDenied", DENIED),
    "trust_action_missing",
    Step.TRUST,
    mends=True,
)
def action_missing(world):
    world.statement["Action"] = ["sts:AssumeRoleWithSAML", "sts:TagSession"]


@row(
    "provider of another account in the trust policy",
    ("AccessDenied", DENIED),
    "trust_principal_missing",
    Step.TRUST,
    says="own account",
    mends=True,
)
def principal_of_another_account(world):
    world.statement["Principal"]["Federated"] = OIDC.replace("111122223333", "444455556666")


@row(
    "provider under the wrong principal type",
    ("AccessDenied", DENIED),
    "trust_principal_type",
    Step.TRUST,
    mends=True,
    says="has to stand under Federated",
)
def principal_type(world):
    world.statement["Principal"] = {"AWS": OIDC}


@row(
    "a Deny in the trust policy",
    ("AccessDenied", DENIED),
    "trust_denies",
    Step.TRUST,
    mends=False,
    says="NoMondays",
)
def trust_denies(world):
    world.trust["Statement"].append(
        {"Sid": "NoMondays", "Effect": "Deny", "Principal": "*", "Action": "sts:Assume*"}
        | {"Principal": {"Federated": OIDC}}
    )


@row(
    "wrong aud, and IAM cannot be read",
    ("AccessDenied", DENIED),
    "trust_refuses",
    Step.TRUST,
    mends=True,
    unread=True,
    says="no discovery role",
)
def unread(world):
    world.statement["Condition"]["StringEquals"]["daypass.test:aud"] = "sigstore"


@row(
    "no sts:TagSession, and IAM cannot be read",
    ("AccessDenied", "sts:TagSession"),
    "tags_not_allowed",
    Step.TAGS,
    mends=True,
    unread=True,
)
def no_tag_session_unread(world):
    no_tag_session(world)


# --- What mappings ask for


@row(
    "session tags too large",
    ("PackedPolicyTooLarge", "Packed size of session tags consumes"),
    "policy_too_large",
    Step.POLICY,
    fix="fewer or shorter tags",
)
def tags_too_large(world):
    world.mapping(session_tags={f"{n}{'x' * 110}": "department" for n in range(6)})


@row(
    "session policy malformed",
    ("MalformedPolicyDocument", "not in the valid JSON format"),
    "policy_malformed",
    Step.POLICY,
    says="The mapping of",
)
def policy_malformed(world):
    world.mapping(
        session_policy=json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow"}]})
    )


@row(
    "longest session over the role's maximum",
    ("ValidationError", "exceeds the MaxSessionDuration"),
    "duration_too_long",
    Step.DURATION,
    fields={"max_seconds": 28800},
    says="IAM says 3600",
    fix="--max-session-duration 28800",
)
def duration_too_long(world):
    world.strict.max_seconds = 3600


# --- SAML


@row(
    "SAML provider has another name",
    ("InvalidIdentityToken", "Specified provider doesn't exist"),
    "provider_missing",
    Step.PROVIDER,
    trust="saml",
    says="saml-provider/daypass, which is not the same",
    fix="change the name",
)
def saml_provider_name(world):
    world.sts.saml_providers[SAML.replace("Daypass", "daypass")] = world.sts.saml_providers.pop(
        SAML
    )


@row(
    "SAML metadata outdated",
    ("InvalidIdentityToken", "Response signature invalid"),
    "saml_metadata_outdated",
    Step.CERTIFICATE,
    trust="saml",
    fix="update-saml-provider",
)
def saml_metadata_outdated(world):
    SigningKey.objects.filter(purpose="saml").delete()
    keys.ensure_keys(timezone.now())
    keys.forget_opened_keys()


@row(
    "SAML metadata of somebody else",
    ("AuthSamlInvalidSamlResponseException", "Issuer not present in specified provider"),
    "saml_metadata_of_another",
    Step.CERTIFICATE,
    trust="saml",
)
def saml_metadata_of_another(world):
    entity = django_settings.DAYPASS_SAML_ENTITY_ID
    metadata = saml.metadata(now=timezone.now()).decode()
    world.sts.saml_providers[SAML] = metadata.replace(entity, "https://idp.example.com/saml")


@row(
    "wrong Recipient in SAML:aud",
    ("AccessDenied", "sts:AssumeRoleWithSAML"),
    "trust_recipient",
    Step.TRUST,
    trust="saml",
    mends=True,
    says="signin.aws.amazon.com/saml",
)
def recipient_wrong(world):
    world.statement["Condition"]["StringEquals"]["SAML:aud"] = [
        "https://us-west-2.signin.aws.amazon.com/saml"
    ]


@row(
    "SAML account registered in another partition",
    ("InvalidIdentityToken", "Response does not contain the required audience."),
    "saml_audience_wrong",
    Step.AUDIENCE,
    trust="saml",
    fix="partition",
)
def saml_partition(world):
    words = "Response does not contain the required audience."
    world.sts.refusal = Refusal("InvalidIdentityToken", words)


@row(
    "no sts:SetSourceIdentity for SAML",
    ("AccessDenied", "sts:SetSourceIdentity"),
    "source_identity_not_allowed",
    Step.SOURCE_IDENTITY,
    trust="saml",
    mends=True,
)
def saml_source_identity(world):
    world.statement["Action"].remove("sts:SetSourceIdentity")


# --- AssumeRole


@row(
    "ExternalId differs",
    ("AccessDenied", "is not authorized to perform: sts:AssumeRole"),
    "trust_external_id",
    Step.TRUST,
    trust="assume_role",
    fields={"external_id": "ours-1234"},
    fix="external id",
    mends=True,
)
def external_id(world):
    world.statement["Condition"]["StringEquals"]["sts:ExternalId"] = "theirs-9999"


@row(
    "ExternalId demanded and none registered",
    ("AccessDenied", "is not authorized to perform: sts:AssumeRole"),
    "trust_external_id",
    Step.TRUST,
    trust="assume_role",
    says="sends nothing",
    mends=True,
)
def external_id_missing(world):
    world.statement["Condition"]["StringEquals"] = {"sts:ExternalId": "theirs-9999"}


@row(
    "Daypass's own role was made anew",
    ("AccessDenied", "is not authorized to perform: sts:AssumeRole"),
    "trust_principal_recreated",
    Step.TRUST,
    trust="assume_role",
    mends=True,
)
def recreated(world):
    for statement in world.trust["Statement"]:
        statement["Principal"] = {"AWS": "AROAEXAMPLEEXAMPLE123"}


@row(
    "permissions boundary of Daypass's own role",
    ("AccessDenied", "explicit deny in a permissions boundary"),
    "denied_by_boundary",
    Step.TRUST,
    trust="assume_role",
)
def boundary(world):
    words = (
        "User: arn:aws:sts::999988887777:assumed-role/Daypass/i is not authorized to perform: sts:AssumeRole on "
        "resource: arn:aws:iam::111122223333:role/Developer with an explicit deny in a permissions boundary"
    )
    world.sts.refusal = Refusal("AccessDenied", words, 403)


@row(
    "Daypass's own credentials are none that AWS knows",
    ("InvalidClientTokenId", "security token included in the request is invalid"),
    "aws_own_credentials_refused",
    Step.PROVIDER,
    trust="assume_role",
)
def own_credentials(world):
    world.sts.callers.clear()


# --- The console


@row(
    "console hand-over refused",
    ("HTTP400", ""),
    "console_refused",
    Step.CONSOLE,
    says="The role itself works",
)
def console_refused(world):
    world.signin.will(*[Answer(400)] * 3)


# --- The tests


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name.replace(" ", "-"))
def test_the_doctor_names_the_cause_of(case, company):
    world = company(case.trust, **case.fields)
    if case.unread:
        world.account.discovery_role = ""
        world.account.save()
    assert world.check().outcome == "works"

    case.breaks(world)
    check = world.check()

    code, words = case.aws
    failed = json.dumps(check.cause + " ".join(step["said"] for step in check.steps))
    assert (check.outcome, check.code) == (case.outcome, case.code), check.cause
    assert code in check.cause, f"{code} is not in {failed}"
    assert words.rstrip(".") in check.cause
    [bad] = [step for step in check.steps if step["state"] == "bad"] or [
        step for step in check.steps if step["step"] == case.step
    ]
    assert bad["step"] == case.step
    assert case.says in check.cause
    assert re.search(case.fix, check.remedy), check.remedy
    assert check.remedy
    assert bool(check.document) is (case.mends is not None)
    if case.mends:
        world.sts.roles[world.role.arn].trust_policy = check.document
        assert world.check().outcome == "works"


DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "doctor.md"


def test_there_are_at_least_twenty_five_and_each_has_its_own_name():
    assert len({case.name for case in ROWS}) == len(ROWS) >= 25


def test_the_table_in_the_documentation_is_this_one():
    written = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| ") and not line.startswith(("| what is wrong", "| ---"))
    ]

    assert [cells[:3] for cells in written] == [
        [
            case.name,
            f"`{case.aws[0]}`" + (f": {case.aws[1]}" if case.aws[1] else ""),
            f"`{case.code}`",
        ]
        for case in ROWS
    ]
    assert all(cells[3] for cells in written)
