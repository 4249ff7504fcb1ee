"""Encryption: only AES-GCM under RSA-OAEP, only for us and where it is wanted; no failure tells more than another.

That something could be decrypted proves nothing about who wrote it: every assertion inside has to be signed as well.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from lxml import etree

from accounts.models import ServiceProviderKey
from tests.accounts.idp_encryption import XENC, XENC11, Form, encrypt
from tests.accounts.idp_saml import DS, SAML
from tests.attacks import dsig
from tests.attacks.dsig import Recipe
from tests.attacks.registry import attack, control
from tests.attacks.saml_signatures import watched_places
from tests.attacks.saml_wrapping import made_evil, part
from tests.attacks.stages import SamlStage

OAEP11 = XENC11 + "rsa-oaep"
Bend = Callable[[etree._Element], Any]


def our_certificate() -> str:
    return ServiceProviderKey.objects.get(
        purpose=ServiceProviderKey.Purpose.DECRYPTION, state=ServiceProviderKey.State.ACTIVE
    ).certificate


def sealed(
    stage: SamlStage,
    root: etree._Element,
    form: Form | None = None,
    *,
    bend: Bend | None = None,
    to: str = "",
    recipe: Recipe | None = None,
    sign: bool = True,
    write: Callable[[etree._Element], bytes] | None = None,
    response: bool = True,
) -> etree._Element:
    """Sign the assertion, encrypt it for us in its place, and sign the response around it."""
    plain = root.find(f"{{{SAML}}}Assertion")
    inner = etree.fromstring(etree.tostring(plain))
    if sign:
        dsig.sign(inner, stage.idp.key, recipe)
    content = write(inner) if write else inner
    root.replace(plain, encrypt(content, to or our_certificate(), form, bend=bend))
    # A copy of its own, so that no declaration of a prefix is shared with what was taken out.
    root = etree.fromstring(etree.tostring(root))
    if response:
        dsig.sign(root, stage.idp.key)
    return root


def accepting(stage: SamlStage, **more: Any) -> None:
    stage.set(encryption="accepted", **more)


# --- As real providers send it


@control(
    "encryption",
    cases={
        "AES-128": Form(bits=128),
        "AES-256": Form(),
        "SHA-256 twice": Form(wrap=OAEP11, digest="sha256", mask="sha256"),
        "the key beside": Form(beside=True),
        "names as OpenSAML gives them": Form(beside=True, named=True),
        "the certificate told": Form(told=True),
        "no prefixes": Form(prefixes=("", "", "")),
    },
)
def an_encrypted_answer(stage: SamlStage, form: Form) -> Any:
    accepting(stage)
    browser, root = stage.ask()
    return stage.send(browser, sealed(stage, root, form))


@control("encryption")
def an_encrypted_answer_where_it_is_demanded(stage: SamlStage) -> Any:
    stage.set(encryption="required")
    browser, root = stage.ask()
    return stage.send(browser, sealed(stage, root))


@control("encryption")
def an_encrypted_answer_in_an_unsigned_response(stage: SamlStage) -> Any:
    accepting(stage, response_signed=False)
    browser, root = stage.ask()
    return stage.send(browser, sealed(stage, root, response=False))


@control("encryption")
def a_plain_answer_where_encryption_is_accepted(stage: SamlStage) -> Any:
    accepting(stage)
    browser, root = stage.ask()
    return stage.send(browser, stage.sign(root))


# --- Where it is not wanted


@attack("encryption: settings", "R32")
def an_encrypted_answer_where_none_is_wanted(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    return stage.send(browser, sealed(stage, root))


@attack("encryption: settings", "R32")
def a_plain_answer_where_encryption_is_demanded(stage: SamlStage) -> Any:
    stage.set(encryption="required")
    browser, root = stage.ask()
    return stage.send(browser, stage.sign(root))


# --- Algorithms


@attack(
    "encryption: algorithms",
    "R32",
    cases={
        "AES-128-CBC": Form(bits=128, content="cbc"),
        "AES-256-CBC": Form(content="cbc"),
        "RSA PKCS#1 v1.5": Form(wrap=XENC + "rsa-1_5"),
        "CBC under PKCS#1 v1.5": Form(content="cbc", wrap=XENC + "rsa-1_5"),
    },
)
def an_answer_encrypted_by(stage: SamlStage, form: Form) -> Any:
    accepting(stage)
    browser, root = stage.ask()
    return stage.send(browser, sealed(stage, root, form))


def _method(algorithm: str, *, of: str = "EncryptedData") -> Bend:
    def bend(around: etree._Element) -> None:
        holder = next(around.iter(f"{{{XENC}}}{of}"))
        holder.find(f"{{{XENC}}}EncryptionMethod").set("Algorithm", algorithm)

    return bend


@attack(
    "encryption: algorithms",
    "R32",
    cases={
        "triple DES": _method(XENC + "tripledes-cbc"),
        "AES-CBC over GCM": _method(XENC + "aes256-cbc"),
        "AES-128-GCM over AES-256-GCM": _method(XENC11 + "aes128-gcm"),
        "nothing": _method(""),
        "an unknown one": _method("urn:example"),
        "a wrapped key": _method(XENC + "kw-aes256", of="EncryptedKey"),
        "PKCS#1 v1.5 over OAEP": _method(XENC + "rsa-1_5", of="EncryptedKey"),
        "an unknown key transport": _method("urn:example", of="EncryptedKey"),
        "a password": _method(XENC11 + "pbkdf2", of="EncryptedKey"),
    },
)
def an_answer_said_to_be_encrypted_by(stage: SamlStage, bend: Bend) -> Any:
    accepting(stage)
    browser, root = stage.ask()
    return stage.send(browser, sealed(stage, root, bend=bend))


# --- Ciphertexts


def _cipher(of: str, change: Callable[[bytes], bytes]) -> Bend:
    def bend(around: etree._Element) -> None:
        holder = next(around.iter(f"{{{XENC}}}{of}"))
        value = holder.find(f"{{{XENC}}}CipherData/{{{XENC}}}CipherValue")
        value.text = base64.b64encode(change(base64.b64decode(value.text))).decode()

    return bend


def _flip(position: int) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        changed = bytearray(raw)
        changed[position] ^= 1
        return bytes(changed)

    return change


@attack(
    "encryption: ciphertexts",
    "R32",
    cases={
        "the tag changed": _cipher("EncryptedData", _flip(-1)),
        "the text changed": _cipher("EncryptedData", _flip(40)),
        "the nonce changed": _cipher("EncryptedData", _flip(0)),
        "the tag cut off": _cipher("EncryptedData", lambda raw: raw[:-16]),
        "half the tag cut off": _cipher("EncryptedData", lambda raw: raw[:-8]),
        "the text empty": _cipher("EncryptedData", lambda raw: b""),
        "only a nonce": _cipher("EncryptedData", lambda raw: raw[:12]),
        "the key changed": _cipher("EncryptedKey", _flip(10)),
        "the key empty": _cipher("EncryptedKey", lambda raw: b""),
        "the key too short": _cipher("EncryptedKey", lambda raw: raw[:-1]),
        "the key too long": _cipher("EncryptedKey", lambda raw: raw + b"\0"),
        "the key of zeros": _cipher("EncryptedKey", lambda raw: bytes(len(raw))),
        "the key larger than the modulus": _cipher("EncryptedKey", lambda raw: b"\xff" * len(raw)),
        "the key of random octets": _cipher("EncryptedKey", lambda raw: os.urandom(len(raw))),
    },
)
def an_encrypted_answer_with(stage: SamlStage, bend: Bend) -> Any:
    accepting(stage)
    browser, root = stage.ask()
    return stage.send(browser, sealed(stage, root, bend=bend))


@attack("encryption: ciphertexts", "R32", cases={"the provider": "idp", "the neighbour": "other"})
def an_answer_encrypted_for(stage: SamlStage, whom: str) -> Any:
    accepting(stage)
    browser, root = stage.ask()
    return stage.send(browser, sealed(stage, root, to=getattr(stage, whom).certificate))


@attack("encryption: ciphertexts", "R32")
def an_answer_encrypted_for_the_key_that_signs_our_requests(stage: SamlStage) -> Any:
    accepting(stage)
    browser, root = stage.ask()
    signing = ServiceProviderKey.objects.get(purpose=ServiceProviderKey.Purpose.SIGNING)
    return stage.send(browser, sealed(stage, root, to=signing.certificate))


# --- Who wrote it


@attack("encryption: authorship", "R2 R32")
def an_unsigned_assertion_encrypted_for_us(stage: SamlStage) -> Any:
    accepting(stage, response_signed=False)
    browser, root = stage.ask()
    return stage.send(browser, sealed(stage, root, sign=False, response=False))


@attack("encryption: authorship", "R2 R32")
def an_unsigned_assertion_in_a_signed_response(stage: SamlStage) -> Any:
    accepting(stage)
    browser, root = stage.ask()
    return stage.send(browser, sealed(stage, root, sign=False))


@attack(
    "encryption: authorship", "R2 R32", cases={"a stranger": "stranger", "the neighbour": "other"}
)
def an_assertion_encrypted_for_us_and_signed_by(stage: SamlStage, who: str) -> Any:
    accepting(stage, response_signed=False)
    browser, root = stage.ask()
    plain = root.find(f"{{{SAML}}}Assertion")
    dsig.sign(plain, getattr(stage, who).key)
    root.replace(plain, encrypt(plain, our_certificate()))
    return stage.send(browser, etree.fromstring(etree.tostring(root)))


@attack("encryption: authorship", "R2 R32")
def somebody_elses_encrypted_assertion_in_another_envelope(stage: SamlStage) -> Any:
    """Whoever sees an encrypted assertion cannot read it, but could try to carry it elsewhere."""
    accepting(stage, response_signed=False)
    _, victim = stage.ask(name_id="admin")
    victim = sealed(stage, victim, response=False)
    browser, root = stage.ask()
    theirs = victim.find(f"{{{SAML}}}EncryptedAssertion")
    root.replace(root.find(f"{{{SAML}}}Assertion"), theirs)
    return stage.send(browser, root)


@attack("encryption: authorship", "R4 R32")
def the_same_encrypted_answer_in_another_browser(stage: SamlStage) -> Any:
    accepting(stage)
    browser, root = stage.ask()
    root = sealed(stage, root)
    stage.send(browser, root)
    stage.settled()
    return stage.send(stage.browser(), root)


# --- What is inside


def _wrapped_evil(inner: etree._Element) -> bytes:
    evil = made_evil(inner)
    evil.set("ID", "_evil")
    evil.append(inner)
    return etree.tostring(evil)


@attack(
    "encryption: plaintexts",
    "R1 R32",
    cases={
        "two assertions": lambda inner: etree.tostring(inner) + etree.tostring(made_evil(inner)),
        "an assertion around the signed one": _wrapped_evil,
        "nothing": lambda inner: b"",
        "white space": lambda inner: b"  ",
        "text": lambda inner: b"hello",
        "text behind it": lambda inner: etree.tostring(inner) + b"hello",
        "a comment behind it": lambda inner: etree.tostring(inner) + b"<!-- -->",
        "a comment in the name": lambda inner: etree.tostring(inner).replace(
            b"u-0001", b"u-00<!-- -->01"
        ),
        "a DOCTYPE": lambda inner: b"<!DOCTYPE x>" + etree.tostring(inner),
        "an entity": lambda inner: b'<!DOCTYPE x [<!ENTITY e "x">]>' + etree.tostring(inner),
        "an open element": lambda inner: etree.tostring(inner)[:-10],
        "an end of what is around it": lambda inner: b"</around>" + etree.tostring(inner),
        "an end and a beginning": lambda inner: etree.tostring(inner) + b"</around><around>",
        "UTF-16": lambda inner: etree.tostring(inner, encoding="utf-16"),
        "a null octet": lambda inner: etree.tostring(inner) + b"\0",
        "a response": lambda inner: b'<Response xmlns="urn:oasis:names:tc:SAML:2.0:protocol"/>',
        "six hundred levels": lambda inner: b"<a>" * 600 + b"</a>" * 600,
        "four thousand elements": lambda inner: b"<a>" + b"<b/>" * 6_000 + b"</a>",
        "an encrypted assertion": lambda inner: etree.tostring(encrypt(inner, our_certificate())),
    },
)
def a_plaintext_of(stage: SamlStage, write: Callable[[etree._Element], bytes]) -> Any:
    accepting(stage)
    browser, root = stage.ask()
    return stage.send(browser, sealed(stage, root, write=write))


# --- Shapes


def _second(around: etree._Element) -> None:
    around.append(deepcopy(around[0]))


def _second_key(around: etree._Element) -> None:
    key = next(around.iter(f"{{{XENC}}}EncryptedKey"))
    key.addnext(deepcopy(key))


def _no_key(around: etree._Element) -> None:
    key = next(around.iter(f"{{{XENC}}}EncryptedKey"))
    key.getparent().remove(key)


def _property(around: etree._Element) -> None:
    etree.SubElement(around[0], f"{{{XENC}}}EncryptionProperties")


def _label(around: etree._Element) -> None:
    key = next(around.iter(f"{{{XENC}}}EncryptedKey"))
    method = key.find(f"{{{XENC}}}EncryptionMethod")
    etree.SubElement(method, f"{{{XENC}}}OAEPparams").text = "AAAA"


def _digest(around: etree._Element) -> None:
    key = next(around.iter(f"{{{XENC}}}EncryptedKey"))
    method = key.find(f"{{{XENC}}}EncryptionMethod")
    etree.SubElement(
        method, f"{{{DS}}}DigestMethod", Algorithm="http://www.w3.org/2001/04/xmldsig-more#md5"
    )


def _foreign_reference(around: etree._Element) -> None:
    key = next(around.iter(f"{{{XENC}}}EncryptedKey"))
    listed = etree.SubElement(key, f"{{{XENC}}}ReferenceList")
    etree.SubElement(listed, f"{{{XENC}}}DataReference", URI="#_elsewhere")


@attack(
    "encryption: shapes",
    "R1 R32",
    cases={
        "two EncryptedData": _second,
        "two keys": _second_key,
        "no key": _no_key,
        "properties": _property,
        "a label": _label,
        "a weak digest": _digest,
        "a reference to elsewhere": _foreign_reference,
        "a type of content": lambda around: around[0].set("Type", XENC + "Content"),
        "a type of nothing known": lambda around: around[0].set("Type", "urn:example"),
        "an encoding": lambda around: around[0].set("Encoding", DS + "base64"),
    },
)
def an_encrypted_assertion_with(stage: SamlStage, bend: Bend) -> Any:
    accepting(stage)
    browser, root = stage.ask()
    return stage.send(browser, sealed(stage, root, bend=bend))


@attack("encryption: shapes", "R2 R32")
def two_encrypted_assertions(stage: SamlStage) -> Any:
    accepting(stage, response_signed=False)
    browser, root = stage.ask()
    root = sealed(stage, root, response=False)
    root.append(deepcopy(root.find(f"{{{SAML}}}EncryptedAssertion")))
    return stage.send(browser, root)


@attack("encryption: shapes", "R2 R32")
def a_plain_assertion_beside_an_encrypted_one(stage: SamlStage) -> Any:
    accepting(stage, response_signed=False)
    browser, root = stage.ask()
    evil = made_evil(root.find(f"{{{SAML}}}Assertion"))
    root = sealed(stage, root, response=False)
    root.append(evil)
    return stage.send(browser, root)


@attack(
    "encryption: shapes",
    "R1 R32",
    cases={"EncryptedID": "EncryptedID", "NewEncryptedID": "NewEncryptedID"},
)
def an_encrypted_name_as(stage: SamlStage, name: str) -> Any:
    accepting(stage)
    browser, root = stage.ask()
    subject = part(root, "Subject")
    hidden = encrypt(part(root, "NameID"), our_certificate())
    hidden.tag = f"{{{SAML}}}{name}"
    subject.replace(part(root, "NameID"), hidden)
    return stage.send(browser, stage.sign(root))


@attack("encryption: shapes", "R1 R32")
def an_encrypted_attribute(stage: SamlStage) -> Any:
    accepting(stage)
    browser, root = stage.ask()
    statement = part(root, "AttributeStatement")
    hidden = encrypt(statement[-1], our_certificate())
    hidden.tag = f"{{{SAML}}}EncryptedAttribute"
    statement.append(hidden)
    return stage.send(browser, stage.sign(root))


def _cipher_reference(address: str, *, of: str) -> Bend:
    def bend(around: etree._Element) -> None:
        holder = next(around.iter(f"{{{XENC}}}{of}"))
        data = holder.find(f"{{{XENC}}}CipherData")
        data.remove(data[0])
        etree.SubElement(data, f"{{{XENC}}}CipherReference", URI=address)

    return bend


@attack(
    "encryption: shapes",
    "R1 R32",
    cases={
        f"{of}, {where}": (of, where)
        for of in ("EncryptedData", "EncryptedKey")
        for where in ("http", "file")
    },
)
def a_ciphertext_that_is_elsewhere(stage: SamlStage, how: tuple[str, str]) -> Any:
    accepting(stage, response_signed=False)
    browser, root = stage.ask()
    with watched_places() as (file, http, asked):
        address = {"http": http, "file": file}[how[1]]
        bend = _cipher_reference(address, of=how[0])
        response = stage.send(browser, sealed(stage, root, bend=bend, response=False))
    assert asked == [], f"{asked} was asked of a server that the message names"
    return response
