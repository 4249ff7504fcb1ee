"""See what is signed: the bytes whose digest a pinned key signed, read anew, and nothing else (threats.md R2).

xmlsec verifies, through python3-saml. It is given the signed element as a document of its own and a signature without
its KeyInfo, so that there is nothing to find but the element and no key but the pinned one. Then the canonical form is
made here, once more, its digest is compared with the one that was signed, and these bytes are what anybody reads.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from lxml import etree
from onelogin.saml2.utils import OneLogin_Saml2_Utils

from accounts.confined import certificates, grammar
from accounts.confined.grammar import Rule
from accounts.confined.text import (
    MESSAGE,
    METADATA,
    algorithm,
    alone,
    build,
    canonical,
    check_text,
    inside,
)
from accounts.confined.values import DIGESTS, DS, EXC_C14N, refused


@dataclass(frozen=True, slots=True)
class Seen:
    """An element as it was signed: parsed from the canonical bytes under the verified digest, without the signature.

    by: the algorithm and the certificate, in words.
    """

    element: etree._Element
    sha256: str
    by: str


def see(element: etree._Element, pinned: tuple[str, ...], what: str, *, rule: Rule | None) -> Seen:
    """Verify the signature inside an element whose shape was checked, and read what it covers.

    what: the element in words. rule: what the bytes under the signature have to be (None: checked by the caller).
    Raises SignInRefused when no pinned certificate fits, and when anything was signed but exactly this element.
    """
    if not pinned:
        raise refused(
            "No certificate of this provider is known.", "Add one, or refresh its metadata."
        )
    own = alone(element)
    signature = own.find(f"{{{DS}}}Signature")
    if signature is None:
        raise refused(f"The {what} is not signed.")
    said = signature.find(f"{{{DS}}}KeyInfo")
    if said is not None:
        signature.remove(said)
    method = algorithm(inside(signature, f"{{{DS}}}SignedInfo/{{{DS}}}SignatureMethod"))
    name = method.rpartition("#")[2]
    fitting = [pem for pem in pinned if certificates.family(pem) == name.partition("-")[0]]
    signer = next((pem for pem in fitting if _verified(own, pem)), None)
    if signer is None:
        raise refused(
            f"The signature of the {what} fits no certificate of this provider.",
            "Something changed on the way, or the provider signs with a new key: refresh its metadata.",
        )
    covered = _covered(own, signature, what)
    # The bounds held for the tree that these bytes were made of, so that they need no counting again.
    seen = build(check_text(covered, MESSAGE if rule else METADATA))
    if rule:
        grammar.check(seen, rule)
    return Seen(
        element=seen,
        sha256=hashlib.sha256(covered).hexdigest(),
        by=f"{name.upper()} by certificate {certificates.describe(signer)}",
    )


def _verified(own: etree._Element, pem: str) -> bool:
    return OneLogin_Saml2_Utils.validate_sign(own, cert=pem, xpath="/*/ds:Signature") is True


def _covered(own: etree._Element, signature: etree._Element, what: str) -> bytes:
    """The canonical bytes of the element without its signature, if they are what was signed."""
    reference = inside(signature, f"{{{DS}}}SignedInfo/{{{DS}}}Reference")
    listed = reference.find(f".//{{{EXC_C14N}}}InclusiveNamespaces")
    prefixes = tuple(listed.get("PrefixList", "").split()) if listed is not None else ()
    digest = DIGESTS[algorithm(inside(reference, f"{{{DS}}}DigestMethod"))]
    try:
        signed = base64.b64decode(
            "".join((reference.findtext(f"{{{DS}}}DigestValue") or "").split()), validate=True
        )
    except (binascii.Error, ValueError):
        raise refused(f"The digest of the {what} is not base64.") from None
    _take_out(signature)
    covered = canonical(own, prefixes)
    if not hmac.compare_digest(hashlib.new(digest, covered).digest(), signed):
        raise refused(f"The signature covers something else than the {what}.")
    return covered


def _take_out(element: etree._Element) -> None:
    """Remove an element and leave the text after it, as the enveloped-signature transform does."""
    parent, before = element.getparent(), element.getprevious()
    assert parent is not None
    if element.tail:
        if before is not None:
            before.tail = (before.tail or "") + element.tail
        else:
            parent.text = (parent.text or "") + element.tail
        element.tail = None
    parent.remove(element)
