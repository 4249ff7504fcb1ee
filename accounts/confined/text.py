"""From bytes to a tree: rules about bytes first, then a bounded look, then the parse. Nothing is resolved or fetched.

expat counts before libxml2 builds anything, so that a message which is large in any direction costs its own length and
no more (threats.md R1, A5.2).
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from dataclasses import dataclass
from typing import NoReturn
from xml.parsers import expat

from lxml import etree

from accounts.confined.values import MAX_MESSAGE, refused


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a document may be in each direction."""

    size: int
    elements: int
    depth: int
    attributes_each: int
    attributes: int
    value: int
    namespaces: int


MESSAGE = Bounds(
    size=MAX_MESSAGE,
    elements=5_000,
    depth=16,
    attributes_each=16,
    attributes=12_000,
    value=4_096,
    namespaces=4_000,
)
METADATA = Bounds(
    size=4
    * 1024
    * 1024,  # canonical form is longer than what arrives, which is at most half of this
    elements=40_000,
    depth=32,
    attributes_each=32,
    attributes=60_000,
    value=8_192,
    namespaces=8_000,
)

_DECLARATION = re.compile(
    r"""<\?xml\ version=(["'])1\.0\1
    (?:\ +encoding=(["'])[Uu][Tt][Ff]-8\2)?
    (?:\ +standalone=(["'])(?:yes|no)\3)?
    \ *\?>""",
    re.VERBOSE,
)
# C0 without tab and line ends, DEL and C1, the byte order mark, and what is no character at all.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")


def decode(unverified_message: str) -> bytes:
    """The XML of a posted message. Raises SignInRefused for what is too long or not base64."""
    if not unverified_message or len(unverified_message) > MAX_MESSAGE:
        raise refused("The message is empty or too long.")
    try:
        return base64.b64decode("".join(unverified_message.split()), validate=True)
    except (binascii.Error, ValueError):
        raise refused("The message is not base64.") from None


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


def check_text(unverified_xml: bytes, bounds: Bounds = MESSAGE) -> str:
    """The document as text without its declaration: UTF-8, no markup but elements. Raises SignInRefused."""
    if len(unverified_xml) > bounds.size:
        raise refused("The message is too long.")
    try:
        text = unverified_xml.decode("utf-8")
    except UnicodeDecodeError:
        raise refused("The message is not UTF-8.") from None
    found = _FORBIDDEN.search(text)
    if found:
        raise refused(f"The message holds the character U+{ord(found[0]):04X}, which has no place.")
    declaration = _DECLARATION.match(text)
    body = text[declaration.end() :] if declaration else text
    if "<!" in body or "<?" in body:
        raise refused(
            "The message holds a DOCTYPE, a comment, CDATA or a processing instruction, or is declared as "
            "something else than XML 1.0 in UTF-8."
        )
    return body


def check_bounds(body: str, bounds: Bounds) -> None:
    """One well-formed document within the bounds. Raises SignInRefused, at the first element beyond them."""
    elements = depth = attributes = namespaces = 0

    def start(_: str, pairs: list[str]) -> None:
        nonlocal elements, depth, attributes, namespaces
        elements += 1
        depth += 1
        attributes += len(pairs) // 2
        if elements > bounds.elements:
            raise refused("The message has too many elements.")
        if depth > bounds.depth:
            raise refused("The message is nested too deeply.")
        if len(pairs) // 2 > bounds.attributes_each or attributes > bounds.attributes:
            raise refused("The message has too many attributes.")
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            if len(name) + len(value) > bounds.value:
                raise refused("An attribute of the message is too long.")
            namespaces += name == "xmlns" or name.startswith("xmlns:")
        if namespaces > bounds.namespaces:
            raise refused("The message declares too many namespaces.")

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*_: object) -> NoReturn:
        raise refused("The message holds a DOCTYPE.")

    parser = expat.ParserCreate("utf-8")
    parser.ordered_attributes = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(body.encode(), True)
    except (expat.ExpatError, ValueError):
        raise refused("The message is not XML.") from None


def build(body: str) -> etree._Element:
    """The tree of a text whose bounds were checked. Raises SignInRefused."""
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        remove_blank_text=False,
        encoding="utf-8",
    )
    try:
        return etree.fromstring(body.encode(), parser)
    except (etree.XMLSyntaxError, ValueError):
        raise refused("The message is not XML.") from None


def parse(unverified_xml: bytes, bounds: Bounds = MESSAGE) -> etree._Element:
    """Rules about bytes, bounds, and then the tree. Raises SignInRefused."""
    body = check_text(unverified_xml, bounds)
    check_bounds(body, bounds)
    return build(body)


def alone(element: etree._Element) -> etree._Element:
    """The element as a document of its own, with every namespace declaration that it could see where it stood."""
    return build(etree.tostring(element, encoding="unicode", with_tail=False))


def canonical(element: etree._Element, prefixes: tuple[str, ...] = ()) -> bytes:
    """Exclusive canonical form of a whole document, without comments (xml-exc-c14n)."""
    made: bytes = etree.tostring(
        element,
        method="c14n",
        exclusive=True,
        with_comments=False,
        inclusive_ns_prefixes=list(prefixes) or None,
    )
    return made


def plain(element: etree._Element) -> str | None:
    """The text of an element without children, None otherwise."""
    return None if len(element) else (element.text or "")


def inside(element: etree._Element | None, path: str) -> etree._Element:
    """What stands at a path of a message whose shape was checked; a refusal where it does not."""
    found = element.find(path) if element is not None else None
    if found is None:
        raise refused("A part of the message is missing.")
    return found


def algorithm(element: etree._Element) -> str:
    return str(element.get("Algorithm"))
