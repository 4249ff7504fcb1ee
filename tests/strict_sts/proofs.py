"""Tokens, assertions and metadata, read."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lxml import etree

from tests.strict_sts.reading import check_tags
from tests.strict_sts.values import _AWS, NS, SAML_ATTRIBUTES, Refusal


def peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims as they stand there; nothing is believed before the signature is verified."""
    try:
        first, second, _ = token.split(".")
        header, claims = (
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            for part in (first, second)
        )
        if isinstance(header, dict) and isinstance(claims, dict):
            return header, claims
    except ValueError:
        pass
    raise Refusal(
        "InvalidIdentityToken",
        "The ID Token provided is not a valid JWT. (You may see this error if you "
        "sent an Access Token)",
    )


def whole(value: Any) -> int:
    """Whole numbers, quoted or not; fractions fail."""
    if isinstance(value, bool) or not re.fullmatch(r"\d+", str(value)):
        raise ValueError(value)
    return int(value)


def check_roles_claim(claims: Mapping[str, Any], role_arn: str) -> str:
    said = claims.get(f"{_AWS}roles")
    if said is None:
        return "false"
    named = said.split(";") if isinstance(said, str) else list(said)
    if role_arn not in named:
        raise Refusal(
            "InvalidIdentityToken",
            "The target role ARN is not present in the roles claim of the identity token",
        )
    return "true"


def tags_of_token(claims: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    nested = claims.get(f"{_AWS}tags") or {}
    tags: dict[str, str] = {}
    for key, values in nested.get("principal_tags", {}).items():
        if not isinstance(values, list) or len(values) != 1:
            raise Refusal(
                "InvalidIdentityToken", "The session tags in the identity token are not valid"
            )
        tags[key] = str(values[0])
    transitive = list(nested.get("transitive_tag_keys", []))
    flat = f"{_AWS}tags/principal_tags/"
    tags |= {
        key.removeprefix(flat): str(value) for key, value in claims.items() if key.startswith(flat)
    }
    transitive += claims.get(f"{_AWS}tags/transitive_tag_keys", [])
    check_tags(tags, transitive)
    return tags, tuple(transitive)


def _attributes(assertion: etree._Element) -> dict[str, list[str]]:
    """AWS's attributes, without their prefix. A blank around a value breaks sign-in, so it is kept."""
    return {
        str(one.get("Name")).removeprefix(SAML_ATTRIBUTES): [
            value.text or "" for value in one.iterfind("saml:AttributeValue", NS)
        ]
        for one in assertion.iterfind("saml:AttributeStatement/saml:Attribute", NS)
        if str(one.get("Name")).startswith(SAML_ATTRIBUTES)
    }


def only(attributes: Mapping[str, list[str]], name: str) -> str:
    values = attributes.get(name, [])
    if len(values) > 1:
        raise Refusal("InvalidIdentityToken", f"{name} must have one value")
    return values[0] if values else ""


def name_qualifier(issuer: str, provider_arn: str) -> str:
    place = f"{provider_arn.split(':')[4]}/{provider_arn.rsplit('/', 1)[-1]}"
    return base64.b64encode(hashlib.sha1(f"{issuer}{place}".encode()).digest()).decode()


def instant(text: str | None) -> datetime:
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        raise Refusal("InvalidIdentityToken", "Invalid SAML date") from None


def checked_metadata(text: str) -> str:
    """Metadata as IAM takes it, or its refusal."""
    try:
        root = etree.fromstring(text.encode())
        keys = root.findall(".//ds:X509Certificate", NS)
        if len(text) >= 1000 and root.get("entityID") and 1 <= len(keys) <= 10:
            return text
    except etree.XMLSyntaxError:
        pass
    raise Refusal("InvalidInput", "Could not parse metadata")
