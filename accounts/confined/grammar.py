"""The closed world: every element, attribute and order that a message may have. What is not written here is refused.

The tables follow the SAML 2.0, XML Signature and XML Encryption schemas, narrowed to what the Web Browser SSO and
Single Logout profiles need and widened by nothing but what real providers send (a comment says which). They come before
any call of xmlsec, so that nothing in a message can name a file, an address, an algorithm or a key (threats.md R1, R2,
R31).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lxml import etree

from accounts.confined.values import (
    DIGESTS,
    DS,
    ENVELOPED,
    EXC_C14N,
    SAML,
    SAMLP,
    SIGNATURES,
    XENC,
    XENC11,
    refused,
)

XSI = "http://www.w3.org/2001/XMLSchema-instance"


@dataclass(frozen=True, slots=True)
class Rule:
    """One element: its name, attributes (needed, possible), children in order, and what its text may be.

    text None: nothing but white space. With children and text, it is one or the other.
    """

    name: str
    content: tuple[Part, ...] = ()
    needs: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    may: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    text: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One place among the children: any of `rules` (by name), at least and at most so many times."""

    rules: Mapping[str, Rule]
    least: int
    most: int


def _rule(
    name: str,
    *content: Part,
    needs: Mapping[str, re.Pattern[str]] | None = None,
    may: Mapping[str, re.Pattern[str]] | None = None,
    text: re.Pattern[str] | None = None,
) -> Rule:
    return Rule(name, content, needs or {}, may or {}, text)


def _one(*rules: Rule) -> Part:
    return _some(*rules, least=1, most=1)


def _maybe(*rules: Rule) -> Part:
    return _some(*rules, least=0, most=1)


def _some(*rules: Rule, most: int, least: int = 1) -> Part:
    return Part({one.name: one for one in rules}, least, most)


def _any_of(*values: str) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(value) for value in values))


_TEXT = re.compile(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*")
_WORD = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]{1,1024}")
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f]{0,2048}")
_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}")
_OWN = re.compile(r"#[A-Za-z_][A-Za-z0-9_.-]{0,255}")
_TIME = re.compile(r"[0-9TZ:.+-]{1,64}")
_BASE64 = re.compile(r"[A-Za-z0-9+/= \t\r\n]{4,}")
_NUMBER = re.compile(r"\s*[0-9]{1,80}\s*")
_QNAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}(:[A-Za-z_][A-Za-z0-9_.-]{0,63})?")
_PREFIXES = re.compile(r"\s*((#default|[A-Za-z_][A-Za-z0-9_.-]{0,31})(\s+|\Z)){0,16}")
_BOOLEAN = _any_of("true", "false", "0", "1")
_VERSION = _any_of("2.0")


# --- XML Signature

_PREFIX_LIST = _rule(f"{{{EXC_C14N}}}InclusiveNamespaces", needs={"PrefixList": _PREFIXES})


def _ds(name: str, *content: Part, **more: object) -> Rule:
    return _rule(f"{{{DS}}}{name}", *content, **more)  # type: ignore[arg-type]


def _algorithm(name: str, *values: str, inside: tuple[Part, ...] = ()) -> Rule:
    return _ds(name, *inside, needs={"Algorithm": _any_of(*values)})


# Whatever a signature says about its key is carried and never followed: keys are pinned. KeyName and KeyValue come
# from Keycloak, X509IssuerSerial from AD FS and Ping, X509SubjectName and X509SKI from Java toolkits.
_KEY_INFO_PARTS = _some(
    _ds(
        "X509Data",
        _some(
            _ds("X509Certificate", text=_BASE64),
            _ds(
                "X509IssuerSerial",
                _one(_ds("X509IssuerName", text=_LINE)),
                _one(_ds("X509SerialNumber", text=_NUMBER)),
            ),
            _ds("X509SubjectName", text=_LINE),
            _ds("X509SKI", text=_BASE64),
            most=8,
        ),
    ),
    _ds("KeyName", text=_LINE),
    _ds(
        "KeyValue",
        _one(
            _ds(
                "RSAKeyValue",
                _one(_ds("Modulus", text=_BASE64)),
                _one(_ds("Exponent", text=_BASE64)),
            )
        ),
    ),
    least=0,
    most=4,
)
_KEY_INFO = _ds("KeyInfo", _KEY_INFO_PARTS)

SIGNATURE = _ds(
    "Signature",
    _one(
        _ds(
            "SignedInfo",
            _one(_algorithm("CanonicalizationMethod", EXC_C14N, inside=(_maybe(_PREFIX_LIST),))),
            _one(_algorithm("SignatureMethod", *sorted(SIGNATURES))),
            _one(
                _ds(
                    "Reference",
                    _one(
                        _ds(
                            "Transforms",
                            _one(_algorithm("Transform", ENVELOPED)),
                            # Okta and Shibboleth name the prefixes of xsi:type here
                            _one(_algorithm("Transform", EXC_C14N, inside=(_maybe(_PREFIX_LIST),))),
                        )
                    ),
                    _one(_algorithm("DigestMethod", *sorted(DIGESTS))),
                    _one(_ds("DigestValue", text=_BASE64)),
                    needs={"URI": _OWN},
                )
            ),
        )
    ),
    _one(_ds("SignatureValue", text=_BASE64)),
    _maybe(_KEY_INFO),
    may={"Id": _ID},
)


# --- XML Encryption: AES-GCM with RSA-OAEP and nothing else (threats.md R32)

GCM = {f"{XENC11}aes{bits}-gcm": bits // 8 for bits in (128, 192, 256)}
OAEP_DIGESTS = {
    DS + "sha1": "sha1",
    XENC + "sha256": "sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384": "sha384",
    XENC + "sha512": "sha512",
}
MASKS = {f"{XENC11}mgf1{name}": name for name in ("sha1", "sha256", "sha384", "sha512")}
OAEP = XENC + "rsa-oaep-mgf1p"
OAEP11 = XENC11 + "rsa-oaep"


def _xenc(name: str, *content: Part, **more: object) -> Rule:
    return _rule(f"{{{XENC}}}{name}", *content, **more)  # type: ignore[arg-type]


_CIPHER = _one(_xenc("CipherData", _one(_xenc("CipherValue", text=_BASE64))))

ENCRYPTED_KEY = _xenc(
    "EncryptedKey",
    _one(
        _xenc(
            "EncryptionMethod",
            _some(
                _algorithm("DigestMethod", *OAEP_DIGESTS),
                _rule(f"{{{XENC11}}}MGF", needs={"Algorithm": _any_of(*MASKS)}),
                least=0,
                most=2,
            ),
            needs={"Algorithm": _any_of(OAEP, OAEP11)},
        )
    ),
    _maybe(_KEY_INFO),
    _CIPHER,
    # OpenSAML says which data its key is for: the one beside it, or nothing is read
    _maybe(_xenc("ReferenceList", _one(_xenc("DataReference", needs={"URI": _OWN})))),
    _maybe(_xenc("CarriedKeyName", text=_LINE)),
    may={"Id": _ID, "Recipient": _LINE, "Type": _any_of(XENC + "EncryptedKey")},
)

ENCRYPTED_DATA = _xenc(
    "EncryptedData",
    _one(_xenc("EncryptionMethod", needs={"Algorithm": _any_of(*GCM)})),
    _maybe(
        _ds(
            "KeyInfo",
            _some(ENCRYPTED_KEY, *_KEY_INFO_PARTS.rules.values(), least=0, most=3),
        )
    ),
    _CIPHER,
    may={"Id": _ID, "Type": _any_of(XENC + "Element"), "MimeType": _any_of("text/xml")},
)


# --- SAML


def _saml(name: str, *content: Part, **more: object) -> Rule:
    return _rule(f"{{{SAML}}}{name}", *content, **more)  # type: ignore[arg-type]


def _samlp(name: str, *content: Part, **more: object) -> Rule:
    return _rule(f"{{{SAMLP}}}{name}", *content, **more)  # type: ignore[arg-type]


_ENTITY = _any_of("urn:oasis:names:tc:SAML:2.0:nameid-format:entity")
_ISSUER = _saml("Issuer", may={"Format": _ENTITY}, text=_LINE)
_NAME_ID = _saml(
    "NameID",
    may={"Format": _LINE, "NameQualifier": _LINE, "SPNameQualifier": _LINE},
    text=_TEXT,
)
_STATUS = _samlp(
    "Status",
    _one(
        _samlp(
            "StatusCode",
            _maybe(_samlp("StatusCode", needs={"Value": _WORD})),
            needs={"Value": _WORD},
        )
    ),
    _maybe(_samlp("StatusMessage", text=_TEXT)),
)
_HEAD = {"ID": _ID, "Version": _VERSION, "IssueInstant": _TIME}
_ADDRESSED = {"Destination": _WORD, "Consent": _WORD}

_AUDIENCE = _saml("Audience", text=_LINE)
_CONDITIONS = _saml(
    "Conditions",
    _some(
        _saml("AudienceRestriction", _some(_AUDIENCE, most=16)),
        _saml("OneTimeUse"),
        _saml("ProxyRestriction", _some(_AUDIENCE, least=0, most=16), may={"Count": _NUMBER}),
        least=0,
        most=8,
    ),
    may={"NotBefore": _TIME, "NotOnOrAfter": _TIME},
)
_SUBJECT = _saml(
    "Subject",
    _maybe(_NAME_ID),
    _one(
        _saml(
            "SubjectConfirmation",
            # Address (Shibboleth) is the browser's as the provider saw it: behind proxies it says nothing, and the
            # profile leaves looking at it to us.
            _maybe(
                _saml(
                    "SubjectConfirmationData",
                    may={
                        "NotBefore": _TIME,
                        "NotOnOrAfter": _TIME,
                        "Recipient": _WORD,
                        "InResponseTo": _ID,
                        "Address": _WORD,
                    },
                )
            ),
            needs={"Method": _WORD},
        )
    ),
)
_AUTHN = _saml(
    "AuthnStatement",
    _maybe(_saml("SubjectLocality", may={"Address": _LINE, "DNSName": _LINE})),
    _one(
        _saml(
            "AuthnContext",
            _maybe(_saml("AuthnContextClassRef", text=_LINE)),
            # A reference is a name here and is not read; a declaration itself (AuthnContextDecl) could hold anything,
            # and none of the providers that are named in docs/sign-in.md sends one.
            _maybe(_saml("AuthnContextDeclRef", text=_LINE)),
            _some(_saml("AuthenticatingAuthority", text=_LINE), least=0, most=8),
        )
    ),
    needs={"AuthnInstant": _TIME},
    may={"SessionIndex": _LINE, "SessionNotOnOrAfter": _TIME},
)
_ATTRIBUTE = _saml(
    "Attribute",
    _some(
        _saml(
            "AttributeValue",
            _maybe(_NAME_ID),  # eduPersonTargetedID of Shibboleth and SimpleSAMLphp
            may={f"{{{XSI}}}type": _QNAME, f"{{{XSI}}}nil": _BOOLEAN},
            text=_TEXT,
        ),
        least=0,
        most=4_000,
    ),
    needs={"Name": _LINE},
    may={
        "NameFormat": _WORD,
        "FriendlyName": _LINE,
        # AD FS tells where a claim came from first; LDAP profiles tell how a value was written. Neither is read.
        "{http://schemas.xmlsoap.org/ws/2009/09/identity/claims}OriginalIssuer": _LINE,
        "{urn:oasis:names:tc:SAML:2.0:profiles:attribute:X500}Encoding": _LINE,
    },
)
_STATEMENTS = _some(
    _AUTHN, _saml("AttributeStatement", _some(_ATTRIBUTE, least=0, most=500)), most=8
)

ASSERTION = _saml(
    "Assertion",
    _one(_ISSUER),
    _maybe(SIGNATURE),
    _one(_SUBJECT),
    _one(_CONDITIONS),
    _STATEMENTS,
    needs=_HEAD,
)
ENCRYPTED_ASSERTION = _saml(
    "EncryptedAssertion", _one(ENCRYPTED_DATA), _some(ENCRYPTED_KEY, least=0, most=1)
)
RESPONSE = _samlp(
    "Response",
    _maybe(_ISSUER),
    _maybe(SIGNATURE),
    _one(_STATUS),
    _one(ASSERTION, ENCRYPTED_ASSERTION),
    needs=_HEAD,
    may=_ADDRESSED | {"InResponseTo": _ID},
)
LOGOUT_REQUEST = _samlp(
    "LogoutRequest",
    _one(_ISSUER),
    _maybe(SIGNATURE),
    _one(_NAME_ID),
    _some(_samlp("SessionIndex", text=_LINE), least=0, most=64),
    needs=_HEAD,
    may=_ADDRESSED | {"NotOnOrAfter": _TIME, "Reason": _LINE},
)
LOGOUT_RESPONSE = _samlp(
    "LogoutResponse",
    _one(_ISSUER),
    _maybe(SIGNATURE),
    _one(_STATUS),
    needs=_HEAD,
    may=_ADDRESSED | {"InResponseTo": _ID},
)


def check(element: etree._Element, rule: Rule) -> None:
    """The element and everything in it are what the rule says, in its order. Raises SignInRefused."""
    if element.tag != rule.name:
        raise refused(f"{local(element)} stands where {_local(rule.name)} belongs.")
    _check_attributes(element, rule)
    children = list(element)
    _check_text(element, children, rule)
    if not children and not rule.content:
        return
    position, end = 0, len(children)
    for part in rule.content:
        found = 0
        while position < end and found < part.most:
            fitting = part.rules.get(str(children[position].tag))
            if fitting is None:
                break
            check(children[position], fitting)
            position += 1
            found += 1
        if found < part.least:
            wanted = " or ".join(_local(name) for name in part.rules)
            raise refused(f"{local(element)} has no {wanted} where one belongs.")
    if position < end:
        raise refused(f"{local(children[position])} in {local(element)} stands where none belongs.")


def _check_attributes(element: etree._Element, rule: Rule) -> None:
    for name, value in element.attrib.items():
        pattern = rule.needs.get(str(name)) or rule.may.get(str(name))
        if pattern is None:
            raise refused(
                f"{local(element)} has the attribute {_local(str(name))}, which has no place."
            )
        if not pattern.fullmatch(str(value)):
            raise refused(
                f"{_local(str(name))} of {local(element)} is not one that is accepted: {str(value)[:120]!r}."
            )
    for name in rule.needs:
        if name not in element.attrib:
            raise refused(f"{local(element)} has no {name}.")


def _check_text(element: etree._Element, children: list[etree._Element], rule: Rule) -> None:
    if rule.text is not None and not children:
        if not rule.text.fullmatch(element.text or ""):
            raise refused(f"The text of {local(element)} is not one that is accepted.")
        return
    for text in (element.text, *(child.tail for child in children)):
        if text and text.strip(" \t\r\n"):
            raise refused(f"{local(element)} holds text between its elements.")


def local(element: etree._Element) -> str:
    """The name of an element without its namespace, for reasons."""
    return _local(str(element.tag))


def _local(name: str) -> str:
    return name.rpartition("}")[2][:60]
