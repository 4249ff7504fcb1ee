"""Answers that the provider truly signed, with one condition missing, foreign, too large, twice or written wrongly.

Every one of them carries good signatures, which is seen to before it is sent: what refuses it is the profile.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from lxml import etree

from tests.accounts.idp_saml import SAML, SAMLP, stamp
from tests.attacks import dsig
from tests.attacks.dsig import Recipe
from tests.attacks.registry import attack
from tests.attacks.saml_wrapping import new, part
from tests.attacks.stages import SamlStage

Bend = Callable[[etree._Element], Any]

ACS = "https://daypass.test/saml/acme/acs/"
OURS = "https://daypass.test/saml/acme/metadata/"
THEIRS = "https://idp.example/metadata"
XSI = "http://www.w3.org/2001/XMLSchema-instance"


def truly_signed(stage: SamlStage, bend: Bend) -> Any:
    """Bend an answer, sign it with the provider's own key, and send it."""
    browser, root = stage.ask()
    changed = bend(root)
    root = changed if isinstance(changed, etree._Element) and changed.getparent() is None else root
    # After the Issuer, where there is one; wherever it stands, it is good.
    inner = root.find(f"{{{SAML}}}Assertion")
    for element in [one for one in (inner, root) if one is not None]:
        first = 1 if len(element) and element[0].tag == f"{{{SAML}}}Issuer" else 0
        dsig.sign(element, stage.idp.key, Recipe(position=first))
        assert dsig.fits(element, stage.idp.certificate)
    return stage.send(browser, root)


def at(name: str, attribute: str, value: str | Callable[[str], str] | None) -> Bend:
    """Set an attribute of the response or of the first element of that name; None takes it away."""

    def bend(root: etree._Element) -> None:
        element = root if name == "Response" else part(root, name)
        if value is None:
            element.attrib.pop(attribute)
        else:
            element.set(attribute, value(element.get(attribute, "")) if callable(value) else value)

    return bend


def when(name: str, attribute: str, **span: float) -> Bend:
    """Set a time to so far from now."""
    return lambda root: at(name, attribute, stamp(datetime.now(UTC) + timedelta(**span)))(root)


def text(name: str, value: str | None, *, place: str = "Assertion") -> Bend:
    def bend(root: etree._Element) -> None:
        around = root if place == "Response" else root.find(f"{{{SAML}}}{place}")
        next(around.iter(f"{{{SAML}}}{name}")).text = value

    return bend


def without(name: str, namespace: str = SAML, *, place: str = "Assertion") -> Bend:
    def bend(root: etree._Element) -> None:
        around = root if place == "Response" else root.find(f"{{{SAML}}}{place}")
        found = next(around.iter(f"{{{namespace}}}{name}"))
        found.getparent().remove(found)

    return bend


def twice(name: str, namespace: str = SAML, change: Bend | None = None) -> Bend:
    def bend(root: etree._Element) -> None:
        found = part(root, name, namespace)
        again = deepcopy(found)
        if change is not None:
            change(again)
        found.addnext(again)

    return bend


def more(name: str, child: str, value: str | None = None, namespace: str = SAML, **attributes: str):
    def bend(root: etree._Element) -> None:
        made = etree.SubElement(part(root, name), f"{{{namespace}}}{child}")
        made.text = value
        made.attrib.update(attributes)

    return bend


def both(*bends: Bend) -> Bend:
    def bend(root: etree._Element) -> None:
        for one in bends:
            one(root)

    return bend


ADDRESSES: dict[str, str | Callable[[str], str] | None] = {
    "missing": None,
    "empty": "",
    "foreign": "https://evil.example/acs/",
    "the neighbour's": "https://daypass.test/saml/other/acs/",
    "with a tail": lambda own: own + "evil",
    "with a query": lambda own: own + "?x=1",
    "with a fragment": lambda own: own + "#x",
    "as a query of another": lambda own: "https://evil.example/?" + own,
    "as a prefix": lambda own: own[:-1],
    "in upper case": lambda own: own.replace("daypass", "DAYPASS"),
    "without TLS": lambda own: own.replace("https", "http"),
    "with a port": lambda own: own.replace("daypass.test", "daypass.test:443"),
    "with a user": lambda own: own.replace("daypass.test", "x@daypass.test"),
    "with a dot": lambda own: own.replace("daypass.test", "daypass.test."),
    "with dots": lambda own: own.replace("/acs/", "/x/../acs/"),
    "escaped": lambda own: own.replace("/acs/", "/%61cs/"),
    "with white space": lambda own: f" {own} ",
    "two": lambda own: f"{own} {own}",
}


@attack("conditions: addresses", "R3", cases=ADDRESSES)
def a_destination(stage: SamlStage, value: Any) -> Any:
    return truly_signed(stage, at("Response", "Destination", value))


@attack("conditions: addresses", "R3", cases=ADDRESSES)
def a_recipient(stage: SamlStage, value: Any) -> Any:
    return truly_signed(stage, at("SubjectConfirmationData", "Recipient", value))


NAMES: dict[str, str | None] = {
    "empty": None,
    "blank": "  ",
    "foreign": "https://evil.example/metadata",
    "with a tail": OURS + "evil",
    "as a prefix": OURS[:-1],
    "in upper case": OURS.upper(),
    "with white space": f" {OURS} ",
    "with a line break": f"\n{OURS}\n",
    "the neighbour's": "https://daypass.test/saml/other/metadata/",
    "our origin alone": "https://daypass.test",
    "our address for answers": ACS,
    "a list": f"{OURS} https://wiki.example",
}


@attack("conditions: audience", "R3", cases=NAMES)
def an_audience(stage: SamlStage, value: str | None) -> Any:
    return truly_signed(stage, text("Audience", value))


def _second_restriction(root: etree._Element) -> None:
    made = etree.SubElement(part(root, "Conditions"), f"{{{SAML}}}AudienceRestriction")
    etree.SubElement(made, f"{{{SAML}}}Audience").text = "https://wiki.example"


def _audience_with_element(root: etree._Element) -> None:
    audience = part(root, "Audience")
    audience.text = OURS[:10]
    etree.SubElement(audience, "{urn:example}x").tail = OURS[10:]


def _audience_elsewhere(root: etree._Element) -> None:
    conditions = part(root, "Conditions")
    conditions.remove(conditions[0])
    etree.SubElement(conditions, f"{{{SAML}}}Audience").text = OURS


@attack(
    "conditions: audience",
    "R3",
    cases={
        "no conditions": without("Conditions"),
        "no restriction": without("AudienceRestriction"),
        "a restriction without an audience": without("Audience"),
        "a second restriction for another service": _second_restriction,
        "an audience in two pieces": _audience_with_element,
        "an audience outside a restriction": _audience_elsewhere,
        "two Conditions": twice("Conditions"),
        "two Conditions of which one is foreign": twice(
            "Conditions", change=lambda c: setattr(c[0][0], "text", "https://evil.example")
        ),
        "a proxy restriction that allows none": more("Conditions", "ProxyRestriction", Count="0"),
        "a proxy restriction that allows one": more("Conditions", "ProxyRestriction", Count="1"),
        "a proxy restriction without a number": more("Conditions", "ProxyRestriction"),
        "a condition of an unknown kind": more("Conditions", "Condition"),
        "a condition of another namespace": more("Conditions", "Hours", namespace="urn:example"),
        "an AudienceRestrictionCondition of SAML 1": more(
            "Conditions", "AudienceRestrictionCondition", OURS
        ),
        "a DoNotCacheCondition of SAML 1": more("Conditions", "DoNotCacheCondition"),
    },
)
def conditions(stage: SamlStage, bend: Bend) -> Any:
    return truly_signed(stage, bend)


ISSUERS: dict[str, str | None] = {
    "empty": None,
    "blank": " ",
    "foreign": "https://evil.example/metadata",
    "the neighbour's": "https://other.example/metadata",
    "with a tail": THEIRS + "/x",
    "in upper case": THEIRS.upper(),
    "with white space": f" {THEIRS}",
    "ours": OURS,
}


@attack("conditions: issuer", "R3", cases=ISSUERS)
def an_issuer_of_the_assertion(stage: SamlStage, value: str | None) -> Any:
    return truly_signed(stage, text("Issuer", value))


@attack("conditions: issuer", "R3", cases=ISSUERS)
def an_issuer_of_the_response(stage: SamlStage, value: str | None) -> Any:
    return truly_signed(stage, text("Issuer", value, place="Response"))


def _issuer(**attributes: str) -> Bend:
    def bend(root: etree._Element) -> None:
        for issuer in root.iter(f"{{{SAML}}}Issuer"):
            issuer.attrib.update(attributes)

    return bend


@attack(
    "conditions: issuer",
    "R3",
    cases={
        "missing in the response": without("Issuer", place="Response"),
        "missing in the assertion": without("Issuer"),
        "twice in the response": twice("Issuer"),
        "of another format": _issuer(Format="urn:oasis:names:tc:SAML:2.0:nameid-format:transient"),
        "with a foreign qualifier": _issuer(NameQualifier="https://evil.example"),
        "with an element inside": lambda root: etree.SubElement(
            part(root, "Issuer"), "{urn:example}x"
        ),
    },
)
def issuers(stage: SamlStage, bend: Bend) -> Any:
    return truly_signed(stage, bend)


REQUESTS: dict[str, str | Callable[[str], str] | None] = {
    "missing": None,
    "empty": "",
    "made up": "_made-up",
    "with a tail": lambda own: own + "x",
    "of upper case": lambda own: own.upper(),
    "with white space": lambda own: f" {own}",
}


@attack("conditions: request", "R3 R4", cases=REQUESTS)
def an_in_response_to_of_the_confirmation(stage: SamlStage, value: Any) -> Any:
    return truly_signed(stage, at("SubjectConfirmationData", "InResponseTo", value))


@attack("conditions: request", "R3 R4 R28", cases=REQUESTS, stores_nothing=True)
def an_in_response_to_of_the_response(stage: SamlStage, value: Any) -> Any:
    browser, root = stage.ask()
    stage.settled()
    at("Response", "InResponseTo", value)(root)
    return stage.send(browser, stage.sign(root))


TIMES: dict[str, Callable[[datetime], str]] = {
    "empty": lambda t: "",
    "words": lambda t: "now",
    "a number": lambda t: str(int(t.timestamp())),
    "without a zone": lambda t: f"{t:%Y-%m-%dT%H:%M:%S}",
    "of another zone": lambda t: f"{t + timedelta(hours=14):%Y-%m-%dT%H:%M:%S}+14:00",
    "of a zone without minutes": lambda t: f"{t:%Y-%m-%dT%H:%M:%S}+00",
    "a date": lambda t: f"{t:%Y-%m-%d}",
    "without seconds": lambda t: f"{t:%Y-%m-%dT%H:%M}Z",
    "a space in the middle": lambda t: f"{t:%Y-%m-%d %H:%M:%S}Z",
    "a negative year": lambda t: f"-{t:%Y-%m-%dT%H:%M:%S}Z",
    "the year 0": lambda t: f"0000-{t:%m-%dT%H:%M:%S}Z",
    "the year 9999": lambda t: "9999-12-31T23:59:59Z",
    "a year of five digits": lambda t: f"0{t:%Y-%m-%dT%H:%M:%S}Z",
    "the 31st of February": lambda t: f"{t:%Y}-02-31T{t:%H:%M:%S}Z",
    "month 13": lambda t: f"{t:%Y}-13-{t:%dT%H:%M:%S}Z",
    "hour 24": lambda t: f"{t:%Y-%m-%d}T24:00:00Z",
    "a leap second": lambda t: f"{t:%Y-%m-%dT%H:%M}:60Z",
    "other digits": lambda t: "".join(
        chr(0x0660 + int(c)) if c.isdigit() else c for c in f"{t:%Y-%m-%dT%H:%M:%S}Z"
    ),
    "a week": lambda t: f"{t:%G-W%V-%uT%H:%M:%S}Z",
    "in small letters": lambda t: f"{t:%Y-%m-%dt%H:%M:%S}z",
    "a fraction without digits": lambda t: f"{t:%Y-%m-%dT%H:%M:%S}.Z",
    "a fraction of a thousand digits": lambda t: f"{t:%Y-%m-%dT%H:%M:%S}.{'0' * 1000}Z",
    "a comma": lambda t: f"{t:%Y-%m-%dT%H:%M:%S},5Z",
    "white space around": lambda t: f" {t:%Y-%m-%dT%H:%M:%S}Z ",
}
"""Times that are right but for how they are written."""


@attack("conditions: times", "R3", cases=TIMES)
def an_end_of_the_confirmation_written_as(
    stage: SamlStage, write: Callable[[datetime], str]
) -> Any:
    value = write(datetime.now(UTC) + timedelta(minutes=3))
    return truly_signed(stage, at("SubjectConfirmationData", "NotOnOrAfter", value))


@attack("conditions: times", "R3", cases=TIMES)
def an_issue_instant_written_as(stage: SamlStage, write: Callable[[datetime], str]) -> Any:
    return truly_signed(stage, at("Assertion", "IssueInstant", write(datetime.now(UTC))))


@attack(
    "conditions: times",
    "R3",
    cases={
        "confirmed until two minutes ago": when(
            "SubjectConfirmationData", "NotOnOrAfter", minutes=-2
        ),
        "confirmed for two hours": when("SubjectConfirmationData", "NotOnOrAfter", hours=2),
        "confirmed for ten years": when("SubjectConfirmationData", "NotOnOrAfter", days=3650),
        "confirmed without an end": at("SubjectConfirmationData", "NotOnOrAfter", None),
        "confirmed from a minute ago": when("SubjectConfirmationData", "NotBefore", minutes=-1),
        "confirmed from tomorrow": when("SubjectConfirmationData", "NotBefore", days=1),
        "valid until two minutes ago": when("Conditions", "NotOnOrAfter", minutes=-2),
        "valid in two minutes": when("Conditions", "NotBefore", minutes=2),
        "valid from words": at("Conditions", "NotBefore", "soon"),
        "valid until words": at("Conditions", "NotOnOrAfter", "late"),
        "the assertion was issued ten minutes ago": when("Assertion", "IssueInstant", minutes=-10),
        "the assertion will be issued in two minutes": when("Assertion", "IssueInstant", minutes=2),
        "the assertion was never issued": at("Assertion", "IssueInstant", None),
        "the response was issued ten minutes ago": when("Response", "IssueInstant", minutes=-10),
        "the response will be issued in two minutes": when("Response", "IssueInstant", minutes=2),
        "the response was never issued": at("Response", "IssueInstant", None),
        "authentication in five minutes": when("AuthnStatement", "AuthnInstant", minutes=5),
        "authentication without a time": at("AuthnStatement", "AuthnInstant", None),
        "authentication at words": at("AuthnStatement", "AuthnInstant", "yesterday"),
        "the session ended": when("AuthnStatement", "SessionNotOnOrAfter", minutes=-5),
        "the session ends at words": at("AuthnStatement", "SessionNotOnOrAfter", "never"),
        "the session's end is empty": at("AuthnStatement", "SessionNotOnOrAfter", ""),
    },
)
def times(stage: SamlStage, bend: Bend) -> Any:
    return truly_signed(stage, bend)


STATUS = "urn:oasis:names:tc:SAML:2.0:status:"


def _status(value: str | None, inner: str | None = None) -> Bend:
    def bend(root: etree._Element) -> None:
        code = part(root, "StatusCode", SAMLP)
        if value is None:
            code.attrib.pop("Value")
        else:
            code.set("Value", value)
        if inner is not None:
            etree.SubElement(code, f"{{{SAMLP}}}StatusCode", Value=inner)

    return bend


@attack(
    "conditions: status",
    "R3",
    cases={
        "missing": without("Status", SAMLP, place="Response"),
        "without a code": without("StatusCode", SAMLP, place="Response"),
        "without a value": _status(None),
        "empty": _status(""),
        "requester": _status(STATUS + "Requester"),
        "responder": _status(STATUS + "Responder"),
        "version mismatch": _status(STATUS + "VersionMismatch"),
        "success of SAML 1": _status("samlp:Success"),
        "success with a tail": _status(STATUS + "Successful"),
        "success in small letters": _status(STATUS + "success"),
        "success with white space": _status(f" {STATUS}Success"),
        "success with a failure inside": _status(STATUS + "Success", STATUS + "AuthnFailed"),
        "success with a success inside": _status(STATUS + "Success", STATUS + "Success"),
        "a failure with a success inside": _status(STATUS + "Responder", STATUS + "Success"),
        "two codes": twice("StatusCode", SAMLP),
        "two statuses": twice("Status", SAMLP),
        "two statuses of which one failed": twice(
            "Status", SAMLP, change=lambda s: s[0].set("Value", STATUS + "Responder")
        ),
        "a detail": lambda root: etree.SubElement(
            etree.SubElement(part(root, "Status", SAMLP), f"{{{SAMLP}}}StatusDetail"),
            "{urn:example}x",
        ),
    },
)
def a_status(stage: SamlStage, bend: Bend) -> Any:
    return truly_signed(stage, bend)


CM = "urn:oasis:names:tc:SAML:2.0:cm:"


def _confirmation(method: str) -> Bend:
    return at("SubjectConfirmation", "Method", method)


def _second_confirmation(change: Bend) -> Bend:
    return twice("SubjectConfirmation", change=change)


@attack(
    "conditions: subject",
    "R3",
    cases={
        "no subject": without("Subject"),
        "two subjects": twice("Subject"),
        "no confirmation": without("SubjectConfirmation"),
        "no confirmation data": without("SubjectConfirmationData"),
        "two confirmation data": twice("SubjectConfirmationData"),
        "holder of key": _confirmation(CM + "holder-of-key"),
        "sender vouches": _confirmation(CM + "sender-vouches"),
        "an unknown method": _confirmation("urn:example"),
        "bearer of SAML 1": _confirmation("urn:oasis:names:tc:SAML:1.0:cm:bearer"),
        "an empty method": _confirmation(""),
        "no method": at("SubjectConfirmation", "Method", None),
        "two bearers": _second_confirmation(lambda c: None),
        "two bearers, the first for another": lambda root: part(
            root, "SubjectConfirmation"
        ).addprevious(_for_another(root)),
        "two bearers, the second for another": lambda root: part(
            root, "SubjectConfirmation"
        ).addnext(_for_another(root)),
        "a bearer and a holder of key": _second_confirmation(
            lambda c: c.set("Method", CM + "holder-of-key")
        ),
        "a key in the confirmation": more(
            "SubjectConfirmationData", "KeyInfo", namespace="http://www.w3.org/2000/09/xmldsig#"
        ),
        "a name in the confirmation": lambda root: part(root, "SubjectConfirmation").insert(
            0, deepcopy(part(root, "NameID"))
        ),
        "confirmation data of another type": at(
            "SubjectConfirmationData", f"{{{XSI}}}type", "saml:KeyInfoConfirmationDataType"
        ),
    },
)
def a_subject(stage: SamlStage, bend: Bend) -> Any:
    return truly_signed(stage, bend)


def _for_another(root: etree._Element) -> etree._Element:
    made = deepcopy(part(root, "SubjectConfirmation"))
    made[0].set("Recipient", "https://evil.example/acs/")
    return made


@attack(
    "who somebody is",
    "R7",
    cases={
        "no name": without("NameID"),
        "an empty name": text("NameID", None),
        "a blank name": text("NameID", "   "),
        "white space before": text("NameID", " u-0001"),
        "white space after": text("NameID", "u-0001\n"),
        "a no-break space after": text("NameID", "u-0001\u00a0"),
        "a ligature": text("NameID", "\ufb01ona"),
        "full-width letters": text("NameID", "\uff41dmin"),
        "a zero-width space": text("NameID", "ad\u200bmin"),
        "a soft hyphen": text("NameID", "ad\u00admin"),
        "right to left": text("NameID", "\u202enimda"),
        "letters with loose marks": text("NameID", "a\u0308rzte"),
        "a line separator": text("NameID", "a\u2028b"),
        "a private character": text("NameID", "a\ue000b"),
        "an unassigned character": text("NameID", "a\u0378b"),
        "a variation selector of tags": text("NameID", "a\U000e0041b"),
        "256 characters": text("NameID", "x" * 256),
        "100,000 characters": text("NameID", "x" * 100_000),
        "a transient name": at(
            "NameID", "Format", "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
        ),
        "a foreign qualifier": at("NameID", "NameQualifier", "https://other.example/metadata"),
        "a foreign service's qualifier": at("NameID", "SPNameQualifier", "https://wiki.example"),
        "an empty qualifier": at("NameID", "NameQualifier", ""),
        "two names": twice("NameID"),
        "two names of two people": twice("NameID", change=lambda n: setattr(n, "text", "admin")),
        "a base id": lambda root: part(root, "Subject").replace(
            part(root, "NameID"), new("BaseID")
        ),
        "a name as an element": lambda root: setattr(
            etree.SubElement(part(root, "NameID"), "{urn:example}x"), "text", "u-0001"
        ),
        "a name in two pieces": lambda root: setattr(
            etree.SubElement(part(root, "NameID"), "{urn:example}x"), "tail", "-admin"
        ),
    },
)
def a_subject_with(stage: SamlStage, bend: Bend) -> Any:
    return truly_signed(stage, bend)


def _statement(root: etree._Element) -> etree._Element:
    return part(root, "AuthnStatement")


@attack(
    "conditions: statements",
    "R3 R38",
    cases={
        "no authentication": without("AuthnStatement"),
        "two authentications": twice("AuthnStatement"),
        "two authentications of different strength": twice(
            "AuthnStatement",
            change=lambda s: setattr(
                next(s.iter(f"{{{SAML}}}AuthnContextClassRef")),
                "text",
                "https://refeds.org/profile/mfa",
            ),
        ),
        "no context": without("AuthnContext"),
        "two contexts": twice("AuthnContext"),
        "two classes": twice("AuthnContextClassRef"),
        "a declared context": more("AuthnContext", "AuthnContextDecl"),
        "a decision instead": lambda root: root.find(f"{{{SAML}}}Assertion").replace(
            _statement(root), new("AuthzDecisionStatement")
        ),
        "an unknown statement": lambda root: root.find(f"{{{SAML}}}Assertion").append(
            new("Statement")
        ),
        "an authentication of another namespace": lambda root: setattr(
            _statement(root), "tag", "{urn:oasis:names:tc:SAML:1.0:assertion}AuthnStatement"
        ),
        "a statement of another type": at("AuthnStatement", f"{{{XSI}}}type", "x:Evil"),
    },
)
def statements(stage: SamlStage, bend: Bend) -> Any:
    return truly_signed(stage, bend)


@attack(
    "conditions: versions",
    "R3",
    cases={
        "a response of version 1.1": at("Response", "Version", "1.1"),
        "a response of version 2": at("Response", "Version", "2"),
        "a response of version 2.0 and a space": at("Response", "Version", "2.0 "),
        "a response of no version": at("Response", "Version", None),
        "an assertion of version 1.1": at("Assertion", "Version", "1.1"),
        "an assertion of version 3.0": at("Assertion", "Version", "3.0"),
        "an assertion of no version": at("Assertion", "Version", None),
        "a response of another type": at("Response", f"{{{XSI}}}type", "samlp:ArtifactResponse"),
        "a schema's address": at("Response", f"{{{XSI}}}schemaLocation", "urn:x http://127.0.0.1/"),
        "a schema's address without a namespace": at(
            "Response", f"{{{XSI}}}noNamespaceSchemaLocation", "http://127.0.0.1:1/x.xsd"
        ),
        "a base": at("Response", "{http://www.w3.org/XML/1998/namespace}base", "http://127.0.0.1/"),
        "preserved space": at(
            "Response", "{http://www.w3.org/XML/1998/namespace}space", "preserve"
        ),
        "an inclusion": lambda root: part(root, "Conditions").append(
            etree.Element("{http://www.w3.org/2001/XInclude}include", href="http://127.0.0.1:1/")
        ),
    },
)
def versions_and_types(stage: SamlStage, bend: Bend) -> Any:
    return truly_signed(stage, bend)


def _renamed(tag: str) -> Bend:
    def bend(root: etree._Element) -> None:
        root.tag = tag

    return bend


@attack(
    "other messages",
    "R3",
    cases={
        "an artifact response": _renamed(f"{{{SAMLP}}}ArtifactResponse"),
        "a name management response": _renamed(f"{{{SAMLP}}}ManageNameIDResponse"),
        "a response of SAML 1": _renamed("{urn:oasis:names:tc:SAML:1.0:protocol}Response"),
        "a response without a namespace": _renamed("Response"),
        "a response in small letters": _renamed(f"{{{SAMLP}}}response"),
        "an attribute query": _renamed(f"{{{SAMLP}}}AttributeQuery"),
    },
)
def a_root_that_is(stage: SamlStage, bend: Bend) -> Any:
    return truly_signed(stage, bend)


@attack("other messages", "R3")
def an_assertion_without_a_response(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.sign(root)
    inner = root.find(f"{{{SAML}}}Assertion")
    inner.set("InResponseTo", root.get("InResponseTo"))
    return stage.send(browser, etree.tostring(inner))


@attack("other messages", "R3")
def an_answer_inside_a_soap_envelope(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.sign(root)
    soap = "http://schemas.xmlsoap.org/soap/envelope/"
    envelope = etree.Element(f"{{{soap}}}Envelope")
    etree.SubElement(envelope, f"{{{soap}}}Body").append(root)
    return stage.send(browser, envelope)


# --- Groups


def _group(value: Bend) -> Bend:
    def bend(root: etree._Element) -> None:
        for attribute in root.iter(f"{{{SAML}}}Attribute"):
            if attribute.get("Name") == "groups":
                value(attribute)

    return bend


def _values(*values: str) -> Bend:
    def bend(attribute: etree._Element) -> None:
        for child in list(attribute):
            attribute.remove(child)
        for value in values:
            etree.SubElement(attribute, f"{{{SAML}}}AttributeValue").text = value

    return bend


def _element_inside(attribute: etree._Element) -> None:
    etree.SubElement(attribute[0], "{urn:example}group").text = "aws-owners"


def _name_id_inside(attribute: etree._Element) -> None:
    attribute[0].text = None
    etree.SubElement(attribute[0], f"{{{SAML}}}NameID").text = "aws-owners"


def _tail_inside(attribute: etree._Element) -> None:
    etree.SubElement(attribute[0], "{urn:example}x").tail = "aws-owners"


@attack(
    "group values",
    "R9",
    cases={
        "with an element inside": _element_inside,
        "with a name inside": _name_id_inside,
        "with text after an element": _tail_inside,
        "with a zero-width space": _values("aws-ad\u200bmins"),
        "with a bidirectional mark": _values("\u202esnimda-swa"),
        "with a tab": _values("aws\tadmins"),
        "with a line break": _values("aws-readers\naws-admins"),
        "with a line separator": _values("aws\u2028admins"),
        "with a private character": _values("aws\ue000"),
        "of 513 characters": _values("x" * 513),
        "2,001 of them": _values(*(f"g{n}" for n in range(2001))),
        "without AttributeValue around": lambda a: setattr(a, "text", "aws-owners"),
        "with two elements inside": lambda a: [
            etree.SubElement(a[0], f"{{{SAML}}}NameID") for _ in range(2)
        ],
    },
)
def groups(stage: SamlStage, bend: Bend) -> Any:
    return truly_signed(stage, _group(bend))


def _nested_attribute(root: etree._Element) -> None:
    outer = part(root, "Attribute")
    inner = etree.SubElement(outer[0], f"{{{SAML}}}Attribute", Name="groups")
    etree.SubElement(inner, f"{{{SAML}}}AttributeValue").text = "aws-owners"


@attack(
    "group values",
    "R9",
    cases={
        "inside another attribute's value": _nested_attribute,
        "as an element of another namespace": lambda root: etree.SubElement(
            part(root, "AttributeStatement"), "{urn:example}Attribute", Name="groups"
        ),
        "without a name": lambda root: part(root, "Attribute").attrib.pop("Name"),
        "encrypted in a shape of its own": lambda root: etree.SubElement(
            part(root, "AttributeStatement"), f"{{{SAML}}}EncryptedAttribute"
        ),
        "outside a statement": lambda root: root.find(f"{{{SAML}}}Assertion").append(
            deepcopy(part(root, "Attribute"))
        ),
        "in the response": lambda root: root.append(deepcopy(part(root, "AttributeStatement"))),
    },
)
def attributes(stage: SamlStage, bend: Bend) -> Any:
    return truly_signed(stage, bend)
