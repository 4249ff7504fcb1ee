"""The service provider's own keys, and what is pinned about each SAML provider."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from accounts import saml
from accounts.confined.values import Wrapped
from accounts.events import ServiceProviderKeyNews, announce
from accounts.models import (
    Encryption,
    IdentityProvider,
    ServiceProviderKey,
)
from accounts.services.common import By
from broker.errors import KeyUnavailable
from broker.errors import SignInRefused as Refused
from broker.sealing import seal, unseal

log = logging.getLogger("daypass.accounts")

Purpose = ServiceProviderKey.Purpose
State = ServiceProviderKey.State
LIFETIME = timedelta(days=3650)
KEYS_BELIEVED_FOR = timedelta(days=7)
"""How long an OpenID Connect provider's keys are believed without a refresh that worked."""


_DIGESTS: dict[str, type[hashes.SHA1 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
"""SHA-1 as well: OAEP does not stand on what was broken of it (PKCS #1 v2.2, section 7.1)."""


def fingerprint(pem: str) -> str:
    """SHA-256 of a certificate, in hexadecimal."""
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()


def service_provider_key(
    purpose: ServiceProviderKey.Purpose = Purpose.SIGNING, *, now: datetime | None = None
) -> ServiceProviderKey:
    """The key in use for this purpose; made at the first need. Of parallel first needs one wins.

    Raises KeyUnavailable without a sealing key.
    """
    in_use = ServiceProviderKey.objects.filter(purpose=purpose, state=State.ACTIVE)
    found = in_use.first()
    if found is not None:
        return found
    now = now or timezone.now()
    made = new_key(purpose, State.ACTIVE, now=now)
    try:
        with transaction.atomic():
            made.save(force_insert=True)
            tell(made, "made", now=now, after=State.ACTIVE)
    except IntegrityError:
        return in_use.get()
    return made


def tell(
    key: ServiceProviderKey, what: str, *, now: datetime, by: By | None = None, **states: str
) -> None:
    """Announce what happened to one of our keys."""
    announce(
        ServiceProviderKeyNews(
            what=what,
            key_id=key.pk,
            purpose=key.purpose,
            details={
                "label": key.get_purpose_display(),
                "fingerprint": fingerprint(key.certificate),
                **{name: str(state) for name, state in states.items()},
            },
            at=now,
            actor_id=by.id if by else "",
            actor=by.name if by else "",
        )
    )


@sensitive_variables()
def new_key(
    purpose: ServiceProviderKey.Purpose, state: ServiceProviderKey.State, *, now: datetime
) -> ServiceProviderKey:
    """A new key, sealed, not yet kept: made outside any transaction, for it takes a while."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    title = f"Daypass SAML service provider, {purpose.label}"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    expires = now + LIFETIME
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(expires)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return ServiceProviderKey(
        purpose=purpose,
        state=state,
        private_sealed=seal(private, place=key_place(pem)),
        certificate=pem,
        created_at=now,
        state_since=now,
        expires_at=expires,
    )


def key_place(certificate: str) -> str:
    """What a service provider's private key is sealed for."""
    return f"saml-service-provider-key:{fingerprint(certificate)}"


@sensitive_variables()
def _private_pem(row: ServiceProviderKey) -> str:
    return unseal(row.private_sealed, place=key_place(row.certificate)).decode()


def _certificates(purpose: ServiceProviderKey.Purpose) -> list[str]:
    """What our metadata shows: the key in use first, then the one that will be."""
    shown = ServiceProviderKey.objects.filter(
        purpose=purpose, state__in=(State.ACTIVE, State.NEXT)
    ).order_by("state")
    return [row.certificate for row in shown]


@sensitive_variables()
def service_provider(provider: IdentityProvider) -> saml.ServiceProvider:
    """Daypass as this SAML provider sees it, with the key to sign.

    A certificate to encrypt for is in it only when the provider may: then the key is made at the first need.
    """
    signing = service_provider_key()
    following = ServiceProviderKey.objects.filter(purpose=Purpose.SIGNING, state=State.NEXT).first()
    encryption: list[str] = []
    if provider.encryption != Encryption.REFUSED:
        service_provider_key(Purpose.DECRYPTION)
        encryption = _certificates(Purpose.DECRYPTION)
    return saml.ServiceProvider(
        slug=provider.slug,
        origin=settings.DAYPASS_ORIGIN,
        private_key=_private_pem(signing),
        certificate=signing.certificate,
        next_certificate=following.certificate if following else "",
        encryption_certificates=tuple(encryption),
    )


@sensitive_variables()
def unwrap_content_key(provider: IdentityProvider, wrapped: Wrapped) -> bytes:
    """The content key of an assertion that this provider encrypted for us, by whichever of our keys opens it.

    The active key first, then the next one and the retired ones. Whatever goes wrong is one and the same SignInRefused,
    so that nobody learns from a difference (threats.md R32).
    """
    order = {State.ACTIVE: 0, State.NEXT: 1, State.RETIRED: 2}
    rows = ServiceProviderKey.objects.filter(purpose=Purpose.DECRYPTION).order_by("-created_at")
    digest, mask = _DIGESTS.get(wrapped.digest), _DIGESTS.get(wrapped.mgf)
    for row in sorted(rows, key=lambda row: order[State(row.state)]):
        if digest is None or mask is None:
            break
        try:
            return _private_key(row).decrypt(
                wrapped.ciphertext,
                padding.OAEP(
                    mgf=padding.MGF1(mask()), algorithm=digest(), label=wrapped.label or None
                ),
            )
        except ValueError:
            continue
        except KeyUnavailable as error:
            log.error("decryption key not opened", extra={"reason": error.cause})
    raise Refused(
        code="not_for_us",
        cause=f"{provider.name} encrypted the assertion for a key that Daypass does not have, or spoiled it.",
        remedy="Let the provider read Daypass's metadata again, and use RSA-OAEP.",
    )


@sensitive_variables()
def _private_key(row: ServiceProviderKey) -> rsa.RSAPrivateKey:
    """Raises KeyUnavailable."""
    # Made here and sealed: whether it is a good key need not be found out anew for every assertion, which takes longer
    # than all the rest of it.
    pem = _private_pem(row).encode()
    key = serialization.load_pem_private_key(
        pem, password=None, unsafe_skip_rsa_key_validation=True
    )
    if not isinstance(key, rsa.RSAPrivateKey):
        raise KeyUnavailable(cause=f"What is sealed as {row} is not an RSA key.")
    return key


def saml_provider(provider: IdentityProvider, *, now: datetime | None = None) -> saml.Provider:
    """What is pinned about a SAML provider, as far as it is still to be believed.

    Raises SignInRefused when its metadata said that it ends and was not renewed (SAML metadata section 2.3.2), or when
    the last of its certificates has ended.
    """
    now = now or timezone.now()
    until = provider.metadata_valid_until
    if until is not None and until <= now:
        raise Refused(
            code="metadata_expired",
            cause=f"The metadata of {provider.name} was valid until {until:%Y-%m-%d %H:%M} UTC and was not renewed.",
            remedy="Refresh the provider. If it still publishes the old metadata, its administrator has to renew it.",
        )
    living = [
        pem
        for pem in provider.certificates
        if x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc > now
    ]
    if provider.certificates and not living:
        raise Refused(
            code="certificates_ended",
            cause=f"The last signing certificate of {provider.name} has ended.",
            remedy="Refresh the provider and look at what waits on its page, or enter its new certificate.",
        )
    return saml.Provider(
        entity_id=provider.entity_id,
        sso_url=provider.sso_url,
        slo_url=provider.slo_url,
        certificates=tuple(living),
        response_signed=provider.response_signed,
        encryption=provider.encryption,
    )


def signing_keys(provider: IdentityProvider, *, now: datetime) -> dict[str, Any]:
    """The key set of an OpenID Connect provider, as far as it is still to be believed.

    Raises SignInRefused when it could not be refreshed for a week: a key that the provider has withdrawn meanwhile
    would go unnoticed.
    """
    known = provider.refreshed_at or provider.created_at
    if known <= now - KEYS_BELIEVED_FOR:
        raise Refused(
            code="keys_too_old",
            cause=f"The keys of {provider.name} could not be refreshed since {known:%Y-%m-%d %H:%M} UTC.",
            remedy=provider.refresh_problem
            or "Look at what waits on its page. If nothing does, refresh it, and see whether worker and beat are "
            "running.",
        )
    return dict(provider.jwks)
