"""The shape that a message must have before any signature is looked at (threats.md R1, R2, R31).

The grammar says almost all of it; here is what a grammar cannot say: ids are unique, a signature covers the element it
stands in and nothing else, and where a provider's settings are the usual reason, the cause says so.
"""

from __future__ import annotations

import re

from lxml import etree

from accounts.confined import grammar
from accounts.confined.grammar import Rule
from accounts.confined.values import (
    DIGESTS,
    DS,
    SAML,
    SAMLP,
    SIGNATURES,
    SUCCESS,
    XENC,
    Provider,
    refused,
)

_ENCRYPT_WHOLE = (
    "Let the provider encrypt the whole assertion, or nothing: the connection is encrypted already."
)


def explain_failure(root: etree._Element) -> None:
    """A provider that says no is told apart from a broken message; nothing is believed of it beyond that."""
    code = root.find(f"{{{SAMLP}}}Status/{{{SAMLP}}}StatusCode")
    if root.tag != f"{{{SAMLP}}}Response" or code is None or code.get("Value") in (None, SUCCESS):
        return
    inner = code.find(f"{{{SAMLP}}}StatusCode")
    parts = [
        re.sub(r"[^A-Za-z0-9._-]", "", str(one.get("Value")).rpartition(":")[2])
        for one in (code, inner)
        if one is not None
    ]
    raise refused(
        f"The provider answered that it did not sign the person in: {', '.join(parts)[:120]}.",
        "Look at the provider's own sign-in log; the person may not be assigned to Daypass.",
        code="provider_said_no",
    )


def check_response(root: etree._Element, provider: Provider) -> None:
    """One assertion, plain or encrypted as the provider may send it, signed as it has to. Raises SignInRefused."""
    if root.tag != f"{{{SAMLP}}}Response" or root.get("Version") != "2.0":
        raise refused("The message is not a SAML 2.0 response.")
    encrypted = list(root.iter(f"{{{SAML}}}EncryptedAssertion"))
    _check_encryption(encrypted, provider)
    assertions = [*root.iter(f"{{{SAML}}}Assertion"), *encrypted]
    if len(assertions) != 1 or assertions[0].getparent() is not root:
        raise refused(f"The response holds {len(assertions)} assertions; it has to be one.")
    if root.find(f".//{{{SAMLP}}}Extensions") is not None:
        raise refused(
            "The response has extensions.",
            "Let the provider leave them out (in Keycloak, switch off “Optimize REDIRECT signing key lookup”).",
        )
    check_message(root, grammar.RESPONSE)
    if provider.response_signed and root.find(f"{{{DS}}}Signature") is None:
        raise refused(
            "The response is not signed.",
            "Let the provider sign the response as well as the assertion. If it cannot, switch off "
            "“Response must be signed” for this provider.",
        )
    if not encrypted:
        check_signed(assertions[0])


def check_assertion(assertion: etree._Element) -> None:
    """What was encrypted has the very shape that a plain assertion has. Raises SignInRefused."""
    check_message(assertion, grammar.ASSERTION)
    check_signed(assertion)


def check_signed(assertion: etree._Element) -> None:
    if assertion.find(f"{{{DS}}}Signature") is None:
        raise refused(
            "The assertion is not signed.",
            "Switch assertion signing on for Daypass at the provider. Where it signs either the one or the other "
            "(Google: “Signed response”), let it sign the assertion, and switch off “Response must be signed” here.",
        )


def check_message(root: etree._Element, rule: Rule) -> None:
    """The exact structure, unique ids, and signatures over their own parents. Raises SignInRefused."""
    for part in ("EncryptedID", "EncryptedAttribute", "NewEncryptedID"):
        if root.find(f".//{{{SAML}}}{part}") is not None:
            raise refused(f"The message holds an {part}, which is not read.", _ENCRYPT_WHOLE)
    for signature in root.iter(f"{{{DS}}}Signature"):
        check_reference(signature)
        check_strength(signature)
    grammar.check(root, rule)
    seen: set[str] = set()
    for element in root.iter():
        for name in ("ID", "Id"):
            own = element.get(name)
            if own is not None and own in seen:
                raise refused("Two elements of the message have the same id.")
            if own is not None:
                seen.add(own)
    _check_data_reference(root)


def check_reference(signature: etree._Element) -> None:
    """One Reference, to the id of the element that the signature stands in (threats.md R2)."""
    parent = signature.getparent()
    references = list(signature.iter(f"{{{DS}}}Reference"))
    own = parent.get("ID") if parent is not None else None
    if not own or len(references) != 1 or references[0].get("URI") != f"#{own}":
        raise refused("A signature does not cover exactly the element it stands in.")


def check_strength(signature: etree._Element) -> None:
    """A provider that still signs with SHA-1 is told so, before the grammar finds the same (threats.md R31)."""
    for name, accepted in (("SignatureMethod", SIGNATURES), ("DigestMethod", DIGESTS)):
        for method in signature.iter(f"{{{DS}}}{name}"):
            found = str(method.get("Algorithm"))
            if found not in accepted:
                raise refused(
                    f"A signature's {name} is {found.rpartition('#')[2][:40]!r}, which is not accepted.",
                    "Let the provider sign with RSA or ECDSA and SHA-256 or stronger.",
                )


def _check_data_reference(root: etree._Element) -> None:
    """A key that says which data it is for means the data it stands in or beside."""
    for reference in root.iter(f"{{{XENC}}}DataReference"):
        data = root.find(f".//{{{XENC}}}EncryptedData")
        own = data.get("Id") if data is not None else None
        if not own or reference.get("URI") != f"#{own}":
            raise refused("The encrypted key is for something else than the assertion.")


def _check_encryption(encrypted: list[etree._Element], provider: Provider) -> None:
    if encrypted and provider.encryption == "refused":
        raise refused(
            "The assertion is encrypted.",
            "Switch assertion encryption off for Daypass at the provider, or let this provider encrypt.",
        )
    if not encrypted and provider.encryption == "required":
        raise refused(
            "The assertion is not encrypted.",
            "Switch assertion encryption on at the provider, with AES-GCM, RSA-OAEP and the certificate for "
            "encryption from Daypass's metadata.",
        )
    for one in encrypted:
        keys = list(one.iter(f"{{{XENC}}}EncryptedKey"))
        if len(keys) != 1:
            raise refused(
                f"The encrypted assertion has {len(keys)} encrypted keys; it has to be one."
            )
        methods = [
            str(method.get("Algorithm")).rpartition("#")[2][:40]
            for method in one.iter(f"{{{XENC}}}EncryptionMethod")
        ]
        known = {*grammar.GCM, grammar.OAEP, grammar.OAEP11}
        if any(
            method.get("Algorithm") not in known
            for method in one.iter(f"{{{XENC}}}EncryptionMethod")
        ):
            raise refused(
                f"The assertion is encrypted with {', '.join(methods)}.",
                "Only AES-GCM with RSA-OAEP is accepted. If the provider cannot do that, switch assertion "
                "encryption off for Daypass there: the connection is encrypted already.",
            )
