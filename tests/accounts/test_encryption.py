"""Encrypted assertions: every form that providers send is read, every other one refused, and no failure tells more."""

from __future__ import annotations

import base64
import re
from copy import deepcopy
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from lxml import etree

from accounts import saml, services
from accounts.models import Person
from broker.errors import SignInRefused
from tests.accounts import web
from tests.accounts.conftest import BY
from tests.accounts.idp_encryption import HASHES, XENC, XENC11, Form, encrypt
from tests.accounts.idp_saml import DS, SAML, SAMLP, Request, certificate

SP = saml.ServiceProvider(slug="acme", origin="https://daypass.test")
OAEP11 = XENC11 + "rsa-oaep"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OURS = certificate(KEY)
GOOD = {"groups": ["aws-admins"], "uid": ["ada"]}


def unwrap(wrapped) -> bytes:
    return KEY.decrypt(
        wrapped.ciphertext,
        padding.OAEP(
            mgf=padding.MGF1(HASHES[wrapped.mgf][0]()),
            algorithm=HASHES[wrapped.digest][0](),
            label=wrapped.label,
        ),
    )


class Answer:
    """A response in the making: signed inside, encrypted, signed outside."""

    def __init__(self, idp, **claims):
        self.idp = idp
        request = claims.pop("request", Request("_r", SP.entity_id, SP.acs, None, False, b"", ""))
        self.root = idp.build(request, attributes=GOOD, **claims)

    def sealed(
        self, *, form=None, bend=None, sign=True, to=OURS, plaintext=None, response=True
    ) -> str:
        plain = self.root.find(f"{{{SAML}}}Assertion")
        inner = plain
        if sign:
            inner = etree.fromstring(self.idp.sign(self.root, response=False))
            inner = inner.find(f"{{{SAML}}}Assertion")
            inner = etree.fromstring(etree.tostring(inner))
        sealed = encrypt(plaintext(inner) if plaintext else inner, to, form, bend=bend)
        plain = self.root.find(f"{{{SAML}}}Assertion")
        self.root.replace(plain, sealed)
        return base64.b64encode(
            self.idp.sign(self.root, assertion=False, response=response)
        ).decode()


def provider_of(idp, **more) -> saml.Provider:
    return saml.Provider(
        idp.entity_id,
        idp.sso_url,
        idp.slo_url,
        (idp.certificate,),
        **{"encryption": "accepted", **more},
    )


def verify(idp, message, *, by=unwrap, **more):
    return saml.verify_response(
        message,
        sp=SP,
        provider=provider_of(idp, **more),
        expected_request="_r",
        now=datetime.now(UTC),
        unwrap=by,
    )


def cause(call) -> str:
    with pytest.raises(SignInRefused) as refusal:
        call()
    return refusal.value.cause


FORMS = {
    "aes-128": Form(bits=128),
    "aes-192": Form(bits=192),
    "aes-256": Form(bits=256),
    "digest said to be sha1": Form(digest="sha1"),
    "mgf1p with sha256": Form(digest="sha256"),
    "oaep11 with sha256 for both": Form(wrap=OAEP11, digest="sha256", mask="sha256"),
    "oaep11 with sha256 and the default mask": Form(wrap=OAEP11, digest="sha256"),
    "oaep11 with sha256 and the mask of sha1": Form(wrap=OAEP11, digest="sha256", mask="sha1"),
    "oaep11 with sha384 for both": Form(wrap=OAEP11, digest="sha384", mask="sha384"),
    "oaep11 with sha512 for both": Form(wrap=OAEP11, digest="sha512", mask="sha512"),
    "oaep11 with nothing said": Form(wrap=OAEP11),
    "key beside": Form(beside=True),
    "key beside, named as OpenSAML does": Form(beside=True, named=True),
    "named as OpenSAML does": Form(named=True),
    "the certificate told": Form(told=True),
    "without a type": Form(kind=None),
    "default namespaces, as AD FS": Form(
        prefixes=("", "", ""), told=True, wrap=OAEP11, digest="sha256", mask="sha256"
    ),
    "other prefixes, as Keycloak": Form(prefixes=("e", "dsig", "xenc"), digest="sha256"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_that_providers_send_is_read(idp, form):
    verified = verify(idp, Answer(idp).sealed(form=form))

    assert verified.attributes.subject == "u-0001"
    assert verified.attributes.attributes["groups"] == ("aws-admins",)
    told = dict(verified.attributes.checks)["Encryption of the assertion"]
    assert told.startswith(f"AES-{form.bits}-GCM, key by RSA-OAEP with ")


def test_a_prefix_that_is_declared_around_the_encrypted_assertion_is_understood(idp):
    """xmlsec and xmlseclibs encrypt the element as it is written in its place, without what is declared above it."""
    answer = Answer(idp)
    inner = etree.fromstring(idp.sign(answer.root, response=False)).find(f"{{{SAML}}}Assertion")
    text = etree.tostring(inner).decode()
    for declared in (f' xmlns:saml="{SAML}"', f' xmlns:samlp="{SAMLP}"'):
        text = text.replace(declared, "", 1)
    assert "xmlns:saml=" not in text

    verified = verify(idp, answer.sealed(plaintext=lambda _: text.encode(), sign=False))

    assert verified.attributes.subject == "u-0001"


def test_a_declaration_in_front_of_the_plaintext_is_no_matter(idp):
    def declared(inner):
        return b'<?xml version="1.0" encoding="UTF-8"?>\n' + etree.tostring(inner)

    verified = verify(idp, Answer(idp).sealed(plaintext=declared))

    assert verified.attributes.subject == "u-0001"


def test_an_unsigned_response_may_hold_an_encrypted_signed_assertion_where_that_is_allowed(idp):
    message = Answer(idp).sealed(response=False)

    assert verify(idp, message, response_signed=False).attributes.subject == "u-0001"
    assert cause(lambda: verify(idp, message)) == "The response is not signed."


# --- Who may, and who has to


def test_a_provider_that_may_not_encrypt_is_told_so(idp):
    message = Answer(idp).sealed()

    assert "is encrypted" in cause(lambda: verify(idp, message, encryption="refused"))


def test_a_provider_that_has_to_encrypt_cannot_leave_it(idp):
    answer = Answer(idp)
    plain = base64.b64encode(idp.sign(answer.root)).decode()

    assert "is not encrypted" in cause(lambda: verify(idp, plain, encryption="required"))
    assert verify(idp, Answer(idp).sealed(), encryption="required").attributes.subject == "u-0001"


# --- Other forms


def _one(root, name, namespace=XENC):
    return next(root.iter(f"{{{namespace}}}{name}"))


def _cipher_reference(root):
    data = _one(root, "CipherData")
    data.remove(_one(data, "CipherValue"))
    etree.SubElement(data, f"{{{XENC}}}CipherReference", URI="file:///dev/zero")


def _cipher_reference_too(root):
    etree.SubElement(_one(root, "CipherData"), f"{{{XENC}}}CipherReference", URI="#_data")


def _retrieval(root):
    etree.SubElement(_one(root, "KeyInfo", DS), f"{{{DS}}}RetrievalMethod", URI="#_key")


def _second_key(root):
    held = _one(root, "EncryptedKey")
    held.addnext(deepcopy(held))


def _no_key(root):
    held = _one(root, "EncryptedKey")
    held.getparent().remove(held)


def _second_data(root):
    root.append(deepcopy(_one(root, "EncryptedData")))


def _other_reference(root):
    _one(root, "DataReference").set("URI", "#_r")


def _far_reference(root):
    _one(root, "DataReference").set("URI", "https://evil.example/")


def _content(root):
    _one(root, "EncryptedData").set("Type", XENC + "Content")


def _label(root):
    held = _one(_one(root, "EncryptedKey"), "EncryptionMethod")
    etree.SubElement(held, f"{{{XENC}}}OAEPparams").text = "bGFiZWw="


def _properties(root):
    etree.SubElement(_one(root, "EncryptedData"), f"{{{XENC}}}EncryptionProperties")


def _mask_of_the_old_one(root):
    held = _one(_one(root, "EncryptedKey"), "EncryptionMethod")
    etree.SubElement(held, f"{{{XENC11}}}MGF", Algorithm=XENC11 + "mgf1sha256")


def _two_digests(root):
    held = _one(_one(root, "EncryptedKey"), "EncryptionMethod")
    for _ in range(2):
        etree.SubElement(held, f"{{{DS}}}DigestMethod", Algorithm=DS + "sha1")


def _md5(root):
    held = _one(_one(root, "EncryptedKey"), "EncryptionMethod")
    etree.SubElement(held, f"{{{DS}}}DigestMethod", Algorithm="http://www.w3.org/md5")


def _agreed(root):
    info = _one(root, "KeyInfo", DS)
    etree.SubElement(info, f"{{{XENC}}}AgreementMethod", Algorithm=XENC + "dh")


@pytest.mark.parametrize(
    ("form", "bend", "told"),
    [
        (Form(content="cbc"), None, "encrypted with aes256-cbc"),
        (Form(content="cbc", bits=128), None, "encrypted with aes128-cbc"),
        (Form(wrap=XENC + "rsa-1_5"), None, "rsa-1_5"),
        (Form(kind=XENC + "Content"), None, "Type of EncryptedData is not one"),
        (None, _cipher_reference, "CipherReference"),
        (None, _cipher_reference_too, "CipherReference in CipherData"),
        (None, _retrieval, "RetrievalMethod in KeyInfo"),
        (None, _second_key, "2 encrypted keys"),
        (None, _no_key, "0 encrypted keys"),
        (None, _second_data, "2 encrypted keys"),
        (Form(named=True), _other_reference, "for something else"),
        (Form(named=True), _far_reference, "URI of DataReference is not one"),
        (None, _content, "Type of EncryptedData is not one"),
        (None, _label, "OAEPparams in EncryptionMethod"),
        (None, _properties, "EncryptionProperties in EncryptedData"),
        (None, _mask_of_the_old_one, "names its hashes"),
        (None, _two_digests, "names its hashes"),
        (None, _md5, "Algorithm of DigestMethod is not one"),
        (None, _agreed, "AgreementMethod in KeyInfo"),
    ],
)
def test_another_form_is_refused_before_any_key_is_used(idp, form, bend, told):
    def never(_):
        raise AssertionError("the private key was used")

    def cipher_reference(root):
        if bend:
            bend(root)

    message = Answer(idp).sealed(form=form, bend=cipher_reference)

    if bend is _cipher_reference:
        told = "CipherData has no CipherValue"
    assert told in cause(lambda: verify(idp, message, by=never))


@pytest.mark.parametrize("part", ["EncryptedID", "NewEncryptedID"])
def test_an_encrypted_name_is_refused_with_what_to_do(idp, part):
    answer = Answer(idp)
    subject = _one(answer.root, "Subject", SAML)
    name = _one(subject, "NameID", SAML)
    subject.replace(name, etree.Element(f"{{{SAML}}}{part}"))
    message = base64.b64encode(idp.sign(answer.root)).decode()

    with pytest.raises(SignInRefused) as refusal:
        verify(idp, message)

    assert part in refusal.value.cause
    assert "whole assertion" in refusal.value.remedy


def test_an_encrypted_attribute_is_refused_also_inside_what_was_encrypted(idp):
    answer = Answer(idp)
    statement = _one(answer.root, "AttributeStatement", SAML)
    etree.SubElement(statement, f"{{{SAML}}}EncryptedAttribute")

    assert "EncryptedAttribute" in cause(lambda: verify(idp, answer.sealed()))


# --- What was encrypted


def _unlike(inner):
    etree.SubElement(inner, f"{{{SAML}}}Advice")
    return etree.tostring(inner)


def _two(inner):
    return etree.tostring(inner) * 2


def _around(inner):
    return b"</around><around>" + etree.tostring(inner)


def _comment(inner):
    return etree.tostring(inner).replace(b"u-0001", b"u-0001<!-- -->")


def _doctype(inner):
    return b"<!DOCTYPE a>" + etree.tostring(inner)


def _reference(inner):
    next(inner.iter(f"{{{DS}}}Reference")).set("URI", "file:///dev/zero")
    return etree.tostring(inner)


@pytest.mark.parametrize(
    ("plaintext", "told"),
    [
        (_unlike, "Advice in Assertion stands where none belongs"),
        (_two, "not XML"),
        (_around, "not XML"),
        (lambda inner: etree.tostring(inner) + b"text", "not XML"),
        (_comment, "a comment"),
        (_doctype, "DOCTYPE"),
        (_reference, "does not cover exactly"),
        (lambda inner: b"\xff", "UTF-8"),
        (lambda inner: b"", "empty"),
        (lambda inner: b"just text", "not XML"),
        (
            lambda inner: f'<a:Response xmlns:a="{SAMLP}"/>'.encode(),
            "stands where Assertion belongs",
        ),
        (
            lambda inner: etree.tostring(inner).replace(b"u-0001", b"u-0002"),
            "something else|fits no",
        ),
        (lambda inner: etree.tostring(encrypt(inner, OURS)), "stands where Assertion belongs"),
    ],
)
def test_the_plaintext_has_to_be_what_a_plain_assertion_has_to_be(idp, plaintext, told):

    said = cause(lambda: verify(idp, Answer(idp).sealed(plaintext=plaintext)))

    assert re.search(told, said), said


def test_encryption_is_no_signature(idp):
    """Anybody has our certificate: an assertion that was encrypted and not signed is anybody's."""
    assert (
        cause(lambda: verify(idp, Answer(idp).sealed(sign=False))) == "The assertion is not signed."
    )


def test_an_assertion_of_another_key_is_refused_inside_as_well(idp, other_idp):
    answer = Answer(idp)
    foreign = etree.fromstring(other_idp.sign(answer.root, response=False))
    inner = etree.tostring(foreign.find(f"{{{SAML}}}Assertion"))

    told = cause(lambda: verify(idp, answer.sealed(plaintext=lambda _: inner, sign=False)))

    assert "The signature of the assertion fits no certificate" in told


def test_the_responses_signature_comes_before_any_key_is_used(idp, other_idp):
    def never(_):
        raise AssertionError("the private key was used")

    answer = Answer(idp)
    answer.sealed()
    for signature in answer.root.findall(f"{{{DS}}}Signature"):
        answer.root.remove(signature)
    message = base64.b64encode(other_idp.sign(answer.root, assertion=False)).decode()

    told = cause(lambda: verify(idp, message, by=never))

    assert "The signature of the response fits no certificate" in told


def test_the_ids_inside_and_outside_are_two(idp):
    answer = Answer(idp)
    answer.root.set("ID", answer.root.find(f"{{{SAML}}}Assertion").get("ID"))

    assert "the same id" in cause(lambda: verify(idp, answer.sealed()))


# --- Failures look alike


def _flip(root):
    value = _one(root, "CipherValue")
    sealed = bytearray(base64.b64decode(value.text))
    sealed[-1] ^= 1
    value.text = base64.b64encode(sealed).decode()


def _flip_key(root):
    value = _one(_one(root, "EncryptedKey"), "CipherValue")
    wrapped = bytearray(base64.b64decode(value.text))
    wrapped[-1] ^= 1
    value.text = base64.b64encode(wrapped).decode()


def _short_key(root):
    _one(_one(root, "EncryptedKey"), "CipherValue").text = base64.b64encode(b"x" * 16).decode()


def _other_length(root):
    _one(root, "EncryptionMethod").set("Algorithm", XENC11 + "aes128-gcm")


def test_a_wrong_key_a_spoiled_key_and_a_spoiled_text_are_one_and_the_same_refusal(idp):
    stranger = certificate(rsa.generate_private_key(public_exponent=65537, key_size=2048))

    def fails(_):
        raise SignInRefused(code="not_for_us", cause="told apart")

    told = {
        cause(lambda: verify(idp, Answer(idp).sealed(to=stranger))),
        cause(lambda: verify(idp, Answer(idp).sealed(bend=_flip))),
        cause(lambda: verify(idp, Answer(idp).sealed(bend=_flip_key))),
        cause(lambda: verify(idp, Answer(idp).sealed(bend=_short_key))),
        cause(lambda: verify(idp, Answer(idp).sealed(bend=_other_length))),
        cause(lambda: verify(idp, Answer(idp).sealed(), by=None)),
        cause(lambda: verify(idp, Answer(idp).sealed(), by=fails)),
        cause(lambda: verify(idp, Answer(idp).sealed(), by=lambda _: b"too short")),
        cause(lambda: verify(idp, Answer(idp).sealed(), by=lambda _: bytes(32))),
    }

    assert told == {"The assertion cannot be decrypted."}


# --- Through the doors


@pytest.fixture
def encrypting(saml_row):
    saml_row.encryption = "required"
    return services.save_provider(saml_row, by=BY)


def _sign_in(idp, browser, to) -> object:
    request = idp.read(web.start(browser, "acme"))
    return web.post_answer(browser, "acme", Answer(idp, request=request).sealed(to=to))


def test_a_provider_encrypts_for_the_certificate_in_our_metadata_and_people_sign_in(
    encrypting, idp
):
    metadata = etree.fromstring(web.browser().get("/saml/acme/metadata/", secure=True).content)
    md = "urn:oasis:names:tc:SAML:2.0:metadata"
    key = metadata.find(f".//{{{md}}}KeyDescriptor[@use='encryption']")
    body = key.findtext(f".//{{{DS}}}X509Certificate")
    lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    offered = [one.get("Algorithm") for one in key.findall(f"{{{md}}}EncryptionMethod")]
    browser = web.browser()

    answer = _sign_in(
        idp, browser, f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
    )

    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert web.is_signed_in(browser)
    assert Person.objects.get().subject == "u-0001"
    assert XENC11 + "aes256-gcm" in offered
    assert OAEP11 in offered
    assert not [one for one in offered if "cbc" in one or "1_5" in one]


def test_an_assertion_for_somebody_elses_key_signs_nobody_in(encrypting, idp, refusals):
    browser = web.browser()

    answer = _sign_in(idp, browser, certificate(KEY))

    assert answer.status_code == 403
    assert not web.is_signed_in(browser)
    assert "cannot be decrypted" in refusals()[0][1]


def test_a_provider_that_does_not_encrypt_finds_no_key_to_do_it(saml_row):
    metadata = web.browser().get("/saml/acme/metadata/", secure=True).content

    assert b'use="signing"' in metadata
    assert b"encryption" not in metadata


def test_no_private_key_is_among_what_a_confined_process_is_told(encrypting):
    sp = services.service_provider(encrypting)

    assert "PRIVATE" in sp.private_key
    assert "PRIVATE" not in repr(sp.us)
    serialization.load_pem_private_key(sp.private_key.encode(), None)
