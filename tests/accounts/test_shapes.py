"""The grammar is not narrower than the world: messages in the shape in which each known provider writes them.

Namespaces, prefixes, attributes and order are as the products send them; signatures are made here with cryptography and
lxml, so that they can be made in each product's way.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree

from accounts import saml
from accounts.confined.signature import _covered, _take_out
from accounts.confined.text import alone
from broker.errors import BadInput, SignInRefused
from tests.accounts.idp_saml import DS, SAML, SAMLP, certificate, stamp
from tests.accounts.signing import BODY, PEM, certificate_of, sign

SP = saml.ServiceProvider(slug="acme", origin="https://daypass.test")
IDP = "https://idp.example/metadata"


def times() -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "now": stamp(now),
        "millis": now.strftime("%Y-%m-%dT%H:%M:%S.123Z"),
        "before": stamp(now - timedelta(minutes=5)),
        "after": stamp(now + timedelta(minutes=5)),
        "later": stamp(now + timedelta(hours=8)),
        "acs": SP.acs,
        "us": SP.entity_id,
        "idp": IDP,
        "SAML": SAML,
        "SAMLP": SAMLP,
    }


def shape(name: str) -> bytes:
    """A message as that provider writes it, unsigned, for us and now."""
    file = Path(__file__).with_name("shapes") / f"{name}.xml"
    return file.read_text().format(**times()).encode()


ISSUER_SERIAL = (
    "<ds:X509Data><ds:X509IssuerSerial><ds:X509IssuerName>CN=idp</ds:X509IssuerName>"
    "<ds:X509SerialNumber>4711</ds:X509SerialNumber></ds:X509IssuerSerial></ds:X509Data>"
)
KEY_VALUE = (
    "<ds:KeyName>FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE</ds:KeyName><ds:X509Data><ds:X509Certificate>"
    f"{BODY}</ds:X509Certificate></ds:X509Data><ds:KeyValue><ds:RSAKeyValue><ds:Modulus>AAAA</ds:Modulus>"
    "<ds:Exponent>AQAB</ds:Exponent></ds:RSAKeyValue></ds:KeyValue>"
)
SUBJECT_NAME = (
    "<ds:X509Data><ds:X509SubjectName>CN=Google,O=Google Inc.</ds:X509SubjectName><ds:X509Certificate>"
    f"{BODY}</ds:X509Certificate></ds:X509Data>"
)

PROVIDERS = {
    "Okta": ("okta", True, {"prefixes": "xs"}),
    "Entra ID": ("entra", False, {"prefix": ""}),
    "AD FS": ("adfs", False, {"key_info": ISSUER_SERIAL}),
    "Google": ("google", True, {"key_info": SUBJECT_NAME}),
    "Keycloak": ("keycloak", True, {"key_info": KEY_VALUE, "prefix": "dsig"}),
    "SimpleSAMLphp": ("simplesamlphp", True, {}),
    "Shibboleth": ("shibboleth", True, {"prefixes": "xsd", "digest": "sha512"}),
    "Ping": ("ping", True, {"key_info": KEY_VALUE}),
    "Auth0": ("auth0", False, {}),
    "JumpCloud": ("jumpcloud", True, {}),
}


def verify(document: bytes, *, response_signed=True, certificates=(PEM,), request="_q"):
    return saml.verify_response(
        base64.b64encode(document).decode(),
        sp=SP,
        provider=saml.Provider(IDP, "", "", certificates, response_signed=response_signed),
        expected_request=request,
        now=datetime.now(UTC),
    )


@pytest.mark.parametrize(("name", "both", "how"), PROVIDERS.values(), ids=PROVIDERS)
def test_what_a_known_provider_sends_is_understood(name, both, how):
    document = sign(shape(name), "_a", **how)
    if both:
        document = sign(document, "_r", **how)

    verified = verify(document, response_signed=both)

    assert verified.attributes.subject == "u-1"
    assert verified.attributes.attributes["groups"] == ("admins",)
    assert verified.assertion_id == "_a"


def _two(name="okta", **how) -> bytes:
    return sign(sign(shape(name), "_a", **how), "_r", **how)


@pytest.mark.parametrize(
    ("before", "after", "way_out"),
    [
        (f"<saml2:Audience>{SP.entity_id}<", "<saml2:Audience>x<", f"enter {SP.entity_id} as the"),
        (f'Destination="{SP.acs}"', 'Destination="https://x/"', f"enter {SP.acs} as the assertion"),
        (f'Recipient="{SP.acs}"', 'Recipient="https://x/"', f"enter {SP.acs} as the assertion"),
        (f">{IDP}<", ">https://idp.example/other<", "Compare this provider's entity id"),
    ],
)
def test_where_the_providers_settings_are_the_reason_the_way_out_is_told(before, after, way_out):
    document = shape("okta").decode()
    assert before in document
    changed = document.replace(before, after).encode()

    with pytest.raises(SignInRefused) as refusal:
        verify(sign(sign(changed, "_a"), "_r"))

    assert way_out in refusal.value.remedy


def test_a_confirmation_for_two_hours_is_refused_with_the_way_out():
    later = stamp(datetime.now(UTC) + timedelta(hours=2))
    document = etree.fromstring(shape("okta"))
    document.find(f".//{{{SAML}}}SubjectConfirmationData").set("NotOnOrAfter", later)

    with pytest.raises(SignInRefused) as refusal:
        verify(sign(sign(etree.tostring(document), "_a"), "_r"))

    assert "Shorten how long assertions" in refusal.value.remedy


@pytest.mark.parametrize(
    ("curve", "digest"),
    [(ec.SECP256R1, "sha256"), (ec.SECP384R1, "sha384"), (ec.SECP521R1, "sha512")],
)
def test_elliptic_curve_keys_sign_as_well(curve, digest):
    key = ec.generate_private_key(curve())

    verified = verify(_two(key=key, digest=digest), certificates=(certificate_of(key),))

    told = dict(verified.attributes.checks)["Signature of the assertion"]
    assert f"ECDSA-{digest.upper()} by certificate CN=Ünïcode signer, SHA-256 " in told


def test_of_several_pinned_certificates_any_may_have_signed():
    others = tuple(
        certificate(rsa.generate_private_key(public_exponent=65537, key_size=2048)) for _ in "ab"
    )

    assert verify(_two(), certificates=(others[0], PEM, others[1])).attributes.subject == "u-1"


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=1024),
        ec.generate_private_key(ec.SECP224R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["rsa-1024", "p-224", "secp256k1"],
)
def test_a_weak_or_strange_key_verifies_nothing_even_when_it_is_pinned(key):
    with pytest.raises(SignInRefused) as refusal:
        verify(_two(key=key), certificates=(certificate_of(key),))
    with pytest.raises(BadInput):
        saml.read_certificate(certificate_of(key))

    assert "fits no certificate" in refusal.value.cause


def test_the_key_in_the_message_is_never_the_one_that_counts():
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    theirs = "".join(certificate(stranger).splitlines()[1:-1])
    info = f"<ds:X509Data><ds:X509Certificate>{theirs}</ds:X509Certificate></ds:X509Data>"

    with pytest.raises(SignInRefused) as refusal:
        verify(_two(key=stranger, key_info=info))

    assert "fits no certificate" in refusal.value.cause


def test_a_listed_prefix_has_to_be_listed_to_count():
    """What is signed and what is read are the same bytes: with another list of prefixes they are others."""
    with pytest.raises(SignInRefused) as refusal:
        verify(_two(prefixes="xs", listed=False))

    assert refusal.value.code == "saml_refused"


def test_the_envelope_is_read_from_under_its_own_signature_too():
    document = _two().replace(
        b'InResponseTo="_q" IssueInstant', b'InResponseTo="_z" IssueInstant', 1
    )

    with pytest.raises(SignInRefused) as refusal:
        verify(document, request="_z")

    assert "The signature of the response" in refusal.value.cause


def test_a_signature_of_the_response_has_to_be_right_even_where_none_is_needed():
    broken = _two().replace(b'Destination="', b'Consent="urn:x" Destination="', 1)

    with pytest.raises(SignInRefused) as refusal:
        verify(broken, response_signed=False)

    assert "The signature of the response" in refusal.value.cause


def test_the_administrator_is_told_what_was_seen():
    told = dict(verify(_two()).attributes.checks)

    assert told["Signature of the response"].startswith(
        "RSA-SHA256 by certificate CN=idp, SHA-256 "
    )
    assert told["Signature of the assertion"] == told["Signature of the response"]
    assert (told["Issuer"], told["Audience"]) == (IDP, SP.entity_id)
    assert told["Destination and recipient"] == SP.acs
    assert told["It answers"].endswith("_q")
    assert told["Valid until"].endswith("UTC")
    assert "PasswordProtectedTransport" in told["Authenticated"]


def test_what_is_read_is_compared_with_the_digest_once_more():
    """Should xmlsec ever verify other bytes than the ones that are read, this is where it ends."""
    root = etree.fromstring(sign(shape("okta"), "_a"))
    own = alone(root.find(f"{{{SAML}}}Assertion"))
    same = alone(own)
    next(own.iter(f"{{{SAML}}}NameID")).text = "somebody-else"

    assert b"u-1" in _covered(same, same.find(f"{{{DS}}}Signature"), "assertion")
    with pytest.raises(SignInRefused) as refusal:
        _covered(own, own.find(f"{{{DS}}}Signature"), "assertion")

    assert refusal.value.cause == "The signature covers something else than the assertion."


def test_text_around_a_signature_stays_where_it_was():
    root = etree.fromstring(f'<a>1<b/>2<s xmlns="{DS}"/>3<c/></a>')
    first = etree.fromstring(f'<a>1<s xmlns="{DS}"/>2</a>')

    _take_out(root[1])
    _take_out(first[0])

    assert etree.tostring(root) == b"<a>1<b/>23<c/></a>"
    assert etree.tostring(first) == b"<a>12</a>"
