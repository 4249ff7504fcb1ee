"""What is believed about a provider, as the pinning policy and the audit log see it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from accounts import outbound, saml
from accounts.models import IdentityProvider, Protocol
from accounts.pinning import Key, Trust, digest, jwk_keys, thumbprint
from accounts.services.keys import fingerprint


def trust_of(provider: IdentityProvider) -> Trust:
    """The keys and addresses that are believed about a provider now."""
    if provider.protocol == Protocol.SAML:
        facts = {"sso_url": provider.sso_url, "slo_url": provider.slo_url}
        return Trust(
            tuple(Key(fingerprint(pem), pem) for pem in provider.certificates),
            {name: value for name, value in facts.items() if value},
        )
    facts = {n: v for n, v in provider.discovery.items() if n != "issuer" and v is not None}
    return Trust(jwk_keys(provider.jwks.get("keys", ())), facts)


def set_trust(provider: IdentityProvider, trust: Trust) -> tuple[str, ...]:
    """Write what is to be believed into a provider; answers the names of the fields. Does not save."""
    if provider.protocol == Protocol.SAML:
        provider.certificates = [key.material for key in trust.keys]
        provider.sso_url = trust.facts.get("sso_url", "")
        provider.slo_url = trust.facts.get("slo_url", "")
        provider.certificate_expires_at = last_end(provider.certificates)
        return ("certificates", "sso_url", "slo_url", "certificate_expires_at")
    provider.discovery = {"issuer": provider.issuer, **trust.facts}
    provider.jwks = {"keys": [key.material for key in trust.keys]}
    return ("discovery", "jwks")


def last_end(certificates: list[str]) -> datetime | None:
    """When the last of these certificates ends: from then on none is believed. None without one."""
    return max((saml.read_certificate(pem)[1] for pem in certificates), default=None)


def described(found: saml.Described) -> Trust:
    """Metadata as trust. Raises BadInput for an address that Daypass sends nobody to."""
    facts = {"sso_url": found.provider.sso_url, "slo_url": found.provider.slo_url}
    for url in filter(None, facts.values()):
        outbound.check_url(url, "An address in the metadata")
    return Trust(
        tuple(Key(fingerprint(pem), pem) for pem in found.provider.certificates),
        {name: value for name, value in facts.items() if value},
    )


def facts_of(provider: IdentityProvider) -> dict[str, Any]:
    """What the audit keeps of a provider: fingerprints of what is long, never a secret."""
    return {
        "slug": provider.slug,
        "name": provider.name,
        "protocol": provider.protocol,
        "enabled": provider.enabled,
        "position": provider.position,
        "pinning": provider.pinning,
        "entity_id": provider.entity_id,
        "metadata_url": provider.metadata_url,
        "sso_url": provider.sso_url,
        "slo_url": provider.slo_url,
        "response_signed": provider.response_signed,
        "encryption": provider.encryption,
        "idp_initiated": provider.idp_initiated,
        "certificates": [fingerprint(pem) for pem in provider.certificates],
        "metadata_signers": [fingerprint(pem) for pem in provider.metadata_signers],
        "issuer": provider.issuer,
        "client_id": provider.client_id,
        "client_credential": "set" if provider.client_secret_sealed else "not set",
        "scopes": list(provider.scopes),
        "algorithm": provider.id_token_algorithm if provider.issuer else "",
        "groups_from_userinfo": provider.groups_from_userinfo,
        "endpoints": {n: str(v) for n, v in provider.discovery.items() if _is_address(n)},
        "keys": keys_in_words(provider.jwks.get("keys", ())),
        "claim_map": provider.claim_map,
    }


def trusted_facts(provider: IdentityProvider) -> dict[str, Any]:
    """The part of `facts_of` that a refresh can change."""
    facts = facts_of(provider)
    names = ("sso_url", "slo_url", "certificates", "endpoints", "keys")
    return {name: facts[name] for name in names}


def trust_mark(provider: IdentityProvider) -> str:
    """A digest of what is believed about a stored provider, to notice that it changed under somebody's hands."""
    stored = IdentityProvider.objects.get(pk=provider.pk)
    return digest(stored.pk, {**trusted_facts(stored), "metadata_url": stored.metadata_url})


def keys_in_words(keys: Any) -> list[str]:
    """JSON Web Keys as `kid (thumbprint)`, in order of their names."""
    return sorted(f"{key.get('kid', '')} ({thumbprint(key)})" for key in keys)


def _is_address(name: str) -> bool:
    return name.endswith(("_endpoint", "_uri"))
