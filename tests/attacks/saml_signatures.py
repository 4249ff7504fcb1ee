"""Signatures that are missing, by the wrong key, of the wrong kind, or over something else than they seem to be."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from lxml import etree

from tests.accounts.idp_saml import DS, SAML, SAMLP, certificate
from tests.attacks import dsig
from tests.attacks.dsig import (
    BASE64,
    C14N,
    C14N_11,
    ENVELOPED,
    EXC_C14N,
    MORE,
    MORE_2007,
    XMLENC,
    XPATH,
    XPATH_FILTER,
    XSLT,
    Recipe,
    Reference,
)
from tests.attacks.registry import attack
from tests.attacks.saml_wrapping import made_evil, part, signature_of
from tests.attacks.stages import GOOD, HONEST, SamlStage

# --- Stripped


def _without(root: etree._Element, *, response: bool, assertion: bool) -> None:
    for element, gone in ((root, response), (root.find(f"{{{SAML}}}Assertion"), assertion)):
        if gone:
            element.remove(signature_of(element))


@attack(
    "stripped signatures",
    "R2",
    cases={
        "the response's": (True, False, True),
        "the assertion's": (False, True, True),
        "both": (True, True, True),
        "the assertion's where the response's is not demanded": (False, True, False),
        "both where the response's is not demanded": (True, True, False),
    },
)
def signatures_cut_out_of_a_signed_answer(stage: SamlStage, how: tuple[bool, bool, bool]) -> Any:
    stage.set(response_signed=how[2])
    browser, root = stage.ask()
    stage.sign(root)
    _without(root, response=how[0], assertion=how[1])
    return stage.send(browser, root)


@attack("stripped signatures", "R2")
def a_response_signed_around_an_assertion_that_never_was(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.sign(root, assertion=None)
    assert dsig.fits(root, stage.idp.certificate)
    return stage.send(browser, root)


def _empty(signature: etree._Element) -> None:
    for child in list(signature):
        signature.remove(child)


def _value(text: str | None) -> Callable[[etree._Element], None]:
    def bend(signature: etree._Element) -> None:
        signature.find(f"{{{DS}}}SignatureValue").text = text

    return bend


def _drop(name: str) -> Callable[[etree._Element], None]:
    def bend(signature: etree._Element) -> None:
        found = next(signature.iter(f"{{{DS}}}{name}"))
        found.getparent().remove(found)

    return bend


def _twice(name: str) -> Callable[[etree._Element], None]:
    def bend(signature: etree._Element) -> None:
        found = next(signature.iter(f"{{{DS}}}{name}"))
        found.addnext(deepcopy(found))

    return bend


def _digest_value(text: str | None) -> Callable[[etree._Element], None]:
    def bend(signature: etree._Element) -> None:
        next(signature.iter(f"{{{DS}}}DigestValue")).text = text

    return bend


def _renamed_namespace(signature: etree._Element) -> None:
    for element in list(signature.iter()):
        element.tag = str(element.tag).replace(DS, "urn:example:")


@attack(
    "stripped signatures",
    "R1 R2",
    cases={
        "an empty Signature": _empty,
        "an empty value": _value(None),
        "a value of one octet": _value("AA=="),
        "a value of zeros": _value(base64.b64encode(bytes(256)).decode()),
        "a value that is not base64": _value("***"),
        "no value": _drop("SignatureValue"),
        "no SignedInfo": _drop("SignedInfo"),
        "no Reference": _drop("Reference"),
        "no Transforms": _drop("Transforms"),
        "no DigestValue": _drop("DigestValue"),
        "no DigestMethod": _drop("DigestMethod"),
        "no SignatureMethod": _drop("SignatureMethod"),
        "no CanonicalizationMethod": _drop("CanonicalizationMethod"),
        "an empty digest": _digest_value(None),
        "a short digest": _digest_value("AAAA"),
        "two values": _twice("SignatureValue"),
        "two SignedInfo": _twice("SignedInfo"),
        "two SignatureMethod": _twice("SignatureMethod"),
        "two DigestValue": _twice("DigestValue"),
        "another namespace": _renamed_namespace,
    },
)
def a_mutilated_signature(stage: SamlStage, bend: Callable[[etree._Element], None]) -> Any:
    stage.set(response_signed=False)
    browser, root = stage.ask()
    stage.sign(root, assertion=Recipe(bend=bend), response=None)
    return stage.send(browser, root)


@attack("stripped signatures", "R2")
def a_second_signature_beside_the_good_one(stage: SamlStage) -> Any:
    stage.set(response_signed=False)
    browser, root = stage.ask()
    stage.sign(root, response=None)
    assertion = root.find(f"{{{SAML}}}Assertion")
    dsig.sign(assertion, stage.stranger.key)
    return stage.send(browser, root)


# --- Confused keys


@attack("confused keys", "R2 R33")
def signed_by_a_stranger(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    return stage.send(browser, stage.sign(root, key=stage.stranger.key))


@attack("confused keys", "R2 R33")
def signed_by_a_stranger_who_sends_the_certificate(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    recipe = Recipe(certificate=stage.stranger.certificate)
    stage.sign(root, assertion=recipe, response=recipe, key=stage.stranger.key)
    return stage.send(browser, root)


@attack("confused keys", "R2 R33")
def signed_by_a_stranger_who_sends_the_providers_certificate(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    recipe = Recipe(certificate=stage.idp.certificate)
    stage.sign(root, assertion=recipe, response=recipe, key=stage.stranger.key)
    return stage.send(browser, root)


@attack("confused keys", "R2 R33")
def signed_by_a_stranger_who_sends_both_certificates(stage: SamlStage) -> Any:
    def both(signature: etree._Element) -> None:
        data = next(signature.iter(f"{{{DS}}}X509Data"))
        first = "".join(stage.idp.certificate.strip().splitlines()[1:-1])
        made = etree.Element(f"{{{DS}}}X509Certificate")
        made.text = first
        data.insert(0, made)

    browser, root = stage.ask()
    recipe = Recipe(certificate=stage.stranger.certificate, bend=both)
    stage.sign(root, assertion=recipe, response=recipe, key=stage.stranger.key)
    return stage.send(browser, root)


@attack("confused keys", "R2 R33")
def signed_by_a_stranger_whose_bare_key_is_sent(stage: SamlStage) -> Any:
    numbers = stage.stranger.key.public_key().public_numbers()

    def key_value(signature: etree._Element) -> None:
        info = etree.SubElement(signature, f"{{{DS}}}KeyInfo")
        value = etree.SubElement(
            etree.SubElement(info, f"{{{DS}}}KeyValue"), f"{{{DS}}}RSAKeyValue"
        )
        for name, number in (("Modulus", numbers.n), ("Exponent", numbers.e)):
            raw = number.to_bytes((number.bit_length() + 7) // 8)
            etree.SubElement(value, f"{{{DS}}}{name}").text = base64.b64encode(raw).decode()

    browser, root = stage.ask()
    recipe = Recipe(bend=key_value)
    stage.sign(root, assertion=recipe, response=recipe, key=stage.stranger.key)
    return stage.send(browser, root)


@attack("confused keys", "R2 R33")
def signed_by_the_neighbour_in_the_providers_name(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    return stage.send(browser, stage.sign(root, key=stage.other.key))


@attack("confused keys", "R2")
def an_assertion_by_the_neighbour_in_a_response_by_the_provider(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.sign(root, response=None, key=stage.other.key)
    stage.sign(root, assertion=None)
    assert dsig.fits(root, stage.idp.certificate)
    return stage.send(browser, root)


@attack("confused keys", "R2")
def an_assertion_by_the_provider_in_a_response_by_the_neighbour(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.sign(root, response=None)
    stage.sign(root, assertion=None, key=stage.other.key)
    return stage.send(browser, root)


def _public_secrets(stage: SamlStage) -> dict[str, bytes]:
    public = stage.idp.key.public_key()
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    body = "".join(stage.idp.certificate.strip().splitlines()[1:-1])
    return {
        "the certificate in PEM": stage.idp.certificate.encode(),
        "the certificate's octets": base64.b64decode(body),
        "the public key in PEM": public.public_bytes(serialization.Encoding.PEM, spki),
        "the public key's octets": public.public_bytes(serialization.Encoding.DER, spki),
        "nothing": b"",
    }


@attack(
    "confused keys",
    "R2 R31",
    cases={
        f"{secret}, {name.rpartition('#')[2]}": (secret, name)
        for secret in (
            "the certificate in PEM",
            "the certificate's octets",
            "the public key in PEM",
            "the public key's octets",
            "nothing",
        )
        for name in (MORE + "hmac-sha256",)
    }
    | {"nothing, hmac-sha1": ("nothing", DS + "hmac-sha1")},
)
def a_shared_secret_that_everybody_knows(stage: SamlStage, how: tuple[str, str]) -> Any:
    browser, root = stage.ask()
    recipe = Recipe(algorithm=how[1])
    secret = _public_secrets(stage)[how[0]]
    inner = root.find(f"{{{SAML}}}Assertion")
    dsig.sign(inner, secret, recipe)
    dsig.sign(root, secret, recipe)
    return stage.send(browser, root)


@attack("confused keys", "R31")
def a_message_code_cut_to_eight_bits(stage: SamlStage) -> Any:
    def cut(info: etree._Element) -> None:
        method = info.find(f"{{{DS}}}SignatureMethod")
        etree.SubElement(method, f"{{{DS}}}HMACOutputLength").text = "8"

    browser, root = stage.ask()
    recipe = Recipe(algorithm=MORE + "hmac-sha256", bend_info=cut, bend=_value("AA=="))
    for element in (root.find(f"{{{SAML}}}Assertion"), root):
        dsig.sign(element, b"", recipe)
    return stage.send(browser, root)


@cache
def _foreign_key(kind: str) -> Any:
    match kind:
        case "dsa":
            return dsa.generate_private_key(2048)
        case "ec":
            return ec.generate_private_key(ec.SECP256R1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "rsa-1024":
            return rsa.generate_private_key(public_exponent=65537, key_size=1024)
    raise ValueError(kind)


@attack(
    "confused keys",
    "R31 R33",
    cases={
        "DSA": ("dsa", "http://www.w3.org/2009/xmldsig11#dsa-sha256"),
        "an elliptic curve": ("ec", MORE + "ecdsa-sha256"),
        "Ed25519": ("ed25519", "http://www.w3.org/2021/04/xmldsig-more#eddsa-ed25519"),
        "short RSA": ("rsa-1024", MORE + "rsa-sha256"),
    },
)
def a_key_of_another_kind_under_the_same_name(stage: SamlStage, how: tuple[str, str]) -> Any:
    key = _foreign_key(how[0])
    browser, root = stage.ask()
    recipe = Recipe(algorithm=how[1], certificate=dsig.self_signed(key))
    stage.sign(root, assertion=recipe, response=recipe, key=key)
    return stage.send(browser, root)


@attack("confused keys", "R31 R33")
def an_rsa_signature_that_says_it_is_of_a_curve(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    recipe = Recipe(algorithm=MORE + "ecdsa-sha256")
    stage.sign(root, assertion=recipe, response=recipe)
    return stage.send(browser, root)


@attack("confused keys", "R33")
def the_key_of_a_certificate_that_was_taken_away(stage: SamlStage) -> Any:
    stage.set(certificates=[stage.other.certificate])
    browser, root = stage.ask()
    return stage.send(browser, stage.sign(root))


@attack("confused keys", "R33")
def a_provider_of_which_no_certificate_is_known(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.row.certificates = []
    stage.row.save()
    stage.settled()
    recipe = Recipe(certificate=stage.idp.certificate)
    return stage.send(browser, stage.sign(root, assertion=recipe, response=recipe))


def _key_info(content: str) -> Callable[[etree._Element], None]:
    def bend(signature: etree._Element) -> None:
        made = etree.fromstring(f'<ds:KeyInfo xmlns:ds="{DS}">{content}</ds:KeyInfo>')
        signature.append(made)

    return bend


@contextmanager
def watched_places() -> Iterator[tuple[str, str, list[str]]]:
    """A file of our own and a loopback server that counts what is asked of it: nobody may look at either."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "1")
            self.end_headers()
            self.wfile.write(b"x")

        def do_HEAD(self) -> None:
            asked.append(self.path)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "watched"
        file.write_text("<watched/>")
        try:
            yield file.as_uri(), f"http://127.0.0.1:{server.server_port}/watched", asked
        finally:
            server.shutdown()
            server.server_close()


def _send_watched(stage: SamlStage, make: Callable[[str, str], Recipe]) -> Any:
    """Send an answer that points at the watched places; nothing may have been asked of the server."""
    stage.set(response_signed=False)
    browser, root = stage.ask()
    with watched_places() as (file, address, asked):
        dsig.sign(root.find(f"{{{SAML}}}Assertion"), stage.idp.key, make(file, address))
        response = stage.send(browser, root)
    assert asked == [], f"{asked} was asked of a server that the message names"
    return response


@attack(
    "pointers to elsewhere",
    "R1",
    cases={
        "RetrievalMethod, http": '<ds:RetrievalMethod URI="{http}"/>',
        "RetrievalMethod, file": '<ds:RetrievalMethod URI="{file}"/>',
        "RetrievalMethod, raw certificate": (
            '<ds:RetrievalMethod Type="http://www.w3.org/2000/09/xmldsig#rawX509Certificate" '
            'URI="{http}"/>'
        ),
        "KeyInfoReference": (
            '<x:KeyInfoReference xmlns:x="http://www.w3.org/2009/xmldsig11#" URI="{http}"/>'
        ),
        "an encrypted key": (
            '<x:EncryptedKey xmlns:x="http://www.w3.org/2001/04/xmlenc#"><x:CipherData>'
            '<x:CipherReference URI="{http}"/></x:CipherData></x:EncryptedKey>'
        ),
        "PGP": "<ds:PGPData><ds:PGPKeyID>AAAA</ds:PGPKeyID></ds:PGPData>",
        "management data": "<ds:MgmtData>x</ds:MgmtData>",
        "DER-encoded key": (
            '<x:DEREncodedKeyValue xmlns:x="http://www.w3.org/2009/xmldsig11#">AAAA'
            "</x:DEREncodedKeyValue>"
        ),
        "a key agreement": (
            '<x:AgreementMethod xmlns:x="http://www.w3.org/2001/04/xmlenc#" Algorithm="urn:x"/>'
        ),
    },
)
def a_key_info_with(stage: SamlStage, content: str) -> Any:
    return _send_watched(
        stage,
        lambda file, http: Recipe(
            bend=_key_info(content.replace("{http}", http).replace("{file}", file))
        ),
    )


# --- Weak algorithms


@attack(
    "weak algorithms",
    "R31",
    cases={
        name: name
        for name in (
            DS + "rsa-sha1",
            MORE + "rsa-md5",
            MORE + "rsa-sha224",
            MORE + "rsa-ripemd160",
            MORE_2007 + "rsa-whirlpool",
            MORE_2007 + "sha256-rsa-MGF1",
            MORE_2007 + "sha1-rsa-MGF1",
            MORE_2007 + "rsa-pss",
            DS + "dsa-sha1",
            "urn:example:none",
            "",
            " " + MORE + "rsa-sha256",
            MORE.upper() + "RSA-SHA256",
        )
    },
)
def a_signature_by(stage: SamlStage, algorithm: str) -> Any:
    browser, root = stage.ask()
    recipe = Recipe(algorithm=algorithm)
    return stage.send(browser, stage.sign(root, assertion=recipe, response=recipe))


@attack("weak algorithms", "R31")
def only_the_inner_signature_is_weak(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.sign(root, assertion=Recipe(algorithm=DS + "rsa-sha1"))
    return stage.send(browser, root)


@attack("weak algorithms", "R31")
def only_the_outer_signature_is_weak(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.sign(root, response=Recipe(algorithm=DS + "rsa-sha1"))
    return stage.send(browser, root)


@attack(
    "weak algorithms",
    "R31",
    cases={
        name: name
        for name in (
            DS + "sha1",
            MORE + "md5",
            MORE + "sha224",
            XMLENC + "ripemd160",
            MORE_2007 + "sha3-256",
            "urn:example:identity",
            "",
        )
    },
)
def a_digest_by(stage: SamlStage, algorithm: str) -> Any:
    browser, root = stage.ask()
    recipe = Recipe(digest=algorithm)
    return stage.send(browser, stage.sign(root, assertion=recipe, response=recipe))


@attack(
    "weak algorithms",
    "R1 R31",
    cases={
        name: name
        for name in (
            C14N,
            C14N + "#WithComments",
            C14N_11,
            C14N_11 + "#WithComments",
            EXC_C14N + "WithComments",
            "urn:example:as-it-stands",
            "",
        )
    },
)
def a_signed_info_canonicalised_by(stage: SamlStage, method: str) -> Any:
    browser, root = stage.ask()
    recipe = Recipe(c14n=method)
    return stage.send(browser, stage.sign(root, assertion=recipe, response=recipe))


# --- Transforms


def _transform(algorithm: str, content: str = "") -> etree._Element:
    return etree.fromstring(
        f'<ds:Transform xmlns:ds="{DS}" Algorithm="{algorithm}">{content}</ds:Transform>'
    )


def _not_the_name(element: etree._Element) -> bytes:
    """The canonical form as a transform would leave it that takes the NameID out of the digest."""
    copy = dsig.without_signature(element)
    for name in list(copy.iter(f"{{{SAML}}}NameID")):
        name.text = None
    return dsig.canonical(copy)


_XPATH_SKIP = _transform(
    XPATH,
    '<ds:XPath xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">'
    "not(ancestor-or-self::ds:Signature) and not(self::text()[parent::saml:NameID])</ds:XPath>",
)
_FILTER = _transform(
    XPATH_FILTER,
    f'<f:XPath xmlns:f="{XPATH_FILTER}" Filter="subtract">//*[local-name()="NameID"]/text()</f:XPath>',
)
_STYLE = _transform(
    XSLT,
    '<xsl:stylesheet xmlns:xsl="http://www.w3.org/1999/XSL/Transform" version="1.0">'
    '<xsl:template match="/"><fixed/></xsl:template></xsl:stylesheet>',
)


@attack(
    "transforms",
    "R1",
    cases={
        "XPath that leaves the name out": [ENVELOPED, _XPATH_SKIP, EXC_C14N],
        "XPath alone": [_XPATH_SKIP],
        "XPath filter": [ENVELOPED, _FILTER, EXC_C14N],
        "XSLT": [ENVELOPED, _STYLE],
        "XSLT first": [_STYLE, ENVELOPED, EXC_C14N],
        "base64": [ENVELOPED, BASE64],
        "base64 after the canonical form": [ENVELOPED, EXC_C14N, BASE64],
        "decryption": [ENVELOPED, "http://www.w3.org/2002/07/decrypt#XML", EXC_C14N],
        "XPointer": [ENVELOPED, "http://www.w3.org/2001/04/xmldsig-more/xptr", EXC_C14N],
        "XInclude": [ENVELOPED, "http://www.w3.org/2001/XInclude", EXC_C14N],
        "an unknown one": [ENVELOPED, EXC_C14N, "urn:example:nothing"],
    },
)
def a_truly_signed_answer_transformed_by(stage: SamlStage, transforms: list[Any]) -> Any:
    """The provider's own key signs, and the digest leaves out what the transform would."""
    browser, root = stage.ask()
    inner = root.find(f"{{{SAML}}}Assertion")
    reference = Reference(f"#{inner.get('ID')}", transforms, over=_not_the_name)
    stage.sign(root, assertion=Recipe(references=(reference,)))
    return stage.send(browser, root)


@attack(
    "transforms",
    "R1 R31",
    cases={
        "inclusive": [ENVELOPED, C14N],
        "inclusive with comments": [ENVELOPED, C14N + "#WithComments"],
        "inclusive 1.1": [ENVELOPED, C14N_11],
        "exclusive with comments": [ENVELOPED, EXC_C14N + "WithComments"],
        "none": [],
        "enveloped alone": [ENVELOPED],
        "canonical form alone": [EXC_C14N],
        "enveloped twice": [ENVELOPED, ENVELOPED, EXC_C14N],
        "canonical form twice": [ENVELOPED, EXC_C14N, EXC_C14N],
        "in the other order": [EXC_C14N, ENVELOPED],
        "a hundred": [ENVELOPED, *[EXC_C14N] * 100],
    },
)
def a_truly_signed_answer_with_transforms(stage: SamlStage, transforms: list[str]) -> Any:
    browser, root = stage.ask()
    inner = root.find(f"{{{SAML}}}Assertion")

    def over(element: etree._Element) -> bytes:
        last = next((t for t in reversed(transforms) if "c14n" in t), EXC_C14N)
        return dsig.canonical(dsig.without_signature(element), last)

    reference = Reference(f"#{inner.get('ID')}", transforms, over=over)
    stage.sign(root, assertion=Recipe(references=(reference,)))
    return stage.send(browser, root)


@attack(
    "transforms",
    "R1",
    cases={
        "outside its transform": lambda info: info.append(
            etree.Element(f"{{{EXC_C14N}}}InclusiveNamespaces", PrefixList="saml")
        ),
        "in the enveloped transform": lambda info: next(info.iter(f"{{{DS}}}Transform")).append(
            etree.Element(f"{{{EXC_C14N}}}InclusiveNamespaces", PrefixList="saml")
        ),
        "in the digest's method": lambda info: next(info.iter(f"{{{DS}}}DigestMethod")).append(
            etree.Element(f"{{{EXC_C14N}}}InclusiveNamespaces", PrefixList="saml")
        ),
        "with an element inside": lambda info: etree.SubElement(
            etree.SubElement(
                list(info.iter(f"{{{DS}}}Transform"))[1],
                f"{{{EXC_C14N}}}InclusiveNamespaces",
                PrefixList="saml",
            ),
            f"{{{DS}}}Object",
        ),
        "twice": lambda info: [
            etree.SubElement(
                list(info.iter(f"{{{DS}}}Transform"))[1],
                f"{{{EXC_C14N}}}InclusiveNamespaces",
                PrefixList=prefixes,
            )
            for prefixes in ("saml", "samlp")
        ],
        "with a list of 20,000 prefixes": lambda info: etree.SubElement(
            list(info.iter(f"{{{DS}}}Transform"))[1],
            f"{{{EXC_C14N}}}InclusiveNamespaces",
            PrefixList=" ".join(f"p{n}" for n in range(20_000)),
        ),
        "without its attribute": lambda info: etree.SubElement(
            list(info.iter(f"{{{DS}}}Transform"))[1], f"{{{EXC_C14N}}}InclusiveNamespaces"
        ),
    },
)
def inclusive_namespaces(stage: SamlStage, bend: Callable[[etree._Element], None]) -> Any:
    browser, root = stage.ask()
    stage.sign(root, assertion=Recipe(bend_info=bend))
    return stage.send(browser, root)


# --- References


def _references(*made: Reference) -> Recipe:
    return Recipe(references=made)


@attack(
    "references",
    "R1 R2",
    cases={
        "none": (),
        "an empty one": ("",),
        "one without an address": (None,),
        "the response from inside the assertion": ("#{response}",),
        "itself and the response": ("#{assertion}", "#{response}"),
        "itself twice": ("#{assertion}", "#{assertion}"),
        "itself and nothing": ("#{assertion}", ""),
        "an id that nobody has": ("#_nobody",),
        "an empty fragment": ("#",),
        "an id without the sign": ("{assertion}",),
        "an address before the fragment": ("https://idp.example/#{assertion}",),
        "an escaped fragment": ("#%5F{tail}",),
        "a space after": ("#{assertion} ",),
        "xpointer to the root": ("#xpointer(/)",),
        "xpointer to the id": ("#xpointer(id('{assertion}'))",),
        "xpointer to a path": ("#xpointer(/*/*[3])",),
        "a script": ("javascript:1",),
        "data": ("data:text/xml,<a/>",),
        "two fragments": ("#{assertion}#{response}",),
    },
)
def a_signature_that_refers_to(stage: SamlStage, addresses: tuple[str | None, ...]) -> Any:
    stage.set(response_signed=False)
    browser, root = stage.ask()
    inner = root.find(f"{{{SAML}}}Assertion")
    ids = {
        "assertion": inner.get("ID"),
        "response": root.get("ID"),
        "tail": inner.get("ID", "")[1:],
    }

    def own(element: etree._Element) -> bytes:
        return dsig.canonical(dsig.without_signature(element))

    made = [Reference(None if one is None else one.format(**ids), over=own) for one in addresses]
    stage.sign(root, assertion=_references(*made), response=None)
    return stage.send(browser, root)


@attack("references", "R1 R28")
def three_thousand_references(stage: SamlStage) -> Any:
    stage.set(response_signed=False)
    browser, root = stage.ask()
    inner = root.find(f"{{{SAML}}}Assertion")
    one = Reference(f"#{inner.get('ID')}", (), over=lambda element: b"")
    stage.sign(root, assertion=_references(*[one] * 3000), response=None)
    return stage.send(browser, root)


@attack("references", "R1 R28")
def as_many_references_as_fit(stage: SamlStage) -> Any:
    stage.set(response_signed=False)
    browser, root = stage.ask()
    inner = root.find(f"{{{SAML}}}Assertion")
    one = Reference(f"#{inner.get('ID')}", over=lambda element: b"")
    stage.sign(root, assertion=_references(*[one] * 300), response=None)
    return stage.send(browser, root)


@attack(
    "pointers to elsewhere",
    "R1",
    cases={
        "http, alone": ("{http}",),
        "http, after its own": ("own", "{http}"),
        "http, before its own": ("{http}", "own"),
        "https": ("own", "https://127.0.0.1:1/x"),
        "ftp": ("own", "ftp://127.0.0.1:1/x"),
        "file, alone": ("{file}",),
        "file, after its own": ("own", "{file}"),
        "a bare path": ("own", "{path}"),
        "a relative path": ("own", "watched"),
        "a path without a host": ("own", "file:{path}"),
        "a network path": ("own", "//127.0.0.1/x"),
        "ldap": ("own", "ldap://127.0.0.1:1/x"),
    },
)
def a_reference_by(stage: SamlStage, addresses: tuple[str, ...]) -> Any:
    def make(file: str, http: str) -> Recipe:
        return _references(
            *(
                Reference(
                    address.replace("{http}", http)
                    .replace("{file}", file)
                    .replace("{path}", file.removeprefix("file://")),
                    (),
                    over=lambda element: b"<watched/>",
                )
                if address != "own"
                else Reference("#own", over=lambda e: dsig.canonical(dsig.without_signature(e)))
                for address in addresses
            )
        )

    stage.set(response_signed=False)
    browser, root = stage.ask(assertion_id="own")
    with watched_places() as (file, http, asked):
        dsig.sign(root.find(f"{{{SAML}}}Assertion"), stage.idp.key, make(file, http))
        response = stage.send(browser, root)
    assert asked == [], f"{asked} was asked of a server that the message names"
    return response


@attack("pointers to elsewhere", "R1")
def a_reference_with_a_type(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    inner = root.find(f"{{{SAML}}}Assertion")
    reference = Reference(f"#{inner.get('ID')}", attributes={"Type": DS + "Manifest"})
    stage.sign(root, assertion=_references(reference))
    return stage.send(browser, root)


def _manifest(signature: etree._Element, *, address: str) -> None:
    made = etree.SubElement(signature, f"{{{DS}}}Object")
    manifest = etree.SubElement(made, f"{{{DS}}}Manifest")
    reference = etree.SubElement(manifest, f"{{{DS}}}Reference", URI=address)
    etree.SubElement(reference, f"{{{DS}}}DigestMethod", Algorithm=XMLENC + "sha256")
    etree.SubElement(reference, f"{{{DS}}}DigestValue").text = "AAAA"


@attack("pointers to elsewhere", "R1", cases={"http": "{http}", "file": "{file}"})
def a_manifest_that_points_to(stage: SamlStage, address: str) -> Any:
    return _send_watched(
        stage,
        lambda file, http: Recipe(
            bend=lambda signature: _manifest(
                signature, address=address.replace("{http}", http).replace("{file}", file)
            )
        ),
    )


@attack(
    "references",
    "R1",
    cases={
        "an empty Object": f'<ds:Object xmlns:ds="{DS}"/>',
        "an Object with text": f'<ds:Object xmlns:ds="{DS}">x</ds:Object>',
        "SignatureProperties": (
            f'<ds:Object xmlns:ds="{DS}"><ds:SignatureProperties>'
            '<ds:SignatureProperty Target="#x"/></ds:SignatureProperties></ds:Object>'
        ),
        "a foreign element": '<x xmlns="urn:example"/>',
    },
)
def a_signature_that_also_holds(stage: SamlStage, content: str) -> Any:
    browser, root = stage.ask()
    bend = Recipe(bend=lambda signature: signature.append(etree.fromstring(content)))
    stage.sign(root, assertion=bend)
    return stage.send(browser, root)


# --- Ids


@attack(
    "ids",
    "R2",
    cases={
        "Id": {"Id": "{assertion}"},
        "id": {"id": "{assertion}"},
        "xml:id": {"{http://www.w3.org/XML/1998/namespace}id": "{assertion}"},
        "a namespaced ID": {"{urn:example}ID": "{assertion}"},
        "wsu:Id": {
            "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd}Id": (
                "{assertion}"
            )
        },
        "SAML 1's AssertionID": {"AssertionID": "{assertion}"},
        "SAML 1's ResponseID": {"ResponseID": "{assertion}"},
        "a second ID": {"ID": "{assertion}"},
    },
)
def the_assertions_id_again_elsewhere_as(stage: SamlStage, attributes: dict[str, str]) -> Any:
    """On the status, which the assertion's signature does not cover."""
    stage.set(response_signed=False)
    browser, root = stage.ask()
    inner = root.find(f"{{{SAML}}}Assertion")
    for name, value in attributes.items():
        root.find(f"{{{SAMLP}}}Status").set(name, value.format(assertion=inner.get("ID")))
    stage.sign(root, response=None)
    return stage.send(browser, root)


@attack(
    "ids",
    "R2",
    cases={
        "empty": "",
        "a space": " ",
        "a digit first": "1abc",
        "a colon": "_a:b",
        "a quote": "_a'b",
        "a slash": "_a/b",
        "a bracket": "_a)b",
        "a line break": "_a\nb",
        "a hash": "_a#b",
        "a percent sign": "_a%62",
        "2,000 characters": "_" + "a" * 2000,
        "a bidirectional mark": "_a\u202eb",
    },
)
def an_assertion_whose_id_holds(stage: SamlStage, value: str) -> Any:
    browser, root = stage.ask()
    inner = root.find(f"{{{SAML}}}Assertion")
    inner.set("ID", value)
    stage.sign(root)
    return stage.send(browser, root)


@attack("ids", "R2", cases={"response": "Response", "assertion": "Assertion"})
def no_id_on_the(stage: SamlStage, which: str) -> Any:
    stage.set(response_signed=False)
    browser, root = stage.ask()
    element = root if which == "Response" else root.find(f"{{{SAML}}}Assertion")
    element.attrib.pop("ID")
    recipe = _references(Reference("", over=lambda e: dsig.canonical(dsig.without_signature(e))))
    stage.sign(root, assertion=recipe if which == "Assertion" else HONEST, response=None)
    return stage.send(browser, root)


@attack("ids", "R2")
def response_and_assertion_with_one_id(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    root.set("ID", root.find(f"{{{SAML}}}Assertion").get("ID"))
    return stage.send(browser, stage.sign(root))


@attack("ids", "R2")
def an_attribute_with_an_id_of_its_own(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    part(root, "AttributeValue").set("ID", "_other")
    return stage.send(browser, stage.sign(root))


@attack("ids", "R2")
def a_signature_with_the_assertions_id(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    own = root.find(f"{{{SAML}}}Assertion").get("ID")
    stage.sign(root, assertion=Recipe(bend=lambda signature: signature.set("Id", own)))
    return stage.send(browser, root)


# --- Transplants


@attack("transplanted signatures", "R2")
def the_signature_of_somebody_elses_assertion(stage: SamlStage) -> Any:
    stage.set(response_signed=False)
    _, donor = stage.ask(name_id="u-0002")
    stage.sign(donor, response=None)
    browser, root = stage.ask(name_id="admin")
    inner = root.find(f"{{{SAML}}}Assertion")
    inner.insert(1, deepcopy(signature_of(donor.find(f"{{{SAML}}}Assertion"))))
    return stage.send(browser, root)


@attack("transplanted signatures", "R2")
def the_signature_of_an_assertion_with_the_same_id(stage: SamlStage) -> Any:
    stage.set(response_signed=False)
    browser, donor = stage.ask()
    stage.sign(donor, response=None)
    root = made_evil(donor)
    root.find(f"{{{SAML}}}Assertion").insert(
        1, deepcopy(signature_of(donor.find(f"{{{SAML}}}Assertion")))
    )
    return stage.send(browser, root)


@attack("transplanted signatures", "R2")
def the_response_signature_moved_into_the_assertion(stage: SamlStage) -> Any:
    stage.set(response_signed=False)
    browser, root = stage.ask()
    stage.sign(root, assertion=None)
    signature = signature_of(root)
    root.find(f"{{{SAML}}}Assertion").insert(1, signature)
    return stage.send(browser, root)


@attack("transplanted signatures", "R2")
def the_assertions_signature_moved_to_the_response(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.sign(root, response=None)
    root.insert(1, signature_of(root.find(f"{{{SAML}}}Assertion")))
    return stage.send(browser, root)


@attack("transplanted signatures", "R2 R4")
def a_signed_assertion_in_the_envelope_of_another_request(stage: SamlStage) -> Any:
    stage.set(response_signed=False)
    _, donor = stage.ask()
    stage.sign(donor, response=None)
    browser, root = stage.ask()
    root.replace(root.find(f"{{{SAML}}}Assertion"), donor.find(f"{{{SAML}}}Assertion"))
    return stage.send(browser, root)


@attack("transplanted signatures", "R2 R4")
def somebody_elses_assertion_in_the_attackers_signed_envelope(stage: SamlStage) -> Any:
    _, victim = stage.ask(name_id="admin")
    stage.sign(victim)
    browser, root = stage.ask()
    stage.sign(root)
    root.replace(root.find(f"{{{SAML}}}Assertion"), victim.find(f"{{{SAML}}}Assertion"))
    return stage.send(browser, root)


@attack("transplanted signatures", "R2 R3")
def an_assertion_for_another_service_of_the_same_provider(stage: SamlStage) -> Any:
    """Its owner may be an administrator there; its envelope is made up here."""
    stage.set(response_signed=False)
    browser, root = stage.ask()
    donor = stage.idp.build(
        stage.start(stage.browser()),
        attributes=GOOD,
        audience="https://wiki.example/metadata",
        recipient="https://wiki.example/acs",
        destination="https://wiki.example/acs",
    )
    stage.sign(donor, response=None)
    root.replace(root.find(f"{{{SAML}}}Assertion"), donor.find(f"{{{SAML}}}Assertion"))
    return stage.send(browser, root)


@attack("transplanted signatures", "R2")
def the_signature_of_the_providers_metadata(stage: SamlStage) -> Any:
    described = etree.fromstring(stage.idp.metadata.encode())
    described.set("ID", "_metadata")
    dsig.sign(described, stage.idp.key, Recipe(position=0))
    stage.set(response_signed=False)
    browser, root = stage.ask(assertion_id="_metadata")
    root.find(f"{{{SAML}}}Assertion").insert(1, deepcopy(signature_of(described)))
    return stage.send(browser, root)


@attack("transplanted signatures", "R2")
def the_signature_of_a_logout_request(stage: SamlStage) -> Any:
    donor = etree.fromstring(
        stage.idp.logout_request("https://daypass.test/saml/acme/sls/", name_id="u-0001")
    )
    dsig.sign(donor, stage.idp.key)
    browser, root = stage.ask()
    root.set("ID", donor.get("ID"))
    dsig.sign(root.find(f"{{{SAML}}}Assertion"), stage.idp.key)
    root.insert(1, deepcopy(signature_of(donor)))
    return stage.send(browser, root)


@attack("transplanted signatures", "R2")
def a_logout_response_as_an_answer(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    made = etree.fromstring(
        stage.idp.logout_response(
            "https://daypass.test/saml/acme/acs/", in_response_to=root.get("InResponseTo")
        )
    )
    dsig.sign(made, stage.idp.key)
    return stage.send(browser, made)


@attack("transplanted signatures", "R2")
def an_authentication_request_as_an_answer(stage: SamlStage) -> Any:
    browser = stage.browser()
    request = stage.start(browser)
    return stage.send(browser, request.xml)


# --- Edits of what nobody signed, and of what somebody did


def _set(name: str, attribute: str, value: str) -> Callable[[etree._Element], None]:
    def edit(root: etree._Element) -> None:
        element = root if name == "Response" else part(root, name)
        element.set(attribute, value)

    return edit


def _text_of(name: str, value: str) -> Callable[[etree._Element], None]:
    def edit(root: etree._Element) -> None:
        part(root, name).text = value

    return edit


def _more_groups(root: etree._Element) -> None:
    groups = next(a for a in root.iter(f"{{{SAML}}}Attribute") if a.get("Name") == "groups")
    etree.SubElement(groups, f"{{{SAML}}}AttributeValue").text = "aws-owners"


def _renamed_attribute(root: etree._Element) -> None:
    for attribute in root.iter(f"{{{SAML}}}Attribute"):
        if attribute.get("Name") == "uid":
            attribute.set("Name", "groups")


def _name_tail(root: etree._Element) -> None:
    etree.SubElement(part(root, "NameID"), "{urn:example}x").tail = "-admin"


@attack(
    "edits after signing",
    "R2",
    cases={
        "the name": _text_of("NameID", "admin"),
        "the name's tail": _name_tail,
        "a group": _text_of("AttributeValue", "aws-owners"),
        "one group more": _more_groups,
        "an attribute's name": _renamed_attribute,
        "the audience": _text_of("Audience", "https://evil.example"),
        "the recipient": _set("SubjectConfirmationData", "Recipient", "https://evil.example"),
        "the end": _set("SubjectConfirmationData", "NotOnOrAfter", "2099-01-01T00:00:00Z"),
        "the context": _text_of("AuthnContextClassRef", "https://refeds.org/profile/mfa"),
        "the session": _set("AuthnStatement", "SessionIndex", "s-2"),
        "the issue instant": _set("Assertion", "IssueInstant", "2026-01-01T00:00:00Z"),
        "the name's format": _set(
            "NameID", "Format", "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
        ),
        "white space in the name": _text_of("NameID", "u-0001 "),
        "an attribute nobody knows": _set("Assertion", "note", "x"),
    },
)
def a_signed_assertion_with_another(
    stage: SamlStage, edit: Callable[[etree._Element], None]
) -> Any:
    stage.set(response_signed=False)
    browser, root = stage.ask()
    stage.sign(root, response=None)
    edit(root)
    return stage.send(browser, root)


@attack(
    "edits after signing",
    "R2",
    cases={
        "destination": _set("Response", "Destination", "https://daypass.test/saml/other/acs/"),
        "issue instant": _set("Response", "IssueInstant", "2099-01-01T00:00:00Z"),
        "id": _set("Response", "ID", "_another"),
        "version": _set("Response", "Version", "1.1"),
        "consent": _set("Response", "Consent", "urn:oasis:names:tc:SAML:2.0:consent:obtained"),
    },
)
def a_signed_response_with_another(stage: SamlStage, edit: Callable[[etree._Element], None]) -> Any:
    browser, root = stage.ask()
    stage.sign(root)
    edit(root)
    return stage.send(browser, root)


@attack("edits after signing", "R2")
def a_signed_response_without_an_assertion(stage: SamlStage) -> Any:
    stage.set(response_signed=False)
    browser, root = stage.ask()
    root.remove(root.find(f"{{{SAML}}}Assertion"))
    dsig.sign(root, stage.idp.key)
    return stage.send(browser, root)


@attack("edits after signing", "R33")
def a_provider_whose_certificate_only_looks_alike(stage: SamlStage) -> Any:
    """The same subject and issuer, another key: certificates are compared by their keys, never by their names."""
    browser, root = stage.ask()
    key = stage.stranger.key
    recipe = Recipe(certificate=certificate(key))
    stage.sign(root, assertion=recipe, response=recipe, key=key)
    return stage.send(browser, root)
