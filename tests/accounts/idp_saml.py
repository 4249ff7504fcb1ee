"""A SAML identity provider for tests, made of other people's libraries: lxml builds, signxml signs.

`SamlIdp` holds keys and answers AuthnRequests; every part of an answer can be bent, one at a time, before it is signed.
"""

from __future__ import annotations

import base64
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, quote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml import CanonicalizationMethod, DigestAlgorithm, SignatureMethod, methods
from signxml.signer import XMLSigner

from tests.spare_keys import of_a_provider

SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
DS = "http://www.w3.org/2000/09/xmldsig#"
PASSWORD = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
NSMAP = {"samlp": SAMLP, "saml": SAML}


def certificate(key: rsa.RSAPrivateKey, *, days: int = 365) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Request:
    """An AuthnRequest (or LogoutRequest) as it arrived."""

    id: str
    issuer: str
    acs: str
    relay_state: str | None
    force_authn: bool
    xml: bytes
    raw_query: str


@dataclass
class SamlIdp:
    entity_id: str = "https://idp.example/metadata"
    sso_url: str = "https://idp.example/sso"
    slo_url: str = "https://idp.example/slo"
    key: rsa.RSAPrivateKey | None = None

    def __post_init__(self) -> None:
        self.key = self.key or of_a_provider(self)
        self.certificate = certificate(self.key)

    @property
    def metadata(self) -> str:
        body = "".join(self.certificate.strip().splitlines()[1:-1])
        return f"""<?xml version="1.0"?>
<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="{self.entity_id}">
  <md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
    <md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="{DS}"><ds:X509Data>
      <ds:X509Certificate>{body}</ds:X509Certificate>
    </ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
    <md:SingleLogoutService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="{self.slo_url}"/>
    <md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="{self.sso_url}"/>
  </md:IDPSSODescriptor>
</md:EntityDescriptor>"""

    # -- reading

    @staticmethod
    def read(url: str, parameter: str = "SAMLRequest") -> Request:
        parts = urlsplit(url)
        found = parse_qs(parts.query, keep_blank_values=True)
        xml = zlib.decompress(base64.b64decode(found[parameter][0]), -15)
        root = etree.fromstring(xml)
        return Request(
            id=root.get("ID"),
            issuer=root.findtext(f"{{{SAML}}}Issuer"),
            acs=root.get("AssertionConsumerServiceURL", ""),
            relay_state=found.get("RelayState", [None])[0],
            force_authn=root.get("ForceAuthn") == "true",
            xml=xml,
            raw_query=parts.query,
        )

    # -- answering

    def build(
        self,
        request: Request,
        *,
        name_id: str = "u-0001",
        attributes: Mapping[str, Sequence[str]] | None = None,
        context: str = PASSWORD,
        now: datetime | None = None,
        session_index: str = "s-1",
        audience: str = "",
        recipient: str = "",
        destination: str = "",
        assertion_id: str = "",
    ) -> etree._Element:
        """An unsigned response; bend it, then `sign` it."""
        now = now or datetime.now(UTC)
        acs = recipient or request.acs
        root = etree.Element(f"{{{SAMLP}}}Response", nsmap=NSMAP)
        root.attrib.update(
            {
                "ID": f"_{uuid.uuid4().hex}",
                "Version": "2.0",
                "IssueInstant": stamp(now),
                "Destination": destination or request.acs,
                "InResponseTo": request.id,
            }
        )
        etree.SubElement(root, f"{{{SAML}}}Issuer").text = self.entity_id
        status = etree.SubElement(root, f"{{{SAMLP}}}Status")
        etree.SubElement(
            status, f"{{{SAMLP}}}StatusCode", Value="urn:oasis:names:tc:SAML:2.0:status:Success"
        )
        assertion = etree.SubElement(root, f"{{{SAML}}}Assertion")
        assertion.attrib.update(
            {
                "ID": assertion_id or f"_{uuid.uuid4().hex}",
                "Version": "2.0",
                "IssueInstant": stamp(now),
            }
        )
        etree.SubElement(assertion, f"{{{SAML}}}Issuer").text = self.entity_id
        subject = etree.SubElement(assertion, f"{{{SAML}}}Subject")
        name = etree.SubElement(subject, f"{{{SAML}}}NameID")
        name.set("Format", "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent")
        name.text = name_id
        confirmation = etree.SubElement(
            subject,
            f"{{{SAML}}}SubjectConfirmation",
            Method="urn:oasis:names:tc:SAML:2.0:cm:bearer",
        )
        etree.SubElement(
            confirmation,
            f"{{{SAML}}}SubjectConfirmationData",
            Recipient=acs,
            NotOnOrAfter=stamp(now + timedelta(minutes=5)),
            InResponseTo=request.id,
        )
        conditions = etree.SubElement(
            assertion,
            f"{{{SAML}}}Conditions",
            NotBefore=stamp(now - timedelta(minutes=1)),
            NotOnOrAfter=stamp(now + timedelta(minutes=5)),
        )
        restriction = etree.SubElement(conditions, f"{{{SAML}}}AudienceRestriction")
        etree.SubElement(restriction, f"{{{SAML}}}Audience").text = audience or request.issuer
        statement = etree.SubElement(
            assertion,
            f"{{{SAML}}}AuthnStatement",
            AuthnInstant=stamp(now),
            SessionIndex=session_index,
        )
        how = etree.SubElement(statement, f"{{{SAML}}}AuthnContext")
        etree.SubElement(how, f"{{{SAML}}}AuthnContextClassRef").text = context
        if attributes:
            told = etree.SubElement(assertion, f"{{{SAML}}}AttributeStatement")
            for attribute, values in attributes.items():
                one = etree.SubElement(told, f"{{{SAML}}}Attribute", Name=attribute)
                for value in values:
                    etree.SubElement(one, f"{{{SAML}}}AttributeValue").text = value
        return root

    def sign(
        self,
        root: etree._Element,
        *,
        assertion: bool = True,
        response: bool = True,
        key: rsa.RSAPrivateKey | None = None,
        algorithm: SignatureMethod = SignatureMethod.RSA_SHA256,
        digest: DigestAlgorithm = DigestAlgorithm.SHA256,
    ) -> bytes:
        """The signed bytes. The signature goes right after the Issuer, as the schema wants it."""
        if assertion:
            found = root.find(f"{{{SAML}}}Assertion")
            signed = self._sign(found, key or self.key, algorithm, digest)
            root.replace(found, signed)
        if response:
            root = self._sign(root, key or self.key, algorithm, digest)
        return etree.tostring(root)

    def _sign(self, element, key, algorithm, digest):
        # A copy of its own, so that the canonical form does not depend on where it stood.
        element = etree.fromstring(etree.tostring(element))
        # With its prefix, which lxml would rename after signing otherwise, and spoil the signature.
        placeholder = etree.Element(f"{{{DS}}}Signature", Id="placeholder", nsmap={"ds": DS})
        element.insert(1, placeholder)
        signer = XMLSigner(
            method=methods.enveloped,
            signature_algorithm=algorithm,
            digest_algorithm=digest,
            c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
        )
        return signer.sign(
            element,
            key=key,
            cert=certificate(key),
            reference_uri=element.get("ID"),
            id_attribute="ID",
            always_add_key_value=False,
        )

    def answer(
        self,
        url: str,
        *,
        bend: Callable[[etree._Element], None] | None = None,
        sign_assertion: bool = True,
        sign_response: bool = True,
        key: rsa.RSAPrivateKey | None = None,
        **claims,
    ) -> str:
        """SAMLResponse (base64) for the AuthnRequest behind `url`."""
        root = self.build(self.read(url), **claims)
        if bend:
            bend(root)
        signed = self.sign(root, assertion=sign_assertion, response=sign_response, key=key)
        return base64.b64encode(signed).decode()

    # -- logout, redirect binding

    def redirect(self, url: str, parameter: str, xml: bytes, *, relay: str = "", key=None) -> str:
        """A signed message in the query of `url`."""
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = base64.b64encode(packer.compress(xml) + packer.flush()).decode()
        query = f"{parameter}={quote(packed, safe='')}"
        if relay:
            query += f"&RelayState={quote(relay, safe='')}"
        query += "&SigAlg=" + quote("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", safe="")
        signature = (key or self.key).sign(query.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{url}?{query}&Signature={quote(base64.b64encode(signature).decode(), safe='')}"

    def logout_request(
        self, sls: str, *, name_id: str, session_index: str = "s-1", now: datetime | None = None
    ) -> bytes:
        root = etree.Element(f"{{{SAMLP}}}LogoutRequest", nsmap=NSMAP)
        root.attrib.update(
            {
                "ID": f"_{uuid.uuid4().hex}",
                "Version": "2.0",
                "IssueInstant": stamp(now or datetime.now(UTC)),
                "Destination": sls,
            }
        )
        etree.SubElement(root, f"{{{SAML}}}Issuer").text = self.entity_id
        etree.SubElement(root, f"{{{SAML}}}NameID").text = name_id
        etree.SubElement(root, f"{{{SAMLP}}}SessionIndex").text = session_index
        return etree.tostring(root)

    def logout_response(self, sls: str, *, in_response_to: str) -> bytes:
        root = etree.Element(f"{{{SAMLP}}}LogoutResponse", nsmap=NSMAP)
        root.attrib.update(
            {
                "ID": f"_{uuid.uuid4().hex}",
                "Version": "2.0",
                "IssueInstant": stamp(datetime.now(UTC)),
                "Destination": sls,
                "InResponseTo": in_response_to,
            }
        )
        etree.SubElement(root, f"{{{SAML}}}Issuer").text = self.entity_id
        status = etree.SubElement(root, f"{{{SAMLP}}}Status")
        etree.SubElement(
            status, f"{{{SAMLP}}}StatusCode", Value="urn:oasis:names:tc:SAML:2.0:status:Success"
        )
        return etree.tostring(root)
