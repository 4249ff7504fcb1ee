"""Changes to messages: trees, texts and octets, JSON and tokens. Each takes a `random.Random`, so a seed repeats it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

from lxml import etree

from tests.accounts.idp_saml import DS, SAML, SAMLP

WORDS = (
    "",
    " ",
    "root",
    "u-0001",
    "u-0002",
    "u-0001\u200b",
    "aws-admins",
    "https://other.example/metadata",
    "https://daypass.test/saml/acme/acs/",
    "https://daypass.test/saml/other/acs/",
    "#",
    "#xpointer(/)",
    "2.0",
    "1.1",
    "true",
    "null",
    "-1",
    "99999999999999999999",
    "2020-01-01T00:00:00Z",
    "2099-01-01T00:00:00Z",
    "2026-11-21T00:00:00.1234567890123Z",
    "urn:oasis:names:tc:SAML:2.0:status:Success",
    "urn:oasis:names:tc:SAML:2.0:status:Responder",
    "urn:oasis:names:tc:SAML:2.0:cm:bearer",
    "http://www.w3.org/2001/10/xml-exc-c14n#",
    "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
    "http://www.w3.org/2000/09/xmldsig#rsa-sha1",
    "A" * 3000,
    "Ünïcode ☃ 🦉",
    "\u202eadmins",
)
NAMES = tuple(
    f"{{{space}}}{name}"
    for space, names in (
        (
            SAML,
            "Assertion Issuer Subject NameID Audience Conditions Attribute AttributeValue Advice",
        ),
        (SAMLP, "Response Status StatusCode Extensions LogoutRequest SessionIndex"),
        (DS, "Signature SignedInfo Reference Object KeyInfo Transform"),
        ("urn:example", "Other"),
    )
    for name in names.split()
)
ATTRIBUTES = (
    "ID",
    "Id",
    "id",
    "Version",
    "Destination",
    "Recipient",
    "InResponseTo",
    "Name",
    "Format",
    "URI",
)
ATTRIBUTES += (
    "NotOnOrAfter",
    "NotBefore",
    "IssueInstant",
    "Algorithm",
    "Value",
    "Method",
    "SessionIndex",
)


# --- Trees


def tree(random: Random, root: etree._Element) -> str:
    """Change one thing in a tree, in place. Answers what was done."""
    change = random.choice(_TREE)
    change(random, root)
    return change.__name__.strip("_")


def _some(random: Random, root: etree._Element) -> etree._Element:
    return random.choice(list(root.iter("*")))


def _below(random: Random, root: etree._Element) -> etree._Element:
    return random.choice(list(root.iter("*"))[1:] or [root])


def _delete(random: Random, root: etree._Element) -> None:
    element = _below(random, root)
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)


def _duplicate(random: Random, root: etree._Element) -> None:
    element = _below(random, root)
    parent = element.getparent()
    if parent is not None:
        parent.insert(random.randrange(len(parent) + 1), deepcopy(element))


def _move(random: Random, root: etree._Element) -> None:
    element = deepcopy(_below(random, root))
    place = _some(random, root)
    if random.random() < 0.5:
        _delete(random, root)
    if len(list(root.iter("*"))) < 4000:
        place.insert(random.randrange(len(place) + 1), element)


def _swap(random: Random, root: etree._Element) -> None:
    parent = _some(random, root)
    if len(parent) > 1:
        children = list(parent)
        random.shuffle(children)
        parent[:] = children


def _rename(random: Random, root: etree._Element) -> None:
    _some(random, root).tag = random.choice(NAMES)


def _say(random: Random, root: etree._Element) -> None:
    leaves = [element for element in root.iter("*") if not len(element)]
    random.choice(leaves or [root]).text = random.choice(WORDS)


def _add_text(random: Random, root: etree._Element) -> None:
    element = _some(random, root)
    if random.random() < 0.5:
        element.text = (element.text or "") + random.choice(WORDS)
    else:
        element.tail = random.choice(WORDS)


def _set(random: Random, root: etree._Element) -> None:
    element = _some(random, root)
    names = [*element.attrib, random.choice(ATTRIBUTES)]
    element.set(random.choice(names), random.choice(WORDS))


def _unset(random: Random, root: etree._Element) -> None:
    element = _some(random, root)
    if element.attrib:
        del element.attrib[random.choice(list(element.attrib))]


def _copy_value(random: Random, root: etree._Element) -> None:
    """One attribute takes the value of another: ids and references are mistaken for each other."""
    values = [str(value) for element in root.iter("*") for value in element.attrib.values()]
    element = _some(random, root)
    if values and element.attrib:
        element.set(random.choice(list(element.attrib)), random.choice(values))


def _comment(random: Random, root: etree._Element) -> None:
    leaves = [element for element in root.iter("*") if not len(element) and element.text]
    if leaves:
        leaf = random.choice(leaves)
        text = leaf.text or ""
        cut = random.randrange(len(text) + 1)
        note = etree.Comment("note") if random.random() < 0.7 else etree.ProcessingInstruction("pi")
        note.tail, leaf.text = text[cut:], text[:cut]
        leaf.append(note)


def _wrap(random: Random, root: etree._Element) -> None:
    element = _below(random, root)
    parent = element.getparent()
    if parent is not None:
        around = etree.Element(random.choice(NAMES))
        parent.replace(element, around)
        around.append(element)


_TREE: tuple[Callable[[Random, etree._Element], None], ...] = (
    _delete,
    _duplicate,
    _duplicate,
    _move,
    _move,
    _swap,
    _rename,
    _say,
    _add_text,
    _set,
    _set,
    _unset,
    _copy_value,
    _comment,
    _wrap,
)


# --- Octets


def octets(random: Random, raw: bytes) -> bytes:
    """Change a few octets, cut, repeat, declare or encode anew."""
    kind = random.randrange(8)
    at = random.randrange(len(raw) + 1) if raw else 0
    if kind == 0:
        return raw[:at]
    if kind == 1:
        return raw[:at] + bytes([random.randrange(256)]) + raw[at:]
    if kind == 2:
        return raw[:at] + bytes([random.randrange(256)]) + raw[at + 1 :]
    if kind == 3:
        return b'<?xml version="1.0" encoding="ISO-8859-1"?>' + raw
    if kind == 4:
        return b"\xef\xbb\xbf" + raw
    if kind == 5:
        return raw.decode("utf-8", "replace").encode("utf-16")
    if kind == 6:
        return b"<!DOCTYPE a>" + raw
    part = raw[at : at + random.randrange(200)]
    return raw[:at] + part + raw[at:]


# --- JSON and tokens

VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    2**70,
    "",
    "root",
    [],
    ["daypass"],
    {},
    [[]],
    {"a": [1]},
)


def claims(random: Random, document: dict[str, Any]) -> None:
    """Change one member of an object, in place."""
    names = [
        *document,
        "sub",
        "iss",
        "aud",
        "exp",
        "nonce",
        "azp",
        "groups",
        "at_hash",
        "events",
        "sid",
        "typ",
    ]
    name = random.choice(names)
    kind = random.randrange(5)
    if kind == 0:
        document.pop(name, None)
    elif kind == 1:
        document[name] = random.choice(VALUES)
    elif kind == 2:
        document[name] = random.choice(WORDS)
    elif kind == 3 and name in document:
        document[name] = [document[name]]
    elif name in document and document:
        document[name] = document[random.choice(list(document))]


def header(random: Random, document: dict[str, Any]) -> None:
    """Change a JOSE header, in place."""
    name = random.choice(["alg", "kid", "typ", "crit", "jwk", "jku", "x5c", "b64", "cty", "zip"])
    values = [
        "none",
        "HS256",
        "RS256",
        "ES256",
        "RS384",
        "JWT",
        "logout+jwt",
        "at+jwt",
        *WORDS[:4],
        *VALUES,
    ]
    document[name] = random.choice(values)


def token(random: Random, text: str) -> str:
    """Change a compact token as a text: parts swapped, doubled, cut, padded, written otherwise."""
    parts = text.split(".")
    kind = random.randrange(9)
    if kind == 0:
        random.shuffle(parts)
    elif kind == 1:
        parts.append(random.choice(parts))
    elif kind == 2:
        parts.pop(random.randrange(len(parts)))
    elif kind == 3:
        at = random.randrange(len(parts))
        parts[at] = parts[at] + "=" * random.randrange(1, 4)
    elif kind == 4:
        at = random.randrange(len(parts))
        cut = random.randrange(len(parts[at]) + 1)
        parts[at] = parts[at][:cut]
    elif kind == 5 and len(parts) == 3:
        parts[2] = ""
    elif kind == 6:
        at, raw = random.randrange(len(parts)), bytes(random.randrange(256) for _ in range(40))
        parts[at] = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    elif kind == 7 and len(parts) == 3:
        return json.dumps({"protected": parts[0], "payload": parts[1], "signature": parts[2]})
    else:
        whole = ".".join(parts)
        at = random.randrange(len(whole) + 1)
        return (
            whole[:at]
            + random.choice(["A", "-", "+", "/", "\n", " ", "é", "%00"])
            + whole[at + 1 :]
        )
    return ".".join(parts)
