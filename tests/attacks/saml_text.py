"""Octets, characters, sizes and forms: everything that is wrong before the message means anything."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

from lxml import etree

from tests.accounts.idp_saml import SAML, SAMLP
from tests.attacks.registry import attack
from tests.attacks.saml_wrapping import part
from tests.attacks.stages import GOOD, SamlStage, packed

ACS = "/saml/acme/acs/"
Rewrite = Callable[[bytes], bytes]


def signed(stage: SamlStage, **claims: Any) -> tuple[Any, bytes]:
    """A browser and an honest answer for it, signed both ways, in octets."""
    browser, root = stage.ask(**claims)
    return browser, etree.tostring(stage.sign(root))


def declared(encoding: str, octets: Callable[[str], bytes]) -> Rewrite:
    return lambda raw: octets(f'<?xml version="1.0" encoding="{encoding}"?>{raw.decode()}')


def inside(mark: bytes) -> Rewrite:
    """Put something right behind the first letter of the name."""
    return lambda raw: raw.replace(b">u-0001<", b">u" + mark + b"-0001<", 1)


def in_group(mark: bytes) -> Rewrite:
    return lambda raw: raw.replace(b">aws-readers<", b">aws-" + mark + b"readers<", 1)


def _renamed_prefix(raw: bytes) -> bytes:
    return raw.replace(b"<saml:Subject>", b'<saml:Subject xmlns:saml="urn:example">', 1)


_DOCTYPE = b"<!DOCTYPE x>"
_ENTITY = b'<!DOCTYPE x [<!ENTITY e "admin">]>'
_EXTERNAL = b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">'
_PARAMETER = b'<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:1/x.dtd"> %p;]>'
_ATTLIST = b"<!DOCTYPE x [<!ATTLIST x ID ID #IMPLIED>]>"
_LAUGHS = (
    b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;">]>'
)


@attack(
    "encodings",
    "R1",
    cases={
        "UTF-16 with its mark": lambda raw: raw.decode().encode("utf-16"),
        "UTF-16, declared": declared("UTF-16", lambda t: t.encode("utf-16")),
        "UTF-16 without its mark": declared("UTF-16", lambda t: t.encode("utf-16-le")),
        "UTF-32": declared("UTF-32", lambda t: t.encode("utf-32")),
        "UTF-7": declared("UTF-7", lambda t: t.encode("utf-7")),
        "Latin-1, declared": declared("ISO-8859-1", lambda t: t.encode("latin-1")),
        "Windows, declared": declared("windows-1252", lambda t: t.encode("cp1252")),
        "EBCDIC": declared("cp037", lambda t: t.encode("cp037")),
        "an unknown one": declared("klingon", lambda t: t.encode()),
        "an empty one": declared("", lambda t: t.encode()),
        "UTF-8 declared as UTF-16": declared("UTF-16", lambda t: t.encode()),
        "XML 1.1": lambda raw: b'<?xml version="1.1"?>' + raw,
        "XML 2.0": lambda raw: b'<?xml version="2.0"?>' + raw,
        "a declaration of no version": lambda raw: b'<?xml encoding="UTF-8"?>' + raw,
        "two declarations": lambda raw: b'<?xml version="1.0"?><?xml version="1.0"?>' + raw,
        "a declaration behind white space": lambda raw: b' <?xml version="1.0"?>' + raw,
        "a mark in the middle": lambda raw: raw.replace(b"u-0001", b"u-\xef\xbb\xbf0001"),
        "two marks at the start": lambda raw: b"\xef\xbb\xbf\xef\xbb\xbf" + raw,
        "an octet that is no UTF-8": inside(b"\xff"),
        "half a character": inside(b"\xc3"),
        "an overlong slash": inside(b"\xc0\xaf"),
        "an overlong nothing": inside(b"\xc0\x80"),
        "a surrogate": inside(b"\xed\xa0\x80"),
        "beyond Unicode": inside(b"\xf4\x90\x80\x80"),
        "a null octet": inside(b"\x00"),
        "a null octet at the end": lambda raw: raw + b"\x00",
        "a null octet at the start": lambda raw: b"\x00" + raw,
        "compressed by gzip": gzip.compress,
        "deflated": lambda raw: zlib.compress(raw)[2:-4],
        "base64 twice": base64.b64encode,
    },
)
def an_answer_written_in(stage: SamlStage, rewrite: Rewrite) -> Any:
    browser, raw = signed(stage)
    return stage.send(browser, rewrite(raw))


@attack(
    "markup",
    "R1 R2",
    cases={
        "a DOCTYPE": lambda raw: _DOCTYPE + raw,
        "a DOCTYPE in small letters": lambda raw: b"<!doctype x>" + raw,
        "an entity, unused": lambda raw: _ENTITY + raw,
        "an entity in the name": lambda raw: _ENTITY + raw.replace(b"u-0001", b"&e;"),
        "an external DTD": lambda raw: _EXTERNAL + raw,
        "a parameter entity": lambda raw: _PARAMETER + raw,
        "an attribute list": lambda raw: _ATTLIST + raw,
        "entities of entities": lambda raw: _LAUGHS + raw.replace(b"u-0001", b"&d;"),
        "an undefined entity": lambda raw: raw.replace(b"u-0001", b"&nothing;"),
        "a DOCTYPE behind white space": lambda raw: b"\n\n" + _DOCTYPE + raw,
        "a DOCTYPE behind a declaration": lambda raw: b'<?xml version="1.0"?>' + _DOCTYPE + raw,
        "a comment in the name": inside(b"<!-- -->"),
        "a comment before the name": lambda raw: raw.replace(b">u-0001<", b"><!-- -->u-0001<"),
        "a comment behind the name": lambda raw: raw.replace(b">u-0001<", b">u-0001<!-- --><"),
        "a comment in a group": in_group(b"<!-- -->"),
        "a comment in the audience": lambda raw: raw.replace(
            b"/metadata/</saml:Audience>", b"/metadata/<!-- -->.evil.example</saml:Audience>"
        ),
        "a comment in the issuer": lambda raw: raw.replace(
            b">https://idp.example/metadata<", b">https://idp.example/<!-- -->metadata<"
        ),
        "a comment in a digest": lambda raw: raw.replace(
            b"<ds:DigestValue>", b"<ds:DigestValue><!-- -->"
        ),
        "a comment before the response": lambda raw: b"<!-- -->" + raw,
        "a comment behind the response": lambda raw: raw + b"<!-- -->",
        "a processing instruction in the name": inside(b"<?x y?>"),
        "a processing instruction before": lambda raw: b"<?x y?>" + raw,
        "a style sheet": lambda raw: b'<?xml-stylesheet href="http://127.0.0.1:1/"?>' + raw,
        "CDATA in the name": lambda raw: raw.replace(b">u-0001<", b"><![CDATA[u-0001]]><"),
        "CDATA in a group": in_group(b"<![CDATA[]]>"),
        "an element in the name": inside(b"<x/>"),
        "a second root": lambda raw: raw + b"<x/>",
        "text behind the root": lambda raw: raw + b"text",
        "text before the root": lambda raw: b"text" + raw,
        "text between elements": lambda raw: raw.replace(b"<saml:Subject>", b"text<saml:Subject>"),
        "an unknown prefix": lambda raw: raw.replace(b"<saml:Subject>", b"<zz:Subject>"),
        "an attribute twice": lambda raw: raw.replace(b' ID="', b' Version="2.0" ID="', 1),
        "an attribute twice by two prefixes": lambda raw: raw.replace(
            b"<samlp:Response ",
            b'<samlp:Response xmlns:a="urn:e" xmlns:b="urn:e" a:x="1" b:x="2" ',
            1,
        ),
        "an attribute without quotes": lambda raw: raw.replace(b'Version="2.0"', b"Version=2.0"),
        "an unclosed element": lambda raw: raw[:-5],
        "elements closed in disorder": lambda raw: raw.replace(
            b"</saml:NameID>", b"</saml:Subject></saml:NameID>"
        ),
        "a redefined prefix": _renamed_prefix,
        "an undefined default namespace": lambda raw: raw.replace(
            b"<saml:Subject>", b'<saml:Subject xmlns:saml="">'
        ),
        "a numbered null": inside(b"&#0;"),
        "a numbered control character": inside(b"&#1;"),
        "a numbered surrogate": inside(b"&#xD800;"),
        "a numbered no-character": inside(b"&#xFFFF;"),
        "a numbered line break": inside(b"&#10;"),
        "a numbered return": inside(b"&#13;"),
        "a numbered bidirectional mark": inside(b"&#x202E;"),
        "a numbered zero-width space": inside(b"&#x200B;"),
        "a number beyond Unicode": inside(b"&#x110000;"),
        "the xml prefix bound elsewhere": lambda raw: raw.replace(
            b"<samlp:Response ", b'<samlp:Response xmlns:xml="urn:example" ', 1
        ),
        "a prefix bound to xmlns": lambda raw: raw.replace(
            b"<samlp:Response ", b'<samlp:Response xmlns:q="http://www.w3.org/2000/xmlns/" ', 1
        ),
        "a relative namespace": lambda raw: raw.replace(
            b"<samlp:Response ", b'<samlp:Response xmlns:q="../x" q:y="1" ', 1
        ),
    },
)
def an_answer_with(stage: SamlStage, rewrite: Rewrite) -> Any:
    browser, raw = signed(stage)
    changed = rewrite(raw)
    assert changed != raw
    return stage.send(browser, changed)


JUNK: dict[str, str] = {
    "nothing": "",
    "white space": "   \r\n",
    "one letter": "A",
    "words": "not base64 at all ***",
    "base64 with a stranger inside": "PGEv#Pg==",
    "base64 of other letters": "PGE_-w==",
    "base64 without its padding": "PGEvPg",
    "padding alone": "====",
    "padding in the middle": "PGEv=Pg==",
    "octets of no text": base64.b64encode(bytes(range(256))).decode(),
    "an empty element": packed(b"<a/>"),
    "HTML": packed(b"<html><body>x</body></html>"),
    "JSON": packed(b'{"InResponseTo": "_x"}'),
    "JSON without base64": '{"a": 1}',
    "an open bracket": packed(b"<"),
    "a hundred levels": packed(b"<a>" * 100 + b"</a>" * 100),
    "a hundred thousand levels, open": packed(b"<a>" * 60_000),
    "ten thousand attributes": packed(
        b"<a " + b" ".join(b'b%d=""' % n for n in range(10_000)) + b"/>"
    ),
    "ten thousand namespaces": packed(
        b"<a " + b" ".join(b'xmlns:b%d="u"' % n for n in range(8_000)) + b"/>"
    ),
    "attributes of one hash": packed(
        b"<a " + b" ".join(b'a%d="%s"' % (n, b"x" * 10) for n in range(6_000)) + b"/>"
    ),
    "one long name": packed(b"<" + b"a" * 150_000 + b"/>"),
    "one long attribute": packed(b'<a b="' + b"x" * 150_000 + b'"/>'),
    "one long text": packed(b"<a>" + b"x" * 180_000 + b"</a>"),
    "thirty thousand elements": packed(b"<a>" + b"<b/>" * 30_000 + b"</a>"),
    "250,000 letters": "A" * 250_000,
    "a bare response": packed(f'<p:Response xmlns:p="{SAMLP}"/>'.encode()),
    "a response to nobody": packed(f'<p:Response xmlns:p="{SAMLP}" InResponseTo="_x"/>'.encode()),
    "a response with an id of our form": packed(
        f'<p:Response xmlns:p="{SAMLP}" InResponseTo="_6920b3f1.{"0" * 32}.{"0" * 32}"/>'.encode()
    ),
    "an id of our form with a line break": packed(
        f'<p:Response xmlns:p="{SAMLP}" InResponseTo="_6920b3f1.{"0" * 32}.{"0" * 32}&#10;"/>'.encode()
    ),
}


@attack("junk", "R1 R27 R28", cases=JUNK, stores_nothing=True)
def junk_from_a_stranger(stage: SamlStage, junk: str) -> Any:
    return stage.post(stage.browser(), junk)


@attack("junk", "R28", stores_nothing=True)
def three_megabytes(stage: SamlStage) -> Any:
    return stage.post(stage.browser(), "A" * 3_000_000)


@attack("junk", "R28", stores_nothing=True)
def a_form_of_two_thousand_fields(stage: SamlStage) -> Any:
    return stage.browser().post(ACS, {f"f{n}": "x" for n in range(2_000)}, secure=True)


# --- Large but signed


def _many_attributes(root: etree._Element) -> None:
    statement = part(root, "AttributeStatement")
    for n in range(900):
        one = etree.SubElement(statement, f"{{{SAML}}}Attribute", Name=f"a{n}")
        etree.SubElement(one, f"{{{SAML}}}AttributeValue").text = "x"


def _deep(root: etree._Element) -> None:
    at = part(root, "AttributeValue")
    for _ in range(60):
        at = etree.SubElement(at, "{urn:example}x")


def _wide_namespaces(root: etree._Element) -> None:
    statement = part(root, "AttributeStatement")
    for n in range(300):
        one = etree.SubElement(
            statement, f"{{{SAML}}}Attribute", Name=f"a{n}", nsmap={f"p{n}": f"urn:{n}"}
        )
        one.set(f"{{urn:{n}}}x", "1")


def _attributes_on_one(root: etree._Element) -> None:
    value = part(root, "AttributeValue")
    for n in range(3_000):
        value.set(f"a{n}", "x")


def _sixty_thousand_attributes(root: etree._Element) -> None:
    value = part(root, "AttributeValue")
    for n in range(9_000):
        value.set(f"{{urn:x}}a{n}", "x")


def _many_statements(root: etree._Element) -> None:
    assertion = root.find(f"{{{SAML}}}Assertion")
    for _ in range(500):
        etree.SubElement(assertion, f"{{{SAML}}}AttributeStatement")


def _many_audiences(root: etree._Element) -> None:
    restriction = part(root, "AudienceRestriction")
    for n in range(2_000):
        etree.SubElement(restriction, f"{{{SAML}}}Audience").text = f"https://{n}.example"


def _many_confirmations(root: etree._Element) -> None:
    subject = part(root, "Subject")
    for _ in range(1_000):
        etree.SubElement(
            subject,
            f"{{{SAML}}}SubjectConfirmation",
            Method="urn:oasis:names:tc:SAML:2.0:cm:bearer",
        )


def _long_attribute_name(root: etree._Element) -> None:
    part(root, "Attribute").set("Name", "x" * 100_000)


def _long_session_index(root: etree._Element) -> None:
    part(root, "AuthnStatement").set("SessionIndex", "x" * 100_000)


@attack(
    "sizes",
    "R1 R28",
    cases={
        "nine hundred attributes": _many_attributes,
        "sixty levels": _deep,
        "three hundred namespaces": _wide_namespaces,
        "three thousand attributes of one element": _attributes_on_one,
        "nine thousand attributes in a namespace": _sixty_thousand_attributes,
        "five hundred empty statements": _many_statements,
        "two thousand audiences": _many_audiences,
        "a thousand confirmations": _many_confirmations,
        "an attribute's name of 100,000 letters": _long_attribute_name,
        "a session index of 100,000 letters": _long_session_index,
    },
)
def a_truly_signed_answer_with(stage: SamlStage, bend: Callable[[etree._Element], None]) -> Any:
    browser, root = stage.ask()
    bend(root)
    return stage.send(browser, stage.sign(root))


@attack("sizes", "R28")
def a_truly_signed_answer_of_four_hundred_kilobytes(stage: SamlStage) -> Any:
    browser, root = stage.ask(attributes=GOOD | {"note": ["x" * 300_000]})
    return stage.send(browser, stage.sign(root))


# --- The form around the message


def _form(stage: SamlStage) -> tuple[Any, str]:
    browser, raw = signed(stage)
    return browser, packed(raw)


@attack("form games", "R27 R41", recorded=False)
def the_answer_as_a_get(stage: SamlStage) -> Any:
    browser, message = _form(stage)
    return browser.get(ACS, {"SAMLResponse": message}, secure=True)


@attack(
    "form games",
    "R27",
    cases={method: method for method in ("put", "patch", "delete", "options")},
    recorded=False,
)
def the_answer_by(stage: SamlStage, method: str) -> Any:
    browser, message = _form(stage)
    return getattr(browser, method)(ACS, f"SAMLResponse={message}", secure=True)


@attack("form games", "R41")
def the_answer_in_the_query_of_a_post(stage: SamlStage) -> Any:
    browser, message = _form(stage)
    return browser.post(f"{ACS}?SAMLResponse={message}", {}, secure=True)


@attack("form games", "R41")
def the_answer_in_a_field_of_another_case(stage: SamlStage) -> Any:
    browser, message = _form(stage)
    return browser.post(ACS, {"samlresponse": message}, secure=True)


@attack("form games", "R41")
def the_answer_as_a_request(stage: SamlStage) -> Any:
    browser, message = _form(stage)
    return browser.post(ACS, {"SAMLRequest": message}, secure=True)


@attack("form games", "R41")
def the_answer_as_an_artifact(stage: SamlStage) -> Any:
    return stage.browser().post(ACS, {"SAMLart": "AAQAAMh48/1oXIM"}, secure=True)


@attack("form games", "R41")
def the_answer_as_a_file(stage: SamlStage) -> Any:
    browser, message = _form(stage)
    upload = BytesIO(message.encode())
    upload.name = "answer.xml"
    return browser.post(ACS, {"SAMLResponse": upload}, secure=True)


@attack(
    "form games",
    "R41",
    cases={
        "JSON": ("application/json", lambda m: json.dumps({"SAMLResponse": m})),
        "plain text": ("text/plain", lambda m: f"SAMLResponse={m}"),
        "XML": ("application/xml", lambda m: base64.b64decode(m).decode()),
        "SAML": ("application/samlassertion+xml", lambda m: base64.b64decode(m).decode()),
        "nothing": ("", lambda m: f"SAMLResponse={m}"),
        "a form without a boundary": ("multipart/form-data", lambda m: m),
        "a form of another character set": (
            "application/x-www-form-urlencoded; charset=utf-16",
            lambda m: f"SAMLResponse={m}",
        ),
    },
)
def the_answer_in_a_body_of(stage: SamlStage, how: tuple[str, Callable[[str], str]]) -> Any:
    browser, message = _form(stage)
    return browser.post(ACS, how[1](message), content_type=how[0], secure=True)


@attack("form games", "R27 R28")
def a_broken_multipart_form(stage: SamlStage) -> Any:
    body = b'--x\r\nContent-Disposition: form-data; name="SAMLResponse"\r\n\r\nAAAA'
    return stage.browser().post(
        ACS, body, content_type="multipart/form-data; boundary=x", secure=True
    )


@attack("form games", "R2")
def a_good_answer_behind_a_bad_one(stage: SamlStage) -> Any:
    """Django reads the last of several fields; a proxy in front might have looked at the first."""
    browser, message = _form(stage)
    return browser.post(ACS, {"SAMLResponse": [message, packed(b"<a/>")]}, secure=True)


@attack("form games", "R2", statuses=(302, 400, 403), recorded=False)
def a_bad_answer_behind_a_good_one(stage: SamlStage) -> Any:
    browser, message = _form(stage)
    sent = browser.post(ACS, {"SAMLResponse": [packed(b"<a/>"), message]}, secure=True)
    if sent.status_code == 302:
        sent = browser.get(sent["Location"], secure=True)
    return sent
