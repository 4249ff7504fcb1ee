"""Auth0's SAML provider, npm's samlp: signed in its own way, and encrypted."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from playwright.sync_api import expect

from tests.interop.people import ADA, ENGINEERS, SAML_PEOPLE
from tests.interop.providers import Samlp, key_pair
from tests.interop.steps import choose, metadata_of, prove, sees_no_role, sees_role, sign_in

SLUG = "samlp"
ROLE = {"account": "111122223333", "role": "Developer"}


@pytest.fixture(scope="module")
def connected(folder, desk) -> Iterator[Samlp]:
    server = Samlp(folder / SLUG, SAML_PEOPLE)
    try:
        desk.do("connect_saml", slug=SLUG, metadata_url=server.metadata_url, claims={})
        desk.do("give_role", slug=SLUG, group=ENGINEERS, **ROLE)
        yield server
    finally:
        server.stop()


@pytest.fixture
def idp(connected, desk) -> Iterator[Samlp]:
    """As it comes, whatever the test before has changed on either side."""
    connected.say(
        options={},
        acs=f"{desk.origin}/saml/{SLUG}/acs/",
        signing=certificate_for("signing", metadata_of(desk.origin, SLUG)),
    )
    yield connected
    desk.do("change", slug=SLUG, encryption="refused")


def encrypting(origin: str, **more: str) -> dict[str, str]:
    """The options of a provider that encrypts for the certificate in our metadata."""
    certificate = certificate_for("encryption", metadata_of(origin, SLUG))
    key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    public = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {"encryptionCert": certificate, "encryptionPublicKey": public.decode(), **more}


def certificate_for(use: str, metadata: bytes) -> str:
    """The certificate that an administrator copies out of our metadata, as PEM."""
    part = metadata.decode().partition(f'use="{use}"')[2]
    bare = re.search(r"X509Certificate>([^<]+)<", part)[1]
    body = "\n".join(re.findall(".{1,64}", "".join(bare.split())))
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


HARDEST = [person for person in SAML_PEOPLE if person.login in ("nobu", "aoife", "hugo")]


@pytest.mark.parametrize("person", HARDEST, ids=lambda person: person.login)
def test_groups_arrive_in_every_shape_exactly_as_they_are(idp, desk, page, person):
    sign_in(page, desk.origin, SLUG, person.login)

    if ENGINEERS in person.keys:
        sees_role(page, "Developer")
    else:
        sees_no_role(page)
    known = desk.do("person", slug=SLUG, email=f"{person.login}@example.org")
    assert known["groups"] == sorted(person.keys)


def test_a_clock_that_is_a_little_fast_harms_nobody(desk, page, folder):
    """Its assertions are valid for exactly as long as Daypass accepts: an hour."""
    slug = "samlp-fast"
    server = Samlp(folder / slug, (ADA,), clock="+20s")
    try:
        desk.do("connect_saml", slug=slug, metadata_url=server.metadata_url, claims={})
        desk.do("give_role", slug=slug, group=ENGINEERS, **ROLE)
        server.say(options={}, acs=f"{desk.origin}/saml/{slug}/acs/")

        sign_in(page, desk.origin, slug, "ada")

        sees_role(page, "Developer")
    finally:
        server.stop()
        desk.do("change", slug=slug, enabled=False)


# --- Encrypted


@pytest.mark.parametrize(("encryption", "bits"), [("accepted", 128), ("required", 256)])
def test_an_assertion_that_is_encrypted_with_gcm_is_read(idp, desk, page, encryption, bits):
    desk.do("change", slug=SLUG, encryption=encryption)
    gcm = f"http://www.w3.org/2009/xmlenc11#aes{bits}-gcm"
    idp.say(options=encrypting(desk.origin, encryptionAlgorithm=gcm))

    sign_in(page, desk.origin, SLUG, "aoife")

    sees_role(page, "Developer")


def test_an_encrypted_assertion_is_refused_where_nothing_may_be_encrypted(
    idp, desk, page, administrator
):
    desk.do("change", slug=SLUG, encryption="accepted")
    idp.say(options=encrypting(desk.origin))
    desk.do("change", slug=SLUG, encryption="refused")

    sign_in(page, desk.origin, SLUG, "ada")

    assert "The assertion is encrypted." in administrator.reason(page)


def test_a_plain_assertion_is_refused_where_it_has_to_be_encrypted(idp, desk, page, administrator):
    desk.do("change", slug=SLUG, encryption="required")

    sign_in(page, desk.origin, SLUG, "ada")

    found = administrator.reason(page)
    assert "The assertion is not encrypted." in found
    assert "AES-GCM" in found


def test_cbc_mode_is_refused_with_what_to_switch(idp, desk, page, administrator):
    desk.do("change", slug=SLUG, encryption="accepted")
    cbc = "http://www.w3.org/2001/04/xmlenc#aes256-cbc"
    allowed = {"disallowEncryptionWithInsecureAlgorithm": False}  # samlp itself warns of it
    idp.say(options=encrypting(desk.origin, encryptionAlgorithm=cbc) | allowed)

    sign_in(page, desk.origin, SLUG, "ada")

    found = administrator.reason(page)
    assert "encrypted with aes256-cbc" in found
    assert "Only AES-GCM with RSA-OAEP is accepted" in found


# --- Refused


def test_an_assertion_for_another_audience_is_refused(idp, desk, page, administrator):
    idp.say(options={"audience": "https://another.example/metadata"})

    sign_in(page, desk.origin, SLUG, "ada")

    assert "https://another.example/metadata" in administrator.reason(page)


def test_it_verifies_our_signed_requests(idp, desk, page):
    """Refused with somebody else's certificate, so the signature was looked at all the time."""
    idp.say(signing=key_pair("somebody else")[1])

    choose(page, desk.origin, SLUG)
    prove(page, "ada")

    expect(page.get_by_role("heading", name="The provider refused")).to_be_visible()
