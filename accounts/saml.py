"""SAML 2.0 as a service provider: what we send, and whether what arrives may be believed.

python3-saml and xmlsec verify the signatures; what they leave open (threats.md A5) is checked here: first the shape of
the message before any cryptography touches it, then the whole Web Browser SSO profile on the very element that was
verified. `verify_response` is the one way to a `VerifiedAttributes`; the limits it needs are arguments, so that it can
move into a confined process as it stands.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from django.conf import settings
from lxml import etree
from onelogin.saml2.auth import OneLogin_Saml2_Auth
from onelogin.saml2.authn_request import OneLogin_Saml2_Authn_Request
from onelogin.saml2.errors import OneLogin_Saml2_Error
from onelogin.saml2.logout_request import OneLogin_Saml2_Logout_Request
from onelogin.saml2.logout_response import OneLogin_Saml2_Logout_Response
from onelogin.saml2.response import OneLogin_Saml2_Response
from onelogin.saml2.settings import OneLogin_Saml2_Settings

from accounts.rules import VerifiedAttributes
from broker.errors import BadInput, SignInRefused

MAX_MESSAGE = 256 * 1024
MAX_ELEMENTS = 12_000
MAX_DEPTH = 24
SKEW = timedelta(seconds=60)
MAX_AGE = timedelta(minutes=5)
MAX_VALIDITY = timedelta(hours=1)
UNSOLICITED_AGE = timedelta(minutes=2)
UNSOLICITED_VALIDITY = timedelta(minutes=10)
REQUEST_LIFETIME = timedelta(minutes=10)

SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
DS = "http://www.w3.org/2000/09/xmldsig#"
MD = "urn:oasis:names:tc:SAML:2.0:metadata"
REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
EXC_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = DS + "enveloped-signature"
SIGNATURES = frozenset(
    "http://www.w3.org/2001/04/xmldsig-more#" + name
    for name in (
        "rsa-sha256",
        "rsa-sha384",
        "rsa-sha512",
        "ecdsa-sha256",
        "ecdsa-sha384",
        "ecdsa-sha512",
    )
)
DIGESTS = frozenset(
    {
        "http://www.w3.org/2001/04/xmlenc#sha256",
        "http://www.w3.org/2001/04/xmldsig-more#sha384",
        "http://www.w3.org/2001/04/xmlenc#sha512",
    }
)


@dataclass(frozen=True, slots=True)
class ServiceProvider:
    """Daypass as one identity provider sees it. All of it from DAYPASS_ORIGIN, nothing from a request."""

    slug: str
    origin: str
    private_key: str = ""
    certificate: str = ""
    next_certificate: str = ""
    """Of the key that will sign next: in the metadata beside the one that signs."""
    encryption_certificates: tuple[str, ...] = ()
    """For which the provider may encrypt; none when it has no need to."""

    @property
    def entity_id(self) -> str:
        return f"{self.origin}/saml/{self.slug}/metadata/"

    @property
    def acs(self) -> str:
        return f"{self.origin}/saml/{self.slug}/acs/"

    @property
    def sls(self) -> str:
        return f"{self.origin}/saml/{self.slug}/sls/"


@dataclass(frozen=True, slots=True)
class Provider:
    """The other side: what is pinned about one SAML identity provider. Certificates in PEM."""

    entity_id: str
    sso_url: str
    slo_url: str
    certificates: tuple[str, ...]
    response_signed: bool = True
    encryption: str = "refused"
    """"refused", "accepted" or "required": whether its assertions may or have to be encrypted."""


def refused(cause: str, remedy: str = "", *, code: str = "saml_refused") -> SignInRefused:
    return SignInRefused(code=code, cause=cause, remedy=remedy)


# --- Request ids: random, and recognisable as ours without a look-up


def request_id(slug: str, *, purpose: str, now: float | None = None) -> str:
    """A fresh id for a request to this provider, good for ten minutes (an XML NCName).

    It carries its own proof, so that junk posted by a stranger is turned away before anything is stored. That the
    browser in hand is the one that asked, and asks once, is checked against its session afterwards.
    """
    made = format(int(time.time() if now is None else now), "x")
    noise = secrets.token_hex(16)
    return f"_{made}.{noise}.{_proof(slug, purpose, made, noise)}"


def is_our_request_id(value: str, slug: str, *, purpose: str, now: float | None = None) -> bool:
    match = re.fullmatch(r"_([0-9a-f]{8,9})\.([0-9a-f]{32})\.([0-9a-f]{32})", value)
    if match is None or not hmac.compare_digest(
        match[3], _proof(slug, purpose, match[1], match[2])
    ):
        return False
    age = (time.time() if now is None else now) - int(match[1], 16)
    return -5 <= age <= REQUEST_LIFETIME.total_seconds()


def _proof(slug: str, purpose: str, made: str, noise: str) -> str:
    key = hashlib.sha256(b"daypass saml request id" + settings.SECRET_KEY.encode()).digest()
    text = f"{purpose}\0{slug}\0{made}\0{noise}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:32]


# --- Settings for python3-saml


def toolkit_settings(sp: ServiceProvider, provider: Provider | None) -> OneLogin_Saml2_Settings:
    """python3-saml's settings, every check spelled out so that a library's default cannot weaken one."""
    document: dict[str, Any] = {
        "strict": True,
        "debug": False,
        "sp": {
            "entityId": sp.entity_id,
            "assertionConsumerService": {"url": sp.acs, "binding": POST},
            "singleLogoutService": {"url": sp.sls, "binding": REDIRECT},
            # Providers that take the format from our metadata send an id that stays, instead of a new one each time.
            # A request leaves the choice to the provider: some refuse a format that they were not configured for.
            "NameIDFormat": PERSISTENT if provider is None else UNSPECIFIED,
            "x509cert": sp.certificate,
            "x509certNew": sp.next_certificate,
            "privateKey": sp.private_key,
        },
        "security": {
            "authnRequestsSigned": True,
            "logoutRequestSigned": True,
            "logoutResponseSigned": True,
            "signatureAlgorithm": "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
            "digestAlgorithm": "http://www.w3.org/2001/04/xmlenc#sha256",
            "rejectDeprecatedAlgorithm": True,
            "wantAssertionsSigned": True,
            "wantMessagesSigned": provider is None or provider.response_signed,
            "wantAssertionsEncrypted": False,
            "wantNameId": False,  # checked here; a provider may identify people by an attribute alone
            "wantNameIdEncrypted": False,
            "nameIdEncrypted": False,
            "wantAttributeStatement": False,
            "allowRepeatAttributeName": True,
            "requestedAuthnContext": False,
            "signMetadata": False,
            # Metadata is also read once from a file; it must not expire on the other side.
            "metadataValidUntil": "",
            "metadataCacheDuration": "P1D",
            "allowSingleLabelDomains": True,
        },
    }
    if provider is not None:
        document["idp"] = {
            "entityId": provider.entity_id,
            "singleSignOnService": {"url": provider.sso_url, "binding": REDIRECT},
            "x509certMulti": {
                "signing": [_bare(pem) for pem in provider.certificates],
                "encryption": [],
            },
        }
        if provider.slo_url:
            document["idp"]["singleLogoutService"] = {"url": provider.slo_url, "binding": REDIRECT}
    try:
        return OneLogin_Saml2_Settings(document, sp_validation_only=provider is None)
    except OneLogin_Saml2_Error as error:
        raise refused(
            f"The provider's settings are incomplete: {error}", code="provider_misconfigured"
        ) from None


def metadata(sp: ServiceProvider) -> bytes:
    """Our metadata for the identity provider's administrator; needs nothing of theirs."""
    made = toolkit_settings(sp, None).get_sp_metadata()
    return made if isinstance(made, bytes) else str(made).encode()


def _request_data(sp: ServiceProvider, url: str, query: Mapping[str, str]) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "https": "on" if parts.scheme == "https" else "off",
        "http_host": parts.netloc,
        "script_name": parts.path,
        "path_info": "",
        "get_data": dict(query),
        "post_data": {},
    }


def sign_in_url(sp: ServiceProvider, provider: Provider, *, fresh: bool) -> tuple[str, str]:
    """Where to send the browser, and the id of the signed request. `fresh`: the person has to authenticate anew."""
    own_id = request_id(sp.slug, purpose="sign-in")

    class Request(OneLogin_Saml2_Authn_Request):
        def _generate_request_id(self) -> str:
            return own_id

    class Auth(OneLogin_Saml2_Auth):
        authn_request_class = Request

    auth = Auth(_request_data(sp, sp.acs, {}), toolkit_settings(sp, provider))
    return str(auth.login(return_to="", force_authn=fresh)), own_id


# --- The response


def decode(unverified_message: str) -> bytes:
    """The XML of a posted message. Raises SignInRefused for what is too long or not base64."""
    if not unverified_message or len(unverified_message) > MAX_MESSAGE:
        raise refused("The message is empty or too long.")
    try:
        return base64.b64decode("".join(unverified_message.split()), validate=True)
    except (binascii.Error, ValueError):
        raise refused("The message is not base64.") from None


def parse(unverified_xml: bytes) -> etree._Element:
    """Text rules first, then a parse that resolves nothing. Raises SignInRefused."""
    try:
        text = unverified_xml.decode("utf-8")
    except UnicodeDecodeError:
        raise refused("The message is not UTF-8.") from None
    body = re.sub(r"\A\ufeff?<\?xml[^<>?]*\?>", "", text, count=1)
    if "<!" in body or "<?" in body:
        raise refused("The message holds a DOCTYPE, a comment, CDATA or a processing instruction.")
    if body.count("<") > 2 * MAX_ELEMENTS + 2:
        raise refused("The message has too many elements.")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, encoding="utf-8"
    )
    try:
        root = etree.fromstring(body.encode(), parser)
    except (etree.XMLSyntaxError, ValueError):
        raise refused("The message is not XML.") from None
    for element in root.iter():
        depth = sum(1 for _ in element.iterancestors())
        if depth > MAX_DEPTH:
            raise refused("The message is nested too deeply.")
    return root


def in_response_to(unverified_message: str) -> str:
    """The request a posted message claims to answer, read without trust. Raises SignInRefused for junk."""
    root = parse(decode(unverified_message))
    if root.tag != f"{{{SAMLP}}}Response":
        raise refused("The message is not a SAML response.")
    return root.get("InResponseTo", "")


def gate(root: etree._Element, provider: Provider) -> None:
    """The shape that a response must have before any signature is looked at (threats.md R1, R2, R31).

    Exactly one assertion, a child of the response; unique ids; signatures only as children of those two, each with
    one reference to its parent, plain transforms and strong algorithms, and nothing else that xmlsec would follow.
    """
    if root.tag != f"{{{SAMLP}}}Response" or root.get("Version") != "2.0":
        raise refused("The message is not a SAML 2.0 response.")
    if root.findall(f".//{{{SAML}}}EncryptedAssertion"):
        raise refused(
            "The assertion is encrypted.",
            "Switch assertion encryption off for Daypass at the provider; the connection is encrypted already.",
        )
    assertions = list(root.iter(f"{{{SAML}}}Assertion"))
    if len(assertions) != 1 or assertions[0].getparent() is not root:
        raise refused(f"The response holds {len(assertions)} assertions; it has to be one.")
    seen: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if etree.QName(name).localname.lower() == "id":
                if name != "ID" and not str(element.tag).startswith(f"{{{DS}}}"):
                    raise refused("The response holds a foreign id attribute.")
                if value in seen:
                    raise refused("Two elements of the response have the same id.")
                seen.add(str(value))
    if root.findall(f".//{{{SAMLP}}}Extensions"):
        raise refused("The response has extensions.")
    signed = set()
    for signature in root.iter(f"{{{DS}}}Signature"):
        parent = signature.getparent()
        if parent is None or parent not in (root, assertions[0]) or parent in signed:
            raise refused("A signature stands where none belongs.")
        _gate_signature(signature, parent)
        signed.add(parent)
    foreign = [
        element
        for element in root.iter()
        if str(element.tag).startswith(f"{{{DS}}}")
        and not any(a.tag == f"{{{DS}}}Signature" for a in (element, *element.iterancestors()))
    ]
    if foreign:
        raise refused("The response holds signature parts outside a signature.")
    if assertions[0] not in signed:
        raise refused(
            "The assertion is not signed.",
            "Switch assertion signing on for Daypass at the provider.",
        )
    if provider.response_signed and root not in signed:
        raise refused(
            "The response is not signed.",
            "Let the provider sign the response as well as the assertion. If it cannot, switch off "
            "“Response must be signed” for this provider.",
        )


def _gate_signature(signature: etree._Element, parent: etree._Element) -> None:
    allowed = {
        DS + name
        for name in (
            "Signature",
            "SignedInfo",
            "CanonicalizationMethod",
            "SignatureMethod",
            "Reference",
            "Transforms",
            "Transform",
            "DigestMethod",
            "DigestValue",
            "SignatureValue",
            "KeyInfo",
            "KeyName",
            "KeyValue",
            "RSAKeyValue",
            "Modulus",
            "Exponent",
            "X509Data",
            "X509Certificate",
            "X509IssuerSerial",
            "X509IssuerName",
            "X509SerialNumber",
            "X509SubjectName",
            "X509SKI",
        )
    }
    for element in signature.iter():
        name = etree.QName(element)
        if (name.namespace or "") + name.localname not in allowed and not (
            name.namespace == EXC_C14N and name.localname == "InclusiveNamespaces"
        ):
            raise refused(f"A signature holds {name.localname}, which has no place in one.")
    references = list(signature.iter(f"{{{DS}}}Reference"))
    own_id = parent.get("ID")
    if not own_id or len(references) != 1 or references[0].get("URI") != f"#{own_id}":
        raise refused("A signature does not cover exactly the element it stands in.")
    transforms = [t.get("Algorithm") for t in signature.iter(f"{{{DS}}}Transform")]
    if transforms != [ENVELOPED, EXC_C14N]:
        raise refused(
            "A signature uses other transforms than enveloped and exclusive canonical form."
        )
    methods = {
        "CanonicalizationMethod": frozenset({EXC_C14N}),
        "SignatureMethod": SIGNATURES,
        "DigestMethod": DIGESTS,
    }
    for method, good in methods.items():
        found = [element.get("Algorithm") for element in signature.iter(f"{{{DS}}}{method}")]
        if len(found) != 1 or found[0] not in good:
            raise refused(
                f"A signature's {method} is not one that is accepted.",
                "Let the provider sign with SHA-256 or stronger and exclusive canonical form.",
            )


@dataclass(frozen=True, slots=True)
class VerifiedResponse:
    """A response whose signatures and profile were checked, and what consuming it once takes."""

    attributes: VerifiedAttributes
    assertion_id: str
    expires_at: datetime


def verify_response(
    unverified_message: str,
    *,
    sp: ServiceProvider,
    provider: Provider,
    expected_request: str | None,
    now: datetime,
) -> VerifiedResponse:
    """Everything about a response, or SignInRefused with the reason in `cause`.

    expected_request None: the response answers nothing, and neither it nor its assertion may say that it does.
    """
    unverified_xml = decode(unverified_message)
    root = parse(unverified_xml)
    _explain_failure(root, provider)
    gate(root, provider)
    if not provider.certificates:
        raise refused(
            "No certificate of this provider is known.", "Add one, or refresh its metadata."
        )
    toolkit = toolkit_settings(sp, provider)
    # The very bytes that were looked at, without a declaration that could change how they are read.
    again = base64.b64encode(etree.tostring(root, encoding="utf-8", xml_declaration=False)).decode()
    try:
        response = OneLogin_Saml2_Response(toolkit, again)
        response.is_valid(
            _request_data(sp, sp.acs, {}), request_id=expected_request, raise_exceptions=True
        )
    except Exception as error:  # lxml, xmlsec and python3-saml raise a zoo; every one is a refusal
        raise refused(f"python3-saml: {str(error)[:300]}") from None
    return check_profile(
        response.document, sp=sp, provider=provider, expected_request=expected_request, now=now
    )


def _explain_failure(root: etree._Element, provider: Provider) -> None:
    """A provider that says no is told apart from a broken message; nothing is believed of it beyond that."""
    code = root.find(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusCode")
    if code is not None and code.get("Value") not in (None, SUCCESS):
        inner = code.find(f"{{{SAMLP}}}StatusCode")
        parts = [str(c.get("Value")).rpartition(":")[2] for c in (code, inner) if c is not None]
        raise refused(
            f"The provider answered that it did not sign the person in: {', '.join(parts)[:120]}.",
            "Look at the provider's own sign-in log; the person may not be assigned to Daypass.",
            code="provider_said_no",
        )


def check_profile(
    root: etree._Element,
    *,
    sp: ServiceProvider,
    provider: Provider,
    expected_request: str | None,
    now: datetime,
) -> VerifiedResponse:
    """SAML profiles section 4.1.4, exact, on the verified tree (threats.md R3)."""
    asked_for = expected_request is not None
    oldest = MAX_AGE + SKEW if asked_for else UNSOLICITED_AGE
    longest = MAX_VALIDITY if asked_for else UNSOLICITED_VALIDITY

    def one(parent: etree._Element, name: str, namespace: str = SAML) -> etree._Element:
        found = parent.findall(f"{{{namespace}}}{name}")
        if len(found) != 1:
            raise refused(f"There are {len(found)} {name} elements where one belongs.")
        return found[0]

    def same(found: str | None, expected: str | None, what: str) -> None:
        if found != expected:
            raise refused(f"{what} is {found!r}; expected {expected!r}.")

    assertion = one(root, "Assertion")
    same(root.get("Destination"), sp.acs, "The response's Destination")
    same(root.get("InResponseTo"), expected_request, "The response's InResponseTo")
    for element, what in ((root, "response"), (assertion, "assertion")):
        same(_text(one(element, "Issuer")), provider.entity_id, f"The {what}'s Issuer")
        same(element.get("Version"), "2.0", f"The {what}'s Version")
        issued = _instant(element.get("IssueInstant"), f"The {what}'s IssueInstant")
        if not now - oldest <= issued <= now + SKEW:
            raise refused(
                f"The {what} was issued at {issued:%Y-%m-%d %H:%M:%S}Z, too long ago or in the future.",
                "Check the clocks of the provider and of Daypass.",
            )
    status = one(one(root, "Status", SAMLP), "StatusCode", SAMLP)
    same(status.get("Value"), SUCCESS, "The status")
    if len(status):
        raise refused("The status has a second status inside.")

    conditions = one(assertion, "Conditions")
    start = conditions.get("NotBefore")
    if start is not None and _instant(start, "Conditions NotBefore") > now + SKEW:
        raise refused("The assertion is not valid yet.", "Check the clocks of both sides.")
    end = conditions.get("NotOnOrAfter")
    if end is not None and _instant(end, "Conditions NotOnOrAfter") <= now - SKEW:
        raise refused("The assertion has expired.", "Check the clocks of both sides.")
    audiences = conditions.findall(f"{{{SAML}}}AudienceRestriction")
    if not audiences:
        raise refused("The assertion names no audience.")
    for restriction in audiences:
        named = [_text(audience) for audience in restriction.findall(f"{{{SAML}}}Audience")]
        if sp.entity_id not in named:
            raise refused(
                f"The assertion is for another audience: {named!r}; we are {sp.entity_id!r}."
            )
    known = {f"{{{SAML}}}{name}" for name in ("AudienceRestriction", "OneTimeUse")}
    if any(child.tag not in known for child in conditions):
        raise refused(
            "The assertion has a condition that Daypass cannot keep, such as a proxy restriction."
        )

    subject = one(assertion, "Subject")
    confirmation = one(subject, "SubjectConfirmation")
    same(confirmation.get("Method"), BEARER, "The confirmation's method")
    data = one(confirmation, "SubjectConfirmationData")
    same(data.get("Recipient"), sp.acs, "The confirmation's Recipient")
    same(data.get("InResponseTo"), expected_request, "The confirmation's InResponseTo")
    if data.get("NotBefore") is not None:
        raise refused("The confirmation has a NotBefore, which the profile forbids.")
    expires = _instant(data.get("NotOnOrAfter"), "The confirmation's NotOnOrAfter")
    if expires <= now - SKEW:
        raise refused("The confirmation has expired.", "Check the clocks of both sides.")
    if expires > now + longest:
        raise refused(
            f"The confirmation is valid for more than {'an hour' if asked_for else 'ten minutes'}."
        )

    statement = one(assertion, "AuthnStatement")
    authenticated = _instant(statement.get("AuthnInstant"), "AuthnInstant")
    if authenticated > now + SKEW:
        raise refused("AuthnInstant is in the future.", "Check the clocks of both sides.")
    ends = statement.get("SessionNotOnOrAfter")
    session_ends = _instant(ends, "SessionNotOnOrAfter") if ends is not None else None
    if session_ends is not None and session_ends <= now:
        raise refused("The provider's own session has ended.")
    contexts = [
        _text(reference)
        for context in statement.findall(f"{{{SAML}}}AuthnContext")
        for reference in context.findall(f"{{{SAML}}}AuthnContextClassRef")
    ]
    if len(contexts) > 1:
        raise refused("The assertion names several authentication contexts.")

    name_id, logout = _name_id(subject, sp, provider)
    session_index = statement.get("SessionIndex", "")
    if session_index:
        logout["session_index"] = session_index[:512]
    assertion_id = assertion.get("ID", "")
    return VerifiedResponse(
        attributes=VerifiedAttributes(
            protocol="saml",
            subject=name_id,
            attributes=_attributes(assertion),
            context=contexts[0] or "" if contexts else "",
            at=min(authenticated, now),
            session_ends=session_ends,
            evidence={
                "message_id": root.get("ID", "")[:128],
                "issued_id": assertion_id[:128],
                "sha256": hashlib.sha256(etree.tostring(assertion, method="c14n")).hexdigest(),
                "request_id": expected_request or "",
            },
            logout=logout,
        ),
        assertion_id=assertion_id,
        expires_at=expires + 2 * SKEW,
    )


def _name_id(
    subject: etree._Element, sp: ServiceProvider, provider: Provider
) -> tuple[str | None, dict[str, str]]:
    """The NameID as text, and what a LogoutRequest has to repeat of it."""
    found = subject.findall(f"{{{SAML}}}NameID")
    if subject.findall(f"{{{SAML}}}EncryptedID") or len(found) > 1:
        raise refused("The subject is encrypted, or named more than once.")
    if not found:
        return None, {}
    name_id = found[0]
    _check_qualifiers(name_id, sp, provider)
    if name_id.get("Format") == "urn:oasis:names:tc:SAML:2.0:nameid-format:transient":
        return None, _without_empty(name_id)
    return _text(name_id), _without_empty(name_id)


def _check_qualifiers(name_id: etree._Element, sp: ServiceProvider, provider: Provider) -> None:
    """A name that is qualified is the provider's name, for us."""
    for attribute, own in (
        ("NameQualifier", provider.entity_id),
        ("SPNameQualifier", sp.entity_id),
    ):
        if name_id.get(attribute, own) != own:
            raise refused(
                f"The NameID's {attribute} names somebody else: {name_id.get(attribute)!r}."
            )


def _without_empty(name_id: etree._Element) -> dict[str, str]:
    parts = {
        "name_id": _text(name_id) or "",
        "format": name_id.get("Format", ""),
        "name_qualifier": name_id.get("NameQualifier", ""),
        "sp_name_qualifier": name_id.get("SPNameQualifier", ""),
    }
    return {key: value for key, value in parts.items() if value}


def _attributes(assertion: etree._Element) -> dict[str, tuple[Any, ...]]:
    """Every value of every attribute, by Name, untouched. What is not plain text stands as None."""
    found: dict[str, tuple[Any, ...]] = {}
    for statement in assertion.findall(f"{{{SAML}}}AttributeStatement"):
        for attribute in statement.findall(f"{{{SAML}}}Attribute"):
            values = tuple(_text(value) for value in attribute.findall(f"{{{SAML}}}AttributeValue"))
            name = attribute.get("Name", "")
            found[name] = (*found.get(name, ()), *values)
    return found


def _text(element: etree._Element) -> str | None:
    """The text of an element without children, None otherwise."""
    return None if len(element) else (element.text or "")


_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(?:Z|\+00:00)")


def _instant(value: str | None, what: str) -> datetime:
    match = _INSTANT.fullmatch(value or "")
    try:
        if match is None:
            raise ValueError
        moment = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError:
        raise refused(f"{what} is missing or not a time in UTC.") from None
    return moment + timedelta(microseconds=int((match[2] or "0")[:6].ljust(6, "0")))


# --- Logout (redirect binding; threats.md R34)


@dataclass(frozen=True, slots=True)
class LogoutAsked:
    """A verified LogoutRequest: whom it names, and how to answer."""

    id: str
    name_id: str
    session_indexes: tuple[str, ...]


def logout_url(sp: ServiceProvider, provider: Provider, kept: Mapping[str, str]) -> str:
    """Where to send the browser with a signed LogoutRequest for the session that `kept` describes."""
    own_id = request_id(sp.slug, purpose="sign-out")

    class Request(OneLogin_Saml2_Logout_Request):
        def _generate_request_id(self) -> str:
            return own_id

    class Auth(OneLogin_Saml2_Auth):
        logout_request_class = Request

    auth = Auth(_request_data(sp, sp.sls, {}), toolkit_settings(sp, provider))
    return str(
        auth.logout(
            return_to="",
            name_id=kept["name_id"],
            session_index=escape(kept.get("session_index", "")) or None,
            name_id_format=kept.get("format"),
            nq=kept.get("name_qualifier"),
            spnq=kept.get("sp_name_qualifier"),
        )
    )


def check_redirect_signature(raw_query: str, message: str, provider: Provider) -> None:
    """SAML bindings section 3.4.4.1: the signature is over the query as it was sent. Raises SignInRefused."""
    pairs = [part.partition("=")[::2] for part in raw_query.split("&") if part]
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names) or not {message, "SigAlg", "Signature"} <= set(names):
        raise refused("The logout message is not signed, or a part of it stands twice.")
    raw = dict(pairs)
    parsed = dict(parse_qsl(raw_query, keep_blank_values=True))
    if parsed["SigAlg"] not in SIGNATURES:
        raise refused("The logout message is signed with an algorithm that is not accepted.")
    signed = "&".join(f"{n}={raw[n]}" for n in (message, "RelayState", "SigAlg") if n in raw)
    try:
        signature = base64.b64decode(parsed["Signature"], validate=True)
    except (binascii.Error, ValueError):
        raise refused("The logout message's signature is not base64.") from None
    if not any(
        _signature_fits(pem, signature, signed, parsed["SigAlg"]) for pem in provider.certificates
    ):
        raise refused(
            "The logout message's signature does not fit any of the provider's certificates."
        )


def _signature_fits(pem: str, signature: bytes, signed: str, algorithm: str) -> bool:
    family, _, name = algorithm.rpartition("#")[2].partition("-")
    digest = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}[name]
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    try:
        if family == "rsa" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed.encode(), padding.PKCS1v15(), digest)
            return True
        if family == "ecdsa" and isinstance(key, ec.EllipticCurvePublicKey):
            half = (key.key_size + 7) // 8
            if (
                len(signature) == 2 * half
            ):  # as XML signatures write it; otherwise DER, as OpenSSL does
                pair = (int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
                signature = encode_dss_signature(*pair)
            key.verify(signature, signed.encode(), ec.ECDSA(digest))
            return True
    except (InvalidSignature, ValueError):
        return False
    return False


def inflate(unverified_message: str) -> bytes:
    """The XML of a redirect-binding message, bounded. Raises SignInRefused."""
    if len(unverified_message) > 32_768:
        raise refused("The logout message is too long.")
    try:
        packed = base64.b64decode(unverified_message, validate=True)
        unpacker = zlib.decompressobj(-15)
        unpacked = unpacker.decompress(packed, MAX_MESSAGE)
    except (binascii.Error, ValueError, zlib.error):
        raise refused("The logout message is not deflated base64.") from None
    if unpacker.unconsumed_tail:
        raise refused("The logout message is too long.")
    return unpacked


def verify_logout_request(
    raw_query: str,
    unverified_message: str,
    *,
    sp: ServiceProvider,
    provider: Provider,
    now: datetime,
) -> LogoutAsked:
    """A LogoutRequest that is signed by this provider, for us, and fresh. Raises SignInRefused."""
    check_redirect_signature(raw_query, "SAMLRequest", provider)
    root = _logout_message(unverified_message, "LogoutRequest", sp=sp, provider=provider, now=now)
    end = root.get("NotOnOrAfter")
    if end is not None and _instant(end, "NotOnOrAfter") <= now - SKEW:
        raise refused("The logout request has expired.")
    names = root.findall(f"{{{SAML}}}NameID")
    name = _text(names[0]) if len(names) == 1 else None
    if not name or not root.get("ID"):
        raise refused("The logout request names nobody.")
    _check_qualifiers(names[0], sp, provider)
    indexes = tuple(_text(index) or "" for index in root.findall(f"{{{SAMLP}}}SessionIndex"))
    return LogoutAsked(id=root.get("ID", ""), name_id=name, session_indexes=indexes)


def verify_logout_response(
    raw_query: str,
    unverified_message: str,
    *,
    sp: ServiceProvider,
    provider: Provider,
    now: datetime,
) -> str:
    """The id of the LogoutRequest of ours that this answers. Raises SignInRefused."""
    check_redirect_signature(raw_query, "SAMLResponse", provider)
    root = _logout_message(unverified_message, "LogoutResponse", sp=sp, provider=provider, now=now)
    answered = root.get("InResponseTo", "")
    if not is_our_request_id(answered, sp.slug, purpose="sign-out"):
        raise refused("The logout response answers no request of ours.")
    return answered


def _logout_message(
    unverified_message: str,
    name: str,
    *,
    sp: ServiceProvider,
    provider: Provider,
    now: datetime,
) -> etree._Element:
    root = parse(inflate(unverified_message))
    if root.tag != f"{{{SAMLP}}}{name}" or root.get("Version") != "2.0":
        raise refused(f"The message is not a SAML {name}.")
    issuer = root.find(f"{{{SAML}}}Issuer")
    if issuer is None or _text(issuer) != provider.entity_id:
        raise refused("The logout message is from another issuer.")
    if root.get("Destination") != sp.sls:
        raise refused("The logout message is for another address.")
    issued = _instant(root.get("IssueInstant"), "IssueInstant")
    if not now - MAX_AGE - SKEW <= issued <= now + SKEW:
        raise refused("The logout message is too old or from the future.")
    return root


def logout_answer_url(
    sp: ServiceProvider, provider: Provider, asked: LogoutAsked, relay: str | None
) -> str:
    """Where to send the browser with our signed LogoutResponse: always the provider's own address."""
    toolkit = toolkit_settings(sp, provider)
    auth = OneLogin_Saml2_Auth(_request_data(sp, sp.sls, {}), toolkit)
    answer = OneLogin_Saml2_Logout_Response(toolkit)
    answer.build(escape(asked.id, {'"': "&quot;"}))
    parameters = {"SAMLResponse": answer.get_response()}
    if relay is not None:
        parameters["RelayState"] = relay
    auth.add_response_signature(parameters)
    return str(auth.redirect_to(auth.get_slo_response_url(), parameters))


# --- Metadata and certificates of the other side


@dataclass(frozen=True, slots=True)
class Described:
    """What metadata says about one identity provider."""

    provider: Provider
    valid_until: datetime | None


def read_metadata(document: str | bytes, *, entity_id: str = "", now: datetime) -> Described:
    """Read an identity provider out of SAML metadata; `entity_id` chooses among several.

    Raises BadInput saying what is missing.
    """
    raw = document.encode() if isinstance(document, str) else document
    if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
        raise BadInput("The metadata holds a DOCTYPE, which is not read.")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(raw.strip(), parser)
    except (etree.XMLSyntaxError, ValueError):
        raise BadInput("This is not SAML metadata: it is not XML.") from None
    candidates = [
        entity
        for entity in root.iter(f"{{{MD}}}EntityDescriptor")
        if entity.find(f"{{{MD}}}IDPSSODescriptor") is not None
        and (not entity_id or entity.get("entityID") == entity_id)
    ]
    if not candidates:
        raise BadInput(
            f"The metadata describes no identity provider {entity_id}."
            if entity_id
            else "The metadata describes no identity provider."
        )
    if len(candidates) > 1:
        raise BadInput(
            "The metadata describes several identity providers: give the entity id of yours."
        )
    entity = candidates[0]
    role = entity.find(f"{{{MD}}}IDPSSODescriptor")
    assert role is not None
    ends = [
        _instant(e.get("validUntil"), "validUntil")
        for e in (root, entity, role)
        if e.get("validUntil")
    ]
    if ends and min(ends) <= now:
        raise BadInput(f"The metadata expired on {min(ends):%Y-%m-%d}.")

    def location(name: str) -> str:
        return next(
            (
                service.get("Location", "")
                for service in role.findall(f"{{{MD}}}{name}")
                if service.get("Binding") == REDIRECT
            ),
            "",
        )

    sso_url = location("SingleSignOnService")
    if not sso_url:
        raise BadInput("The metadata has no sign-on address for the HTTP-Redirect binding.")
    certificates = tuple(
        dict.fromkeys(
            read_certificate(certificate.text or "")[0]
            for key in role.findall(f"{{{MD}}}KeyDescriptor")
            if key.get("use") in (None, "signing")
            for certificate in key.iter(f"{{{DS}}}X509Certificate")
        )
    )
    if not certificates:
        raise BadInput("The metadata has no signing certificate.")
    return Described(
        provider=Provider(
            entity_id=entity.get("entityID", ""),
            sso_url=sso_url,
            slo_url=location("SingleLogoutService"),
            certificates=certificates,
        ),
        valid_until=min(ends) if ends else None,
    )


def read_certificate(text: str) -> tuple[str, datetime]:
    """A certificate in PEM or bare base64 -> PEM and when it expires. Raises BadInput."""
    try:
        raw = base64.b64decode(_bare(text), validate=True)
        certificate = x509.load_der_x509_certificate(raw)
        key = certificate.public_key()
    except (binascii.Error, ValueError):
        raise BadInput(
            "A certificate cannot be read: paste it with its BEGIN and END lines."
        ) from None
    if getattr(key, "key_size", 0) < (2048 if "RSA" in type(key).__name__ else 256):
        raise BadInput(
            "A certificate's key is too short: RSA needs 2048 bits, elliptic curves 256."
        )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return pem, certificate.not_valid_after_utc


def _bare(pem: str) -> str:
    return "".join(re.sub(r"-----[A-Z ]+-----", "", pem).split())
