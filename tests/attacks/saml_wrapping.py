"""Signature wrapping: something that was truly signed stands in the message, and something else is to be read.

The eight known forms and what grew from them: every place in a response where an element could hide, with the id of
the original and with a new one, at providers that sign only the assertion, only the response, or both.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from lxml import etree

from tests.accounts.idp_saml import DS, SAML, SAMLP
from tests.attacks import dsig
from tests.attacks.dsig import Recipe
from tests.attacks.registry import attack
from tests.attacks.stages import SamlStage

Place = Callable[[etree._Element, etree._Element, etree._Element], None]


def part(root: etree._Element, name: str, namespace: str = SAML) -> etree._Element:
    return next(root.iter(f"{{{namespace}}}{name}"))


def new(name: str, namespace: str = SAML) -> etree._Element:
    return etree.Element(f"{{{namespace}}}{name}")


def signature_of(element: etree._Element) -> etree._Element:
    return element.find(f"{{{DS}}}Signature")


def made_evil(element: etree._Element) -> etree._Element:
    """A copy without signatures that names somebody else, with more groups."""
    evil = deepcopy(element)
    for signature in list(evil.iter(f"{{{DS}}}Signature")):
        signature.getparent().remove(signature)
    for name in evil.iter(f"{{{SAML}}}NameID"):
        name.text = "admin"
    for attribute in evil.iter(f"{{{SAML}}}Attribute"):
        if attribute.get("Name") == "groups":
            attribute[0].text = "aws-owners"
    return evil


def _sibling(*, evil_first: bool) -> Place:
    def place(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
        signed.addprevious(evil) if evil_first else signed.addnext(evil)

    return place


def _original_inside(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    root.replace(signed, evil)
    evil.append(signed)


def _evil_inside(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    signed.append(evil)


def _signature_moved(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    signature = signature_of(signed)
    root.replace(signed, evil)
    evil.insert(1, signature)
    root.append(signed)


def _inside_signature(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    signature = signature_of(signed)
    root.replace(signed, evil)
    evil.insert(1, signature)
    signature.append(signed)


def _inside(name: str, namespace: str = SAML, *, wrapped: str = "") -> Place:
    """The evil one carries the signature; the original hides in one of the evil one's own elements."""

    def place(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
        signature = signature_of(signed)
        root.replace(signed, evil)
        evil.insert(1, signature)
        at = part(evil, name, namespace)
        if wrapped:
            at = etree.SubElement(at, wrapped)
        at.append(signed)

    return place


def _in_object(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    signature = signature_of(signed)
    root.replace(signed, evil)
    evil.insert(1, signature)
    etree.SubElement(signature, f"{{{DS}}}Object").append(signed)


def _in_advice(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    root.replace(signed, evil)
    advice = new("Advice")
    part(evil, "Conditions").addnext(advice)
    advice.append(signed)


def _evil_in_advice(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    advice = new("Advice")
    part(signed, "Conditions").addnext(advice)
    advice.append(evil)


def _extensions_first(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    root.replace(signed, evil)
    extensions = new("Extensions", SAMLP)
    root.insert(1, extensions)
    extensions.append(signed)


def _status_detail(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    root.replace(signed, evil)
    detail = etree.SubElement(root.find(f"{{{SAMLP}}}Status"), f"{{{SAMLP}}}StatusDetail")
    detail.append(signed)


def _in_new_attribute(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    root.replace(signed, evil)
    attribute = etree.SubElement(
        part(evil, "AttributeStatement"), f"{{{SAML}}}Attribute", Name="note"
    )
    etree.SubElement(attribute, f"{{{SAML}}}AttributeValue").append(signed)


def _other_name(tag: str) -> Place:
    """The original stands under another name, where only a careless look-up finds it."""

    def place(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
        root.replace(signed, evil)
        shell = etree.SubElement(root, tag)
        shell.append(signed)

    return place


def _evil_other_namespace(
    root: etree._Element, signed: etree._Element, evil: etree._Element
) -> None:
    evil.tag = "{urn:oasis:names:tc:SAML:1.0:assertion}Assertion"
    signed.addprevious(evil)


def _evil_lower_case(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    evil.tag = f"{{{SAML}}}assertion"
    signed.addprevious(evil)


def _evil_without_namespace(
    root: etree._Element, signed: etree._Element, evil: etree._Element
) -> None:
    evil.tag = "Assertion"
    signed.addprevious(evil)


def _both_signed_alike(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    evil.insert(1, deepcopy(signature_of(signed)))
    signed.addprevious(evil)


def _second_subject(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    signed.insert(2, deepcopy(part(evil, "Subject")))


def _second_statement(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    signed.append(deepcopy(part(evil, "AttributeStatement")))


def _detached(root: etree._Element, signed: etree._Element, evil: etree._Element) -> None:
    """The signature stands in the response, the original behind it, the evil one first."""
    signature = signature_of(signed)
    root.replace(signed, evil)
    root.insert(1, signature)
    root.append(signed)


PLACES: dict[str, Place] = {
    "evil one before": _sibling(evil_first=True),
    "evil one after": _sibling(evil_first=False),
    "original inside the evil one": _original_inside,
    "evil one inside the original": _evil_inside,
    "signature moved to the evil one": _signature_moved,
    "original inside the signature": _inside_signature,
    "original in an Object of the signature": _in_object,
    "original in KeyInfo": _inside("KeyInfo", DS),
    "original in Extensions": _other_name(f"{{{SAMLP}}}Extensions"),
    "original in Extensions before the status": _extensions_first,
    "original in StatusDetail": _status_detail,
    "original in Advice": _in_advice,
    "evil one in Advice": _evil_in_advice,
    "original in an attribute value": _in_new_attribute,
    "original in the first attribute value": _inside("AttributeValue"),
    "original in the confirmation data": _inside("SubjectConfirmationData"),
    "original in an authentication context": _inside(
        "AuthnContext", wrapped=f"{{{SAML}}}AuthnContextDecl"
    ),
    "original in the NameID": _inside("NameID"),
    "original in the issuer": _inside("Issuer"),
    "original in a condition": _inside("Conditions", wrapped=f"{{{SAML}}}Condition"),
    "original in an encrypted shell": _other_name(f"{{{SAML}}}EncryptedAssertion"),
    "original in a foreign element": _other_name("{urn:example}box"),
    "original in an inner response": _other_name(f"{{{SAMLP}}}Response"),
    "evil one in the SAML 1 namespace": _evil_other_namespace,
    "evil one in lower case": _evil_lower_case,
    "evil one without a namespace": _evil_without_namespace,
    "both with the same signature": _both_signed_alike,
    "second subject in the original": _second_subject,
    "second statement in the original": _second_statement,
    "detached signature": _detached,
}


def _wrapped(stage: SamlStage, place: Place, *, same_id: bool) -> Any:
    browser, root = stage.ask()
    stage.sign(root, assertion=Recipe(certificate=stage.idp.certificate), response=None)
    signed = root.find(f"{{{SAML}}}Assertion")
    evil = made_evil(signed)
    if not same_id:
        evil.set("ID", "_evil")
    place(root, signed, evil)
    return stage.send(browser, root)


@attack("wrapping", "R1 R2", cases=PLACES)
def a_wrapped_assertion_with_a_new_id(stage: SamlStage, place: Place) -> Any:
    stage.set(response_signed=False)
    return _wrapped(stage, place, same_id=False)


@attack("wrapping", "R1 R2", cases=PLACES)
def a_wrapped_assertion_with_the_same_id(stage: SamlStage, place: Place) -> Any:
    stage.set(response_signed=False)
    return _wrapped(stage, place, same_id=True)


# --- The whole response


def _original_at_the_end(evil: etree._Element, original: etree._Element) -> None:
    evil.append(original)


def _original_at_the_start(evil: etree._Element, original: etree._Element) -> None:
    evil.insert(0, original)


def _original_in_extensions(evil: etree._Element, original: etree._Element) -> None:
    extensions = new("Extensions", SAMLP)
    evil.insert(1, extensions)
    extensions.append(original)


def _original_in_status_detail(evil: etree._Element, original: etree._Element) -> None:
    etree.SubElement(evil.find(f"{{{SAMLP}}}Status"), f"{{{SAMLP}}}StatusDetail").append(original)


def _original_in_object(evil: etree._Element, original: etree._Element) -> None:
    etree.SubElement(signature_of(evil), f"{{{DS}}}Object").append(original)


def _original_in_key_info(evil: etree._Element, original: etree._Element) -> None:
    etree.SubElement(signature_of(evil), f"{{{DS}}}KeyInfo").append(original)


def _original_in_an_attribute(evil: etree._Element, original: etree._Element) -> None:
    attribute = etree.SubElement(
        part(evil, "AttributeStatement"), f"{{{SAML}}}Attribute", Name="note"
    )
    etree.SubElement(attribute, f"{{{SAML}}}AttributeValue").append(original)


def _original_in_advice(evil: etree._Element, original: etree._Element) -> None:
    advice = new("Advice")
    part(evil, "Conditions").addnext(advice)
    advice.append(original)


RESPONSE_PLACES = {
    "at the end": _original_at_the_end,
    "at the start": _original_at_the_start,
    "in Extensions": _original_in_extensions,
    "in StatusDetail": _original_in_status_detail,
    "in an Object": _original_in_object,
    "in KeyInfo": _original_in_key_info,
    "in an attribute value": _original_in_an_attribute,
    "in Advice": _original_in_advice,
}


def _wrapped_response(stage: SamlStage, place: Any, *, same_id: bool, keep_inner: bool) -> Any:
    """The evil response carries the response's signature, and its assertion an old one or none."""
    browser, root = stage.ask()
    stage.sign(root)
    evil = made_evil(root)
    if not same_id:
        evil.set("ID", "_evil")
        evil.find(f"{{{SAML}}}Assertion").set("ID", "_evil-inner")
    evil.insert(1, deepcopy(signature_of(root)))
    if keep_inner:
        inner = deepcopy(signature_of(root.find(f"{{{SAML}}}Assertion")))
        evil.find(f"{{{SAML}}}Assertion").insert(1, inner)
    place(evil, root)
    return stage.send(browser, evil)


@attack("wrapping", "R1 R2", cases=RESPONSE_PLACES)
def a_wrapped_response_with_a_new_id(stage: SamlStage, place: Any) -> Any:
    return _wrapped_response(stage, place, same_id=False, keep_inner=True)


@attack("wrapping", "R1 R2", cases=RESPONSE_PLACES)
def a_wrapped_response_with_the_same_id(stage: SamlStage, place: Any) -> Any:
    return _wrapped_response(stage, place, same_id=True, keep_inner=True)


@attack("wrapping", "R1 R2", cases=RESPONSE_PLACES)
def a_wrapped_response_around_an_unsigned_assertion(stage: SamlStage, place: Any) -> Any:
    return _wrapped_response(stage, place, same_id=False, keep_inner=False)


@attack("wrapping", "R1 R2")
def a_signed_response_below_a_foreign_root(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.sign(root)
    shell = etree.Element("{urn:example}Envelope", InResponseTo=root.get("InResponseTo"))
    shell.append(root)
    return stage.send(browser, shell)


@attack("wrapping", "R2")
def a_truly_signed_response_with_two_signed_assertions(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    first = root.find(f"{{{SAML}}}Assertion")
    second = made_evil(first)
    second.set("ID", "_second")
    first.addnext(second)
    dsig.sign(first, stage.idp.key)
    dsig.sign(second, stage.idp.key)
    dsig.sign(root, stage.idp.key)
    assert dsig.fits(root, stage.idp.certificate)
    return stage.send(browser, root)


@attack("wrapping", "R2")
def a_truly_signed_response_whose_assertion_holds_another(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    first = root.find(f"{{{SAML}}}Assertion")
    advice = new("Advice")
    part(first, "Conditions").addnext(advice)
    inner = made_evil(first)
    inner.set("ID", "_inner")
    advice.append(inner)
    stage.sign(root)
    return stage.send(browser, root)


@attack("wrapping", "R2")
def a_truly_signed_response_with_extensions(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    extensions = new("Extensions", SAMLP)
    etree.SubElement(extensions, "{urn:example}note").text = "x"
    root.insert(1, extensions)
    stage.sign(root)
    return stage.send(browser, root)
