"""Daypass's own keys as a SAML service provider: to sign requests, and to open what is encrypted for it."""

from __future__ import annotations

import base64
from datetime import timedelta
from io import StringIO

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from django.core.management import CommandError, call_command
from django.utils import timezone
from lxml import etree

from accounts import services
from accounts.confined.values import Wrapped
from accounts.models import ServiceProviderKey
from accounts.services import keys
from broker.audit.models import AuditEvent
from broker.errors import BadInput, SignInRefused
from broker.minting.keys import ensure_keys, signing_key
from broker.minting.models import SigningKey
from tests.accounts import web
from tests.accounts.conftest import BY

Purpose = ServiceProviderKey.Purpose
State = ServiceProviderKey.State
CONTENT_KEY = b"0123456789abcdef"
DIGESTS = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


def wrapped(ciphertext: bytes, *, digest: str = "sha256", mgf: str = "sha256") -> Wrapped:
    return Wrapped(ciphertext=ciphertext, digest=digest, mgf=mgf, length=len(CONTENT_KEY))


def wrap(certificate: str, *, digest: str = "sha256", mgf: str = "sha256") -> Wrapped:
    """A content key, encrypted as a provider would for whoever holds this certificate."""
    public = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    oaep = padding.OAEP(mgf=padding.MGF1(DIGESTS[mgf]()), algorithm=DIGESTS[digest](), label=None)
    return wrapped(public.encrypt(CONTENT_KEY, oaep), digest=digest, mgf=mgf)


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


@pytest.mark.parametrize("digest", list(DIGESTS))
@pytest.mark.parametrize("mgf", list(DIGESTS))
def test_a_content_key_is_opened_as_it_was_wrapped(saml_row, digest, mgf):
    key = wrap(made().certificate, digest=digest, mgf=mgf)

    assert services.unwrap_content_key(saml_row, key) == CONTENT_KEY


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
        wrapped(good.ciphertext[:-1] + bytes([good.ciphertext[-1] ^ 1])),
        wrapped(good.ciphertext, digest="sha1"),
        wrapped(good.ciphertext, mgf="sha1"),
        wrapped(good.ciphertext, digest="md5"),
        wrapped(b""),
        wrapped(good.ciphertext * 2),
        wrapped(b"\xff" * len(good.ciphertext)),
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


# --- Their life


def shown(row) -> tuple[str, str, tuple[str, ...]]:
    sp = services.service_provider(row)
    return sp.certificate, sp.next_certificate, sp.encryption_certificates


def certificates_in_metadata(client, use: str) -> list[str]:
    """As a provider reads them from the address."""
    root = etree.fromstring(client.get("/saml/acme/metadata/", secure=True).content)
    found = root.iterfind(f".//{{*}}KeyDescriptor[@use='{use}']//{{*}}X509Certificate")
    return ["".join((one.text or "").split()) for one in found]


def bare(key: ServiceProviderKey) -> str:
    return "".join(key.certificate.strip().splitlines()[1:-1])


def test_a_next_signing_key_is_in_the_metadata_before_it_signs(saml_row):
    first = services.service_provider_key()

    following = services.prepare_key(Purpose.SIGNING, by=BY, now=timezone.now())

    assert shown(saml_row) == (first.certificate, following.certificate, ())
    in_metadata = certificates_in_metadata(web.browser(), "signing")
    assert set(in_metadata) == {bare(first), bare(following)}


def test_after_its_turn_a_signing_key_is_not_in_the_metadata_any_more(saml_row):
    first = services.service_provider_key()
    following = services.prepare_key(Purpose.SIGNING, by=BY, now=timezone.now())

    services.activate_key(Purpose.SIGNING, by=BY, now=timezone.now())

    assert shown(saml_row) == (following.certificate, "", ())
    first.refresh_from_db()
    assert first.state == State.RETIRED
    assert certificates_in_metadata(web.browser(), "signing") == [bare(following)]


def test_requests_are_signed_by_the_key_in_use_throughout(saml_row, idp):
    for _ in range(2):
        services.prepare_key(Purpose.SIGNING, by=BY, now=timezone.now())
        assert web.saml_sign_in(web.browser(), idp).status_code == 302
        services.activate_key(Purpose.SIGNING, by=BY, now=timezone.now())
        assert web.saml_sign_in(web.browser(), idp).status_code == 302


def test_what_was_encrypted_for_an_earlier_key_is_opened_until_it_is_removed(saml_row):
    saml_row.encryption = "accepted"
    (first,) = shown(saml_row)[2]
    following = services.prepare_key(Purpose.DECRYPTION, by=BY, now=timezone.now())
    assert shown(saml_row)[2] == (first, following.certificate)
    services.activate_key(Purpose.DECRYPTION, by=BY, now=timezone.now())
    assert shown(saml_row)[2] == (following.certificate,)

    for pem in (first, following.certificate):
        assert services.unwrap_content_key(saml_row, wrap(pem)) == CONTENT_KEY
    retired = ServiceProviderKey.objects.get(state=State.RETIRED)
    services.remove_key(retired, by=BY, now=timezone.now())

    with pytest.raises(SignInRefused):
        services.unwrap_content_key(saml_row, wrap(first))


def test_there_is_one_next_key_at_a_time(db):
    services.prepare_key(Purpose.SIGNING, by=BY, now=timezone.now())

    with pytest.raises(BadInput, match="there already"):
        services.prepare_key(Purpose.SIGNING, by=BY, now=timezone.now())


def test_nothing_is_activated_that_was_not_prepared(db):
    services.service_provider_key()

    with pytest.raises(BadInput, match="No next signing key"):
        services.activate_key(Purpose.SIGNING, by=BY, now=timezone.now())


def test_of_several_who_activate_one_does(together):
    services.service_provider_key()
    services.prepare_key(Purpose.SIGNING, by=BY, now=timezone.now())

    results = together(
        lambda: services.activate_key(Purpose.SIGNING, by=BY, now=timezone.now()), times=3
    )

    assert sum(isinstance(one, ServiceProviderKey) for one in results) == 1
    assert ServiceProviderKey.objects.filter(state=State.ACTIVE).count() == 1


def test_a_key_that_is_needed_is_not_retired_or_removed(saml_row):
    signing = services.service_provider_key()
    saml_row.encryption = "accepted"
    saml_row.save()
    services.service_provider(saml_row)
    decryption = ServiceProviderKey.objects.get(purpose=Purpose.DECRYPTION)

    with pytest.raises(BadInput, match="signs every request"):
        services.retire_key(signing, by=BY, now=timezone.now())
    with pytest.raises(BadInput, match="Acme may encrypt"):
        services.retire_key(decryption, by=BY, now=timezone.now())
    with pytest.raises(BadInput, match="Only a retired key"):
        services.remove_key(decryption, by=BY, now=timezone.now())
    saml_row.encryption = "refused"
    saml_row.save()
    services.retire_key(decryption, by=BY, now=timezone.now())
    with pytest.raises(BadInput, match="retired already"):
        services.retire_key(decryption, by=BY, now=timezone.now())


def test_every_step_is_an_audit_event(db):
    services.service_provider_key()
    services.prepare_key(Purpose.SIGNING, by=BY, now=timezone.now())
    services.activate_key(Purpose.SIGNING, by=BY, now=timezone.now())

    told = [
        (e.kind, e.data.get("before", ""), e.data["after"])
        for e in AuditEvent.objects.filter(subject_type="service_provider_key").order_by("seq")
    ]
    assert told == [
        ("key.created", "", "active"),
        ("key.created", "", "next"),
        ("key.state_changed", "active", "retired"),
        ("key.state_changed", "next", "active"),
    ]


def test_our_own_key_is_warned_of_at_each_step(db):
    key = services.service_provider_key()
    first = key.expires_at - timedelta(days=70)

    for day in range(75):
        services.warn_expiring(now=first + timedelta(days=day))

    told = AuditEvent.objects.filter(kind="key.expiring").order_by("seq")
    assert [event.data["days_left"] for event in told] == [60, 30, 7, 0]


# --- The commands


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("service_provider_keys", *arguments, stdout=out)
    return out.getvalue()


def test_a_roll_over_by_command_says_who_has_to_do_what(saml_row):
    services.service_provider_key()

    said = command("prepare", "signing")
    assert "Acme: https://daypass.test/saml/acme/metadata/" in said
    listed = command("list")
    assert "next" in listed
    assert "active" in listed
    assert "Acme" in command("activate", "signing")
    retired = ServiceProviderKey.objects.get(state=State.RETIRED)
    mark = services.fingerprint(retired.certificate)[:16]
    assert f"Removed signing key {mark}" in command("remove", mark)
    assert ServiceProviderKey.objects.count() == 1


def test_a_next_key_is_withdrawn_by_its_fingerprint(db):
    key = services.prepare_key(Purpose.DECRYPTION, by=BY, now=timezone.now())

    command("retire", services.fingerprint(key.certificate)[:8])

    key.refresh_from_db()
    assert key.state == State.RETIRED


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("activate", "signing"), "No next signing key"),
        (("retire", "0123456789abcdef"), "no key with the fingerprint"),
        (("remove", ""), "no key with the fingerprint"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(db, arguments, said):
    with pytest.raises(CommandError, match=said):
        command(*arguments)


OLD = base64.urlsafe_b64encode(b"o" * 32).decode()
NEW = base64.urlsafe_b64encode(b"n" * 32).decode()


def test_one_command_seals_everything_under_the_new_key(settings, oidc_row, op, saml_row):
    settings.DAYPASS_SEALING_KEYS = [OLD, *settings.DAYPASS_SEALING_KEYS]
    services.save_provider(oidc_row, by=BY, secret=op.client_secret)
    services.service_provider_key()
    ensure_keys(timezone.now())
    settings.DAYPASS_SEALING_KEYS = [NEW, OLD]
    out = StringIO()

    call_command("reseal", stdout=out)

    assert "2 signing keys, and 2 client secrets" in out.getvalue()
    settings.DAYPASS_SEALING_KEYS = [NEW]
    oidc_row.refresh_from_db()
    assert services.client_secret(oidc_row) == op.client_secret
    assert services.service_provider(saml_row).private_key
    assert signing_key(SigningKey.Purpose.OIDC, now=timezone.now())
    kinds = set(AuditEvent.objects.values_list("kind", flat=True))
    assert {"provider.resealed", "key.state_changed"} <= kinds
    out = StringIO()
    call_command("reseal", stdout=out)
    assert "0 signing keys, and 0" in out.getvalue()


def test_without_the_old_sealing_key_nothing_is_resealed_and_it_is_said(settings, db):
    services.service_provider_key()
    settings.DAYPASS_SEALING_KEYS = [NEW]

    with pytest.raises(CommandError, match="not in DAYPASS_SEALING_KEYS"):
        call_command("reseal")
