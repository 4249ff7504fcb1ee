"""Looking at the world: Daypass's own documents as a stranger fetches them, and what IAM shows of one role."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlsplit
from xml.sax.saxutils import unescape

from django.conf import settings

from accounts import outbound
from accounts.models import RelayApplication
from broker.arns import oidc_provider_arn, saml_provider_arn
from broker.assume.services import borrow_discovery_role
from broker.aws.iam import Iam
from broker.doctor.rules import IamLook, IssuerLook, RoleSeen, saml_providers_in
from broker.entitlements.models import AwsRole
from broker.errors import DaypassError, ProviderUnavailable
from broker.minting import keys
from broker.minting.models import SigningKey

PURPOSE = "doctor"
MOST_NAMES = 1000
"""Names of roles that are looked through for one that somebody may have meant."""
MOST_PROVIDERS = 5
"""SAML providers that a trust policy names, of which each is read."""


def look_at_issuer() -> IssuerLook:
    """Fetch the discovery document and the key set of DAYPASS_ISSUER over the network, without redirects."""
    issuer = settings.DAYPASS_ISSUER
    signing = next(
        (
            key.kid
            for key in keys.published_keys(SigningKey.Purpose.OIDC)
            if key.state == SigningKey.State.SIGNING
        ),
        "",
    )
    private = _private(issuer)
    if private:
        return IssuerLook(private=private, signing_kid=signing)
    try:
        discovery = _document(
            f"{issuer}/.well-known/openid-configuration", "The discovery document"
        )
        key_set = _document(str(discovery.get("jwks_uri", "")), "The key set")
    except DaypassError as error:
        said = error.cause if isinstance(error, ProviderUnavailable) else error.message
        return IssuerLook(problem=said, signing_kid=signing)
    held = key_set.get("keys")
    rows = [row for row in held if isinstance(row, dict)] if isinstance(held, list) else []
    types = Counter(str(row.get("kty")) for row in rows)
    return IssuerLook(
        issuer=str(discovery.get("issuer", "")),
        kids=tuple(str(row["kid"]) for row in rows if row.get("kid")),
        keys_of_one_type=max(types.values(), default=0),
        signing_kid=signing,
    )


def _document(url: str, what: str) -> dict[str, object]:
    body = outbound.get(url, what, headers={"Accept": "application/json"})
    try:
        return outbound.strict_json(body)
    except ValueError as error:
        raise ProviderUnavailable(cause=f"{what} is not a JSON object: {error}.") from None


def _private(issuer: str) -> str:
    """Why this address is not one that AWS can reach, as far as its name tells; "" when nothing tells so."""
    parts = urlsplit(issuer)
    host = (parts.hostname or "").lower()
    listed = {host, f"{host}:{parts.port or 443}"} & {
        entry.lower() for entry in settings.DAYPASS_PRIVATE_PROVIDERS
    }
    if settings.DEMO or listed or outbound.egress_proxy() is not None:
        return ""
    try:
        found = {str(row[4][0]) for row in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return ""  # the fetch says that the name leads nowhere
    inside = sorted(
        a for a in found if not outbound.is_public(ipaddress.ip_address(a.partition("%")[0]))
    )
    if not inside:
        return ""
    return (
        f"seen from here {host} is {inside[0]}, an address of a private network. Whether the internet sees another one "
        "cannot be seen from here."
    )


@dataclass(frozen=True, slots=True)
class Signer:
    """Whose signature opens a role: Daypass's own, or that of the provider whose word is passed on."""

    issuer: str = ""
    audience: str = ""
    entity_id: str = ""


def signer_of(role: AwsRole) -> Signer:
    """Who signs for this role."""
    match role.trust:
        case AwsRole.Trust.RELAYED_TOKEN if role.relay_provider:
            return Signer(role.relay_provider.issuer, role.relay_provider.client_id)
        case AwsRole.Trust.RELAYED_ASSERTION:
            application = _application(role)
            return Signer(entity_id=application.entity_id if application else "")
    return Signer(
        settings.DAYPASS_ISSUER, settings.DAYPASS_AUDIENCE, settings.DAYPASS_SAML_ENTITY_ID
    )


def _application(role: AwsRole) -> RelayApplication | None:
    return RelayApplication.objects.filter(provider=role.relay_provider_id).first()


def _certificates(role: AwsRole) -> list[str]:
    """Of the SAML keys with which the role's signer may sign now."""
    if role.trust == AwsRole.Trust.RELAYED_ASSERTION:
        application = _application(role)
        return list(application.certificates) if application else []
    return [
        key.certificate
        for key in keys.published_keys(SigningKey.Purpose.SAML)
        if key.state == SigningKey.State.SIGNING
    ]


def look_at_iam(role: AwsRole, *, now: datetime) -> IamLook:
    """What the account's discovery role may read of a role and of the providers that stand for Daypass."""
    account = role.account
    if not account.discovery_role:
        return IamLook(unread="no discovery role is set for this account")
    try:
        credentials = borrow_discovery_role(account, purpose=PURPOSE, now=now)
        iam = Iam(credentials, partition=account.partition)
        found = iam.role(role.name)
    except DaypassError as error:
        return IamLook(unread=f"the discovery role did not help: {error.cause or error.message}")
    seen = (
        RoleSeen(arn=found.arn, trust_policy=found.trust_policy, max_seconds=found.max_seconds)
        if found
        else None
    )
    try:
        return _providers(iam, role, seen)
    except DaypassError:
        return IamLook(role=seen)  # the role was seen, which is what most causes are found by


def _providers(iam: Iam, role: AwsRole, seen: RoleSeen | None) -> IamLook:
    account = role.account
    names = (
        ()
        if seen
        else tuple(one.name for one, _ in zip(iam.roles(), range(MOST_NAMES), strict=False))
    )
    signer = signer_of(role)
    if role.trust == AwsRole.Trust.SAML:
        arn = saml_provider_arn(account.partition, account.account_id, account.saml_provider_name)
        return replace(
            _saml_provider(iam, arn, signer.entity_id, _certificates(role)),
            role=seen,
            role_names=names,
            provider_arns=iam.saml_provider_arns(),
        )
    if role.trust == AwsRole.Trust.RELAYED_ASSERTION and seen:
        looks = [
            _saml_provider(iam, arn, signer.entity_id, _certificates(role))
            for arn in saml_providers_in(seen.trust_policy)[:MOST_PROVIDERS]
            if arn.startswith(f"arn:{account.partition}:iam::{account.account_id}:saml-provider/")
        ]
        # Of several the one that is the application's own counts; the role may trust others besides.
        looks.sort(key=lambda look: (not look.metadata_has_entity, not look.provider_there))
        return replace(looks[0] if looks else IamLook(), role=seen, role_names=names)
    if role.trust in (AwsRole.Trust.WEB_IDENTITY, AwsRole.Trust.RELAYED_TOKEN):
        arn = oidc_provider_arn(account.partition, account.account_id, signer.issuer)
        provider = iam.oidc_provider(arn)
        return IamLook(
            role=seen,
            role_names=names,
            provider_there=provider is not None,
            provider_arns=iam.oidc_provider_arns(),
            client_ids=provider.client_ids if provider else (),
        )
    return IamLook(role=seen, role_names=names)


def _saml_provider(iam: Iam, arn: str, entity_id: str, certificates: list[str]) -> IamLook:
    """A SAML provider of the account, beside who is to stand in it."""
    metadata = iam.saml_metadata(arn) or ""
    bare = re.sub(r"\s+", "", metadata)
    return IamLook(
        provider_arn=arn,
        provider_there=bool(metadata),
        metadata_has_entity=entity_id in _entities(metadata),
        metadata_has_key=any(_body(pem) in bare for pem in certificates),
    )


_ENTITY = re.compile(r"\bentityID\s*=\s*(?:\"([^\"<]*)\"|'([^'<]*)')")


def _entities(metadata: str) -> set[str]:
    """The entity ids in it. Read as text, never parsed: it is what somebody else uploaded."""
    return {unescape(one or other, _QUOTES) for one, other in _ENTITY.findall(metadata)}


_QUOTES = {"&quot;": '"', "&apos;": "'"}


def _body(pem: str) -> str:
    """The base64 of a certificate, however it is wrapped."""
    return re.sub(r"\s+|-----[A-Z ]+-----", "", pem)
