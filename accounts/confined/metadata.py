"""An identity provider out of its SAML metadata, signed by whom an administrator named, or by nobody in particular.

Metadata is open by design (extensions, other roles, descriptions for people), so there is no grammar for all of it: it
is bounded, brought into canonical form, and read by name. Nothing in it can switch a check off (threats.md R33).
"""

from __future__ import annotations

from datetime import datetime

from lxml import etree

from accounts.confined import gate, grammar, signature
from accounts.confined.certificates import read_certificate
from accounts.confined.profile import instant
from accounts.confined.text import METADATA, alone, build, canonical, check_bounds, parse
from accounts.confined.values import DS, MAX_METADATA, MD, REDIRECT, Described, Provider
from broker.errors import BadInput, SignInRefused


def read_metadata(
    raw: bytes, *, entity_id: str = "", now: datetime, signers: tuple[str, ...] = ()
) -> Described:
    """Read an identity provider out of SAML metadata; `entity_id` chooses among several.

    signers: certificates in PEM; when there are any, the signature of the whole document has to be by one of them, and
    nothing is read but what it covers. Raises BadInput saying what is missing.
    """
    try:
        root = _read(raw, signers)
        return _describe(root, entity_id, now)
    except SignInRefused as refusal:
        raise BadInput(f"The metadata cannot be read. {refusal.cause}") from None


def _read(raw: bytes, signers: tuple[str, ...]) -> etree._Element:
    if len(raw) > MAX_METADATA:
        raise BadInput("The metadata is longer than two million bytes.")
    try:
        body = raw.decode("utf-8").removeprefix("\ufeff").strip()
    except UnicodeDecodeError:
        raise BadInput("This is not SAML metadata: it is not UTF-8.") from None
    if "<!DOCTYPE" in body or "<!ENTITY" in body:
        raise BadInput("The metadata holds a DOCTYPE, which is not read.")
    try:
        check_bounds(body, METADATA)
        root = build(body)
    except SignInRefused as refusal:
        why = refusal.cause.replace("The message", "it", 1)
        raise BadInput(f"This is not SAML metadata: {why}") from None
    if not signers:
        return parse(canonical(alone(root)), METADATA)
    inside = root.find(f"{{{DS}}}Signature")
    if inside is None:
        raise BadInput("The metadata is not signed, and this provider's has to be.")
    gate.check_reference(inside)
    grammar.check(inside, grammar.SIGNATURE)
    if sum(element.get("ID") == root.get("ID") for element in root.iter(etree.Element)) != 1:
        raise BadInput("The metadata has two elements with the same id.")
    return signature.see(root, signers, "metadata", rule=None).element


def _describe(root: etree._Element, entity_id: str, now: datetime) -> Described:
    candidates = [
        entity
        for entity in root.iter(f"{{{MD}}}EntityDescriptor")
        if entity.find(f"{{{MD}}}IDPSSODescriptor") is not None
        and (not entity_id or entity.get("entityID") == entity_id)
    ]
    if not candidates:
        raise BadInput(
            f"The metadata describes no identity provider {entity_id}."
            if entity_id
            else "The metadata describes no identity provider."
        )
    if len(candidates) > 1:
        raise BadInput(
            "The metadata describes several identity providers: give the entity id of yours."
        )
    entity = candidates[0]
    role = entity.find(f"{{{MD}}}IDPSSODescriptor")
    assert role is not None
    around = [element for element in (role, *role.iterancestors()) if element.get("validUntil")]
    ends = [instant(element.get("validUntil"), "validUntil") for element in around]
    if ends and min(ends) <= now:
        raise BadInput(f"The metadata expired on {min(ends):%Y-%m-%d}.")

    def location(name: str) -> str:
        return next(
            (
                service.get("Location", "")
                for service in role.findall(f"{{{MD}}}{name}")
                if service.get("Binding") == REDIRECT
            ),
            "",
        )

    sso_url = location("SingleSignOnService")
    if not sso_url:
        raise BadInput("The metadata has no sign-on address for the HTTP-Redirect binding.")
    certificates = tuple(
        dict.fromkeys(
            read_certificate(certificate.text or "")[0]
            for key in role.findall(f"{{{MD}}}KeyDescriptor")
            if key.get("use") in (None, "signing")
            for certificate in key.iter(f"{{{DS}}}X509Certificate")
        )
    )
    if not certificates:
        raise BadInput("The metadata has no signing certificate.")
    return Described(
        provider=Provider(
            entity_id=entity.get("entityID", ""),
            sso_url=sso_url,
            slo_url=location("SingleLogoutService"),
            certificates=certificates,
        ),
        valid_until=min(ends) if ends else None,
    )
