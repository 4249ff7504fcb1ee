"""Believable claims for tests: name only what the test is about."""

from __future__ import annotations

import base64
import json
from typing import Any

from lxml import etree

from broker.minting.oidc import WebIdentityClaims
from broker.minting.saml import AssertionClaims

ROLE = "arn:aws:iam::111122223333:role/teams/Developer"
PROVIDER = "arn:aws:iam::111122223333:saml-provider/Daypass"
ALICE = "3f0c9a52-6a53-4a0e-9d53-0f5a9c1a7c11"
SAML = {
    "samlp": "urn:oasis:names:tc:SAML:2.0:protocol",
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "md": "urn:oasis:names:tc:SAML:2.0:metadata",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}


def web_identity(**fields: Any) -> WebIdentityClaims:
    fields = {
        "subject": ALICE,
        "role_arn": ROLE,
        "source_identity": "alice",
        "session_tags": {"Team": "blue", "CostCentre": "12345"},
        "transitive_tag_keys": ("Team",),
        "mfa": True,
    } | fields
    return WebIdentityClaims(**fields)


def assertion(**fields: Any) -> AssertionClaims:
    fields = {
        "role_arn": ROLE,
        "saml_provider_arn": PROVIDER,
        "session_name": "alice-7Q2M",
        "source_identity": "alice",
        "session_tags": {"Team": "blue", "CostCentre": "12345"},
        "transitive_tag_keys": ("Team", "CostCentre"),
        "session_seconds": 3600,
        "subject": ALICE,
        "recipient": "https://signin.aws.amazon.com/saml",
        "audience": "urn:amazon:webservices",
    } | fields
    return AssertionClaims(**fields)


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and payload of a JWT as they stand there, unverified."""
    header, payload, _ = token.split(".")
    return tuple(  # type: ignore[return-value]
        json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        for part in (header, payload)
    )


def tree_of(response: str) -> etree._Element:
    return etree.fromstring(base64.b64decode(response))


def attributes_of(response: str) -> dict[str, list[str]]:
    """Attribute name without AWS's prefix -> values."""
    return {
        attribute.get("Name").removeprefix("https://aws.amazon.com/SAML/Attributes/"): [
            value.text or "" for value in attribute.findall("saml:AttributeValue", SAML)
        ]
        for attribute in tree_of(response).iterfind(".//saml:Attribute", SAML)
    }
