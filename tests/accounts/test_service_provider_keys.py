"""Daypass's own keys as a SAML service provider: to sign requests, and to open what is encrypted for it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from django.utils import timezone

from accounts import services
from accounts.models import ServiceProviderKey
from accounts.services import keys
from broker.errors import SignInRefused

Purpose = ServiceProviderKey.Purpose
State = ServiceProviderKey.State
CONTENT_KEY = b"0123456789abcdef"
DIGESTS = {"sha1": hashes.SHA1, "sha256": hashes.SHA256}


@dataclass(frozen=True)
class Wrapped:
    ciphertext: bytes
    digest: str = "sha256"
    mgf: str = "sha256"
    label: bytes | None = None


def wrap(
    certificate: str, *, digest: str = "sha256", mgf: str = "sha256", label: bytes | None = None
) -> Wrapped:
    """A content key, encrypted as a provider would for whoever holds this certificate."""
    public = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    oaep = padding.OAEP(mgf=padding.MGF1(DIGESTS[mgf]()), algorithm=DIGESTS[digest](), label=label)
    return Wrapped(public.encrypt(CONTENT_KEY, oaep), digest, mgf, label)


def made(purpose=Purpose.DECRYPTION, state=State.ACTIVE) -> ServiceProviderKey:
    key = keys.new_key(purpose, state, now=timezone.now())
    key.save()
    return key


def test_our_key_is_made_once_and_sealed(db):
    key = services.service_provider_key()

    assert services.service_provider_key() == key
    kept = ServiceProviderKey.objects.get()
    assert kept.purpose == Purpose.SIGNING
    assert "PRIVATE" in keys._private_pem(kept)
    assert "PRIVATE" not in kept.private_sealed


def test_of_four_first_needs_at_once_one_makes_the_key(together):
    results = together(services.service_provider_key, times=4)

    assert len({key.pk for key in results}) == 1
    assert ServiceProviderKey.objects.count() == 1


# --- To open what is encrypted for us


@pytest.mark.parametrize("encryption", ["accepted", "required"])
def test_a_certificate_to_encrypt_for_is_shown_only_where_it_is_wanted(saml_row, encryption):
    assert services.service_provider(saml_row).encryption_certificates == ()
    assert not ServiceProviderKey.objects.filter(purpose=Purpose.DECRYPTION).exists()

    saml_row.encryption = encryption
    shown = services.service_provider(saml_row)

    key = ServiceProviderKey.objects.get(purpose=Purpose.DECRYPTION)
    assert shown.encryption_certificates == (key.certificate,)
    assert shown.certificate != key.certificate
    assert services.saml_provider(saml_row).encryption == encryption


@pytest.mark.parametrize("digest", ["sha1", "sha256"])
@pytest.mark.parametrize("mgf", ["sha1", "sha256"])
@pytest.mark.parametrize("label", [None, b"assertion"])
def test_a_content_key_is_opened_as_it_was_wrapped(saml_row, digest, mgf, label):
    wrapped = wrap(made().certificate, digest=digest, mgf=mgf, label=label)

    assert services.unwrap_content_key(saml_row, wrapped) == CONTENT_KEY


@pytest.mark.parametrize("state", list(State))
def test_a_key_opens_before_during_and_after_its_turn(saml_row, state):
    made(state=State.RETIRED)
    own = made(state=state)
    if state != State.ACTIVE:
        made()

    assert services.unwrap_content_key(saml_row, wrap(own.certificate)) == CONTENT_KEY


def test_whatever_cannot_be_opened_is_refused_in_one_and_the_same_way(
    saml_row, other_idp, settings
):
    own = made().certificate
    signing = made(Purpose.SIGNING).certificate
    good = wrap(own)
    spoiled = [
        wrap(other_idp.certificate),
        wrap(signing),
        Wrapped(good.ciphertext[:-1] + bytes([good.ciphertext[-1] ^ 1])),
        Wrapped(good.ciphertext, digest="sha1"),
        Wrapped(good.ciphertext, mgf="sha1"),
        Wrapped(good.ciphertext, label=b"another"),
        Wrapped(good.ciphertext, digest="md5"),
        Wrapped(b""),
        Wrapped(good.ciphertext * 2),
        Wrapped(b"\xff" * len(good.ciphertext)),
    ]

    told = set()
    for one in spoiled:
        with pytest.raises(SignInRefused) as refusal:
            services.unwrap_content_key(saml_row, one)
        told.add((refusal.value.code, refusal.value.cause, refusal.value.remedy))
    settings.DAYPASS_SEALING_KEYS = ["YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU="]
    with pytest.raises(SignInRefused) as refusal:
        services.unwrap_content_key(saml_row, good)
    told.add((refusal.value.code, refusal.value.cause, refusal.value.remedy))

    assert len(told) == 1
