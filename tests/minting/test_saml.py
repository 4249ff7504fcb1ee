"""Assertions for AWS: one role, five minutes; verified by python3-saml and by signxml from the served metadata."""

from __future__ import annotations

import base64
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from django.utils import timezone
from lxml import etree
from onelogin.saml2.errors import OneLogin_Saml2_ValidationError
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser
from onelogin.saml2.response import OneLogin_Saml2_Response
from onelogin.saml2.settings import OneLogin_Saml2_Settings
from onelogin.saml2.xml_utils import OneLogin_Saml2_XML
from signxml import DigestAlgorithm, SignatureConfiguration, SignatureMethod, XMLVerifier
from signxml.exceptions import InvalidDigest, InvalidSignature

from broker.audit.services import Actor
from broker.errors import BadInput, KeyUnavailable
from broker.minting import keys
from broker.minting.models import SigningKey
from broker.minting.saml import metadata, mint_saml_response
from tests.minting.claims import ALICE, PROVIDER, ROLE, SAML, assertion, attributes_of, tree_of

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PURPOSE = SigningKey.Purpose.SAML
BOB = Actor(id="b0b", name="bob")
ASSERTION = f"./{{{SAML['saml']}}}Assertion/"

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signing_keys")]


def aws_settings(client) -> OneLogin_Saml2_Settings:
    """AWS as a service provider of ours: strict, both signatures wanted, keys from the served metadata."""
    served = client.get("/aws/saml/metadata").content.decode()
    idp = OneLogin_Saml2_IdPMetadataParser.parse(served)["idp"]
    return OneLogin_Saml2_Settings(
        {
            "strict": True,
            "sp": {
                "entityId": "urn:amazon:webservices",
                "assertionConsumerService": {"url": "https://signin.aws.amazon.com/saml"},
            },
            "idp": idp,
            "security": {
                "wantMessagesSigned": True,
                "wantAssertionsSigned": True,
                "wantNameId": True,
                "wantAttributeStatement": True,
                "rejectDeprecatedAlgorithm": True,
                "failOnAuthnContextMismatch": False,
            },
        }
    )


def received(text: str, client) -> OneLogin_Saml2_Response:
    """The response as AWS's sign-in page would check it; raises what is wrong with it."""
    response = OneLogin_Saml2_Response(aws_settings(client), text)
    request = {
        "https": "on",
        "http_host": "signin.aws.amazon.com",
        "script_name": "/saml",
        "get_data": {},
        "post_data": {"SAMLResponse": text},
    }
    response.is_valid(request, raise_exceptions=True)
    return response


def tampered(text: str, old: bytes, new: bytes) -> str:
    raw = base64.b64decode(text)
    assert raw.count(old) >= 1
    return base64.b64encode(raw.replace(old, new)).decode()


def test_python3_saml_accepts_a_response_as_the_relying_party(client):
    token = mint_saml_response(assertion(), now=timezone.now())

    response = received(token.reveal(), client)

    aws = "https://aws.amazon.com/SAML/Attributes/"
    assert response.get_nameid() == ALICE
    assert response.get_nameid_format() == "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
    assert response.get_assertion_id() == token.id
    assert response.get_issuers() == ["https://daypass.test/aws/saml/metadata"]
    assert response.get_audiences() == ["urn:amazon:webservices"]
    assert response.get_attributes() == {
        f"{aws}Role": [f"{ROLE},{PROVIDER}"],
        f"{aws}RoleSessionName": ["alice-7Q2M"],
        f"{aws}SessionDuration": ["3600"],
        f"{aws}SourceIdentity": ["alice"],
        f"{aws}PrincipalTag:CostCentre": ["12345"],
        f"{aws}PrincipalTag:Team": ["blue"],
        f"{aws}TransitiveTagKeys": ["Team", "CostCentre"],
    }


@pytest.mark.parametrize(("where", "tag"), [("./", "Response"), (ASSERTION, "Assertion")])
def test_signxml_accepts_both_signatures_and_sees_the_whole_element_signed(client, where, tag):
    token = mint_saml_response(assertion(), now=timezone.now())
    certificate = etree.fromstring(client.get("/aws/saml/metadata").content).findtext(
        ".//ds:X509Certificate", namespaces=SAML
    )

    result = XMLVerifier().verify(
        base64.b64decode(token.reveal()),
        x509_cert=x509.load_der_x509_certificate(base64.b64decode(certificate)),
        expect_config=SignatureConfiguration(
            location=where,
            expect_references=1,
            signature_methods=frozenset({SignatureMethod.RSA_SHA256}),
            digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
        ),
    )

    assert etree.QName(result.signed_xml).localname == tag
    assert result.signed_xml.findtext(".//saml:NameID", namespaces=SAML) == ALICE
    assert result.signed_xml.findall(".//saml:Attribute", SAML)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"role/teams/Developer", b"role/teams/Administra"),
        (b">alice<", b">bobby<"),
        (b">3600<", b">9999<"),
        (ALICE.encode(), b"0" * len(ALICE)),
        (b"urn:amazon:webservices<", b"urn:amazon:webservicez<"),
    ],
    ids=["role", "source identity", "duration", "person", "audience"],
)
def test_a_changed_assertion_does_not_verify(client, old, new):
    token = mint_saml_response(assertion(), now=timezone.now())

    with pytest.raises(OneLogin_Saml2_ValidationError):
        received(tampered(token.reveal(), old, new), client)
    assert received(token.reveal(), client)


def test_a_changed_envelope_does_not_verify_either(client):
    token = mint_saml_response(assertion(), now=timezone.now()).reveal()
    tree = tree_of(token)
    tree.set("InResponseTo", "_a-request-that-nobody-made")

    with pytest.raises(OneLogin_Saml2_ValidationError):
        received(base64.b64encode(etree.tostring(tree)).decode(), client)


@pytest.mark.parametrize("element", ["Response", "Assertion"])
def test_without_either_signature_it_is_refused(client, element):
    tree = tree_of(mint_saml_response(assertion(), now=timezone.now()).reveal())
    signed = tree if element == "Response" else tree.find("saml:Assertion", SAML)
    signed.remove(signed.find("ds:Signature", SAML))

    with pytest.raises(OneLogin_Saml2_ValidationError):
        received(base64.b64encode(etree.tostring(tree)).decode(), client)


def test_a_response_signed_by_a_key_that_is_not_ours_is_refused(client):
    foreign = mint_saml_response(assertion(), now=timezone.now())
    keys.revoke(foreign.key_id, now=timezone.now(), actor=BOB)

    with pytest.raises(OneLogin_Saml2_ValidationError):
        received(foreign.reveal(), client)


def test_a_response_is_dead_after_five_minutes(client):
    late = timezone.now() - timedelta(minutes=5 + 5, seconds=1)  # python3-saml allows 5 of drift
    token = mint_saml_response(assertion(), now=late)

    with pytest.raises(OneLogin_Saml2_ValidationError) as caught:
        received(token.reveal(), client)

    assert caught.value.code in (
        OneLogin_Saml2_ValidationError.ASSERTION_EXPIRED,
        OneLogin_Saml2_ValidationError.RESPONSE_EXPIRED,
    )


def test_a_response_follows_the_schema_of_the_protocol():
    token = mint_saml_response(assertion(), now=NOW)

    checked = OneLogin_Saml2_XML.validate_xml(
        etree.tostring(tree_of(token.reveal())), "saml-schema-protocol-2.0.xsd", False
    )

    assert isinstance(checked, etree._Element), checked


def test_every_time_in_it_is_where_aws_looks_for_it():
    tree = tree_of(mint_saml_response(assertion(session_seconds=900), now=NOW).reveal())
    one = tree.find("saml:Assertion", SAML)

    assert tree.get("IssueInstant") == one.get("IssueInstant") == "2026-03-02T09:00:00Z"
    conditions = one.find("saml:Conditions", SAML)
    assert conditions.get("NotBefore") == "2026-03-02T08:59:00Z"
    assert conditions.get("NotOnOrAfter") == "2026-03-02T09:05:00Z"
    (confirmation,) = one.findall("saml:Subject/saml:SubjectConfirmation", SAML)
    assert confirmation.get("Method") == "urn:oasis:names:tc:SAML:2.0:cm:bearer"
    data = confirmation.find("saml:SubjectConfirmationData", SAML)
    assert dict(data.attrib) == {
        "NotOnOrAfter": "2026-03-02T09:05:00Z",
        "Recipient": "https://signin.aws.amazon.com/saml",
    }
    statement = one.find("saml:AuthnStatement", SAML)
    assert statement.get("AuthnInstant") == "2026-03-02T09:00:00Z"
    # Even redeemed in its last second, the session can be as long as SessionDuration says.
    assert statement.get("SessionNotOnOrAfter") == "2026-03-02T09:20:00Z"


def test_exactly_one_role_and_one_assertion():
    tree = tree_of(mint_saml_response(assertion(), now=NOW).reveal())

    assert len(tree.findall(".//saml:Assertion", SAML)) == 1
    roles = [
        attribute.findall("saml:AttributeValue", SAML)
        for attribute in tree.iterfind(".//saml:Attribute", SAML)
        if attribute.get("Name") == "https://aws.amazon.com/SAML/Attributes/Role"
    ]
    assert [[value.text for value in values] for values in roles] == [[f"{ROLE},{PROVIDER}"]]


def test_ids_are_unique_and_each_signature_covers_its_own_parent_only():
    trees = [tree_of(mint_saml_response(assertion(), now=NOW).reveal()) for _ in range(3)]

    ids = [element.get("ID") for tree in trees for element in tree.iter() if element.get("ID")]
    assert len(ids) == len(set(ids)) == 6
    for tree in trees:
        for signature in tree.iterfind(".//ds:Signature", SAML):
            (reference,) = signature.findall(".//ds:Reference", SAML)
            assert reference.get("URI") == f"#{signature.getparent().get('ID')}"
            transforms = [t.get("Algorithm") for t in reference.iterfind(".//ds:Transform", SAML)]
            assert transforms == [
                "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
                "http://www.w3.org/2001/10/xml-exc-c14n#",
            ]
            assert signature.getprevious().tag == f"{{{SAML['saml']}}}Issuer"


def test_no_value_has_a_blank_or_a_line_break_around_it():
    tree = tree_of(mint_saml_response(assertion(), now=NOW).reveal())

    for tag in ("AttributeValue", "NameID", "Audience", "Issuer"):
        values = [element.text for element in tree.iterfind(f".//saml:{tag}", SAML)]
        assert values and all(value == value.strip() for value in values)


def test_markup_in_a_value_stays_a_value(client):
    # None of these characters is one that AWS takes in a tag; the audience is the one free text there is.
    audience = '"/><saml:Assertion ID="x">&amp;'
    tree = tree_of(mint_saml_response(assertion(audience=audience), now=NOW).reveal())

    assert tree.findtext(".//saml:Audience", namespaces=SAML) == audience
    assert len(tree.findall(".//saml:Assertion", SAML)) == 1


def test_tags_in_other_scripts_arrive_whole(client):
    tags = {"部門": "東京", "Abteilung": "Süd und Überprüfung"}
    token = mint_saml_response(
        assertion(session_tags=tags, transitive_tag_keys=()), now=timezone.now()
    )

    assert received(token.reveal(), client)
    found = attributes_of(token.reveal())
    assert {key: found[f"PrincipalTag:{key}"] for key in tags} == {
        key: [value] for key, value in tags.items()
    }


def test_without_tags_nothing_asks_the_trust_policy_for_tagsession():
    token = mint_saml_response(assertion(session_tags={}, transitive_tag_keys=()), now=NOW)

    assert set(attributes_of(token.reveal())) == {
        "Role",
        "RoleSessionName",
        "SessionDuration",
        "SourceIdentity",
    }


@pytest.mark.parametrize(
    ("partition", "recipient"),
    [
        ("aws", "https://signin.aws.amazon.com/saml"),
        ("aws", "https://eu-west-1.signin.aws.amazon.com/saml"),
        ("aws", "https://eu-west-1.signin.aws.amazon.com/saml/acs/SAMLSPABCDEF0123"),
        ("aws-us-gov", "https://signin.amazonaws-us-gov.com/saml"),
        ("aws-us-gov", "https://us-gov-east-1.signin.amazonaws-us-gov.com/saml"),
        ("aws-cn", "https://signin.amazonaws.cn/saml"),
        ("aws-cn", "https://cn-northwest-1.signin.amazonaws.cn/saml"),
        ("aws-eusc", "https://eusc-de-east-1.signin.amazonaws-eusc.eu/saml"),
    ],
)
def test_an_assertion_goes_to_any_sign_in_of_the_roles_own_partition(partition, recipient):
    claims = assertion(
        role_arn=ROLE.replace("arn:aws:", f"arn:{partition}:"),
        saml_provider_arn=PROVIDER.replace("arn:aws:", f"arn:{partition}:"),
        recipient=recipient,
    )

    tree = tree_of(mint_saml_response(claims, now=NOW).reveal())

    assert tree.get("Destination") == recipient
    assert tree.find(".//saml:SubjectConfirmationData", SAML).get("Recipient") == recipient


@pytest.mark.parametrize(
    "recipient",
    [
        "https://evil.example/saml",
        "https://signin.aws.amazon.com.evil.example/saml",
        "https://evil.example/?https://signin.aws.amazon.com/saml",
        "https://evilsignin.aws.amazon.com/saml",
        "https://evil.signin.aws.amazon.com/saml",
        "https://.signin.aws.amazon.com/saml",
        "https://signin.aws.amazon.com@evil.example/saml",
        "https://alice@signin.aws.amazon.com/saml",
        "https://signin.aws.amazon.com:8443/saml",
        "http://signin.aws.amazon.com/saml",
        "https://signin.aws.amazon.com/federation",
        "https://signin.aws.amazon.com/saml?x=1",
        "https://signin.aws.amazon.com/saml#x",
        "https://signin.amazonaws.cn/saml",
        "https://us-gov-west-1.signin.aws.amazon.com/saml",
        "https://[signin.aws.amazon.com/saml",
        "https://signin.aws.amazon.com:nonsense/saml",
        "",
    ],
)
def test_an_assertion_for_anybody_but_the_partitions_sign_in_is_not_signed(recipient):
    with pytest.raises(BadInput):
        mint_saml_response(assertion(recipient=recipient), now=NOW)


def test_a_stand_in_for_the_sign_in_is_taken_only_where_one_is_configured(settings):
    claims = assertion(recipient="http://127.0.0.1:9402/saml")
    with pytest.raises(BadInput):
        mint_saml_response(claims, now=NOW)

    settings.DAYPASS_SIGNIN_ENDPOINT = "http://127.0.0.1:9402"

    assert mint_saml_response(claims, now=NOW).reveal()
    with pytest.raises(BadInput):
        mint_saml_response(assertion(recipient="http://127.0.0.1:94021/saml"), now=NOW)


@pytest.mark.parametrize(
    "wrong",
    [
        {"role_arn": "arn:aws:iam::111122223333:role/Dev,Admin"},
        {"role_arn": "arn:aws:iam::111122223333:role/x,arn:aws:iam::1:role/Admin"},
        {"role_arn": "not an arn"},
        {"saml_provider_arn": "arn:aws:iam::444455556666:saml-provider/Daypass"},
        {"saml_provider_arn": "arn:aws-cn:iam::111122223333:saml-provider/Daypass"},
        {"saml_provider_arn": f"{PROVIDER},{ROLE}"},
        {"saml_provider_arn": "arn:aws:iam::111122223333:oidc-provider/Daypass"},
        {"session_name": ""},
        {"session_name": "a"},
        {"session_name": "a" * 65},
        {"session_name": "alice smith"},
        {"session_name": "alice\n"},
        {"source_identity": ""},
        {"source_identity": "alice/admin"},
        {"session_seconds": 899},
        {"session_seconds": 43_201},
        {"subject": ""},
        {"subject": "alice<bob"},
        {"audience": ""},
        {"audience": " urn:amazon:webservices"},
        {"session_tags": {"Team": "blue "}, "transitive_tag_keys": ()},
        {"session_tags": {" Team": "blue"}, "transitive_tag_keys": ()},
        {"session_tags": {"Team": "a\u0000"}, "transitive_tag_keys": ()},
        {"session_tags": {"Team": "a\ud800"}, "transitive_tag_keys": ()},
        {"transitive_tag_keys": ("Nobody",)},
    ],
    ids=str,
)
def test_what_aws_would_not_take_is_not_signed(wrong):
    with pytest.raises(BadInput):
        mint_saml_response(assertion(**wrong), now=NOW)


def test_fifty_of_the_longest_tags_still_fit():
    tags = {f"{n:02}{'k' * 126}": "v" * 256 for n in range(50)}

    token = mint_saml_response(assertion(session_tags=tags, transitive_tag_keys=()), now=NOW)

    assert len(token.reveal()) <= 100_000


def test_a_response_longer_than_aws_takes_is_refused_with_what_to_do():
    wide = "\N{CJK UNIFIED IDEOGRAPH-20000}"
    tags = {f"{n:02}{wide * 126}": wide * 256 for n in range(50)}
    claims = assertion(session_tags=tags, transitive_tag_keys=tuple(tags))

    with pytest.raises(BadInput) as caught:
        mint_saml_response(claims, now=NOW)

    assert "100000" in caught.value.cause


def test_without_a_key_nothing_is_signed(settings):
    settings.DAYPASS_SEALING_KEYS = []

    with pytest.raises(KeyUnavailable):
        mint_saml_response(assertion(), now=NOW)


def test_one_opened_key_signs_in_several_threads_at_once(client):
    key = keys.signing_key(keys.Purpose.SAML, now=timezone.now())
    from broker.minting import saml

    def signed(claims) -> str:
        one = saml._assertion(claims, timezone.now())
        whole = saml._response(one, claims, timezone.now())
        saml._sign(one, key)
        saml._sign(whole, key)
        return base64.b64encode(etree.tostring(whole)).decode()

    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.extend(signed(assertion()) for _ in range(10)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 40
    assert all(received(text, client) for text in made)


# --- Metadata


def test_metadata_follows_its_schema_and_is_what_iam_takes():
    document = metadata(now=NOW)

    checked = OneLogin_Saml2_XML.validate_xml(document, "saml-schema-metadata-2.0.xsd", False)
    assert isinstance(checked, etree._Element), checked
    assert 1000 <= len(document.decode()) <= 10_000_000
    assert not document.startswith(b"\xef\xbb\xbf")
    assert etree.fromstring(document).get("entityID") == "https://daypass.test/aws/saml/metadata"


def test_metadata_of_two_keys_lets_both_verify(client):
    before = mint_saml_response(assertion(), now=timezone.now())
    keys.publish_next(PURPOSE, now=timezone.now() - timedelta(days=2), actor=BOB)
    document = etree.fromstring(client.get("/aws/saml/metadata").content)
    assert len(document.findall(".//md:KeyDescriptor[@use='signing']", SAML)) == 2
    assert received(before.reveal(), client)

    keys.rotate(PURPOSE, timezone.now(), BOB)
    after = mint_saml_response(assertion(), now=timezone.now())

    assert after.key_id != before.key_id
    assert received(before.reveal(), client)
    assert received(after.reveal(), client)


def test_metadata_names_the_configured_entity_and_so_does_the_assertion(settings):
    settings.DAYPASS_SAML_ENTITY_ID = "https://daypass.example.com/idp"

    document = etree.fromstring(metadata(now=NOW))
    tree = tree_of(mint_saml_response(assertion(), now=NOW).reveal())

    assert document.get("entityID") == "https://daypass.example.com/idp"
    assert {issuer.text for issuer in tree.iterfind(".//saml:Issuer", SAML)} == {
        "https://daypass.example.com/idp"
    }


def test_metadata_and_key_set_have_no_key_in_common(client):
    keys.ensure_keys(timezone.now())

    saml_keys = etree.fromstring(metadata(now=NOW)).findall(".//ds:X509Certificate", SAML)
    oidc_keys = client.get("/.well-known/jwks.json").json()["keys"]

    assert {key.text for key in saml_keys}.isdisjoint(key["x5c"][0] for key in oidc_keys)


def test_signxml_refuses_a_changed_assertion(client):
    token = mint_saml_response(assertion(), now=timezone.now()).reveal()
    raw = base64.b64decode(tampered(token, b">alice<", b">bobby<"))
    certificate = SigningKey.objects.get(purpose=PURPOSE).certificate

    with pytest.raises((InvalidDigest, InvalidSignature)):
        XMLVerifier().verify(
            raw,
            x509_cert=certificate,
            expect_config=SignatureConfiguration(location=ASSERTION),
        )
