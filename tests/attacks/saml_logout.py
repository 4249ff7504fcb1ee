"""Logout messages: whoever is not the provider ends nobody's session, and the provider only its own people's."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from lxml import etree

from accounts import saml
from tests.accounts import web
from tests.accounts.idp_saml import DS, SAML, SAMLP, stamp
from tests.attacks import dsig
from tests.attacks.dsig import MORE
from tests.attacks.registry import Browser, attack, control
from tests.attacks.saml_wrapping import part
from tests.attacks.stages import SamlStage

SLS = "https://daypass.test/saml/acme/sls/"
RSA_SHA256 = MORE + "rsa-sha256"
Bend = Callable[[etree._Element], Any]


def pack(xml: bytes) -> str:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return base64.b64encode(packer.compress(xml) + packer.flush()).decode()


def query(
    key: Any,
    xml: bytes | str,
    *,
    parameter: str = "SAMLRequest",
    algorithm: str = RSA_SHA256,
    hashed: Any = None,
    relay: str | None = None,
) -> str:
    """A signed query string (SAML bindings section 3.4.4.1)."""
    message = xml if isinstance(xml, str) else pack(xml)
    made = f"{parameter}={quote(message, safe='')}"
    if relay is not None:
        made += f"&RelayState={quote(relay, safe='')}"
    made += f"&SigAlg={quote(algorithm, safe='')}"
    value = key.sign(made.encode(), padding.PKCS1v15(), hashed or hashes.SHA256())
    return f"{made}&Signature={quote(base64.b64encode(value).decode(), safe='')}"


def asked(stage: SamlStage, bend: Bend | None = None, **claims: Any) -> bytes:
    """A LogoutRequest for the person who is signed in, unsigned."""
    root = etree.fromstring(stage.idp.logout_request(SLS, **{"name_id": "u-0001", **claims}))
    if bend:
        bend(root)
    return etree.tostring(root)


def signed_in(stage: SamlStage) -> Browser:
    browser, root = stage.ask()
    stage.send(browser, stage.sign(root))
    assert web.is_signed_in(browser)
    stage.settled()
    return browser


def call(browser: Browser, raw_query: str, slug: str = "acme") -> Any:
    return browser.get(f"/saml/{slug}/sls/?{raw_query}", secure=True)


@control("logout", door="sls", ends=True)
def the_providers_own_request(stage: SamlStage) -> Any:
    browser = signed_in(stage)
    return call(browser, query(stage.idp.key, asked(stage)))


@control("logout", door="sls", ends=True)
def a_request_with_a_relay_state(stage: SamlStage) -> Any:
    browser = signed_in(stage)
    return call(browser, query(stage.idp.key, asked(stage), relay="https://idp.example/?a=b&c"))


@control("logout", door="sls", ends=True)
def a_request_without_a_session_index(stage: SamlStage) -> Any:
    def bend(root: etree._Element) -> None:
        root.remove(root.find(f"{{{SAMLP}}}SessionIndex"))

    browser = signed_in(stage)
    return call(browser, query(stage.idp.key, asked(stage, bend)))


@control("logout", door="sls", ends=True)
def a_request_without_the_browsers_cookie(stage: SamlStage) -> Any:
    signed_in(stage)
    return call(stage.browser(), query(stage.idp.key, asked(stage)))


# --- Signatures


def _cut(name: str) -> Callable[[str], str]:
    return lambda made: "&".join(p for p in made.split("&") if not p.startswith(f"{name}="))


def _swap(name: str, value: str) -> Callable[[str], str]:
    return lambda made: "&".join(
        f"{name}={value}" if p.startswith(f"{name}=") else p for p in made.split("&")
    )


def _lower_escapes(made: str) -> str:
    import re

    return re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), made)


@attack(
    "logout: signatures",
    "R34",
    door="sls",
    cases={
        "without a signature": _cut("Signature"),
        "without an algorithm": _cut("SigAlg"),
        "without either": lambda made: made.split("&")[0],
        "with an empty signature": _swap("Signature", ""),
        "with a signature of one octet": _swap("Signature", "AA%3D%3D"),
        "with a signature that is not base64": _swap("Signature", "***"),
        "with an empty algorithm": _swap("SigAlg", ""),
        "with another algorithm of the same kind": _swap(
            "SigAlg", quote(MORE + "rsa-sha512", safe="")
        ),
        "said to be signed by a curve": _swap("SigAlg", quote(MORE + "ecdsa-sha256", safe="")),
        "said to be signed with a shared secret": _swap(
            "SigAlg", quote(MORE + "hmac-sha256", safe="")
        ),
        "with the algorithm twice": lambda made: made + f"&SigAlg={quote(RSA_SHA256, safe='')}",
        "with the signature twice": lambda made: made + "&Signature=AA%3D%3D",
        "with a relay state that was not signed": lambda made: made + "&RelayState=x",
        "with escapes in small letters": _lower_escapes,
        "with the message's name escaped": lambda made: made.replace(
            "SAMLRequest=", "%53AMLRequest="
        ),
        "with a space for a plus": lambda made: made.replace("%2B", "+", 1).replace("%2F", "/", 1),
        "with a semicolon": lambda made: made.replace("&", ";"),
    },
)
def a_request(stage: SamlStage, rewrite: Callable[[str], str]) -> Any:
    browser = signed_in(stage)
    made = query(stage.idp.key, asked(stage))
    changed = rewrite(made)
    if changed == made:  # nothing in this message's base64 to rewrite
        changed = made + "&SAMLRequest="
    return call(browser, changed)


@attack(
    "logout: signatures",
    "R34",
    door="sls",
    cases={"a stranger": "stranger", "the neighbour": "other"},
)
def a_request_signed_by(stage: SamlStage, who: str) -> Any:
    browser = signed_in(stage)
    return call(browser, query(getattr(stage, who).key, asked(stage)))


@attack(
    "logout: signatures",
    "R31 R34",
    door="sls",
    cases={
        "SHA-1": (DS + "rsa-sha1", hashes.SHA1),
        "MD5": (MORE + "rsa-md5", hashes.MD5),
        "SHA-224": (MORE + "rsa-sha224", hashes.SHA224),
        "SHA-1, said to be SHA-256": (RSA_SHA256, hashes.SHA1),
    },
)
def a_request_truly_signed_with(stage: SamlStage, how: tuple[str, Any]) -> Any:
    browser = signed_in(stage)
    return call(browser, query(stage.idp.key, asked(stage), algorithm=how[0], hashed=how[1]()))


def _evil(stage: SamlStage) -> str:
    return quote(pack(asked(stage)), safe="")


def _harmless(stage: SamlStage) -> bytes:
    """What the attacker has truly signed: a request for somebody who is not signed in."""
    return asked(stage, name_id="u-0666")


@attack(
    "logout: signatures",
    "R34",
    door="sls",
    cases={
        "behind a signed one": lambda good, evil: f"{good}&SAMLRequest={evil}",
        "before a signed one": lambda good, evil: f"SAMLRequest={evil}&{good}",
        "under an escaped name behind": lambda good, evil: f"{good}&%53AMLRequest={evil}",
        "under an escaped name before": lambda good, evil: f"%53AMLRequest={evil}&{good}",
        "under a name with an escaped letter in the middle": (
            lambda good, evil: f"{good}&SAML%52equest={evil}"
        ),
        "behind a semicolon": lambda good, evil: f"{good};SAMLRequest={evil}",
        "behind a fragment": lambda good, evil: f"{good}&x=%23&SAMLRequest={evil}",
        "as a list": lambda good, evil: f"{good}&SAMLRequest[]={evil}&SAMLRequest={evil}",
        "as the response of a signed request": lambda good, evil: f"{good}&SAMLResponse={evil}",
    },
)
def an_unsigned_request(stage: SamlStage, join: Callable[[str, str], str]) -> Any:
    browser = signed_in(stage)
    return call(browser, join(query(stage.idp.key, _harmless(stage)), _evil(stage)))


@attack("logout: signatures", "R34", door="sls")
def a_request_signed_inside_only(stage: SamlStage) -> Any:
    browser = signed_in(stage)
    root = etree.fromstring(asked(stage))
    dsig.sign(root, stage.idp.key)
    return call(browser, f"SAMLRequest={quote(pack(etree.tostring(root)), safe='')}")


@attack("logout: signatures", "R34", door="sls", recorded=False)
def an_unsigned_request_by_post(stage: SamlStage) -> Any:
    browser = signed_in(stage)
    message = base64.b64encode(asked(stage)).decode()
    return browser.post("/saml/acme/sls/", {"SAMLRequest": message}, secure=True)


# --- Replay and foreign people


@attack("logout: replay", "R34", door="sls")
def the_same_request_after_a_new_sign_in(stage: SamlStage) -> Any:
    browser = signed_in(stage)
    made = query(stage.idp.key, asked(stage))
    call(browser, made)
    browser, root = stage.ask()
    root.find(f".//{{{SAML}}}AuthnStatement").set("SessionIndex", "s-2")
    stage.send(browser, stage.sign(root))
    stage.settled()
    return call(browser, made)


@attack("logout: foreign people", "R34", door="sls", statuses=(302, 403), recorded=False)
def a_request_for_somebody_else(stage: SamlStage) -> Any:
    browser = signed_in(stage)
    return call(browser, query(stage.idp.key, asked(stage, name_id="u-0002")))


@attack("logout: foreign people", "R34", door="sls", statuses=(302, 403), recorded=False)
def a_request_for_another_session(stage: SamlStage) -> Any:
    browser = signed_in(stage)
    return call(browser, query(stage.idp.key, asked(stage, session_index="s-9")))


@attack("logout: foreign people", "R34 R7", door="sls", statuses=(302, 403), recorded=False)
def the_neighbours_request_for_the_same_name_at_its_own_door(stage: SamlStage) -> Any:
    browser = signed_in(stage)
    made = stage.other.logout_request("https://daypass.test/saml/other/sls/", name_id="u-0001")
    return call(browser, query(stage.other.key, made), "other")


@attack("logout: foreign people", "R34 R7", door="sls")
def the_neighbours_request_at_this_door(stage: SamlStage) -> Any:
    browser = signed_in(stage)
    made = stage.other.logout_request(SLS, name_id="u-0001")
    return call(browser, query(stage.other.key, made))


@attack("logout: foreign people", "R34 R7", door="sls")
def this_providers_request_at_the_neighbours_door(stage: SamlStage) -> Any:
    browser = signed_in(stage)
    return call(browser, query(stage.idp.key, asked(stage)), "other")


# --- Content


def _set(attribute: str, value: str | None) -> Bend:
    def bend(root: etree._Element) -> None:
        if value is None:
            root.attrib.pop(attribute)
        else:
            root.set(attribute, value)

    return bend


def _when(attribute: str, **span: float) -> Bend:
    return lambda root: root.set(attribute, stamp(datetime.now(UTC) + timedelta(**span)))


def _name(value: str | None) -> Bend:
    return lambda root: setattr(part(root, "NameID"), "text", value)


def _without(name: str) -> Bend:
    return lambda root: root.remove(root.find(f"{{{SAML}}}{name}"))


def _indexes(*values: str | None) -> Bend:
    def bend(root: etree._Element) -> None:
        root.remove(root.find(f"{{{SAMLP}}}SessionIndex"))
        for value in values:
            etree.SubElement(root, f"{{{SAMLP}}}SessionIndex").text = value

    return bend


def _second_name(root: etree._Element) -> None:
    made = etree.Element(f"{{{SAML}}}NameID")
    made.text = "u-0666"
    part(root, "NameID").addprevious(made)


def _tag(tag: str) -> Bend:
    return lambda root: setattr(root, "tag", tag)


def _extensions(root: etree._Element) -> None:
    root.insert(1, etree.Element(f"{{{SAMLP}}}Extensions"))


@attack(
    "logout: content",
    "R34",
    door="sls",
    cases={
        "of seven minutes ago": _when("IssueInstant", minutes=-7),
        "of the future": _when("IssueInstant", minutes=5),
        "of no time": _set("IssueInstant", None),
        "of words for a time": _set("IssueInstant", "today"),
        "that has expired": _when("NotOnOrAfter", minutes=-5),
        "with words for an end": _set("NotOnOrAfter", "soon"),
        "for another address": _set("Destination", "https://evil.example/sls/"),
        "for the neighbour's address": _set("Destination", "https://daypass.test/saml/other/sls/"),
        "for no address": _set("Destination", None),
        "for an address with a tail": _set("Destination", SLS + "x"),
        "from another issuer": lambda root: setattr(
            part(root, "Issuer"), "text", "https://evil.example"
        ),
        "from nobody": _without("Issuer"),
        "without an id": _set("ID", None),
        "of version 1.1": _set("Version", "1.1"),
        "that names nobody": _without("NameID"),
        "with an empty name": _name(None),
        "with two names": _second_name,
        "with an encrypted name": lambda root: root.replace(
            part(root, "NameID"), etree.Element(f"{{{SAML}}}EncryptedID")
        ),
        "with an element in the name": lambda root: etree.SubElement(part(root, "NameID"), "x"),
        "with a foreign qualifier": lambda root: part(root, "NameID").set(
            "NameQualifier", "https://evil.example"
        ),
        "with an empty index": _indexes(None),
        "with an empty index behind a good one": _indexes("s-1", None),
        "with three hundred indexes": _indexes(*(f"s-{n}" for n in range(300))),
        "that is an authentication request": _tag(f"{{{SAMLP}}}AuthnRequest"),
        "that is a response": _tag(f"{{{SAMLP}}}Response"),
        "without a namespace": _tag("LogoutRequest"),
        "with extensions": _extensions,
        "with an attribute nobody knows": _set("evil", "1"),
    },
)
def a_truly_signed_request(stage: SamlStage, bend: Bend) -> Any:
    browser = signed_in(stage)
    return call(browser, query(stage.idp.key, asked(stage, bend)))


@attack(
    "logout: octets",
    "R1 R34",
    door="sls",
    cases={
        "not deflated": lambda raw: base64.b64encode(raw).decode(),
        "deflated with a head": lambda raw: base64.b64encode(zlib.compress(raw)).decode(),
        "deflated twice": lambda raw: pack(base64.b64decode(pack(raw))),
        "not base64": lambda raw: "***",
        "empty": lambda raw: "",
        "cut off": lambda raw: base64.b64encode(base64.b64decode(pack(raw))[:-20]).decode(),
        "twenty megabytes of nothing": lambda raw: pack(b" " * 20_000_000 + raw),
        "three hundred kilobytes of spaces": lambda raw: pack(raw + b" " * 300_000),
        "with a DOCTYPE": lambda raw: pack(b"<!DOCTYPE x>" + raw),
        "with an entity": lambda raw: pack(
            b'<!DOCTYPE x [<!ENTITY e "u-0001">]>' + raw.replace(b"u-0001", b"&e;")
        ),
        "with a comment in the name": lambda raw: pack(raw.replace(b"u-0001", b"u-00<!-- -->01")),
        "in UTF-16": lambda raw: pack(raw.decode().encode("utf-16")),
        "with a null octet": lambda raw: pack(raw.replace(b"u-0001", b"u-0001\x00")),
        "with a second root": lambda raw: pack(raw + raw),
        "with forty levels": lambda raw: pack(raw.replace(b"u-0001", b"<a>" * 40 + b"</a>" * 40)),
    },
)
def a_truly_signed_request_that_is(stage: SamlStage, write: Callable[[bytes], str]) -> Any:
    browser = signed_in(stage)
    return call(browser, query(stage.idp.key, write(asked(stage))))


@attack(
    "logout: form games",
    "R34",
    door="sls",
    cases={
        "nothing": "",
        "an empty request": "SAMLRequest=",
        "words": "SAMLRequest=hello&SigAlg=x&Signature=y",
        "a hundred parameters": "&".join(f"a{n}=b" for n in range(100)),
        "twenty thousand letters": "SAMLRequest=" + "A" * 20_000,
        "a name alone": "SAMLRequest",
        "escapes of no octet": "SAMLRequest=%zz%&SigAlg=%&Signature=%",
        "escapes of no text": "SAMLRequest=%ff%fe&SigAlg=%ff&Signature=%ff",
    },
)
def a_query_of(stage: SamlStage, raw_query: str) -> Any:
    return call(signed_in(stage), raw_query)


# --- Answers to requests of ours


def answered(stage: SamlStage, bend: Bend | None = None, *, to: str = "") -> bytes:
    own = to or saml.request_id("acme", purpose="sign-out")
    root = etree.fromstring(stage.idp.logout_response(SLS, in_response_to=own))
    if bend:
        bend(root)
    return etree.tostring(root)


def _reply(stage: SamlStage, xml: bytes, key: Any = None) -> str:
    return query(key or stage.idp.key, xml, parameter="SAMLResponse")


@attack("logout: answers", "R34", door="sls")
def an_unsigned_answer(stage: SamlStage) -> Any:
    return call(signed_in(stage), f"SAMLResponse={quote(pack(answered(stage)), safe='')}")


@attack(
    "logout: answers", "R34", door="sls", cases={"a stranger": "stranger", "the neighbour": "other"}
)
def an_answer_signed_by(stage: SamlStage, who: str) -> Any:
    return call(signed_in(stage), _reply(stage, answered(stage), getattr(stage, who).key))


@attack("logout: answers", "R34", door="sls")
def the_same_answer_twice(stage: SamlStage) -> Any:
    browser = signed_in(stage)
    made = _reply(stage, answered(stage))
    call(browser, made)
    stage.settled()
    return call(browser, made)


@attack(
    "logout: answers",
    "R34",
    door="sls",
    cases={
        "a request that was never made": _set("InResponseTo", "_made-up"),
        "no request": _set("InResponseTo", None),
        "a request of another purpose": lambda root: root.set(
            "InResponseTo", saml.request_id("acme", purpose="sign-in")
        ),
        "a request to another provider": lambda root: root.set(
            "InResponseTo", saml.request_id("other", purpose="sign-out")
        ),
    },
)
def an_answer_to(stage: SamlStage, bend: Bend) -> Any:
    return call(signed_in(stage), _reply(stage, answered(stage, bend)))


@attack("logout: answers", "R34", door="sls")
def a_request_and_an_answer_at_once(stage: SamlStage) -> Any:
    browser = signed_in(stage)
    both = query(stage.idp.key, asked(stage)) + "&" + _reply(stage, answered(stage))
    return call(browser, both)
