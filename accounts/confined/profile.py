"""The Web Browser SSO profile, exact, on what was signed (SAML profiles section 4.1.4; threats.md R3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from lxml import etree

from accounts.confined import encryption, gate, grammar, signature, text
from accounts.confined.encryption import Unwrap
from accounts.confined.signature import Seen
from accounts.confined.text import plain
from accounts.confined.values import (
    BEARER,
    DS,
    MAX_AGE,
    MAX_VALIDITY,
    SAML,
    SAMLP,
    SKEW,
    SUCCESS,
    UNSOLICITED_AGE,
    UNSOLICITED_VALIDITY,
    Provider,
    Us,
    VerifiedResponse,
    refused,
)
from accounts.rules import TRANSIENT, VerifiedAttributes


def verify_response(
    unverified_message: str,
    *,
    us: Us,
    provider: Provider,
    expected_request: str | None,
    now: datetime,
    unwrap: Unwrap,
) -> VerifiedResponse:
    """Everything about a posted response, or SignInRefused with the reason in `cause`.

    Structure first; then the response's signature, where there is one; then decryption; then the assertion's own
    signature, always. expected_request None: the answer was not asked for, and may not claim that it was.
    """
    root = text.parse(text.decode(unverified_message))
    gate.explain_failure(root)
    gate.check_response(root, provider)
    envelope, checks = root, []
    if root.find(f"{{{DS}}}Signature") is not None:
        seen = signature.see(root, provider.certificates, "response", rule=grammar.RESPONSE)
        envelope = seen.element
        checks.append(("Signature of the response", seen.by))
    else:
        checks.append(("Signature of the response", "none, as this provider's settings allow"))
    assertion = root.find(f"{{{SAML}}}Assertion")
    if assertion is None:
        sealed = text.inside(root, f"{{{SAML}}}EncryptedAssertion")
        assertion, how = encryption.decrypt(sealed, unwrap)
        checks.append(("Encryption of the assertion", how))
        if assertion.get("ID") == root.get("ID"):
            raise refused("Two elements of the message have the same id.")
    signed = signature.see(assertion, provider.certificates, "assertion", rule=grammar.ASSERTION)
    checks.insert(1, ("Signature of the assertion", signed.by))
    found, profile_checks = check_profile(
        envelope, signed, us=us, provider=provider, expected_request=expected_request, now=now
    )
    checks.extend(profile_checks)
    attributes = VerifiedAttributes(**found["attributes"], checks=tuple(checks))
    return VerifiedResponse(
        attributes=attributes,
        assertion_id=found["assertion_id"],
        expires_at=found["expires_at"],
    )


def check_profile(
    envelope: etree._Element,
    signed: Seen,
    *,
    us: Us,
    provider: Provider,
    expected_request: str | None,
    now: datetime,
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The profile on the response and the assertion as it was signed; what it says, and what was looked at."""
    assertion = signed.element
    oldest = MAX_AGE + SKEW if expected_request else UNSOLICITED_AGE
    if us.recipients:
        oldest = MAX_AGE  # as long as AWS takes it
        among(envelope.get("Destination"), (us.acs, *us.recipients), "The response's Destination")
    else:
        same(envelope.get("Destination"), us.acs, "The response's Destination", _enter_acs(us))
    same(envelope.get("InResponseTo"), expected_request, "The response's InResponseTo")
    issued = {}
    for element, what in ((envelope, "response"), (assertion, "assertion")):
        issuer = plain(one(element, "Issuer"))
        same(issuer, provider.entity_id, f"The {what}'s Issuer", _COMPARE_ENTITY_ID)
        same(element.get("Version"), "2.0", f"The {what}'s Version")
        issued[what] = instant(element.get("IssueInstant"), f"The {what}'s IssueInstant")
        if not now - oldest <= issued[what] <= now + SKEW:
            raise refused(
                f"The {what} was issued at {clock(issued[what])}, too long ago or in the future.",
                "Check the clocks of the provider and of Daypass.",
            )
    status = one(one(envelope, "Status", SAMLP), "StatusCode", SAMLP)
    same(status.get("Value"), SUCCESS, "The status")
    if len(status):
        raise refused("The status has a second status inside.")

    expires, limits = _conditions(one(assertion, "Conditions"), us, now)
    subject = one(assertion, "Subject")
    confirmed_until = _confirmation(subject, us, expected_request, now)

    statement = one(assertion, "AuthnStatement")
    authenticated = instant(statement.get("AuthnInstant"), "AuthnInstant")
    if authenticated > now + SKEW:
        raise refused("AuthnInstant is in the future.", "Check the clocks of both sides.")
    ends = statement.get("SessionNotOnOrAfter")
    session_ends = instant(ends, "SessionNotOnOrAfter") if ends is not None else None
    if session_ends is not None and session_ends <= now:
        raise refused(
            "The provider's own session has ended.",
            "Check the clocks of both sides, and how long sessions last at the provider.",
        )
    context = _context(statement)
    name_id, logout = _name_id(subject, us, provider)
    session_index = statement.get("SessionIndex", "")
    if session_index:
        logout["session_index"] = session_index[:512]
    assertion_id = assertion.get("ID", "")
    ends_for_others = min(
        (issued["assertion"] + MAX_AGE, confirmed_until, *((expires,) if expires else ()))
    )
    answered = (
        f"the request of this browser, {expected_request}"
        if expected_request
        else "no request: the sign-in began at the provider, as its settings allow"
    )
    checks = [
        ("Issuer", provider.entity_id),
        ("Audience", us.entity_id),
        ("Destination and recipient", us.recipients[0] if us.recipients else us.acs),
        ("It answers", answered),
        ("Status", "Success"),
        ("Issued", clock(issued["assertion"])),
        ("Valid until", clock(min(expires, confirmed_until) if expires else confirmed_until)),
        *limits,
        ("Authenticated", f"{clock(authenticated)}{f', {context}' if context else ''}"),
        ("Assertion id, taken once", assertion_id),
    ]
    return {
        "attributes": {
            "protocol": "saml",
            "subject": name_id,
            "attributes": _attributes(assertion),
            "context": context,
            "at": min(authenticated, now),
            "session_ends": session_ends,
            "evidence": {
                "message_id": envelope.get("ID", "")[:128],
                "issued_id": assertion_id[:128],
                "sha256": signed.sha256,
                "request_id": expected_request or "",
                **({"until": ends_for_others.isoformat()} if us.recipients else {}),
            },
            "logout": logout,
        },
        "assertion_id": assertion_id,
        "expires_at": confirmed_until + 2 * SKEW,
    }, checks


def _conditions(
    conditions: etree._Element, us: Us, now: datetime
) -> tuple[datetime | None, list[tuple[str, str]]]:
    """The end of the assertion, if it names one, and conditions worth mentioning."""
    start = conditions.get("NotBefore")
    if start is not None and instant(start, "Conditions NotBefore") > now + SKEW:
        raise refused("The assertion is not valid yet.", "Check the clocks of both sides.")
    end = conditions.get("NotOnOrAfter")
    expires = instant(end, "Conditions NotOnOrAfter") if end is not None else None
    if expires is not None and expires <= now - SKEW:
        raise refused("The assertion has expired.", "Check the clocks of both sides.")
    audiences = conditions.findall(f"{{{SAML}}}AudienceRestriction")
    if not audiences:
        raise refused("The assertion names no audience.")
    for restriction in audiences:
        named = [plain(audience) for audience in restriction.findall(f"{{{SAML}}}Audience")]
        if us.entity_id not in named:
            raise refused(
                f"The assertion is for another audience: {named!r}; we are {us.entity_id!r}.",
                f"At the provider, enter {us.entity_id} as the audience (the entity id of the service provider).",
            )
    known = {f"{{{SAML}}}{name}" for name in ("AudienceRestriction", "OneTimeUse")}
    if any(child.tag not in known for child in conditions):
        raise refused(
            "The assertion has a condition that Daypass cannot keep, such as a proxy restriction.",
            "Let the provider leave it out for Daypass.",
        )
    once = conditions.find(f"{{{SAML}}}OneTimeUse") is not None
    return expires, [("Condition", "one-time use, as every assertion")] if once else []


def _confirmation(
    subject: etree._Element, us: Us, expected_request: str | None, now: datetime
) -> datetime:
    """Until when the bearer confirmation holds."""
    confirmation = one(subject, "SubjectConfirmation")
    same(confirmation.get("Method"), BEARER, "The confirmation's method")
    data = one(confirmation, "SubjectConfirmationData")
    if us.recipients:
        among(data.get("Recipient"), us.recipients, "The confirmation's Recipient")
    else:
        same(data.get("Recipient"), us.acs, "The confirmation's Recipient", _enter_acs(us))
    same(data.get("InResponseTo"), expected_request, "The confirmation's InResponseTo")
    if data.get("NotBefore") is not None:
        raise refused("The confirmation has a NotBefore, which the profile forbids.")
    expires = instant(data.get("NotOnOrAfter"), "The confirmation's NotOnOrAfter")
    if expires <= now - SKEW:
        raise refused("The confirmation has expired.", "Check the clocks of both sides.")
    longest = MAX_VALIDITY if expected_request or us.recipients else UNSOLICITED_VALIDITY
    if expires > now + longest + SKEW:  # an hour by a clock that is a little fast is an hour
        told = "an hour" if longest == MAX_VALIDITY else "ten minutes"
        raise refused(
            f"The confirmation is valid for more than {told}.",
            "Shorten how long assertions for Daypass are valid at the provider."
            if longest == MAX_VALIDITY
            else "Let the provider's tile point to Daypass's sign-on page: then an hour is short enough.",
        )
    return expires


def _context(statement: etree._Element) -> str:
    contexts = [
        plain(reference)
        for context in statement.findall(f"{{{SAML}}}AuthnContext")
        for reference in context.findall(f"{{{SAML}}}AuthnContextClassRef")
    ]
    if len(contexts) > 1:
        raise refused("The assertion names several authentication contexts.")
    return (contexts[0] or "") if contexts else ""


def _name_id(
    subject: etree._Element, us: Us, provider: Provider
) -> tuple[str | None, dict[str, str]]:
    """The NameID as text, and what a LogoutRequest has to repeat of it."""
    found = subject.findall(f"{{{SAML}}}NameID")
    if len(found) > 1:
        raise refused("The subject is named more than once.")
    if not found:
        return None, {}
    name_id = found[0]
    check_qualifiers(name_id, us, provider)
    if name_id.get("Format") == TRANSIENT:
        return None, _without_empty(name_id)
    return plain(name_id), _without_empty(name_id)


def check_qualifiers(name_id: etree._Element, us: Us, provider: Provider) -> None:
    """A name that is qualified is the provider's name, for us. Raises SignInRefused."""
    for attribute, own in (
        ("NameQualifier", provider.entity_id),
        ("SPNameQualifier", us.entity_id),
    ):
        if name_id.get(attribute, own) != own:
            raise refused(
                f"The NameID's {attribute} names somebody else: {name_id.get(attribute)!r}."
            )


def _without_empty(name_id: etree._Element) -> dict[str, str]:
    parts = {
        "name_id": plain(name_id) or "",
        "format": name_id.get("Format", ""),
        "name_qualifier": name_id.get("NameQualifier", ""),
        "sp_name_qualifier": name_id.get("SPNameQualifier", ""),
    }
    return {key: value for key, value in parts.items() if value}


def _attributes(assertion: etree._Element) -> dict[str, tuple[Any, ...]]:
    """Every value of every attribute, by Name, untouched. What is not plain text stands as None."""
    found: dict[str, tuple[Any, ...]] = {}
    for statement in assertion.findall(f"{{{SAML}}}AttributeStatement"):
        for attribute in statement.findall(f"{{{SAML}}}Attribute"):
            values = tuple(plain(value) for value in attribute.findall(f"{{{SAML}}}AttributeValue"))
            name = attribute.get("Name", "")
            found[name] = (*found.get(name, ()), *values)
    return found


def one(parent: etree._Element, name: str, namespace: str = SAML) -> etree._Element:
    """The one child of that name. Raises SignInRefused when there is none or more."""
    found = parent.findall(f"{{{namespace}}}{name}")
    if len(found) != 1:
        raise refused(f"There are {len(found)} {name} elements where one belongs.")
    return found[0]


def same(found: str | None, expected: str | None, what: str, remedy: str = "") -> None:
    """Exact equality, where None means that there is none. Raises SignInRefused."""
    if found != expected:
        raise refused(f"{what} is {found!r}; expected {expected!r}.", remedy)


_COMPARE_ENTITY_ID = (
    "Compare this provider's entity id here with the one in its own metadata, to the last letter."
)


def _enter_acs(us: Us) -> str:
    return (
        f"At the provider, enter {us.acs} as the assertion consumer service, to the last character."
    )


def among(found: str | None, expected: tuple[str, ...], what: str) -> None:
    """Exact equality with one of several. Raises SignInRefused."""
    if found not in expected:
        raise refused(f"{what} is {found!r}; expected one of {', '.join(map(repr, expected))}.")


_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,12}))?(?:Z|\+00:00)"
)


def instant(value: str | None, what: str) -> datetime:
    """A time in UTC as SAML writes it (core section 1.3.3). Raises SignInRefused."""
    match = _INSTANT.fullmatch(value or "")
    try:
        if match is None:
            raise ValueError
        moment = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
        return moment + timedelta(microseconds=int((match[2] or "0")[:6].ljust(6, "0")))
    except (ValueError, OverflowError):
        raise refused(f"{what} is missing or not a time in UTC.") from None


def clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
