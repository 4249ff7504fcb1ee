"""SAML 2.0 as a service provider: what we send, and whether what arrives may be believed.

Our own messages are made here, and the signature of a redirect is checked here: it is over a query and not over XML.
XML that others wrote is read in the confined room only (`accounts.room`, `accounts.confined`): `verify_response` is the
one way to a `VerifiedAttributes`, and it answers what came out of there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from xml.parsers import expat
from xml.sax.saxutils import escape

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from django.conf import settings
from lxml import etree
from onelogin.saml2.auth import OneLogin_Saml2_Auth
from onelogin.saml2.authn_request import OneLogin_Saml2_Authn_Request
from onelogin.saml2.errors import OneLogin_Saml2_Error
from onelogin.saml2.logout_request import OneLogin_Saml2_Logout_Request
from onelogin.saml2.logout_response import OneLogin_Saml2_Logout_Response
from onelogin.saml2.settings import OneLogin_Saml2_Settings

from accounts import room
from accounts.confined import wire
from accounts.confined.certificates import bare, read_certificate
from accounts.confined.grammar import GCM, OAEP, OAEP11
from accounts.confined.values import (
    DS,
    MAX_AGE,
    MAX_MESSAGE,
    MAX_METADATA,
    MAX_VALIDITY,
    MD,
    POST,
    REDIRECT,
    REQUEST_LIFETIME,
    SAMLP,
    SIGNATURES,
    SKEW,
    UNSOLICITED_AGE,
    UNSOLICITED_VALIDITY,
    Described,
    LogoutAsked,
    Provider,
    Us,
    VerifiedResponse,
    refused,
)
from broker.errors import BadInput, SignInRefused

__all__ = [
    "MAX_AGE",
    "MAX_MESSAGE",
    "MAX_VALIDITY",
    "REQUEST_LIFETIME",
    "SKEW",
    "UNSOLICITED_AGE",
    "UNSOLICITED_VALIDITY",
    "Described",
    "LogoutAsked",
    "Provider",
    "ServiceProvider",
    "Us",
    "VerifiedResponse",
    "check_redirect_signature",
    "in_response_to",
    "is_our_request_id",
    "logout_answer_url",
    "logout_url",
    "metadata",
    "read_certificate",
    "read_metadata",
    "refused",
    "request_id",
    "sign_in_url",
    "verify_logout_request",
    "verify_logout_response",
    "verify_passing",
    "verify_response",
]


PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"


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

    @property
    def us(self) -> Us:
        """What of this a confined process has to know: names and addresses, no key."""
        return Us(entity_id=self.entity_id, acs=self.acs, sls=self.sls)


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


def toolkit_settings(sp: ServiceProvider, provider: Provider) -> OneLogin_Saml2_Settings:
    """python3-saml's settings for what we send; it reads nothing that arrives."""
    document: dict[str, Any] = {
        "strict": True,
        "debug": False,
        "sp": {
            "entityId": sp.entity_id,
            "assertionConsumerService": {"url": sp.acs, "binding": POST},
            "singleLogoutService": {"url": sp.sls, "binding": REDIRECT},
            # A request leaves the choice to the provider: some refuse a format that they were not configured for.
            "NameIDFormat": UNSPECIFIED,
            "x509cert": sp.certificate,
            "privateKey": sp.private_key,
        },
        "idp": {
            "entityId": provider.entity_id,
            "singleSignOnService": {"url": provider.sso_url, "binding": REDIRECT},
            "x509certMulti": {
                "signing": [bare(pem) for pem in provider.certificates],
                "encryption": [],
            },
        },
        "security": {
            "authnRequestsSigned": True,
            "logoutRequestSigned": True,
            "logoutResponseSigned": True,
            "signatureAlgorithm": "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
            "digestAlgorithm": "http://www.w3.org/2001/04/xmlenc#sha256",
            "rejectDeprecatedAlgorithm": True,
            "wantAssertionsSigned": True,
            "wantMessagesSigned": True,
            "nameIdEncrypted": False,
            "requestedAuthnContext": False,
            "allowSingleLabelDomains": True,
        },
    }
    if provider.slo_url:
        document["idp"]["singleLogoutService"] = {"url": provider.slo_url, "binding": REDIRECT}
    try:
        return OneLogin_Saml2_Settings(document)
    except OneLogin_Saml2_Error as error:
        needed = {
            "entity id": provider.entity_id,
            "sign-on address": provider.sso_url,
            "certificate": provider.certificates,
        }
        *others, last = [name for name, there in needed.items() if not there] or [""]
        lacking = f"{', no '.join(others)} and no {last}" if others else last
        raise refused(
            f"The provider's settings are incomplete: {f'it has no {lacking}' if lacking else error}.",
            "Give its metadata in the provider's settings.",
            code="provider_misconfigured",
        ) from None


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


class _Sender(OneLogin_Saml2_Auth):
    """Sends no RelayState: ours would be empty, and some providers leave an empty one out of what they verify."""

    def add_request_signature(self, request_data: dict[str, Any], *algorithm: str) -> None:
        request_data.pop("RelayState", None)
        super().add_request_signature(request_data, *algorithm)


def sign_in_url(sp: ServiceProvider, provider: Provider, *, fresh: bool) -> tuple[str, str]:
    """Where to send the browser, and the id of the signed request. `fresh`: the person has to authenticate anew."""
    own_id = request_id(sp.slug, purpose="sign-in")

    class Request(OneLogin_Saml2_Authn_Request):
        def _generate_request_id(self) -> str:
            return own_id

    class Auth(_Sender):
        authn_request_class = Request

    auth = Auth(_request_data(sp, sp.acs, {}), toolkit_settings(sp, provider))
    return str(auth.login(return_to="", force_authn=fresh)), own_id


# --- What arrives: read in the room, and believed only as it comes out of there


def in_response_to(unverified_message: str) -> str:
    """The request a posted message claims to answer, "" when it claims none. Read without trust, and cheaply.

    Only the first start tag is looked at and no tree is built: this decides whether a message is worth a place in the
    room, and nothing else. Raises SignInRefused for junk.
    """
    if not unverified_message or len(unverified_message) > MAX_MESSAGE:
        raise refused("The message is empty or too long.")
    # The root's start tag stands at the beginning; a provider that needs more than this for it is not one.
    beginning = "".join(unverified_message[:24_000].split())[:16_384]
    found: list[tuple[str, dict[str, str]]] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        found.append((name, attributes))
        raise _Enough

    parser = expat.ParserCreate("utf-8", " ")
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = _nothing_else
    parser.CommentHandler = _nothing_else
    parser.ProcessingInstructionHandler = _nothing_else
    try:
        for part in (beginning[:_FIRST], beginning[_FIRST:]):
            parser.Parse(base64.b64decode(part[: len(part) // 4 * 4], validate=True), False)
    except _Enough:
        pass
    except binascii.Error:
        raise refused("The message is not base64.") from None
    except (expat.ExpatError, ValueError):
        raise refused("The message is not XML.") from None
    if not found or found[0][0] != f"{SAMLP} Response":
        raise refused("The message is not a SAML response.")
    return found[0][1].get("InResponseTo", "")


_FIRST = 4096
"""Letters of base64 that hold the start tag of nearly every answer; a multiple of four."""


class _Enough(Exception):
    """The first start tag has been read."""


def _nothing_else(*_: object) -> None:
    raise refused("The message holds a DOCTYPE, a comment or a processing instruction.")


def verify_response(
    unverified_message: str,
    *,
    sp: ServiceProvider,
    provider: Provider,
    expected_request: str | None,
    now: datetime,
    unwrap: room.Unwrap | None = None,
) -> VerifiedResponse:
    """Everything about a response, or SignInRefused with the reason in `cause`.

    expected_request None: the response answers nothing, and neither it nor its assertion may say that it does.
    unwrap: opens the content key of an encrypted assertion; without it none can be read.
    """
    if len(unverified_message) > MAX_MESSAGE:
        raise refused("The message is empty or too long.")
    said = {
        "message": unverified_message,
        "us": wire.write_us(sp.us),
        "provider": wire.write_provider(provider),
        "expected_request": expected_request,
        "now": now.isoformat(),
    }
    answer = room.room().ask("response", said, provider=sp.slug, unwrap=unwrap)
    try:
        return wire.read_response(answer)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _nonsense() from None


def verify_passing(
    unverified_message: str, *, us: Us, provider: Provider, slug: str, now: datetime
) -> VerifiedResponse:
    """A response that is made out to AWS and only passes through: `us.entity_id` and `us.recipients` are AWS's.

    Read in the same room, by the same rules as one for us, but that nothing was asked for by a request. The moment
    after which AWS would not take it stands in the evidence as "until". Raises SignInRefused.
    """
    if not us.recipients:
        raise ValueError("a message that passes through is made out to somebody else")
    if len(unverified_message) > MAX_MESSAGE:
        raise refused("The message is empty or too long.")
    said = {
        "message": unverified_message,
        "us": wire.write_us(us),
        "provider": wire.write_provider(provider),
        "expected_request": None,
        "now": now.isoformat(),
    }
    answer = room.room().ask("response", said, provider=slug)
    try:
        return wire.read_response(answer)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _nonsense() from None


def _nonsense() -> SignInRefused:
    return refused("The process that reads XML answered something that is no answer.")


# --- Logout (redirect binding; threats.md R34)


def logout_url(sp: ServiceProvider, provider: Provider, kept: Mapping[str, str]) -> str:
    """Where to send the browser with a signed LogoutRequest for the session that `kept` describes."""
    own_id = request_id(sp.slug, purpose="sign-out")

    class Request(OneLogin_Saml2_Logout_Request):
        def _generate_request_id(self) -> str:
            return own_id

    class Auth(_Sender):
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
    """SAML bindings section 3.4.4.1: the signature is over the query as it was sent. Raises SignInRefused.

    Nothing else may stand in the query: a name that is written in another way is read as the same parameter later, and
    would put an unsigned message in the place of the signed one.
    """
    pairs = [part.partition("=")[::2] for part in raw_query.split("&") if part]
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names) or not {message, "SigAlg", "Signature"} <= set(names):
        raise refused("The logout message is not signed, or a part of it stands twice.")
    if not set(names) <= {message, "RelayState", "SigAlg", "Signature"}:
        raise refused("The logout message's address has parts that are not of the message.")
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


def verify_logout_request(
    raw_query: str | None,
    unverified_message: str,
    *,
    sp: ServiceProvider,
    provider: Provider,
    now: datetime,
) -> LogoutAsked:
    """A LogoutRequest that is signed by this provider, for us, and fresh. Raises SignInRefused.

    raw_query: the query as it was sent, over which the signature is. None: the message was posted, signed inside.
    """
    answer = _read_logout(
        "logout-request", raw_query, unverified_message, sp=sp, provider=provider, now=now
    )
    try:
        return wire.read_asked(answer)
    except (ValueError, KeyError, TypeError):
        raise _nonsense() from None


def verify_logout_response(
    raw_query: str | None,
    unverified_message: str,
    *,
    sp: ServiceProvider,
    provider: Provider,
    now: datetime,
) -> str:
    """The id of the LogoutRequest of ours that this answers. `raw_query` as above. Raises SignInRefused."""
    answered = _read_logout(
        "logout-response", raw_query, unverified_message, sp=sp, provider=provider, now=now
    )
    if not is_our_request_id(str(answered), sp.slug, purpose="sign-out"):
        raise refused("The logout response answers no request of ours.")
    return str(answered)


def _read_logout(
    job: str,
    raw_query: str | None,
    unverified_message: str,
    *,
    sp: ServiceProvider,
    provider: Provider,
    now: datetime,
) -> Any:
    """The signature of a redirect first: nothing that is not signed is worth a place in the room."""
    if raw_query is not None:
        message = "SAMLRequest" if job == "logout-request" else "SAMLResponse"
        check_redirect_signature(raw_query, message, provider)
    if len(unverified_message) > MAX_MESSAGE:
        raise refused("The logout message is too long.")
    said = {
        "message": unverified_message,
        "posted": raw_query is None,
        "us": wire.write_us(sp.us),
        "provider": wire.write_provider(provider),
        "now": now.isoformat(),
    }
    return room.room().ask(job, said, provider=sp.slug)


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


# --- Metadata: theirs, and ours


def read_metadata(
    document: str | bytes, *, entity_id: str = "", now: datetime, signers: tuple[str, ...] = ()
) -> Described:
    """Read an identity provider out of SAML metadata; `entity_id` chooses among several.

    signers: certificates in PEM, one of which has to have signed the whole document; nothing is read but what the
    signature covers then. Raises BadInput saying what is missing.
    """
    raw = document.encode() if isinstance(document, str) else document
    if len(raw) > MAX_METADATA:
        raise BadInput("The metadata is longer than two million bytes.")
    said = {
        "document": wire.write_bytes(raw),
        "entity_id": entity_id,
        "now": now.isoformat(),
        "signers": list(signers),
    }
    try:
        answer = room.room().ask("metadata", said, provider="", seconds=room.METADATA_SECONDS)
        return wire.read_described(answer)
    except SignInRefused as refusal:
        raise BadInput(f"The metadata could not be read. {refusal.cause}") from None
    except (ValueError, KeyError, TypeError):
        raise BadInput("The metadata could not be read.") from None


def metadata(sp: ServiceProvider) -> bytes:
    """Our metadata for the identity provider's administrator; needs nothing of theirs.

    Every certificate that signs now or next is in it, and one to encrypt for only when the provider may encrypt.
    Providers that take the format of ids from here send one that stays, instead of a new one each time. There is no
    validUntil: it is also read once from a file, and must not expire on the other side.
    """
    root = etree.Element(
        f"{{{MD}}}EntityDescriptor", {"entityID": sp.entity_id}, nsmap={"md": MD, "ds": DS}
    )
    role = etree.SubElement(
        root,
        f"{{{MD}}}SPSSODescriptor",
        {
            "protocolSupportEnumeration": SAMLP,
            "AuthnRequestsSigned": "true",
            "WantAssertionsSigned": "true",
        },
    )
    for pem in filter(None, (sp.certificate, sp.next_certificate)):
        _add_key(role, pem, "signing")
    for pem in sp.encryption_certificates:
        key = _add_key(role, pem, "encryption")
        for algorithm in (*reversed(GCM), OAEP11, OAEP):
            etree.SubElement(key, f"{{{MD}}}EncryptionMethod", {"Algorithm": algorithm})
    etree.SubElement(
        role, f"{{{MD}}}SingleLogoutService", {"Binding": REDIRECT, "Location": sp.sls}
    )
    etree.SubElement(role, f"{{{MD}}}NameIDFormat").text = PERSISTENT
    etree.SubElement(
        role,
        f"{{{MD}}}AssertionConsumerService",
        {"Binding": POST, "Location": sp.acs, "index": "1", "isDefault": "true"},
    )
    made: bytes = etree.tostring(root, encoding="utf-8", xml_declaration=True, pretty_print=True)
    return made


def _add_key(role: etree._Element, pem: str, use: str) -> etree._Element:
    key = etree.SubElement(role, f"{{{MD}}}KeyDescriptor", {"use": use})
    info = etree.SubElement(key, f"{{{DS}}}KeyInfo")
    data = etree.SubElement(info, f"{{{DS}}}X509Data")
    etree.SubElement(data, f"{{{DS}}}X509Certificate").text = bare(pem)
    return key
