"""Logout messages: for us, from this provider, now, and signed (threats.md R34).

By redirect the signature is over the query and was checked before the message came here; a posted message carries its
signature inside, and is read from under it.
"""

from __future__ import annotations

from datetime import datetime

from lxml import etree

from accounts.confined import gate, grammar, signature, text
from accounts.confined.grammar import Rule
from accounts.confined.profile import check_qualifiers, instant, one
from accounts.confined.text import plain
from accounts.confined.values import (
    DS,
    MAX_AGE,
    SAML,
    SAMLP,
    SKEW,
    LogoutAsked,
    Provider,
    Us,
    refused,
)


def read_request(
    unverified_message: str, *, posted: bool, us: Us, provider: Provider, now: datetime
) -> LogoutAsked:
    """Whom a LogoutRequest names. Raises SignInRefused."""
    root = _message(unverified_message, grammar.LOGOUT_REQUEST, posted, us, provider, now)
    end = root.get("NotOnOrAfter")
    if end is not None and instant(end, "NotOnOrAfter") <= now - SKEW:
        raise refused("The logout request has expired.")
    name_id = one(root, "NameID")
    name = plain(name_id)
    if not name:
        raise refused("The logout request names nobody.")
    check_qualifiers(name_id, us, provider)
    indexes = tuple(plain(index) or "" for index in root.findall(f"{{{SAMLP}}}SessionIndex"))
    return LogoutAsked(id=root.get("ID", ""), name_id=name, session_indexes=indexes)


def read_response(
    unverified_message: str, *, posted: bool, us: Us, provider: Provider, now: datetime
) -> str:
    """The id of the request that a LogoutResponse answers. Raises SignInRefused."""
    root = _message(unverified_message, grammar.LOGOUT_RESPONSE, posted, us, provider, now)
    return root.get("InResponseTo", "")


def _message(
    unverified_message: str,
    rule: Rule,
    posted: bool,
    us: Us,
    provider: Provider,
    now: datetime,
) -> etree._Element:
    raw = text.decode(unverified_message) if posted else text.inflate(unverified_message)
    root = text.parse(raw)
    if root.tag != rule.name or root.get("Version") != "2.0":
        raise refused(f"The message is not a SAML {rule.name.rpartition('}')[2]}.")
    gate.check_message(root, rule)
    if posted:
        root = signature.see(root, provider.certificates, "logout message", rule=rule).element
    elif root.find(f"{{{DS}}}Signature") is not None:
        # SAML bindings section 3.4.4.1: by redirect, a signature inside has to be left out.
        raise refused("The logout message is signed inside as well as outside.")
    if plain(one(root, "Issuer", SAML)) != provider.entity_id:
        raise refused("The logout message is from another issuer.")
    if root.get("Destination") != us.sls:
        raise refused("The logout message is for another address.")
    issued = instant(root.get("IssueInstant"), "IssueInstant")
    if not now - MAX_AGE - SKEW <= issued <= now + SKEW:
        raise refused("The logout message is too old or from the future.")
    return root
