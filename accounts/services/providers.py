"""Identity providers: connected, changed, refreshed, watched. Calls to one are made outside transactions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import oidc, outbound, saml
from accounts.events import (
    Changed,
    announce,
)
from accounts.models import (
    IdentityProvider,
    Pinning,
    Protocol,
)
from accounts.rules import (
    PRESETS,
    ClaimMap,
)
from accounts.services import queueing
from accounts.services.common import By, news
from accounts.services.keys import fingerprint
from accounts.services.once import OneUse, consume
from broker.errors import BadInput, ProviderUnavailable
from broker.errors import SignInRefused as Refused
from broker.sealing import seal, unseal

REFRESH_ASKED_AT_MOST_EVERY = timedelta(minutes=5)
REFRESH_ASKED_AGAIN_AFTER = timedelta(seconds=30)
"""When the queue was away: how soon the next one may try."""


WARN_BEFORE_DAYS = (60, 30, 7)


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
        provider.save()
        announce(
            Changed(
                actor_id=by.id,
                actor=by.name,
                subject_type="provider",
                subject_id=str(provider.pk),
                label=provider.name,
                before=_facts(stored) if stored else {},
                after=_facts(provider),
                address=by.address,
                at=now,
            )
        )
    return provider


def _prepare_saml(
    provider: IdentityProvider, stored: IdentityProvider | None, now: datetime
) -> None:
    pasted = provider.metadata_xml.strip()
    if pasted and (stored is None or pasted != stored.metadata_xml.strip()):
        _describe(provider, saml.read_metadata(pasted, entity_id=provider.entity_id, now=now))
    elif provider.metadata_url and (
        stored is None or provider.metadata_url != stored.metadata_url or not provider.certificates
    ):
        document = _fetch_metadata(provider.metadata_url)
        _describe(provider, saml.read_metadata(document, entity_id=provider.entity_id, now=now))
        provider.refreshed_at, provider.refresh_problem = now, ""
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
    read = [saml.read_certificate(text) for text in provider.certificates]
    provider.certificates = [pem for pem, _ in read]
    provider.certificate_expires_at = min(expires for _, expires in read)


def _describe(provider: IdentityProvider, described: saml.Described) -> None:
    provider.entity_id = described.provider.entity_id
    provider.sso_url = described.provider.sso_url
    provider.slo_url = described.provider.slo_url
    provider.certificates = list(described.provider.certificates)


def _fetch_metadata(url: str) -> bytes:
    outbound.check_url(url, "The metadata address")
    return outbound.get(url, "The metadata", limit=outbound.MAX_METADATA)


def _prepare_oidc(
    provider: IdentityProvider,
    stored: IdentityProvider | None,
    secret: str | None,
    now: datetime,
) -> None:
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


def _facts(provider: IdentityProvider) -> dict[str, Any]:
    """What the audit keeps of a provider: fingerprints of what is long, never a secret."""
    return {
        "slug": provider.slug,
        "name": provider.name,
        "protocol": provider.protocol,
        "enabled": provider.enabled,
        "position": provider.position,
        "entity_id": provider.entity_id,
        "metadata_url": provider.metadata_url,
        "sso_url": provider.sso_url,
        "slo_url": provider.slo_url,
        "response_signed": provider.response_signed,
        "certificates": [fingerprint(pem) for pem in provider.certificates],
        "issuer": provider.issuer,
        "client_id": provider.client_id,
        "client_credential": "set" if provider.client_secret_sealed else "not set",
        "scopes": list(provider.scopes),
        "algorithm": provider.id_token_algorithm if provider.issuer else "",
        "groups_from_userinfo": provider.groups_from_userinfo,
        "claim_map": provider.claim_map,
    }


def _sentence(error: ValidationError) -> str:
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    return " ".join(
        f"{field}: {message}" if field != "__all__" else message
        for field, messages in error.message_dict.items()
        for message in messages
    )


def refresh_provider(provider_id: UUID | str, *, now: datetime | None = None) -> bool:
    """Fetch metadata or discovery and keys again. What there was is kept when that fails; False then.

    Only a change is news: new certificates, addresses or keys; a refresh that begins to fail.
    """
    now = now or timezone.now()
    provider = IdentityProvider.objects.get(pk=provider_id)
    before = _refreshed_facts(provider)
    problem = ""
    try:
        if provider.protocol == Protocol.OIDC:
            token_endpoint = provider.discovery.get("token_endpoint")
            discovery, keys = oidc.discover(provider.issuer)
            if token_endpoint and discovery["token_endpoint"] != token_endpoint:
                raise BadInput(
                    "The provider's token endpoint changed. An administrator has to save the provider and give "
                    "the client secret again."
                )
            provider.discovery, provider.jwks = discovery, keys
        elif provider.metadata_url:
            document = _fetch_metadata(provider.metadata_url)
            described = saml.read_metadata(document, entity_id=provider.entity_id, now=now)
            for url in (described.provider.sso_url, described.provider.slo_url):
                if url:
                    outbound.check_url(url, "An address in the metadata")
            _describe(provider, described)
            provider.certificate_expires_at = min(
                saml.read_certificate(pem)[1] for pem in provider.certificates
            )
        else:
            return True
    except (BadInput, ProviderUnavailable) as error:
        problem = (error.cause or error.message)[:500]
    with transaction.atomic():
        current = IdentityProvider.objects.select_for_update(of=("self",)).get(pk=provider.pk)
        if (current.issuer, current.metadata_url, current.entity_id) != (
            provider.issuer,
            provider.metadata_url,
            before["entity_id"],
        ):
            return True  # an administrator was faster; their values stand
        was_failing = bool(current.refresh_problem)
        current.refresh_problem = problem
        if problem:
            current.save(update_fields=["refresh_problem"])
            if not was_failing:
                news("refresh_failed", current, {"problem": problem}, now)
            return False
        for name in (
            "discovery",
            "jwks",
            "sso_url",
            "slo_url",
            "certificates",
            "certificate_expires_at",
        ):
            setattr(current, name, getattr(provider, name))
        current.refreshed_at = now
        current.save()
        after = _refreshed_facts(current)
        changes = {
            key: {"before": before[key], "after": after[key]}
            for key in after
            if before[key] != after[key]
        }
        if changes or was_failing:
            news("refreshed", current, {"changes": changes}, now)
    return True


def _refreshed_facts(provider: IdentityProvider) -> dict[str, Any]:
    endpoints = {n: str(provider.discovery.get(n, "")) for n in oidc.ENDPOINTS}
    return {
        "entity_id": provider.entity_id,
        "sso_url": provider.sso_url,
        "slo_url": provider.slo_url,
        "certificates": [fingerprint(pem) for pem in provider.certificates],
        "endpoints": endpoints if provider.discovery else {},
        "keys": sorted(str(k.get("kid", "")) for k in provider.jwks.get("keys", ())),
    }


def ask_for_refresh(provider: IdentityProvider, now: datetime) -> bool:
    """Queue a refresh of this provider, at most once in five minutes, however many ask at the same moment.

    The refresh itself is the worker's: nothing is fetched here, so that no stranger makes Daypass call anybody.
    Answers whether this call queued it. Raises nothing: without a queue the keys stay as they are, and it may be asked
    for again soon.
    """
    asked = IdentityProvider.objects.filter(
        Q(refresh_asked_at__isnull=True)
        | Q(refresh_asked_at__lte=now - REFRESH_ASKED_AT_MOST_EVERY),
        pk=provider.pk,
    ).update(refresh_asked_at=now)
    if not asked:
        return False
    if queueing.queue_refresh(str(provider.pk)):
        return True
    IdentityProvider.objects.filter(pk=provider.pk, refresh_asked_at=now).update(
        refresh_asked_at=now - REFRESH_ASKED_AT_MOST_EVERY + REFRESH_ASKED_AGAIN_AFTER
    )
    return False


def refresh_keys(provider: IdentityProvider, *, now: datetime) -> Mapping[str, Any]:
    """The provider's keys, asked for anew when a token names an unknown one: at most once in five minutes.

    Answers the keys that are stored afterwards. Raises nothing: what cannot be fetched stays as it was.
    """
    mine = IdentityProvider.objects.filter(
        Q(refreshed_at__isnull=True) | Q(refreshed_at__lt=now - REFRESH_ASKED_AT_MOST_EVERY),
        pk=provider.pk,
    ).update(refreshed_at=now)
    if mine:
        refresh_provider(provider.pk, now=now)
    return dict(IdentityProvider.objects.get(pk=provider.pk).jwks)


def warn_certificates(*, now: datetime) -> int:
    """Tell once at 60, 30 and 7 days, and at the end, about certificates that expire. Answers how many were told.

    A ConsumedMessage remembers what was told, so that a repeated task stays silent.
    """
    told = 0
    soon = now + timedelta(days=max(WARN_BEFORE_DAYS))
    providers = IdentityProvider.objects.filter(
        enabled=True, certificate_expires_at__isnull=False, certificate_expires_at__lte=soon
    )
    for provider in providers:
        expires = provider.certificate_expires_at
        assert expires is not None
        left = (expires - now).days
        step = min(
            (d for d in (0, *WARN_BEFORE_DAYS) if left < d or (d == 0 and expires <= now)),
            default=60,
        )
        try:
            with transaction.atomic():
                consume(
                    provider,
                    OneUse(
                        kind=f"warning at {step} days",
                        id=expires.isoformat(),
                        expires_at=expires + timedelta(days=90),
                    ),
                )
                news(
                    "certificate_expiring",
                    provider,
                    {"expires_at": expires.isoformat(), "days_left": left},
                    now,
                )
                told += 1
        except Refused:
            continue
    return told
