"""The service provider's own keys, and what is pinned about each SAML provider."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import saml
from accounts.models import (
    IdentityProvider,
    ServiceProviderKey,
)
from broker.sealing import seal, unseal


def fingerprint(pem: str) -> str:
    """SHA-256 of a certificate, in hexadecimal."""
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()


def service_provider_key(*, now: datetime | None = None) -> tuple[str, str]:
    """Private key and certificate in PEM with which requests are signed; made at the first need.

    Of parallel first needs one wins.
    """
    now = now or timezone.now()
    in_use = ServiceProviderKey.objects.filter(
        purpose=ServiceProviderKey.Purpose.SIGNING, state=ServiceProviderKey.State.ACTIVE
    )
    key = in_use.first()
    if key is None:
        private, certificate, expires = _make_key(now)
        try:
            with transaction.atomic():
                key = ServiceProviderKey(
                    certificate=certificate, expires_at=expires, created_at=now
                )
                key.private_sealed = seal(private.encode(), place=_key_place(certificate))
                key.save()
        except IntegrityError:
            key = in_use.get()
    return unseal(key.private_sealed, place=_key_place(key.certificate)).decode(), key.certificate


def _key_place(certificate: str) -> str:
    return f"saml-service-provider-key:{fingerprint(certificate)}"


def _make_key(now: datetime) -> tuple[str, str, datetime]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Daypass SAML service provider")])
    expires = now + timedelta(days=3650)
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
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode(), expires


def service_provider(provider: IdentityProvider) -> saml.ServiceProvider:
    """Daypass as this SAML provider sees it, with the key to sign."""
    private, certificate = service_provider_key()
    return saml.ServiceProvider(
        slug=provider.slug,
        origin=settings.DAYPASS_ORIGIN,
        private_key=private,
        certificate=certificate,
    )


def saml_provider(provider: IdentityProvider) -> saml.Provider:
    """What is pinned about a SAML provider."""
    return saml.Provider(
        entity_id=provider.entity_id,
        sso_url=provider.sso_url,
        slo_url=provider.slo_url,
        certificates=tuple(provider.certificates),
        response_signed=provider.response_signed,
    )
