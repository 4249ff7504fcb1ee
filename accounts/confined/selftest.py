"""Before its walls go up, a confined process shows that it can tell a good message from a bad one.

It also loads whatever the libraries load at their first use, which would be too late afterwards.
"""

from __future__ import annotations

import base64
import os
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import xmlsec as typeless_xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID
from lxml import etree

from accounts.confined import profile
from accounts.confined.text import inside
from accounts.confined.values import (
    BEARER,
    DS,
    SAML,
    SAMLP,
    SUCCESS,
    XENC,
    XENC11,
    Provider,
    Us,
    Wrapped,
)
from broker.errors import SignInRefused

xmlsec: Any = typeless_xmlsec  # its type stubs hide most of what it has
_US = Us("https://us.invalid/", "https://us.invalid/acs/", "https://us.invalid/sls/")
_THEM = "https://them.invalid/"


def run() -> None:
    """Verify a message that is right, plain and encrypted, and refuse it when bent. Raises RuntimeError."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    provider = Provider(_THEM, "", "", (_certificate(key, now),), encryption="accepted")
    good = _signed(key, now)
    content_key = os.urandom(16)

    def read(root: etree._Element) -> str | None:
        message = base64.b64encode(etree.tostring(root)).decode()
        verified = profile.verify_response(
            message,
            us=_US,
            provider=provider,
            expected_request="_asked",
            now=now,
            unwrap=lambda _: content_key,
        )
        return verified.attributes.subject

    bad = deepcopy(good)
    next(bad.iter(f"{{{SAML}}}NameID")).text = "somebody-else"
    unlike = deepcopy(good)
    etree.SubElement(unlike, f"{{{DS}}}KeyInfo")
    sealed = _encrypted(deepcopy(good), key, content_key)
    if read(good) != "somebody" or read(sealed) != "somebody":
        raise RuntimeError("a good message was read wrongly")
    for one in (bad, unlike):
        try:
            read(one)
        except SignInRefused:
            continue
        raise RuntimeError("a bad message was accepted")


def _certificate(key: ec.EllipticCurvePrivateKey, now: datetime) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "self-test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> etree._Element:
    at, end = f"{now:%Y-%m-%dT%H:%M:%SZ}", f"{now + timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}"
    head = f'Version="2.0" IssueInstant="{at}"'
    root = etree.fromstring(
        f'<p:Response xmlns:p="{SAMLP}" xmlns:a="{SAML}" ID="_r" {head} Destination="{_US.acs}" InResponseTo="_asked">'
        f'<a:Issuer>{_THEM}</a:Issuer><p:Status><p:StatusCode Value="{SUCCESS}"/></p:Status>'
        f'<a:Assertion ID="_a" {head}><a:Issuer>{_THEM}</a:Issuer><a:Subject><a:NameID>somebody</a:NameID>'
        f'<a:SubjectConfirmation Method="{BEARER}"><a:SubjectConfirmationData Recipient="{_US.acs}" '
        f'NotOnOrAfter="{end}" InResponseTo="_asked"/></a:SubjectConfirmation></a:Subject>'
        f"<a:Conditions><a:AudienceRestriction><a:Audience>{_US.entity_id}</a:Audience></a:AudienceRestriction>"
        f'</a:Conditions><a:AuthnStatement AuthnInstant="{at}"><a:AuthnContext/></a:AuthnStatement></a:Assertion>'
        "</p:Response>"
    )
    _sign(inside(root, f"{{{SAML}}}Assertion"), key)
    _sign(root, key)
    return root


def _sign(element: etree._Element, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    existing = element.find(f"{{{DS}}}Signature")
    if existing is not None:
        element.remove(existing)
    signature = xmlsec.template.create(
        element, xmlsec.Transform.EXCL_C14N, xmlsec.Transform.ECDSA_SHA256
    )
    element.insert(1, signature)
    reference = xmlsec.template.add_reference(
        signature, xmlsec.Transform.SHA256, uri=f"#{element.get('ID')}"
    )
    xmlsec.template.add_transform(reference, xmlsec.Transform.ENVELOPED)
    xmlsec.template.add_transform(reference, xmlsec.Transform.EXCL_C14N)
    xmlsec.tree.add_ids(element, ["ID"])
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(pem, xmlsec.KeyFormat.PEM)
    context.sign(signature)


def _encrypted(
    root: etree._Element, key: ec.EllipticCurvePrivateKey, content_key: bytes
) -> etree._Element:
    assertion = inside(root, f"{{{SAML}}}Assertion")
    nonce = os.urandom(12)
    sealed = nonce + AESGCM(content_key).encrypt(nonce, etree.tostring(assertion), None)
    wrapped = Wrapped(b"....", "sha1", "sha1", len(content_key))
    around = etree.fromstring(
        f'<a:EncryptedAssertion xmlns:a="{SAML}" xmlns:e="{XENC}" xmlns:d="{DS}"><e:EncryptedData>'
        f'<e:EncryptionMethod Algorithm="{XENC11}aes128-gcm"/><d:KeyInfo><e:EncryptedKey>'
        f'<e:EncryptionMethod Algorithm="{XENC}rsa-oaep-mgf1p"/><e:CipherData><e:CipherValue>'
        f"{base64.b64encode(wrapped.ciphertext).decode()}</e:CipherValue></e:CipherData></e:EncryptedKey></d:KeyInfo>"
        f"<e:CipherData><e:CipherValue>{base64.b64encode(sealed).decode()}</e:CipherValue></e:CipherData>"
        "</e:EncryptedData></a:EncryptedAssertion>"
    )
    root.replace(assertion, around)
    _sign(root, key)
    return root
