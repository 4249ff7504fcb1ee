"""Metadata of providers: who signed it, what it may be like, and what of it is read; and our own."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from lxml import etree

from accounts import saml
from broker.errors import BadInput
from tests.accounts.idp_saml import DS, SamlIdp, certificate
from tests.accounts.signing import PEM, sign

MD = "urn:oasis:names:tc:SAML:2.0:metadata"
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
IDP = SamlIdp()


def read(document, **more):
    return saml.read_metadata(document, now=datetime.now(UTC), **more)


def named(document: str = "") -> str:
    return (document or IDP.metadata).replace("entityID=", 'ID="_m" entityID=', 1)


def signed(document: str = "", **how) -> bytes:
    return sign(named(document).encode(), "_m", **how)


def told(call) -> str:
    with pytest.raises(BadInput) as problem:
        call()
    return problem.value.message


def test_metadata_by_its_pinned_signer_is_read():
    described = read(signed(), signers=(certificate(OTHER), PEM))

    assert described.provider.entity_id == IDP.entity_id
    assert described.provider.certificates == (IDP.certificate,)


def test_metadata_that_nobody_has_to_have_signed_is_read_either_way():
    assert read(signed()).provider == read(IDP.metadata).provider


def test_a_federation_signs_the_whole_and_one_is_chosen():
    other = SamlIdp(entity_id="https://other.example/metadata")
    parts = "".join(one.metadata.split("?>", 1)[1] for one in (IDP, other))
    federation = f'<md:EntitiesDescriptor xmlns:md="{MD}" ID="_f">{parts}</md:EntitiesDescriptor>'
    document = sign(federation.encode(), "_f")

    described = read(document, entity_id=other.entity_id, signers=(PEM,))

    assert described.provider.certificates == (other.certificate,)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (lambda: IDP.metadata, "not signed"),
        (lambda: named(), "not signed"),
        (lambda: signed(key=OTHER), "fits no certificate"),
        (
            lambda: signed().replace(b"https://idp.example/sso", b"https://evil.example/s"),
            "fits no",
        ),
        (lambda: signed().replace(b"#_m", b"#_x"), "does not cover exactly"),
        (lambda: signed().replace(b'"#_m"', b'""'), "does not cover exactly"),
        (lambda: signed().replace(b"xmldsig#enveloped-signature", b"xmldsig#base64"), "Transform"),
        (
            lambda: signed().replace(b"xmldsig-more#rsa-sha256", b"xmldsig-more#rsa-md5"),
            "Signature",
        ),
        (
            lambda: signed().replace(b"<md:SingleSign", b'<md:SingleSignX ID="_m"/><md:SingleSign'),
            "id",
        ),
    ],
)
def test_metadata_that_its_signer_did_not_sign_is_refused(document, reason):
    assert reason in told(lambda: read(document(), signers=(PEM,)))


def test_only_what_the_signature_covers_is_read():
    """A signed descriptor inside an unsigned one is no signed document."""
    inner = signed().decode()
    outer = f'<md:EntitiesDescriptor xmlns:md="{MD}" ID="_o">{inner}</md:EntitiesDescriptor>'

    assert "not signed" in told(lambda: read(outer, signers=(PEM,)))


def test_what_the_world_puts_into_metadata_is_no_matter():
    document = IDP.metadata.replace(
        "?>", '?>\n<!-- made by hand -->\n<?xml-stylesheet href="x"?>', 1
    ).replace(
        "<md:IDPSSODescriptor",
        '<md:Extensions><x:y xmlns:x="urn:x"><![CDATA[<b>]]></x:y></md:Extensions><md:IDPSSODescriptor '
        'WantAuthnRequestsSigned="false"',
    )

    assert read(b"\xef\xbb\xbf" + document.encode()).provider == read(IDP.metadata).provider


def test_a_comment_cannot_change_what_a_name_says():
    document = IDP.metadata.replace("<ds:X509Certificate>", "<ds:X509Certificate><!-- x -->")

    assert read(document).provider.certificates == (IDP.certificate,)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("", "not SAML metadata"),
        ("<a>" * 50 + "</a>" * 50, "nested too deeply"),
        ("<a>" + "<b/>" * 50_000 + "</a>", "too many elements"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "DOCTYPE"),
        ("x" * (3 * 1024 * 1024), "longer than two million"),
        ("\u00ff".encode("latin-1"), "not UTF-8"),
        (IDP.metadata.replace("<md:IDPSSODescriptor", "<?x y?><md:IDPSSODescriptor"), "processing"),
    ],
)
def test_metadata_that_is_too_large_or_something_else_is_refused(document, reason):
    assert reason in told(lambda: read(document))


def test_several_signing_certificates_are_all_read_and_the_one_to_encrypt_is_not():
    other, third = SamlIdp(), SamlIdp()
    key = IDP.metadata[
        IDP.metadata.index("<md:KeyDescriptor") : IDP.metadata.index("<md:SingleLog")
    ]

    def of(one):
        return "".join(one.certificate.splitlines()[1:-1])

    more = key.replace(of(IDP), of(other)).replace(' use="signing"', "")
    encryption = key.replace(of(IDP), of(third)).replace("signing", "encryption")
    document = IDP.metadata.replace(key, key + more + encryption)

    assert read(document).provider.certificates == (IDP.certificate, other.certificate)


def test_the_end_of_validity_is_the_first_of_all_around():
    document = IDP.metadata.replace(
        "entityID=", 'validUntil="2099-01-02T03:04:05Z" entityID=', 1
    ).replace("<md:IDPSSODescriptor", '<md:IDPSSODescriptor validUntil="2098-01-02T03:04:05Z"')

    assert read(document).valid_until == datetime(2098, 1, 2, 3, 4, 5, tzinfo=UTC)


# --- Ours


def _keys(sp) -> list[tuple[str, str]]:
    root = etree.fromstring(saml.metadata(sp))
    return [
        (key.get("use"), key.findtext(f".//{{{DS}}}X509Certificate"))
        for key in root.iter(f"{{{MD}}}KeyDescriptor")
    ]


def test_our_metadata_shows_the_key_that_signs_and_the_one_that_will():
    one, two, three = (SamlIdp().certificate for _ in range(3))
    bodies = ["".join(pem.splitlines()[1:-1]) for pem in (one, two, three)]
    sp = saml.ServiceProvider(
        slug="acme",
        origin="https://daypass.test",
        certificate=one,
        next_certificate=two,
        encryption_certificates=(three,),
    )

    assert _keys(sp) == [
        ("signing", bodies[0]),
        ("signing", bodies[1]),
        ("encryption", bodies[2]),
    ]


def test_our_metadata_is_what_the_schema_wants():
    from onelogin.saml2.xml_utils import OneLogin_Saml2_XML

    sp = saml.ServiceProvider(
        slug="acme",
        origin="https://daypass.test",
        certificate=IDP.certificate,
        encryption_certificates=(IDP.certificate,),
    )

    checked = OneLogin_Saml2_XML.validate_xml(
        saml.metadata(sp), "saml-schema-metadata-2.0.xsd", debug=False
    )

    assert not isinstance(checked, str), checked
    assert checked.get("entityID") == sp.entity_id
