"""The strict STS itself: it lets in what AWS lets in, and refuses the rest with AWS's codes.

Tokens are joserfc's, assertions signxml's: nothing of Daypass is in here, so that the two cannot agree by mistake.
"""

from __future__ import annotations

import base64
import json
import time
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from lxml import etree
from signxml import CanonicalizationMethod, DigestAlgorithm, SignatureMethod, methods
from signxml.signer import XMLSigner

from tests.strict_sts import DROPPED, INTERNAL, THROTTLED, Published, StrictRole, StrictSts

ISSUER = "https://idp.example.com/realms/a"
PREFIX = "idp.example.com/realms/a"
ACCOUNT = "111122223333"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/team/Developer"
OTHER_ROLE = f"arn:aws:iam::{ACCOUNT}:role/Administrator"
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{PREFIX}"
SAML_PROVIDER = f"arn:aws:iam::{ACCOUNT}:saml-provider/Corp"
ENTITY = "https://idp.example.com/saml"
RECIPIENT = "https://signin.aws.amazon.com/saml"
TAGS, IDENTITY, ROLES = (
    f"https://aws.amazon.com/{name}" for name in ("tags", "source_identity", "roles")
)
ALL = ("TagSession", "SetSourceIdentity")


def web_trust(*, also: tuple[str, ...] = ALL, **conditions: Any) -> dict[str, Any]:
    wanted = conditions or {
        "StringEquals": {f"{PREFIX}:aud": "sts.amazonaws.com"},
        "StringLike": {f"{PREFIX}:sub": "u-*"},
    }
    return trust("AssumeRoleWithWebIdentity", {"Federated": PROVIDER}, also, wanted)


def saml_trust(*, also: tuple[str, ...] = ALL, **conditions: Any) -> dict[str, Any]:
    wanted = conditions or {"StringEquals": {"SAML:aud": [RECIPIENT]}}
    return trust("AssumeRoleWithSAML", {"Federated": SAML_PROVIDER}, also, wanted)


def trust(
    action: str, principal: dict[str, str], also: tuple[str, ...], conditions: dict[str, Any]
) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": principal,
                "Action": [f"sts:{name}" for name in (action, *also)],
                "Condition": conditions,
            }
        ],
    }


@pytest.fixture(scope="module")
def key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})


@pytest.fixture(scope="module")
def foreign_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})


def publish(documents: Published, *keys: Any, **changed: Any) -> None:
    discovery = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"} | changed
    documents.documents = {
        "/.well-known/openid-configuration": json.dumps(discovery).encode(),
        "/keys": json.dumps({"keys": [one.as_dict(private=False) for one in keys]}).encode(),
    }


@pytest.fixture
def sts(documents, key):
    publish(documents, key)
    with StrictSts(issuer_urls={ISSUER: documents.url}) as server:
        server.oidc_providers[PROVIDER] = ["sts.amazonaws.com"]
        server.roles[ROLE] = StrictRole(web_trust(), max_seconds=7200)
        server.roles[OTHER_ROLE] = StrictRole(web_trust())
        yield server


def token(key: Any, *, header: dict[str, Any] | None = None, **changed: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "sub": "u-8841",
        "aud": "sts.amazonaws.com",
        "iat": now,
        "exp": now + 300,
        IDENTITY: "jane",
        TAGS: {"principal_tags": {"Team": ["blue"]}, "transitive_tag_keys": ["Team"]},
        ROLES: ROLE,
    } | changed
    claims = {name: value for name, value in claims.items() if value is not None}
    made = {"alg": "RS256", "kid": "one"} | (header or {})
    return jwt.encode(
        {name: value for name, value in made.items() if value is not None},
        claims,
        key,
        algorithms=[made["alg"]],
    )


def client(sts: StrictSts, *, region: str = "us-east-1", **options: Any) -> Any:
    config = Config(
        signature_version=UNSIGNED, retries={"total_max_attempts": 1}, parameter_validation=False
    )
    url = sts.regional_url.replace("{region}", region)
    return boto3.client("sts", region_name=region, endpoint_url=url, config=config, **options)


def assume(sts: StrictSts, text: str, **changed: Any) -> dict[str, Any]:
    region = changed.pop("region", "us-east-1")
    asked = {"RoleArn": ROLE, "RoleSessionName": "jane", "WebIdentityToken": text} | changed
    return client(sts, region=region).assume_role_with_web_identity(**asked)


def refused(sts: StrictSts, call: Any) -> tuple[str, str]:
    """AWS's code and words."""
    with pytest.raises(ClientError) as told:
        call()
    assert sts.given == {}
    error = told.value.response["Error"]
    return error["Code"], error["Message"]


# --- Web identity


def test_a_right_token_opens_its_role_and_says_who_it_is(sts, key):
    answer = assume(sts, token(key), DurationSeconds=7200)

    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Developer/jane"
    assert answer["SubjectFromWebIdentityToken"] == "u-8841"
    assert answer["SourceIdentity"] == "jane"
    given = sts.given[answer["Credentials"]["AccessKeyId"]]
    assert (given.tags, given.transitive_tag_keys) == ({"Team": "blue"}, ("Team",))
    assert given.seconds == 7200
    left = answer["Credentials"]["Expiration"] - datetime.now(UTC)
    assert timedelta(seconds=7190) < left <= timedelta(seconds=7200)


def test_elliptic_curves_are_taken(sts, documents):
    curve = ECKey.generate_key("P-256", {"kid": "two"})
    publish(documents, curve)

    assume(sts, token(curve, header={"alg": "ES256", "kid": "two"}))


def test_a_token_signed_with_another_key_of_the_same_name_is_refused(sts, foreign_key):
    code, message = refused(sts, lambda: assume(sts, token(foreign_key)))

    assert code == "InvalidIdentityToken"
    assert "signature" in message


def test_a_token_that_was_changed_after_signing_is_refused(sts, key):
    head, _, signature = token(key).split(".")
    _, body, _ = token(key, sub="u-boss").split(".")

    code, message = refused(sts, lambda: assume(sts, f"{head}.{body}.{signature}"))

    assert (code, "signature" in message) == ("InvalidIdentityToken", True)


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        (lambda now: {"exp": now - 600, "iat": now - 900},
         "ExpiredTokenException", "must be before the expiration"),
        (lambda now: {"iat": now + 900, "exp": now + 1200}, "InvalidIdentityToken", "not yet valid"),
        (lambda now: {"exp": now + 100.5}, "InvalidIdentityToken", "not a valid JWT"),
        ({"aud": "somebody.else"}, "InvalidIdentityToken", "Incorrect token audience"),
        ({"azp": "somebody.else"}, "InvalidIdentityToken", "Incorrect token audience"),
        ({"aud": ["sts.amazonaws.com", "b"]}, "InvalidIdentityToken", "Incorrect token audience"),
        ({"iss": "https://idp.example.com/realms/b"},
         "InvalidIdentityToken", "No OpenIDConnect provider found in your account for"),
        ({"iss": f"{ISSUER}/"}, "InvalidIdentityToken", "No OpenIDConnect provider"),
        ({ROLES: OTHER_ROLE}, "InvalidIdentityToken", "not present in the roles claim"),
        ({ROLES: f"{OTHER_ROLE};{ROLE}x"}, "InvalidIdentityToken", "not present in the roles"),
        ({"sub": "somebody"}, "AccessDenied", "sts:AssumeRoleWithWebIdentity"),
        ({"sub": None}, "InvalidIdentityToken", "sub"),
        ({"exp": None}, "InvalidIdentityToken", "exp"),
        ({TAGS: {"principal_tags": {"Team": "blue"}}}, "InvalidIdentityToken", "session tags"),
        ({TAGS: {"principal_tags": {"Team": ["blue"]}, "transitive_tag_keys": ["Else"]}},
         "InvalidParameterValue", "Else"),
        ({TAGS: {"principal_tags": {f"K{n}": ["v" * 250] for n in range(9)}}},
         "PackedPolicyTooLarge", "consumes 495% of allotted space"),
        ({IDENTITY: "aws:jane"}, "ValidationError", "sourceIdentity"),
    ],
)  # fmt: skip
def test_a_token_that_says_something_wrong_is_refused_in_awss_words(sts, key, changed, code, words):
    claims = changed(int(time.time())) if callable(changed) else changed

    found, message = refused(sts, lambda: assume(sts, token(key, **claims)))

    assert found == code
    assert words in message


def test_a_token_for_another_role_does_not_open_this_one(sts, key):
    code, _ = refused(sts, lambda: assume(sts, token(key), RoleArn=OTHER_ROLE))

    assert code == "InvalidIdentityToken"


def test_a_token_of_another_account_finds_no_provider(sts, key):
    elsewhere = "arn:aws:iam::999988887777:role/Developer"
    sts.roles[elsewhere] = StrictRole(web_trust())

    code, message = refused(sts, lambda: assume(sts, token(key, roles=None), RoleArn=elsewhere))

    assert (code, "No OpenIDConnect provider" in message) == ("InvalidIdentityToken", True)


@pytest.mark.parametrize("missing", ALL)
def test_an_action_missing_from_the_trust_is_named(sts, key, missing):
    sts.roles[ROLE].trust_policy = web_trust(also=tuple(name for name in ALL if name != missing))

    code, message = refused(sts, lambda: assume(sts, token(key)))

    assert (code, message) == ("AccessDenied", f"Not authorized to perform sts:{missing}")


@pytest.mark.parametrize(
    ("conditions", "opens"),
    [
        ({"Bool": {"sts:RoleAuthorizedByIdp": "true"}}, True),
        ({"StringLike": {"sts:SourceIdentity": "*"}}, True),
        ({"StringLike": {"sts:SourceIdentity": "john*"}}, False),
        ({"StringEquals": {"sts:RoleSessionName": "jane"}}, True),
        ({"StringNotEquals": {"aws:RequestTag/Team": "blue"}}, False),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["Team"]}}, True),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["Other"]}}, False),
        ({"ForAnyValue:StringEquals": {f"{PREFIX}:amr": "mfa"}}, False),
        ({"Null": {"aws:TagKeys": "false"}}, True),
        ({"StringEqualsIfExists": {"sts:ExternalId": "x"}}, True),
        ({"StringEquals": {"sts:ExternalId": "x"}}, False),
        ({"StringEquals": {f"{PREFIX.upper()}:AUD": "sts.amazonaws.com"}}, True),
    ],
)
def test_conditions_are_evaluated(sts, key, conditions, opens):
    sts.roles[ROLE].trust_policy = web_trust(**conditions)

    if opens:
        assume(sts, token(key))
    else:
        assert refused(sts, lambda: assume(sts, token(key)))[0] == "AccessDenied"


def test_a_deny_wins(sts, key):
    policy = deepcopy(web_trust())
    policy["Statement"].append({**policy["Statement"][0], "Effect": "Deny"})
    sts.roles[ROLE].trust_policy = json.dumps(policy)

    assert refused(sts, lambda: assume(sts, token(key)))[0] == "AccessDenied"


def test_without_a_roles_claim_the_idp_authorised_nothing(sts, key):
    sts.roles[ROLE].trust_policy = web_trust(Bool={"sts:RoleAuthorizedByIdp": "true"})

    assert refused(sts, lambda: assume(sts, token(key, **{ROLES: None})))[0] == "AccessDenied"


@pytest.mark.parametrize(
    ("seconds", "words"), [(7201, "MaxSessionDuration"), (43201, "43200"), (899, "900")]
)
def test_a_session_is_not_longer_than_the_role_allows(sts, key, seconds, words):
    code, message = refused(sts, lambda: assume(sts, token(key), DurationSeconds=seconds))

    assert (code, words in message) == ("ValidationError", True)


def test_a_role_that_is_missing_looks_like_one_that_says_no(sts, key):
    del sts.roles[ROLE]

    assert refused(sts, lambda: assume(sts, token(key))) == (
        "AccessDenied",
        "Not authorized to perform sts:AssumeRoleWithWebIdentity",
    )


@pytest.mark.parametrize("how", ["nowhere", "empty", "other issuer", "no kid", "for encryption"])
def test_keys_that_cannot_be_fetched_or_used_are_told_as_such(sts, documents, key, how):
    if how == "nowhere":
        sts.issuer_urls.clear()
    elif how == "empty":
        documents.documents.clear()
    elif how == "other issuer":
        publish(documents, key, issuer=f"{ISSUER}/")
    elif how == "no kid":
        publish(documents, RSAKey.import_key(key.as_dict(), {"kid": "other"}))
    else:
        publish(documents, RSAKey.import_key(key.as_dict(), {"use": "enc", "kid": "one"}))

    code, message = refused(sts, lambda: assume(sts, token(key)))

    assert code == "InvalidIdentityToken"
    assert ("retrieve verification key" in message) is (how != "other issuer")


def test_a_key_set_is_believed_as_long_as_it_is_kept(documents, key):
    """A new key is unknown until the copy has run out, an old one known until then."""
    fresh = RSAKey.generate_key(2048, {"kid": "two"})
    publish(documents, key)
    moment = [datetime.now(UTC)]
    with StrictSts(
        issuer_urls={ISSUER: documents.url}, jwks_cache_seconds=60, clock=lambda: moment[0]
    ) as sts:
        sts.oidc_providers[PROVIDER] = ["sts.amazonaws.com"]
        sts.roles[ROLE] = StrictRole(web_trust())
        assume(sts, token(key))
        publish(documents, fresh)

        assume(sts, token(key))
        with pytest.raises(ClientError, match="retrieve verification key"):
            assume(sts, token(fresh, header={"kid": "two"}))
        moment[0] += timedelta(seconds=61)
        assume(sts, token(fresh, header={"kid": "two"}))
        with pytest.raises(ClientError, match="retrieve verification key"):
            assume(sts, token(key))
    assert documents.fetched["/keys"] == 2


# --- Outages and other weather


def test_a_region_that_is_switched_off_says_so(sts, key):
    sts.disabled_regions.add("eu-south-1")

    assert refused(sts, lambda: assume(sts, token(key), region="eu-south-1"))[0] == (
        "RegionDisabledException"
    )
    assume(sts, token(key), region="eu-west-1")
    assert [seen.region for seen in sts.requests] == ["eu-south-1", "eu-west-1"]


@pytest.mark.parametrize(
    ("outage", "code"), [(INTERNAL, "InternalFailure"), (THROTTLED, "Throttling")]
)
def test_an_outage_of_one_region_answers_with_its_code(sts, key, outage, code):
    sts.outages["us-east-1"] = outage

    assert refused(sts, lambda: assume(sts, token(key)))[0] == code
    assume(sts, token(key), region="us-west-2")


def test_a_region_may_also_just_close_the_connection(sts, key):
    sts.outages["*"] = DROPPED

    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        assume(sts, token(key))


def test_awss_clock_may_be_ahead(sts, key):
    sts.clock_skew = timedelta(minutes=15)

    assert refused(sts, lambda: assume(sts, token(key)))[0] == "ExpiredTokenException"


@pytest.mark.parametrize("what", [ROLE, ACCOUNT])
def test_a_service_control_policy_denies(sts, key, what):
    sts.denied_by_scp.add(what)

    code, message = refused(sts, lambda: assume(sts, token(key)))

    assert (code, "service control policy" in message) == ("AccessDenied", True)


# --- SAML


class SamlIdp:
    """An identity provider made of lxml and signxml."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "idp")])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2021, 1, 1, tzinfo=UTC))  # AWS does not look at it
            .sign(self.key, hashes.SHA256())
        )

    @property
    def metadata(self) -> str:
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        return (
            '<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" '
            f'xmlns:ds="http://www.w3.org/2000/09/xmldsig#" entityID="{ENTITY}"><md:IDPSSODescriptor '
            'protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"><md:KeyDescriptor use="signing">'
            f"<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{base64.b64encode(der).decode()}</ds:X509Certificate>"
            "</ds:X509Data></ds:KeyInfo></md:KeyDescriptor></md:IDPSSODescriptor></md:EntityDescriptor>"
        )

    def response(
        self,
        *,
        issued: timedelta = timedelta(0),
        issuer: str = ENTITY,
        recipient: str = RECIPIENT,
        audience: str = "urn:amazon:webservices",
        role: str = f"{ROLE},{SAML_PROVIDER}",
        change: Any = None,
        name_id: str = "<saml:NameID>u-8841</saml:NameID>",
        **attributes: str,
    ) -> str:
        at = datetime.now(UTC) + issued
        stamp = f"{at:%Y-%m-%dT%H:%M:%SZ}"
        ends = f"{at + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
        said = {
            "Role": role,
            "RoleSessionName": "jane",
            "SourceIdentity": "jane",
            "PrincipalTag:Team": "blue",
        } | {name.replace("__", ":"): value for name, value in attributes.items()}
        values = "".join(
            f'<saml:Attribute Name="https://aws.amazon.com/SAML/Attributes/{name}"><saml:AttributeValue>{value}'
            "</saml:AttributeValue></saml:Attribute>"
            for name, value in said.items()
            if value
        )
        assertion = etree.fromstring(
            f'<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_a1" Version="2.0" '
            f'IssueInstant="{stamp}"><saml:Issuer>{issuer}</saml:Issuer><saml:Subject>{name_id}'
            '<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData '
            f'NotOnOrAfter="{ends}" Recipient="{recipient}"/></saml:SubjectConfirmation></saml:Subject>'
            f'<saml:Conditions NotOnOrAfter="{ends}"><saml:AudienceRestriction><saml:Audience>{audience}'
            "</saml:Audience></saml:AudienceRestriction></saml:Conditions>"
            f"<saml:AttributeStatement>{values}</saml:AttributeStatement></saml:Assertion>"
        )
        signed = XMLSigner(
            method=methods.enveloped,
            signature_algorithm=SignatureMethod.RSA_SHA256,
            digest_algorithm=DigestAlgorithm.SHA256,
            c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
        ).sign(assertion, key=self.key, cert=[self.certificate], reference_uri="_a1")
        if change:
            change(signed)
        text = (
            b'<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol"><samlp:Status><samlp:StatusCode '
            b'Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>'
            + etree.tostring(signed)
            + b"</samlp:Response>"
        )
        return base64.b64encode(text).decode()


@pytest.fixture(scope="module")
def idp() -> SamlIdp:
    return SamlIdp()


@pytest.fixture
def saml(idp):
    with StrictSts() as server:
        server.saml_providers[SAML_PROVIDER] = idp.metadata
        server.roles[ROLE] = StrictRole(saml_trust(), max_seconds=7200)
        server.roles[OTHER_ROLE] = StrictRole(saml_trust())
        yield server


def assume_saml(sts: StrictSts, text: str, **changed: Any) -> dict[str, Any]:
    asked = {"RoleArn": ROLE, "PrincipalArn": SAML_PROVIDER, "SAMLAssertion": text} | changed
    return client(sts).assume_role_with_saml(**asked)


def test_a_right_assertion_opens_its_role(saml, idp):
    answer = assume_saml(saml, idp.response())

    assert answer["AssumedRoleUser"]["Arn"].endswith(":assumed-role/Developer/jane")
    assert (answer["Subject"], answer["Audience"]) == ("u-8841", RECIPIENT)
    assert saml.given[answer["Credentials"]["AccessKeyId"]].tags == {"Team": "blue"}


def test_the_pair_of_arns_may_stand_in_either_order(saml, idp):
    assume_saml(saml, idp.response(role=f"{SAML_PROVIDER},{ROLE}"))


def test_an_assertion_can_shorten_the_session(saml, idp):
    answer = assume_saml(saml, idp.response(SessionDuration="900"), DurationSeconds=7200)

    assert saml.given[answer["Credentials"]["AccessKeyId"]].seconds == 900


def change_subject(assertion: etree._Element) -> None:
    assertion.find(".//{*}NameID").text = "u-boss"


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"issued": timedelta(minutes=-6)}, "ExpiredTokenException", "redeemed within 5 minutes"),
        ({"issuer": "https://other.example"}, "AuthSamlInvalidSamlResponseException",
         "Issuer not present in specified provider"),
        ({"audience": "urn:amazon:webservices:govcloud"}, "InvalidIdentityToken",
         "does not contain the required audience"),
        ({"recipient": "https://eu-west-1.signin.aws.amazon.com/saml"}, "AccessDenied",
         "sts:AssumeRoleWithSAML"),
        ({"role": f"{OTHER_ROLE},{SAML_PROVIDER}"}, "AccessDenied", "sts:AssumeRoleWithSAML"),
        ({"role": f" {ROLE},{SAML_PROVIDER}"}, "AccessDenied", "sts:AssumeRoleWithSAML"),
        ({"RoleSessionName": ""}, "InvalidIdentityToken", "RoleSessionName is required"),
        ({"RoleSessionName": "Jane Doe"}, "InvalidIdentityToken", "RoleSessionName in AuthnResp"),
        ({"name_id": ""}, "AccessDenied", "sts:AssumeRoleWithSAML"),
        ({"change": change_subject}, "InvalidIdentityToken", "Response signature invalid"),
        ({"PrincipalTag__Long": "x" * 600}, "ValidationError", "tags"),
    ],
)  # fmt: skip
def test_an_assertion_that_says_something_wrong_is_refused_in_awss_words(
    saml, idp, changed, code, words
):
    found, message = refused(saml, lambda: assume_saml(saml, idp.response(**changed)))

    assert found == code
    assert words in message


def test_an_assertion_of_another_key_is_refused(saml):
    code, message = refused(saml, lambda: assume_saml(saml, SamlIdp().response()))

    assert (code, message) == ("InvalidIdentityToken", "Response signature invalid")


def test_an_assertion_wrapped_around_a_signed_one_is_not_believed(saml, idp):
    """What is read is what was signed."""
    inner = base64.b64decode(idp.response())
    tree = etree.fromstring(inner)
    [signed] = tree.findall("{*}Assertion")
    outer = deepcopy(signed)
    change_subject(outer)
    outer.find("{*}Subject").append(signed)
    tree.append(outer)

    text = base64.b64encode(etree.tostring(tree)).decode()

    code, _ = refused(saml, lambda: assume_saml(saml, text))
    assert code == "InvalidIdentityToken"


def test_a_provider_that_is_missing_says_so(saml, idp):
    saml.saml_providers.clear()

    code, message = refused(saml, lambda: assume_saml(saml, idp.response()))

    assert (code, "provider" in message) == ("InvalidIdentityToken", True)


@pytest.mark.parametrize("missing", ALL)
def test_saml_trust_needs_the_other_actions_too(saml, idp, missing):
    saml.roles[ROLE].trust_policy = saml_trust(also=tuple(one for one in ALL if one != missing))

    assert refused(saml, lambda: assume_saml(saml, idp.response())) == (
        "AccessDenied",
        f"Not authorized to perform sts:{missing}",
    )


# --- Signed calls

BROKER = "arn:aws:iam::999988887777:role/Daypass"


def signed(sts: StrictSts, keys: tuple[str, ...], service: str = "sts") -> Any:
    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=sts.url,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        aws_session_token=keys[2] if len(keys) > 2 else None,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def target(sts):
    sts.roles[ROLE] = StrictRole(
        trust("AssumeRole", {"AWS": BROKER}, ALL, {"StringEquals": {"sts:ExternalId": "c-7"}}),
        max_seconds=43200,
    )
    return sts


ASK = {"RoleArn": ROLE, "RoleSessionName": "jane", "SourceIdentity": "jane", "ExternalId": "c-7"}


def test_a_role_lets_in_whom_it_names_with_the_external_id(target):
    answer = signed(target, target.lend(BROKER)).assume_role(**ASK)

    assert answer["SourceIdentity"] == "jane"


@pytest.mark.parametrize("external_id", ["other", None])
def test_without_the_right_external_id_it_does_not(target, external_id):
    asked = {**ASK, "ExternalId": external_id}
    if external_id is None:
        del asked["ExternalId"]
    broker = signed(target, target.lend(BROKER))

    code, message = refused(target, lambda: broker.assume_role(**asked))

    assert code == "AccessDenied"
    assert message.startswith(
        "User: arn:aws:sts::999988887777:assumed-role/Daypass/instance is not"
    )


def test_a_role_assumed_by_a_role_lives_for_an_hour_at_most(target):
    broker = signed(target, target.lend(BROKER))

    code, message = refused(target, lambda: broker.assume_role(**ASK, DurationSeconds=3601))

    assert (code, "role chaining" in message) == ("ValidationError", True)
    broker.assume_role(**ASK, DurationSeconds=3600)


def test_another_account_needs_both_sides(target):
    broker = signed(target, target.lend(BROKER, permissions=["sts:AssumeRole"]))

    code, message = refused(target, lambda: broker.assume_role(**ASK))

    assert (code, "sts:SetSourceIdentity" in message) == ("AccessDenied", True)


@pytest.mark.parametrize("wrong", ["secret", "token", "key"])
def test_a_signature_is_verified(target, wrong):
    key_id, secret, session_token = target.lend(BROKER)
    keys = {
        "secret": (key_id, "other", session_token),
        "token": (key_id, secret, "other"),
        "key": ("ASIAUNKNOWN", secret, session_token),
    }[wrong]

    code, _ = refused(target, lambda: signed(target, keys).assume_role(**ASK))

    assert code == ("SignatureDoesNotMatch" if wrong == "secret" else "InvalidClientTokenId")


def test_transitive_tags_stay_and_cannot_be_replaced(target):
    second = "arn:aws:iam::111122223333:role/Second"
    target.roles[second] = StrictRole(trust("AssumeRole", {"AWS": ROLE}, ALL, {}))
    tagged = {"Tags": [{"Key": "Team", "Value": "blue"}], "TransitiveTagKeys": ["Team"]}
    first = signed(target, target.lend(BROKER)).assume_role(**ASK, **tagged)["Credentials"]
    keys = (first["AccessKeyId"], first["SecretAccessKey"], first["SessionToken"])
    chained = signed(target, keys)

    answer = chained.assume_role(RoleArn=second, RoleSessionName="jane")
    given = target.given[answer["Credentials"]["AccessKeyId"]]

    assert (given.tags, given.source_identity) == ({"Team": "blue"}, "jane")
    with pytest.raises(ClientError, match="transitive tag"):
        chained.assume_role(
            RoleArn=second, RoleSessionName="jane", Tags=[{"Key": "team", "Value": "red"}]
        )


def test_only_a_user_may_ask_for_a_federation_token(target):
    user = target.add_user("arn:aws:iam::999988887777:user/daypass")
    role = signed(target, target.lend(BROKER))

    answer = signed(target, user).get_federation_token(Name="jane", DurationSeconds=900)

    assert answer["FederatedUser"]["Arn"] == "arn:aws:sts::999988887777:federated-user/jane"
    with pytest.raises(ClientError, match="session credentials"):
        role.get_federation_token(Name="jane")
    with pytest.raises(ClientError, match="ValidationError"):
        signed(target, user).get_federation_token(Name="jane.doe@example.com" * 2)


def test_issued_credentials_say_who_they_are(sts, key):
    given = assume(sts, token(key))["Credentials"]
    keys = (given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])

    caller = signed(sts, keys).get_caller_identity()

    assert caller["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Developer/jane"


# --- IAM


def test_iam_answers_about_roles_and_providers(sts, saml, key):
    sts.saml_providers[SAML_PROVIDER] = "<old/>"
    iam = signed(sts, sts.lend(ROLE), "iam")

    role = iam.get_role(RoleName="Developer")["Role"]
    assert (role["Arn"], role["MaxSessionDuration"], role["Path"]) == (ROLE, 7200, "/team/")
    assert role["AssumeRolePolicyDocument"] == web_trust()
    assert [one["RoleName"] for one in iam.list_roles()["Roles"]] == ["Administrator", "Developer"]
    pages = iam.get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 1})
    assert [one["RoleName"] for page in pages for one in page["Roles"]] == [
        "Administrator",
        "Developer",
    ]
    provider = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=PROVIDER)
    assert (provider["Url"], provider["ClientIDList"]) == (PREFIX, ["sts.amazonaws.com"])
    listed = iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
    assert listed == [{"Arn": PROVIDER}]
    with pytest.raises(ClientError, match="NoSuchEntity"):
        iam.get_role(RoleName="Nobody")


def test_metadata_of_a_saml_provider_is_replaced_when_it_is_some(saml, idp):
    fresh = SamlIdp()
    iam = signed(saml, saml.lend(ROLE), "iam")
    metadata = fresh.metadata + "<!-- IAM takes nothing shorter than 1,000 characters -->"

    with pytest.raises(ClientError, match="Could not parse metadata"):
        iam.update_saml_provider(SAMLProviderArn=SAML_PROVIDER, SAMLMetadataDocument="x" * 1000)
    iam.update_saml_provider(SAMLProviderArn=SAML_PROVIDER, SAMLMetadataDocument=metadata)

    assume_saml(saml, fresh.response())
    assert iam.get_saml_provider(SAMLProviderArn=SAML_PROVIDER)["SAMLMetadataDocument"] == metadata


def test_a_role_without_permissions_sees_nothing_of_iam(sts):
    iam = signed(sts, sts.lend(ROLE, permissions=["iam:ListRoles"]), "iam")

    iam.list_roles()
    with pytest.raises(ClientError, match="no identity-based policy allows the iam:GetRole action"):
        iam.get_role(RoleName="Developer")
