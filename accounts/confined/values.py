"""What goes into the confined process and what comes out: values, names of namespaces, and the one way to refuse."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from accounts.rules import VerifiedAttributes
from broker.errors import SignInRefused

SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
MD = "urn:oasis:names:tc:SAML:2.0:metadata"
DS = "http://www.w3.org/2000/09/xmldsig#"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
XENC = "http://www.w3.org/2001/04/xmlenc#"
XENC11 = "http://www.w3.org/2009/xmlenc11#"
EXC_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = DS + "enveloped-signature"
REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"

SIGNATURES = frozenset(
    MORE + name
    for name in (
        "rsa-sha256",
        "rsa-sha384",
        "rsa-sha512",
        "ecdsa-sha256",
        "ecdsa-sha384",
        "ecdsa-sha512",
    )
)
DIGESTS = {XENC + "sha256": "sha256", MORE + "sha384": "sha384", XENC + "sha512": "sha512"}

MAX_MESSAGE = 256 * 1024
"""Characters of a message as it is posted: base64 and all."""

MAX_METADATA = 2 * 1024 * 1024
"""Bytes of metadata as it arrives."""

SKEW = timedelta(seconds=60)
MAX_AGE = timedelta(minutes=5)
MAX_VALIDITY = timedelta(hours=1)
UNSOLICITED_AGE = timedelta(minutes=2)
UNSOLICITED_VALIDITY = timedelta(minutes=10)
REQUEST_LIFETIME = timedelta(minutes=10)


def refused(cause: str, remedy: str = "", *, code: str = "saml_refused") -> SignInRefused:
    """A refusal with its reason for administrators, which may quote the message but never holds much of it."""
    return SignInRefused(code=code, cause=cause[:600], remedy=remedy)


@dataclass(frozen=True, slots=True)
class Us:
    """Daypass as one provider addresses it: what a message has to name, exactly.

    recipients: where a message is for somebody else and only passes through us, the addresses of theirs that it has to
    be made out to; entity_id is then theirs as well, and acs the door of ours that it was posted to.
    """

    entity_id: str
    acs: str
    sls: str
    recipients: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class VerifiedResponse:
    """A response whose signatures and profile were checked, and what consuming it once takes."""

    attributes: VerifiedAttributes
    assertion_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class LogoutAsked:
    """A verified LogoutRequest: whom it names, and how to answer."""

    id: str
    name_id: str
    session_indexes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Described:
    """What metadata says about one identity provider."""

    provider: Provider
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A content key as the provider encrypted it for us with RSA-OAEP; `length` is what it has to unwrap to, in bytes.

    digest, mgf: the hashes of OAEP and of its mask function: "sha1", "sha256", "sha384" or "sha512". A label is
    never used.
    """

    ciphertext: bytes
    digest: str
    mgf: str
    length: int
    label: None = None
