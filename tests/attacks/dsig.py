"""XML signatures by hand: any shape, right or wrong, with real keys.

signxml refuses to make what an attacker would send, so this builds SignedInfo element by element, canonicalises with
lxml and signs with cryptography's primitives. `fits` checks a signature the plain way, so that an attack that is meant
to be truly signed is known to be.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from lxml import etree

from tests.accounts.idp_saml import DS

MORE = "http://www.w3.org/2001/04/xmldsig-more#"
MORE_2007 = "http://www.w3.org/2007/05/xmldsig-more#"
XMLENC = "http://www.w3.org/2001/04/xmlenc#"
EXC_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
C14N_11 = "http://www.w3.org/2006/12/xml-c14n11"
ENVELOPED = DS + "enveloped-signature"
XPATH = "http://www.w3.org/TR/1999/REC-xpath-19991116"
XPATH_FILTER = "http://www.w3.org/2002/06/xmldsig-filter2"
XSLT = "http://www.w3.org/TR/1999/REC-xslt-19991116"
BASE64 = DS + "base64"

RSA_SHA256 = MORE + "rsa-sha256"
SHA256 = XMLENC + "sha256"

DIGESTS = {
    MORE + "md5": "md5",
    DS + "sha1": "sha1",
    MORE + "sha224": "sha224",
    XMLENC + "sha256": "sha256",
    MORE + "sha384": "sha384",
    XMLENC + "sha512": "sha512",
}
_NAMES = {
    "md5": hashes.MD5,
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


def canonical(
    element: etree._Element, method: str = EXC_C14N, *, prefixes: Sequence[str] = ()
) -> bytes:
    """The canonical form of an element where it stands."""
    exclusive = method.startswith(EXC_C14N)
    return etree.tostring(
        element,
        method="c14n",
        exclusive=exclusive,
        with_comments=method.endswith("WithComments"),
        inclusive_ns_prefixes=list(prefixes) if exclusive and prefixes else None,
    )


def digest(data: bytes, algorithm: str = SHA256) -> str:
    name = DIGESTS.get(algorithm, "sha256")
    return base64.b64encode(hashlib.new(name, data).digest()).decode()


@dataclass(frozen=True)
class Reference:
    """One ds:Reference. `over`: the octets to digest; None for the signed element without its signature."""

    uri: str | None
    transforms: Sequence[str | etree._Element] = (ENVELOPED, EXC_C14N)
    digest: str = SHA256
    over: Callable[[etree._Element], bytes] | None = None
    prefixes: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """How an element is signed. The defaults are what every provider does."""

    algorithm: str = RSA_SHA256
    digest: str = SHA256
    c14n: str = EXC_C14N
    references: tuple[Reference, ...] | None = None
    transforms: Sequence[str | etree._Element] = (ENVELOPED, EXC_C14N)
    prefixes: tuple[str, ...] = ()
    position: int = 1
    certificate: str | None = None
    prefix: str | None = "ds"
    bend_info: Callable[[etree._Element], None] = lambda info: None
    """Changes SignedInfo before it is signed."""
    bend: Callable[[etree._Element], None] = lambda signature: None
    """Changes the Signature afterwards."""


def sign(element: etree._Element, key: Any, recipe: Recipe | None = None) -> etree._Element:
    """Put a Signature into the element, where it stands. Answers the Signature."""
    recipe = recipe or Recipe()
    references = recipe.references
    if references is None:
        references = (
            Reference(
                "#" + element.get("ID", ""),
                recipe.transforms,
                recipe.digest,
                prefixes=recipe.prefixes,
            ),
        )
    values = [_digest_of(element, reference) for reference in references]
    signature = etree.Element(f"{{{DS}}}Signature", nsmap={recipe.prefix: DS})
    info = etree.SubElement(signature, f"{{{DS}}}SignedInfo")
    etree.SubElement(info, f"{{{DS}}}CanonicalizationMethod", Algorithm=recipe.c14n)
    etree.SubElement(info, f"{{{DS}}}SignatureMethod", Algorithm=recipe.algorithm)
    for reference, value in zip(references, values, strict=True):
        _write(info, reference, value)
    etree.SubElement(signature, f"{{{DS}}}SignatureValue")
    if recipe.certificate is not None:
        data = etree.SubElement(
            etree.SubElement(signature, f"{{{DS}}}KeyInfo"), f"{{{DS}}}X509Data"
        )
        etree.SubElement(data, f"{{{DS}}}X509Certificate").text = "".join(
            recipe.certificate.strip().splitlines()[1:-1]
        )
    recipe.bend_info(info)
    element.insert(recipe.position, signature)
    seal(signature, key, recipe.algorithm, recipe.c14n)
    recipe.bend(signature)
    return signature


def seal(signature: etree._Element, key: Any, algorithm: str = RSA_SHA256, c14n: str = EXC_C14N):
    """(Re-)compute the SignatureValue over the SignedInfo as it stands."""
    info = signature.find(f"{{{DS}}}SignedInfo")
    value = raw_signature(key, algorithm, canonical(info, c14n))
    signature.find(f"{{{DS}}}SignatureValue").text = base64.b64encode(value).decode()


def without_signature(element: etree._Element) -> etree._Element:
    """A copy where it stood, without its own Signature children: what the enveloped transform leaves."""
    path = element.getroottree().getelementpath(element)
    copy = deepcopy(element.getroottree()).getroot().find(path)
    for child in copy.findall(f"{{{DS}}}Signature"):
        copy.remove(child)
    return copy


def _digest_of(element: etree._Element, reference: Reference) -> str:
    if reference.over is not None:
        return digest(reference.over(element), reference.digest)
    method = EXC_C14N
    for transform in reference.transforms:
        name = transform if isinstance(transform, str) else str(transform.get("Algorithm"))
        if "c14n" in name:
            method = name
    enveloped = ENVELOPED in reference.transforms
    source = without_signature(element) if enveloped else element
    return digest(canonical(source, method, prefixes=reference.prefixes), reference.digest)


def _write(info: etree._Element, reference: Reference, value: str) -> None:
    written = etree.SubElement(info, f"{{{DS}}}Reference")
    if reference.uri is not None:
        written.set("URI", reference.uri)
    written.attrib.update(reference.attributes)
    if reference.transforms:
        chain = etree.SubElement(written, f"{{{DS}}}Transforms")
        for transform in reference.transforms:
            if not isinstance(transform, str):
                chain.append(deepcopy(transform))
                continue
            one = etree.SubElement(chain, f"{{{DS}}}Transform", Algorithm=transform)
            if transform.startswith(EXC_C14N) and reference.prefixes:
                etree.SubElement(
                    one,
                    f"{{{EXC_C14N}}}InclusiveNamespaces",
                    nsmap={"ec": EXC_C14N},
                    PrefixList=" ".join(reference.prefixes),
                )
    etree.SubElement(written, f"{{{DS}}}DigestMethod", Algorithm=reference.digest)
    etree.SubElement(written, f"{{{DS}}}DigestValue").text = value


def raw_signature(key: Any, algorithm: str, data: bytes) -> bytes:
    """The octets of a SignatureValue by whatever algorithm is named, as far as the key can."""
    name = algorithm.rpartition("#")[2]
    family, _, hashed = name.partition("-")
    made = _NAMES.get(hashed, hashes.SHA256)()
    if isinstance(key, bytes):
        return hmac.new(key, data, made.name).digest()
    if isinstance(key, rsa.RSAPrivateKey):
        if "MGF1" in name or name == "rsa-pss":
            made = _NAMES.get(family, hashes.SHA256)()
            pss = padding.PSS(mgf=padding.MGF1(made), salt_length=made.digest_size)
            return key.sign(data, pss, made)
        return key.sign(data, padding.PKCS1v15(), made)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        half = (key.key_size + 7) // 8
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(made)))
        return r.to_bytes(half) + s.to_bytes(half)
    if isinstance(key, dsa.DSAPrivateKey):
        r, s = decode_dss_signature(key.sign(data, made))
        half = (key.parameters().parameter_numbers().q.bit_length() + 7) // 8
        return r.to_bytes(half) + s.to_bytes(half)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    raise TypeError(type(key).__name__)


def fits(element: etree._Element, certificate: str) -> bool:
    """Whether the element carries one plain signature over itself by this certificate's RSA key."""
    signature = element.find(f"{{{DS}}}Signature")
    if signature is None:
        return False
    info = signature.find(f"{{{DS}}}SignedInfo")
    reference = info.find(f"{{{DS}}}Reference")
    algorithm = reference.find(f"{{{DS}}}DigestMethod").get("Algorithm")
    inclusive = next(reference.iter(f"{{{EXC_C14N}}}InclusiveNamespaces"), None)
    prefixes = (inclusive.get("PrefixList", "").split()) if inclusive is not None else ()
    found = digest(canonical(without_signature(element), prefixes=prefixes), algorithm)
    if found != reference.findtext(f"{{{DS}}}DigestValue"):
        return False
    key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    name = info.find(f"{{{DS}}}SignatureMethod").get("Algorithm").rpartition("-")[2]
    value = base64.b64decode(signature.findtext(f"{{{DS}}}SignatureValue"))
    key.verify(value, canonical(info), padding.PKCS1v15(), _NAMES[name]())
    return True


def self_signed(key: Any, *, name: str = "idp", algorithm: Any = None, days: int = 365) -> str:
    """A certificate over any key, in PEM."""
    from datetime import UTC, datetime, timedelta

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed_with = None if isinstance(key, ed25519.Ed25519PrivateKey) else algorithm
    if signed_with is None and not isinstance(key, ed25519.Ed25519PrivateKey):
        signed_with = hashes.SHA256()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, signed_with)
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
