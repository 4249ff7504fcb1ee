"""XML signatures for tests, made with cryptography and lxml alone, so that they can be made in every product's way."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from lxml import etree

from tests.accounts.idp_saml import DS, SAML, certificate

EC14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
XENC = "http://www.w3.org/2001/04/xmlenc#"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = certificate(KEY)
BODY = "".join(PEM.splitlines()[1:-1])


def certificate_of(key) -> str:
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Ünïcode signer")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=9))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def sign(
    document: bytes,
    which: str,
    *,
    key=KEY,
    prefixes: str = "",
    listed: bool = True,
    key_info: str = f"<ds:X509Data><ds:X509Certificate>{BODY}</ds:X509Certificate></ds:X509Data>",
    digest: str = "sha256",
    prefix: str = "ds",
) -> bytes:
    """Sign the element of that id where it stands; its Signature goes after the Issuer, or first without one."""
    root = etree.fromstring(document)
    element = next(e for e in root.iter() if e.get("ID") == which)

    def canonical(node) -> bytes:
        apart = etree.fromstring(etree.tostring(node, with_tail=False))
        return etree.tostring(
            apart, method="c14n", exclusive=True, inclusive_ns_prefixes=prefixes.split() or None
        )

    algorithm = {"sha256": XENC + "sha256", "sha384": MORE + "sha384", "sha512": XENC + "sha512"}
    family = "rsa" if isinstance(key, rsa.RSAPrivateKey) else "ecdsa"
    listing = (
        f'<ec:InclusiveNamespaces xmlns:ec="{EC14N}" PrefixList="{prefixes}"/>'
        if prefixes and listed
        else ""
    )
    value = base64.b64encode(hashlib.new(digest, canonical(element)).digest()).decode()
    signed_info = (
        f'<ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{EC14N}"/>'
        f'<ds:SignatureMethod Algorithm="{MORE}{family}-{digest}"/><ds:Reference URI="#{which}"><ds:Transforms>'
        f'<ds:Transform Algorithm="{DS}enveloped-signature"/><ds:Transform Algorithm="{EC14N}">{listing}'
        f'</ds:Transform></ds:Transforms><ds:DigestMethod Algorithm="{algorithm[digest]}"/>'
        f"<ds:DigestValue>{value}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
    )
    whole = (
        f'<ds:Signature xmlns:ds="{DS}">{signed_info}<ds:SignatureValue>----</ds:SignatureValue>'
        f"<ds:KeyInfo>{key_info}</ds:KeyInfo></ds:Signature>"
    )
    whole = re.sub(r"(</?)ds:", rf"\1{prefix}:" if prefix else r"\1", whole)
    whole = whole.replace("xmlns:ds=", f"xmlns:{prefix}=" if prefix else "xmlns=")
    signature = etree.fromstring(whole)
    issuer = element.find(f"{{{SAML}}}Issuer")
    if issuer is not None:
        issuer.addnext(signature)
    else:
        element.insert(0, signature)
    info = signature.find(f"{{{DS}}}SignedInfo")
    raw = etree.tostring(
        etree.fromstring(etree.tostring(info, with_tail=False)), method="c14n", exclusive=True
    )
    kind = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}[digest]
    if family == "rsa":
        made = key.sign(raw, padding.PKCS1v15(), kind)
    else:
        half = (key.key_size + 7) // 8
        made = b"".join(
            n.to_bytes(half) for n in decode_dss_signature(key.sign(raw, ec.ECDSA(kind)))
        )
    signature.find(f"{{{DS}}}SignatureValue").text = base64.encodebytes(made).decode()
    return etree.tostring(root)
