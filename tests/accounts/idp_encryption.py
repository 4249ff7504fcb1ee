"""Encrypted assertions for tests, by cryptography and lxml only: every form that providers send, and bent ones."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from lxml import etree

from tests.accounts.idp_saml import DS, SAML

XENC = "http://www.w3.org/2001/04/xmlenc#"
XENC11 = "http://www.w3.org/2009/xmlenc11#"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
HASHES = {
    "sha1": (hashes.SHA1, DS + "sha1"),
    "sha256": (hashes.SHA256, XENC + "sha256"),
    "sha384": (hashes.SHA384, MORE + "sha384"),
    "sha512": (hashes.SHA512, XENC + "sha512"),
}


@dataclass(frozen=True)
class Form:
    """How a provider encrypts. digest, mask None: not said, which means SHA-1."""

    bits: int = 256
    content: str = "gcm"
    wrap: str = XENC + "rsa-oaep-mgf1p"
    digest: str | None = None
    mask: str | None = None
    beside: bool = False
    """The EncryptedKey stands beside the EncryptedData and not inside its KeyInfo."""
    named: bool = False
    """As OpenSAML does: ids, a Recipient, a ReferenceList and a CarriedKeyName."""
    told: bool = False
    """As AD FS and SimpleSAMLphp do: which certificate it is for."""
    prefixes: tuple[str, str, str] = ("xenc", "ds", "xenc11")
    """Of the three namespaces; "" is the default namespace, declared where it is needed."""
    kind: str | None = XENC + "Element"


def encrypt(
    assertion: etree._Element | bytes,
    certificate: str,
    form: Form | None = None,
    *,
    bend: Callable[[etree._Element], None] | None = None,
) -> etree._Element:
    """An EncryptedAssertion for the holder of a certificate."""
    form = form or Form()
    plaintext = assertion if isinstance(assertion, bytes) else etree.tostring(assertion)
    key = os.urandom(form.bits // 8)
    public = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    if "oaep" in form.wrap:
        padded = padding.OAEP(
            mgf=padding.MGF1(HASHES[form.mask or "sha1"][0]()),
            algorithm=HASHES[form.digest or "sha1"][0](),
            label=None,
        )
    else:
        padded = padding.PKCS1v15()
    wrapped = public.encrypt(key, padded)
    if form.content == "gcm":
        nonce = os.urandom(12)
        sealed = nonce + AESGCM(key).encrypt(nonce, plaintext, None)
        algorithm = f"{XENC11}aes{form.bits}-gcm"
    else:
        start, fill = os.urandom(16), 16 - len(plaintext) % 16
        encryptor = Cipher(algorithms.AES(key), modes.CBC(start)).encryptor()
        filled = plaintext + bytes(fill - 1) + bytes([fill])
        sealed = start + encryptor.update(filled) + encryptor.finalize()
        algorithm = f"{XENC}aes{form.bits}-cbc"

    around = etree.Element(f"{{{SAML}}}EncryptedAssertion", nsmap={"saml": SAML})
    xenc, ds, xenc11 = (prefix or None for prefix in form.prefixes)

    def add(parent, namespace, name, prefix, **attributes):
        return etree.SubElement(
            parent, f"{{{namespace}}}{name}", attributes, nsmap={prefix: namespace}
        )

    data = add(around, XENC, "EncryptedData", xenc)
    if form.kind:
        data.set("Type", form.kind)
    add(data, XENC, "EncryptionMethod", xenc, Algorithm=algorithm)
    info = None
    if not form.beside:
        info = add(data, DS, "KeyInfo", ds)
    cipher = add(add(data, XENC, "CipherData", xenc), XENC, "CipherValue", xenc)
    cipher.text = base64.b64encode(sealed).decode()
    held = add(around if info is None else info, XENC, "EncryptedKey", xenc)
    method = add(held, XENC, "EncryptionMethod", xenc, Algorithm=form.wrap)
    if form.digest:
        add(method, DS, "DigestMethod", ds, Algorithm=HASHES[form.digest][1])
    if form.mask:
        add(method, XENC11, "MGF", xenc11, Algorithm=f"{XENC11}mgf1{form.mask}")
    if form.told:
        known = add(add(held, DS, "KeyInfo", ds), DS, "X509Data", ds)
        issuer = add(known, DS, "X509IssuerSerial", ds)
        add(issuer, DS, "X509IssuerName", ds).text = "CN=Daypass SAML service provider"
        add(issuer, DS, "X509SerialNumber", ds).text = "4711"
        add(known, DS, "X509Certificate", ds).text = "".join(certificate.splitlines()[1:-1])
    value = add(add(held, XENC, "CipherData", xenc), XENC, "CipherValue", xenc)
    value.text = base64.encodebytes(wrapped).decode()  # in lines, as many write it
    if form.named:
        data.set("Id", "_data")
        held.set("Id", "_key")
        held.set("Recipient", "https://daypass.test/saml/acme/metadata/")
        listed = add(held, XENC, "ReferenceList", xenc)
        add(listed, XENC, "DataReference", xenc, URI="#_data")
        add(held, XENC, "CarriedKeyName", xenc).text = "key"
    if bend:
        bend(around)
    return around
