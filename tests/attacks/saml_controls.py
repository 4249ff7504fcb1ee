"""Honest answers as real providers send them: were one of these refused, refusing the attacks would prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree
from signxml import DigestAlgorithm, SignatureMethod

from tests.accounts.idp_saml import SAML, SAMLP, stamp
from tests.attacks import dsig
from tests.attacks.dsig import DS, MORE, XMLENC, Recipe
from tests.attacks.registry import control
from tests.attacks.stages import GOOD, SamlStage


def part(root: etree._Element, name: str) -> etree._Element:
    return next(root.iter(f"{{{SAML}}}{name}"))


# --- Signatures


@control(
    "signatures",
    cases={
        "SHA-256": (SignatureMethod.RSA_SHA256, DigestAlgorithm.SHA256),
        "SHA-384": (SignatureMethod.RSA_SHA384, DigestAlgorithm.SHA384),
        "SHA-512": (SignatureMethod.RSA_SHA512, DigestAlgorithm.SHA512),
        "SHA-512 over SHA-256": (SignatureMethod.RSA_SHA512, DigestAlgorithm.SHA256),
    },
)
def an_answer_signed_by_signxml(stage: SamlStage, how: tuple[Any, Any]) -> Any:
    browser, root = stage.ask()
    return stage.send(browser, stage.idp.sign(root, algorithm=how[0], digest=how[1]))


@control("signatures")
def an_answer_signed_where_it_stands(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.sign(root)
    assert dsig.fits(root, stage.idp.certificate)
    assert dsig.fits(root.find(f"{{{SAML}}}Assertion"), stage.idp.certificate)
    return stage.send(browser, root)


@control("signatures")
def an_answer_that_carries_its_certificate(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    recipe = Recipe(certificate=stage.idp.certificate)
    stage.sign(root, assertion=recipe, response=recipe)
    return stage.send(browser, root)


@control("signatures")
def an_assertion_signed_alone_where_an_administrator_allows_it(stage: SamlStage) -> Any:
    stage.set(response_signed=False)
    browser, root = stage.ask()
    stage.sign(root, response=None)
    return stage.send(browser, root)


@control("signatures")
def both_signed_at_a_provider_that_need_not_sign_the_response(stage: SamlStage) -> Any:
    stage.set(response_signed=False)
    browser, root = stage.ask()
    stage.sign(root)
    return stage.send(browser, root)


@cache
def curve_key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(
        {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}[name]
    )


@control(
    "signatures",
    cases={
        "P-256": ("P-256", MORE + "ecdsa-sha256", XMLENC + "sha256"),
        "P-384": ("P-384", MORE + "ecdsa-sha384", MORE + "sha384"),
        "P-521": ("P-521", MORE + "ecdsa-sha512", XMLENC + "sha512"),
    },
)
def an_answer_signed_with_an_elliptic_curve(stage: SamlStage, how: tuple[str, str, str]) -> Any:
    key = curve_key(how[0])
    stage.set(certificates=[dsig.self_signed(key)])
    browser, root = stage.ask()
    recipe = Recipe(algorithm=how[1], digest=how[2])
    stage.sign(root, assertion=recipe, response=recipe, key=key)
    return stage.send(browser, root)


@control("signatures")
def an_answer_signed_with_the_second_of_two_keys(stage: SamlStage) -> Any:
    stage.set(certificates=[stage.other.certificate, stage.idp.certificate])
    browser, root = stage.ask()
    stage.sign(root)
    return stage.send(browser, root)


@cache
def long_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=4096)


@control("signatures")
def an_answer_signed_with_a_4096_bit_key(stage: SamlStage) -> Any:
    stage.set(certificates=[dsig.self_signed(long_key())])
    browser, root = stage.ask()
    stage.sign(root, key=long_key())
    return stage.send(browser, root)


@control("signatures")
def inclusive_namespaces_as_real_providers_list_them(stage: SamlStage) -> Any:
    """Entra ID, AD FS and Shibboleth name `xs` and the like beside the exclusive form."""
    browser, root = stage.ask()
    for value in root.iter(f"{{{SAML}}}AttributeValue"):
        value.set("{http://www.w3.org/2001/XMLSchema-instance}type", "xs:string")
    text = etree.tostring(root).replace(
        b"<samlp:Response", b'<samlp:Response xmlns:xs="http://www.w3.org/2001/XMLSchema"', 1
    )
    root = etree.fromstring(text)
    stage.sign(root, assertion=Recipe(prefixes=("xs",)), response=Recipe(prefixes=("xs",)))
    return stage.send(browser, root)


@control("signatures")
def a_signature_without_a_prefix(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    recipe = Recipe(prefix=None, certificate=stage.idp.certificate)
    stage.sign(root, assertion=recipe, response=recipe)
    return stage.send(browser, root)


@control("signatures")
def a_signature_value_broken_into_lines(stage: SamlStage) -> Any:
    def lines(signature: etree._Element) -> None:
        value = signature.find(f"{{{DS}}}SignatureValue")
        value.text = "\n" + "\n".join(value.text[i : i + 76] for i in range(0, len(value.text), 76))

    browser, root = stage.ask()
    stage.sign(root, assertion=Recipe(), response=Recipe(bend=lines))
    return stage.send(browser, root)


# --- Forms of XML


def _pretty(root: etree._Element) -> etree._Element:
    etree.indent(root, space="  ")
    return root


def _other_prefixes(root: etree._Element) -> etree._Element:
    text = etree.tostring(root).decode()
    for old, new in (("samlp", "saml2p"), ("saml:", "ns7:"), ("xmlns:saml=", "xmlns:ns7=")):
        text = text.replace(old, new)
    return etree.fromstring(text.replace("<saml2pp", "<saml2p"))


def _default_namespace(root: etree._Element) -> etree._Element:
    """The assertion's namespace as the default one, as Entra ID writes it."""
    text = etree.tostring(root).decode()
    text = text.replace(f' xmlns:saml="{SAML}"', "")
    text = text.replace("<saml:", "<").replace("</saml:", "</")
    for name in ("Issuer", "Assertion"):
        text = text.replace(f"<{name}", f'<{name} xmlns="{SAML}"')
    text = text.replace(f'<Assertion xmlns="{SAML}"', f'<Assertion xmlns="{SAML}"', 1)
    return etree.fromstring(text)


@control(
    "forms of XML",
    cases={
        "indented": _pretty,
        "other prefixes": _other_prefixes,
        "a default namespace": _default_namespace,
    },
)
def an_answer_written_otherwise(
    stage: SamlStage, rewrite: Callable[[etree._Element], etree._Element]
) -> Any:
    browser, root = stage.ask()
    root = rewrite(root)
    stage.sign(root)
    return stage.send(browser, root)


@control(
    "forms of XML",
    cases={
        "a declaration": lambda raw: b'<?xml version="1.0" encoding="UTF-8"?>\n' + raw,
        "a declaration in other quotes": lambda raw: (
            b"<?xml version='1.0' encoding='utf-8'?>" + raw
        ),
        "a line break at the end": lambda raw: raw + b"\n",
        "numbered characters": lambda raw: raw.replace(b"ada@example", b"ad&#97;@example"),
    },
)
def an_answer_sent_with(stage: SamlStage, rewrite: Callable[[bytes], bytes]) -> Any:
    browser, root = stage.ask()
    stage.sign(root)
    return stage.send(browser, rewrite(etree.tostring(root)))


@control("forms of XML")
def a_message_whose_base64_is_broken_into_lines(stage: SamlStage) -> Any:
    import base64

    browser, root = stage.ask()
    stage.sign(root)
    return stage.post(browser, base64.encodebytes(etree.tostring(root)).decode())


# --- Who and which groups


@control("people and groups", subject="Zoë-Müller-日本")
def a_name_in_many_scripts(stage: SamlStage) -> Any:
    browser, root = stage.ask(name_id="Zoë-Müller-日本")
    stage.sign(root)
    return stage.send(browser, root)


@control("people and groups", groups=("Ärzte & Pflege <Süd>", "日本", "a,b;c d", " gap", "'\""))
def groups_with_every_kind_of_character(stage: SamlStage) -> Any:
    groups = ["Ärzte & Pflege <Süd>", "日本", "a,b;c d", " gap", "'\""]
    browser, root = stage.ask(attributes=GOOD | {"groups": groups})
    stage.sign(root)
    return stage.send(browser, root)


@control("people and groups", groups=())
def nobody_has_to_be_in_a_group(stage: SamlStage) -> Any:
    browser, root = stage.ask(attributes={"uid": ["ada"]})
    stage.sign(root)
    return stage.send(browser, root)


@control("people and groups", groups=())
def an_answer_without_any_attribute(stage: SamlStage) -> Any:
    browser, root = stage.ask(attributes={})
    stage.sign(root)
    return stage.send(browser, root)


@control("people and groups", groups=("one",))
def a_single_group(stage: SamlStage) -> Any:
    browser, root = stage.ask(attributes=GOOD | {"groups": ["one"]})
    stage.sign(root)
    return stage.send(browser, root)


@control("people and groups", groups=[f"00000000-0000-4000-8000-{n:012d}" for n in range(500)])
def five_hundred_groups(stage: SamlStage) -> Any:
    groups = [f"00000000-0000-4000-8000-{n:012d}" for n in range(500)]
    browser, root = stage.ask(attributes=GOOD | {"groups": groups})
    stage.sign(root)
    return stage.send(browser, root)


@control("people and groups", groups=("a", "b"))
def groups_in_two_attributes_of_one_name(stage: SamlStage) -> Any:
    browser, root = stage.ask(attributes=GOOD | {"groups": ["a"]})
    again = etree.SubElement(part(root, "AttributeStatement"), f"{{{SAML}}}Attribute")
    again.set("Name", "groups")
    etree.SubElement(again, f"{{{SAML}}}AttributeValue").text = "b"
    stage.sign(root)
    return stage.send(browser, root)


@control("people and groups")
def attributes_with_friendly_names_and_formats(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    for attribute in root.iter(f"{{{SAML}}}Attribute"):
        attribute.set("NameFormat", "urn:oasis:names:tc:SAML:2.0:attrname-format:basic")
        attribute.set("FriendlyName", attribute.get("Name"))
    stage.sign(root)
    return stage.send(browser, root)


@control("people and groups")
def a_name_qualified_with_our_names(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    name = part(root, "NameID")
    name.set("NameQualifier", stage.idp.entity_id)
    name.set("SPNameQualifier", "https://daypass.test/saml/acme/metadata/")
    stage.sign(root)
    return stage.send(browser, root)


# --- Times and conditions at their limits


def _times(root: etree._Element, **at: datetime) -> None:
    for place, moment in at.items():
        element, _, attribute = place.rpartition("_")
        for found in root.iter(f"{{{SAML}}}{element}", f"{{{SAMLP}}}{element}"):
            found.set(attribute, stamp(moment))


@control(
    "limits of time",
    cases={
        "expired less than a minute ago": {
            "SubjectConfirmationData_NotOnOrAfter": -50,
            "Conditions_NotOnOrAfter": -50,
        },
        "valid in less than a minute": {"Conditions_NotBefore": 50},
        "valid for almost an hour": {
            "SubjectConfirmationData_NotOnOrAfter": 3590,
            "Conditions_NotOnOrAfter": 3590,
        },
        "issued almost five minutes ago": {
            "Response_IssueInstant": -295,
            "Assertion_IssueInstant": -295,
        },
        "issued by a clock that is ahead": {
            "Response_IssueInstant": 50,
            "Assertion_IssueInstant": 50,
            "AuthnStatement_AuthnInstant": 50,
        },
        "a session of an hour": {"AuthnStatement_SessionNotOnOrAfter": 3600},
        "authenticated this morning": {"AuthnStatement_AuthnInstant": -4 * 3600},
    },
)
def an_answer_just_within(stage: SamlStage, seconds: dict[str, int]) -> Any:
    browser, root = stage.ask()
    now = datetime.now(UTC)
    _times(root, **{place: now + timedelta(seconds=off) for place, off in seconds.items()})
    stage.sign(root)
    return stage.send(browser, root)


@control("limits of time")
def times_with_fractions_of_seconds(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    for element in root.iter():
        for name in ("IssueInstant", "NotBefore", "NotOnOrAfter", "AuthnInstant"):
            if element.get(name):
                element.set(name, element.get(name).replace("Z", ".123Z"))
    stage.sign(root)
    return stage.send(browser, root)


@control("conditions")
def an_answer_to_be_used_once(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    etree.SubElement(part(root, "Conditions"), f"{{{SAML}}}OneTimeUse")
    stage.sign(root)
    return stage.send(browser, root)


@control("conditions")
def two_audiences_of_which_one_is_ours(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    etree.SubElement(
        part(root, "AudienceRestriction"), f"{{{SAML}}}Audience"
    ).text = "https://another.example"
    stage.sign(root)
    return stage.send(browser, root)


@control("conditions")
def an_issuer_that_says_it_is_an_entity(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    for issuer in root.iter(f"{{{SAML}}}Issuer"):
        issuer.set("Format", "urn:oasis:names:tc:SAML:2.0:nameid-format:entity")
    stage.sign(root)
    return stage.send(browser, root)


@control("conditions")
def an_address_in_the_confirmation(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    part(root, "SubjectConfirmationData").set("Address", "192.0.2.7")
    stage.sign(root)
    return stage.send(browser, root)


@control("conditions")
def a_status_with_a_message(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    etree.SubElement(root.find(f"{{{SAMLP}}}Status"), f"{{{SAMLP}}}StatusMessage").text = "Success"
    stage.sign(root)
    return stage.send(browser, root)


@control("several sign-ins")
def two_people_one_after_the_other(stage: SamlStage) -> Any:
    first, root = stage.ask(name_id="u-0009", attributes={"uid": ["bob"], "groups": ["other"]})
    stage.sign(root)
    stage.send(first, root)
    stage.settled()
    browser, root = stage.ask()
    stage.sign(root)
    return stage.send(browser, root)


@control("several sign-ins")
def the_neighbours_own_people(stage: SamlStage) -> Any:
    browser, root = stage.ask("other")
    stage.sign(root, key=stage.other.key)
    return stage.send(browser, root, "other")


@control("several sign-ins")
def a_second_try_after_a_refused_one(stage: SamlStage) -> Any:
    browser, root = stage.ask()
    stage.send(browser, root)
    again = stage.idp.build(stage.start(browser), attributes=GOOD)
    stage.sign(again)
    return stage.send(browser, again)
