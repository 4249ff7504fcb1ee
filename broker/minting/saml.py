"""The broker as a SAML identity provider in AWS's eyes: its metadata, and assertions for one role each.

Specification: SAML 2.0 core, metadata and web browser SSO profile, and "Configure SAML assertions for the
authentication response" of the IAM user guide. AWS verifies the assertion's signature; the response around it is
signed as well, so that nothing in it can be changed on the way through the browser.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import xmlsec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from django.conf import settings
from lxml import etree

from broker.errors import KeyUnavailable
from broker.minting import keys, rules
from broker.minting.models import SigningKey
from broker.minting.tokens import MintedToken

constants = xmlsec.constants

_PROTOCOL = "urn:oasis:names:tc:SAML:2.0:protocol"
_ASSERTION = "urn:oasis:names:tc:SAML:2.0:assertion"
_METADATA = "urn:oasis:names:tc:SAML:2.0:metadata"
_SIGNATURE = "http://www.w3.org/2000/09/xmldsig#"
_PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_UNSPECIFIED = "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified"
_URI_NAMES = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri"
_REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
_EXCLUSIVE_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
_SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
_AWS = "https://aws.amazon.com/SAML/Attributes/"

_CLOCK_SKEW = timedelta(seconds=60)
_LIFETIME = timedelta(seconds=rules.TOKEN_SECONDS)
_LONGEST_RESPONSE = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionClaims:
    """Everything an assertion says, and nothing else can be signed.

    role_arn, saml_provider_arn: the one pair, of one account. session_name and source_identity: 2 to 64 characters.
    session_tags: key -> value. transitive_tag_keys: those that stay with a chained session. session_seconds: 900 to
    43,200. subject: the person's id (NameID, persistent). recipient: the SAML sign-in URL of the role's partition
    that it will be posted to; it is what `SAML:aud` compares. audience: AWS's entity id in that partition.
    """

    role_arn: str
    saml_provider_arn: str
    session_name: str
    source_identity: str
    session_tags: Mapping[str, str]
    transitive_tag_keys: tuple[str, ...]
    session_seconds: int
    subject: str
    recipient: str
    audience: str


def mint_saml_response(claims: AssertionClaims, *, now: datetime) -> MintedToken:
    """Sign a response for AWS's SAML sign-in or AssumeRoleWithSAML: base64 text, one role, five minutes.

    Raises BadInput for claims AWS would not take, KeyUnavailable when it cannot be signed.
    """
    assertion = _assertion(claims, now)
    response = _response(assertion, claims, now)
    key = keys.signing_key(SigningKey.Purpose.SAML, now=now)
    _sign(assertion, key)
    _sign(response, key)
    text = base64.b64encode(etree.tostring(response, encoding="UTF-8")).decode()
    if len(text) > _LONGEST_RESPONSE:
        raise rules.unfit(
            f"The response is {len(text)} characters long; AWS takes {_LONGEST_RESPONSE}.",
            remedy="Use fewer or shorter session tags.",
        )
    return MintedToken(text, id=_id_of(assertion), key_id=key.kid, expires_at=now + _LIFETIME)


def metadata(*, now: datetime) -> bytes:
    """Our EntityDescriptor for IAM's SAML provider: every key that signs, will sign or signed, the signing one first.

    Its sign-on location is the portal: Daypass begins every sign-in to AWS itself. UTF-8 without byte order mark.
    """
    published = keys.published_keys(SigningKey.Purpose.SAML)
    if not published:
        keys.ensure_keys(now)
        published = keys.published_keys(SigningKey.Purpose.SAML)
    root = etree.Element(
        etree.QName(_METADATA, "EntityDescriptor"),
        nsmap={"md": _METADATA, "ds": _SIGNATURE},
        attrib={"entityID": settings.DAYPASS_SAML_ENTITY_ID},
    )
    idp = etree.SubElement(
        root,
        etree.QName(_METADATA, "IDPSSODescriptor"),
        attrib={
            "protocolSupportEnumeration": _PROTOCOL,
            "WantAuthnRequestsSigned": "false",
        },
    )
    for key in published:
        descriptor = _add(idp, _METADATA, "KeyDescriptor", use="signing")
        info = _add(descriptor, _SIGNATURE, "KeyInfo")
        data = _add(info, _SIGNATURE, "X509Data")
        _add(data, _SIGNATURE, "X509Certificate").text = key.certificate
    _add(idp, _METADATA, "NameIDFormat").text = _PERSISTENT
    _add(
        idp,
        _METADATA,
        "SingleSignOnService",
        Binding=_REDIRECT,
        Location=f"{settings.DAYPASS_ORIGIN}/",
    )
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _sign(element: etree._Element, key: keys.OpenedKey) -> None:
    """Sign one element in place: enveloped, exclusive c14n, RSA-SHA256, one reference to the element's own ID.

    The signature stands right behind the Issuer, as the schemas of Response and Assertion demand.
    """
    if key.for_xml is None:
        _sign_elsewhere(element, key)
        return
    signature = xmlsec.template.create(
        element, constants.TransformExclC14N, constants.TransformRsaSha256, ns="ds"
    )
    element[0].addnext(signature)
    reference = xmlsec.template.add_reference(
        signature, constants.TransformSha256, uri=f"#{_id_of(element)}"
    )
    xmlsec.template.add_transform(reference, constants.TransformEnveloped)
    xmlsec.template.add_transform(reference, constants.TransformExclC14N)
    xmlsec.template.add_x509_data(xmlsec.template.ensure_key_info(signature))
    xmlsec.tree.add_ids(element, ["ID"])
    context = xmlsec.SignatureContext()
    context.key = key.for_xml
    context.sign(signature)


def _sign_elsewhere(element: etree._Element, key: keys.OpenedKey) -> None:
    """The very same signature, by a key that is not in this process (XML Signature 1.1, sections 3.1 and 4.4).

    The digest is taken while there is no signature yet, which is what the enveloped-signature transform makes of the
    element afterwards.
    """
    private_key = key.for_tokens
    if not isinstance(private_key, rsa.RSAPrivateKey):
        raise KeyUnavailable(cause=f"Signing key {key.kid} is no RSA key: it signs no assertions.")
    digest = hashlib.sha256(_canonical(element)).digest()
    signature = etree.Element(etree.QName(_SIGNATURE, "Signature"), nsmap={"ds": _SIGNATURE})
    info = _add(signature, _SIGNATURE, "SignedInfo")
    _add(info, _SIGNATURE, "CanonicalizationMethod", Algorithm=_EXCLUSIVE_C14N)
    _add(info, _SIGNATURE, "SignatureMethod", Algorithm=_RSA_SHA256)
    reference = _add(info, _SIGNATURE, "Reference", URI=f"#{_id_of(element)}")
    transforms = _add(reference, _SIGNATURE, "Transforms")
    _add(transforms, _SIGNATURE, "Transform", Algorithm=_ENVELOPED)
    _add(transforms, _SIGNATURE, "Transform", Algorithm=_EXCLUSIVE_C14N)
    _add(reference, _SIGNATURE, "DigestMethod", Algorithm=_SHA256)
    _add(reference, _SIGNATURE, "DigestValue").text = base64.b64encode(digest).decode()
    signed = private_key.sign(_canonical(info), padding.PKCS1v15(), hashes.SHA256())
    _add(signature, _SIGNATURE, "SignatureValue").text = base64.b64encode(signed).decode()
    data = _add(_add(signature, _SIGNATURE, "KeyInfo"), _SIGNATURE, "X509Data")
    _add(data, _SIGNATURE, "X509Certificate").text = key.certificate
    element[0].addnext(signature)


def _canonical(element: etree._Element) -> bytes:
    """Exclusive canonical XML without comments."""
    return etree.tostring(
        element, method="c14n", exclusive=True, with_comments=False, with_tail=False
    )


def _response(assertion: etree._Element, claims: AssertionClaims, now: datetime) -> etree._Element:
    response = etree.Element(
        etree.QName(_PROTOCOL, "Response"),
        nsmap={"samlp": _PROTOCOL, "saml": _ASSERTION},
        attrib={
            "ID": _new_id(),
            "Version": "2.0",
            "IssueInstant": _instant(now),
            "Destination": claims.recipient,
        },
    )
    _add(response, _ASSERTION, "Issuer").text = settings.DAYPASS_SAML_ENTITY_ID
    status = _add(response, _PROTOCOL, "Status")
    _add(status, _PROTOCOL, "StatusCode", Value=_SUCCESS)
    response.append(assertion)
    return response


def _assertion(claims: AssertionClaims, now: datetime) -> etree._Element:
    role = rules.role(claims.role_arn, separator=",")
    provider = rules.saml_provider(claims.saml_provider_arn, of=role)
    recipient = rules.recipient(
        claims.recipient, partition=role.partition, stand_in=settings.DAYPASS_SIGNIN_ENDPOINT
    )
    seconds = rules.session_seconds(claims.session_seconds)
    tags = rules.tags(claims.session_tags, claims.transitive_tag_keys)
    rules.without_outer_blanks(tags)
    ends = _instant(now + _LIFETIME)
    assertion_id = _new_id()

    assertion = etree.Element(
        etree.QName(_ASSERTION, "Assertion"),
        nsmap={"saml": _ASSERTION},
        attrib={"ID": assertion_id, "Version": "2.0", "IssueInstant": _instant(now)},
    )
    _add(assertion, _ASSERTION, "Issuer").text = settings.DAYPASS_SAML_ENTITY_ID
    subject = _add(assertion, _ASSERTION, "Subject")
    _add(subject, _ASSERTION, "NameID", Format=_PERSISTENT).text = rules.person(claims.subject)
    confirmation = _add(subject, _ASSERTION, "SubjectConfirmation", Method=_BEARER)
    _add(
        confirmation,
        _ASSERTION,
        "SubjectConfirmationData",
        NotOnOrAfter=ends,
        Recipient=recipient,
    )
    conditions = _add(
        assertion,
        _ASSERTION,
        "Conditions",
        NotBefore=_instant(now - _CLOCK_SKEW),
        NotOnOrAfter=ends,
    )
    restriction = _add(conditions, _ASSERTION, "AudienceRestriction")
    _add(restriction, _ASSERTION, "Audience").text = rules.audience(claims.audience)
    statement = _add(
        assertion,
        _ASSERTION,
        "AuthnStatement",
        AuthnInstant=_instant(now),
        SessionIndex=assertion_id,
        # AWS takes the shortest of this and SessionDuration, counted from the moment it is redeemed: without the
        # assertion's own lifetime on top, a session of the shortest length would already be too short.
        SessionNotOnOrAfter=_instant(now + timedelta(seconds=seconds) + _LIFETIME),
    )
    context = _add(statement, _ASSERTION, "AuthnContext")
    _add(context, _ASSERTION, "AuthnContextClassRef").text = _UNSPECIFIED

    attributes = _add(assertion, _ASSERTION, "AttributeStatement")
    _attribute(attributes, "Role", [f"{role},{provider}"])
    session_name = rules.name(claims.session_name, what="session name")
    _attribute(attributes, "RoleSessionName", [session_name])
    _attribute(attributes, "SessionDuration", [str(seconds)])
    source_identity = rules.name(claims.source_identity, what="source identity")
    _attribute(attributes, "SourceIdentity", [source_identity])
    for key, value in tags.items():
        _attribute(attributes, f"PrincipalTag:{key}", [value])
    if claims.transitive_tag_keys:
        _attribute(attributes, "TransitiveTagKeys", claims.transitive_tag_keys)
    return assertion


def _attribute(statement: etree._Element, name: str, values: Iterable[str]) -> None:
    attribute = _add(statement, _ASSERTION, "Attribute", Name=_AWS + name, NameFormat=_URI_NAMES)
    for value in values:
        _add(attribute, _ASSERTION, "AttributeValue").text = value


def _add(parent: etree._Element, namespace: str, tag: str, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, etree.QName(namespace, tag), attrib=attributes)


def _id_of(element: etree._Element) -> str:
    return str(element.attrib["ID"])


def _new_id() -> str:
    """160 random bits; an XML ID begins with a letter or an underscore."""
    return f"_{secrets.token_hex(20)}"


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
