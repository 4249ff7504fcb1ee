"""Identity providers: connected, changed, refreshed, watched. Calls to one are made outside transactions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from accounts import oidc, outbound, saml
from accounts.models import (
    IdentityProvider,
    Pinning,
    Protocol,
)
from accounts.rules import (
    PRESETS,
    ClaimMap,
)
from accounts.services.common import By, announce_changed
from accounts.services.proposals import supersede
from accounts.services.refreshing import (
    fetch_metadata,
    next_turn,
    note_validity,
    read_metadata,
)
from accounts.services.trust import described, facts_of, last_end, set_trust, trust_of
from broker.errors import BadInput
from broker.sealing import seal, unseal

RESERVED_SLUGS = frozenset({"local", "test"})
"""Parts of sign-in addresses that are not providers."""


def client_secret(provider: IdentityProvider) -> str:
    """The OIDC client secret, "" when there is none. Raises KeyUnavailable when it cannot be opened."""
    if not provider.client_secret_sealed:
        return ""
    return unseal(provider.client_secret_sealed, place=_secret_place(provider)).decode()


def set_client_secret(provider: IdentityProvider, secret: str) -> None:
    """Seal the client secret into this row, for this issuer and no other (threats.md R44). Does not save."""
    provider.client_secret_sealed = (
        seal(secret.encode(), place=_secret_place(provider)) if secret else ""
    )


def _secret_place(provider: IdentityProvider) -> str:
    endpoint = str(provider.discovery.get("token_endpoint", ""))
    return f"identity-provider:{provider.pk}:{provider.issuer}:{endpoint}"


def create_provider_from_metadata(
    *,
    slug: str,
    name: str,
    by: By,
    metadata_url: str = "",
    metadata_xml: str = "",
    entity_id: str = "",
    claim_map: ClaimMap | None = None,
    enabled: bool = False,
    response_signed: bool = True,
    position: int = 0,
    now: datetime | None = None,
) -> IdentityProvider:
    """A SAML provider by its metadata's address or text. Raises BadInput, ProviderUnavailable."""
    provider = IdentityProvider(
        slug=slug,
        name=name,
        protocol=Protocol.SAML,
        metadata_url=metadata_url,
        metadata_xml=metadata_xml,
        entity_id=entity_id,
        claim_map=(claim_map or PRESETS["saml"]).to_json(),
        enabled=enabled,
        response_signed=response_signed,
        position=position,
    )
    return save_provider(provider, by=by, now=now)


def create_oidc_provider(
    *,
    slug: str,
    name: str,
    issuer: str,
    client_id: str,
    by: By,
    secret: str = "",
    scopes: Iterable[str] = ("openid", "profile", "email"),
    id_token_algorithm: str = "RS256",  # noqa: S107 (the name of an algorithm)
    groups_from_userinfo: bool = False,
    pinning: str = Pinning.FOLLOW,
    claim_map: ClaimMap | None = None,
    enabled: bool = False,
    position: int = 0,
    now: datetime | None = None,
) -> IdentityProvider:
    """An OpenID Connect provider by its issuer. Raises BadInput, ProviderUnavailable."""
    provider = IdentityProvider(
        slug=slug,
        name=name,
        protocol=Protocol.OIDC,
        issuer=issuer,
        client_id=client_id,
        scopes=list(scopes),
        id_token_algorithm=id_token_algorithm,
        groups_from_userinfo=groups_from_userinfo,
        pinning=pinning,
        claim_map=(claim_map or PRESETS["oidc"]).to_json(),
        enabled=enabled,
        position=position,
    )
    return save_provider(provider, by=by, now=now, secret=secret)


def save_provider(
    provider: IdentityProvider,
    *,
    by: By,
    now: datetime | None = None,
    secret: str | None = None,
) -> IdentityProvider:
    """Check a provider as an administrator wrote it, fetch what can be fetched, save, record before and after.

    secret: the OIDC client secret; None keeps the one there is, unless issuer or token endpoint changed.
    SAML: pasted metadata, or a metadata address that is new, fill in entity id, addresses and certificates.
    Raises BadInput for what is wrong, ProviderUnavailable when the provider does not answer.
    """
    now = now or timezone.now()
    stored = IdentityProvider.objects.filter(pk=provider.pk).first()
    if stored is not None and stored.protocol != provider.protocol:
        raise BadInput("A provider cannot change from one protocol to the other: add a new one.")
    if provider.slug in RESERVED_SLUGS:
        raise BadInput(f"“{provider.slug}” is taken by Daypass itself: choose another name.")
    provider.claim_map = ClaimMap.from_json(provider.claim_map).to_json()
    if provider.protocol == Protocol.SAML:
        _prepare_saml(provider, stored, now)
    else:
        _prepare_oidc(provider, stored, secret, now)
    try:
        provider.full_clean()
    except ValidationError as error:
        raise BadInput(_sentence(error)) from None
    with transaction.atomic():
        if stored is None:
            provider.refresh_due_at = next_turn(now)
            provider.save(force_insert=True)
        else:
            _save_changes(provider, stored)
            if trust_of(provider) != trust_of(stored) or provider.pinning != stored.pinning:
                supersede(provider, now=now)
        announce_changed(
            "provider",
            provider.pk,
            provider.name,
            before=facts_of(stored) if stored else {},
            after=facts_of(provider),
            by=by,
            now=now,
        )
    return provider


def _save_changes(provider: IdentityProvider, stored: IdentityProvider) -> None:
    """Only what the administrator changed: what a refresh wrote meanwhile stands."""
    names = [field.attname for field in IdentityProvider._meta.concrete_fields]
    changed = [name for name in names if getattr(provider, name) != getattr(stored, name)]
    if changed:
        provider.save(update_fields=changed)


def _prepare_saml(
    provider: IdentityProvider, stored: IdentityProvider | None, now: datetime
) -> None:
    provider.metadata_signers = [saml.read_certificate(t)[0] for t in provider.metadata_signers]
    if provider.pinning == Pinning.SIGNED and not (
        provider.metadata_signers and provider.metadata_url
    ):
        raise BadInput(
            "Where the signer of the metadata decides, Daypass needs the address of the metadata and the signer's "
            "certificate."
        )
    pasted = provider.metadata_xml.strip()
    if pasted and (stored is None or pasted != stored.metadata_xml.strip()):
        # An administrator's own act: believed whoever signed it.
        read = saml.read_metadata(pasted, entity_id=provider.entity_id, now=now)
        _describe(provider, read, now)
    elif provider.metadata_url and (
        stored is None or not provider.certificates or _asks_anew(provider, stored)
    ):
        read = read_metadata(provider, fetch_metadata(provider.metadata_url), now=now)
        _describe(provider, read, now)
        provider.refreshed_at, provider.refresh_problem = now, ""
        provider.refresh_failures, provider.refresh_due_at = 0, next_turn(now)
    elif not provider.metadata_url and stored and provider.certificates != stored.certificates:
        note_validity(provider, None, now=now)
    if not provider.entity_id or not provider.sso_url or not provider.certificates:
        raise BadInput(
            "A SAML provider needs its metadata, by address or pasted; or entity id, sign-on address and certificate."
        )
    for url, what in (
        (provider.sso_url, "The sign-on address"),
        (provider.slo_url, "The sign-out address"),
    ):
        if url:
            outbound.check_url(url, what)
    provider.certificates = [saml.read_certificate(text)[0] for text in provider.certificates]
    provider.certificate_expires_at = last_end(provider.certificates)


def _asks_anew(provider: IdentityProvider, stored: IdentityProvider) -> bool:
    """Whether metadata has to be fetched again before this can be saved."""
    signed = provider.pinning == Pinning.SIGNED and (
        stored.pinning != provider.pinning or stored.metadata_signers != provider.metadata_signers
    )
    return signed or provider.metadata_url != stored.metadata_url


def _describe(provider: IdentityProvider, read: saml.Described, now: datetime) -> None:
    provider.entity_id = read.provider.entity_id
    set_trust(provider, described(read))
    note_validity(provider, read.valid_until, now=now)


def _prepare_oidc(
    provider: IdentityProvider,
    stored: IdentityProvider | None,
    secret: str | None,
    now: datetime,
) -> None:
    if provider.pinning == Pinning.SIGNED:
        raise BadInput("Only SAML metadata is signed: choose another way to believe new keys.")
    if not provider.issuer or not provider.client_id:
        raise BadInput("An OpenID Connect provider needs its issuer and a client id.")
    scopes = provider.scopes or ["openid", "profile", "email"]
    if not all(isinstance(s, str) and s and not any(c.isspace() for c in s) for s in scopes):
        raise BadInput("Scopes have to be a list of words.")
    provider.scopes = list(dict.fromkeys(["openid", *scopes]))
    changed = stored is None or stored.issuer != provider.issuer
    kept_secret = client_secret(stored) if stored and secret is None and not changed else ""
    if changed or not provider.discovery or not provider.jwks:
        provider.discovery, provider.jwks = oidc.discover(provider.issuer)
        provider.refreshed_at, provider.refresh_problem = now, ""
        provider.refresh_failures, provider.refresh_due_at = 0, next_turn(now)
    _choose_algorithm(provider)
    if stored is not None and stored.discovery.get("token_endpoint") != provider.discovery.get(
        "token_endpoint"
    ):
        kept_secret = ""
    set_client_secret(provider, kept_secret if secret is None else secret)


def _choose_algorithm(provider: IdentityProvider) -> None:
    """RS256 unless the provider only has keys for ES256: then there is nothing to choose."""
    kinds = {key.get("kty") for key in provider.jwks.get("keys", ())}
    if provider.id_token_algorithm == "RS256" and kinds == {"EC"}:  # noqa: S105
        provider.id_token_algorithm = "ES256"  # noqa: S105


def _sentence(error: ValidationError) -> str:
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    return " ".join(
        f"{field}: {message}" if field != "__all__" else message
        for field, messages in error.message_dict.items()
        for message in messages
    )
