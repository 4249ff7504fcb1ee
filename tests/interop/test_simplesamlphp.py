"""SimpleSAMLphp, as Debian has it, is a company's identity provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.interop.people import ADA, ENGINEERS, SAML_PEOPLE
from tests.interop.providers import PERSISTENT, TRANSIENT, UNSPECIFIED, SimpleSamlPhp, key_pair
from tests.interop.steps import (
    choose,
    is_signed_out,
    metadata_of,
    prove,
    sees_no_role,
    sees_role,
    sign_in,
    sign_out,
)

SLUG = "simplesamlphp"
ROLE = {"account": "111122223333", "role": "Developer"}


@pytest.fixture(scope="module")
def connected(folder, desk) -> Iterator[SimpleSamlPhp]:
    """Daypass knows its metadata, and it knows Daypass's."""
    server = SimpleSamlPhp(folder / SLUG, SAML_PEOPLE)
    try:
        desk.do("connect_saml", slug=SLUG, metadata_url=server.metadata_url, claims={})
        desk.do("give_role", slug=SLUG, group=ENGINEERS, **ROLE)
        yield server
    finally:
        server.stop()


@pytest.fixture
def idp(connected, desk) -> Iterator[SimpleSamlPhp]:
    """As it is recommended, whatever the test before has changed on either side."""
    connected.configure()
    connected.trust(metadata_of(desk.origin, SLUG))
    yield connected
    usual = {"response_signed": True, "encryption": "refused", "pinning": "approve"}
    desk.do("change", slug=SLUG, claims={"subject": []}, idp_initiated=False, **usual)


@pytest.fixture
def rotating(idp, desk) -> Iterator[SimpleSamlPhp]:
    """With a second key pair, `next`. Afterwards it is back at the first."""
    idp.key("next")
    yield idp
    idp.configure()
    desk.do("settle", slug=SLUG)


NEXT = {"privatekey": "next.key", "certificate": "next.crt"}
BOTH = {f"new_{name}": value for name, value in NEXT.items()}
"""What its documentation says about changing keys: the new one is announced first, then takes over."""


# --- Connecting it


def test_an_administrator_connects_it_page_by_page(desk, administrator, page, folder):
    idp = SimpleSamlPhp(folder / "by-hand", (ADA,))
    try:
        administrator.connect("saml", "by-hand", Address_of_its_metadata=idp.metadata_url)
        ours = f"{desk.origin}/saml/by-hand/metadata/"
        expect(administrator.page.get_by_text(ours).first).to_be_visible()
        idp.trust(metadata_of(desk.origin, "by-hand"))
        administrator.try_it("ada")
        administrator.switch_on()
        desk.do("give_role", slug="by-hand", group=ENGINEERS, **ROLE)

        sign_in(page, desk.origin, "by-hand", "ada")

        sees_role(page, "Developer")
    finally:
        idp.stop()
        desk.do("change", slug="by-hand", enabled=False)


# --- People and their groups


@pytest.mark.parametrize("person", SAML_PEOPLE, ids=lambda person: person.login)
def test_groups_arrive_in_every_shape_exactly_as_they_are(idp, desk, page, person):
    sign_in(page, desk.origin, SLUG, person.login)

    if ENGINEERS in person.keys:
        sees_role(page, "Developer")
    else:
        sees_no_role(page)
    known = desk.do("person", slug=SLUG, email=f"{person.login}@example.org")
    assert known["groups"] == sorted(person.keys)
    assert known["name"] == person.name


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (TRANSIENT, {"authproc": None}),
        (UNSPECIFIED, {"authproc": None, "simplesaml.nameidattribute": "mail"}),
        (PERSISTENT, {}),
    ],
    ids=["transient", "unspecified", "persistent"],
)
def test_a_person_stays_the_same_by_an_attribute_whatever_the_name_id(
    idp, desk, page, browser, form, options
):
    idp.configure(**options)
    idp.trust(metadata_of(desk.origin, SLUG), NameIDFormat=form)
    desk.do("change", slug=SLUG, claims={"subject": ["uid"]})

    sign_in(page, desk.origin, SLUG, "olga")
    people = desk.do("people", slug=SLUG)
    another = browser.new_context().new_page()
    sign_in(another, desk.origin, SLUG, "olga")
    sees_role(another, "Developer")
    browser.close(another.context)

    assert desk.do("people", slug=SLUG) == people


def test_a_new_id_at_each_sign_in_is_refused_unless_an_attribute_tells_who_it_is(
    idp, desk, page, administrator
):
    idp.configure(authproc=None)
    idp.trust(metadata_of(desk.origin, SLUG), NameIDFormat=TRANSIENT)

    sign_in(page, desk.origin, SLUG, "olga")

    assert "stable, unique id" in administrator.reason(page)


# --- What is signed, and with what


def test_it_verifies_our_signed_requests(idp, desk, page):
    """Refused with somebody else's certificate in our entry, so the signature was looked at all the time."""
    _, foreign = key_pair("somebody else")
    bare = "".join(foreign.splitlines()[1:-1])
    idp.trust(
        metadata_of(desk.origin, SLUG),
        keys=[{"type": "X509Certificate", "signing": True, "X509Certificate": bare}],
    )

    choose(page, desk.origin, SLUG)

    expect(page.get_by_label("Password")).to_have_count(0)
    assert page.url.startswith(idp.url)
    assert "Unable to validate signature" in idp.log()


def test_an_unsigned_assertion_is_refused_even_in_a_signed_response(idp, desk, page, administrator):
    """Our metadata asks for a signature, and SimpleSAMLphp follows it until somebody says otherwise for this entry."""
    idp.trust(metadata_of(desk.origin, SLUG), **{"saml20.sign.assertion": False})

    sign_in(page, desk.origin, SLUG, "ada")

    found = administrator.reason(page)
    assert "The assertion is not signed" in found
    assert "Switch assertion signing on" in found


def test_an_unsigned_response_needs_the_administrators_word(idp, desk, page, administrator):
    idp.configure(**{"saml20.sign.response": False})
    sign_in(page, desk.origin, SLUG, "ada")
    assert "“Response must be signed”" in administrator.reason(page)

    desk.do("change", slug=SLUG, response_signed=False)
    choose(page, desk.origin, SLUG)

    sees_role(page, "Developer")


def test_a_weak_signature_is_refused_and_the_remedy_names_the_strong_ones(
    idp, desk, page, administrator
):
    idp.configure(**{"signature.algorithm": "http://www.w3.org/2000/09/xmldsig#rsa-sha1"})

    sign_in(page, desk.origin, SLUG, "ada")

    assert "SHA-256 or stronger" in administrator.reason(page)


def test_a_stronger_signature_is_taken(idp, desk, page):
    idp.configure(**{"signature.algorithm": "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512"})

    sign_in(page, desk.origin, SLUG, "ada")

    sees_role(page, "Developer")


def test_another_key_under_the_same_name_signs_nobody_in(idp, desk, page, administrator):
    idp.key("stolen")
    idp.configure(privatekey="stolen.key", certificate="stolen.crt")

    sign_in(page, desk.origin, SLUG, "ada")

    administrator.reason(page)


# --- What is encrypted


def test_it_encrypts_in_cbc_mode_which_is_refused_with_what_to_switch(
    idp, desk, page, administrator
):
    """SimpleSAMLphp 1.19 always takes AES-128 in CBC mode for a key that it wraps; nothing chooses another."""
    desk.do("change", slug=SLUG, encryption="accepted")
    idp.trust(metadata_of(desk.origin, SLUG), **{"assertion.encryption": True})

    sign_in(page, desk.origin, SLUG, "ada")

    found = administrator.reason(page)
    assert "encrypted with aes128-cbc" in found
    assert "switch assertion encryption off for Daypass" in found


def test_it_finds_no_certificate_to_encrypt_for_where_nothing_may_be_encrypted(idp, desk):
    assert b'use="encryption"' not in metadata_of(desk.origin, SLUG)

    desk.do("change", slug=SLUG, encryption="required")

    assert b'use="encryption"' in metadata_of(desk.origin, SLUG)


# --- Keys that change


def test_a_new_certificate_is_believed_at_the_next_refresh_where_it_is_followed(
    rotating, desk, page
):
    desk.do("change", slug=SLUG, pinning="follow")
    rotating.configure(**BOTH)
    desk.do("refresh", slug=SLUG)
    rotating.configure(**NEXT)

    sign_in(page, desk.origin, SLUG, "ada")

    sees_role(page, "Developer")


def test_a_new_certificate_waits_for_the_administrator_where_they_approve(
    rotating, desk, page, administrator
):
    rotating.configure(**BOTH)
    desk.do("refresh", slug=SLUG)
    sign_in(page, desk.origin, SLUG, "ada")
    sees_role(page, "Developer")

    page.context.clear_cookies()
    rotating.configure(**NEXT)
    sign_in(page, desk.origin, SLUG, "ada")
    administrator.reason(page)
    administrator.believe(SLUG)
    choose(page, desk.origin, SLUG)

    sees_role(page, "Developer")


# --- Who it is, anew; and who it is not


def test_whoever_has_a_session_there_is_signed_in_without_a_form(idp, desk, page):
    sign_in(page, desk.origin, SLUG, "ada")
    page.context.clear_cookies(domain="localhost")

    choose(page, desk.origin, SLUG)

    sees_role(page, "Developer")


def test_a_fresh_sign_in_asks_for_the_password_again(idp, desk, page):
    sign_in(page, desk.origin, SLUG, "ada")

    choose(page, desk.origin, SLUG, at="/sign-in/?fresh=1")
    prove(page, "ada")

    sees_role(page, "Developer")


def test_a_provider_that_says_no_is_not_a_fault_of_the_message(idp, desk, page, administrator):
    """As its modules for a second factor do when somebody gives up."""
    failed = (
        "\\SimpleSAML\\Auth\\State::throwException($state, new \\SimpleSAML\\Module\\saml\\Error("
        "\\SAML2\\Constants::STATUS_RESPONDER, \\SAML2\\Constants::STATUS_AUTHN_FAILED));"
    )
    idp.configure(authproc={"5": {"class": "core:PHP", "code": failed}})

    sign_in(page, desk.origin, SLUG, "ada")

    found = administrator.reason(page)
    assert "did not sign the person in: Responder, AuthnFailed" in found


def test_a_clock_that_is_off_is_named(idp, desk, page, administrator, folder):
    late = SimpleSamlPhp(folder / "late", (ADA,), clock="+10m")
    try:
        desk.do("connect_saml", slug="late", metadata_url=late.metadata_url, claims={})
        late.trust(metadata_of(desk.origin, "late"))

        sign_in(page, desk.origin, "late", "ada")

        found = administrator.reason(page)
        assert "clock" in found
    finally:
        late.stop()
        desk.do("change", slug="late", enabled=False)


# --- Beginning at the provider


def test_a_sign_in_that_begins_there_is_refused_unless_it_is_switched_on(
    idp, desk, page, administrator
):
    tile = f"{idp.base}/saml2/idp/SSOService.php?spentityid={desk.origin}/saml/{SLUG}/metadata/"
    page.goto(tile)
    prove(page, "ada")
    assert "Sign-in begins at Daypass" in administrator.reason(page)

    desk.do("change", slug=SLUG, idp_initiated=True)
    page.goto(tile)
    page.get_by_role("button", name="Continue as Ada Example").click()

    sees_role(page, "Developer")


# --- Signing out


def test_signing_out_at_daypass_ends_the_session_there_too(idp, desk, page):
    sign_in(page, desk.origin, SLUG, "ada")

    sign_out(page)

    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    choose(page, desk.origin, SLUG)
    prove(page, "ada")
    sees_role(page, "Developer")


@pytest.mark.parametrize("way", ["traditional", "iframe"])
def test_signing_out_there_ends_the_session_at_daypass(idp, desk, page, way):
    idp.configure(logouttype=way)
    sign_in(page, desk.origin, SLUG, "ada")

    page.goto(f"{idp.base}/saml2/idp/initSLO.php?RelayState={idp.base}/logout.php")
    if way == "iframe":
        page.get_by_role("button", name="Yes, all services").click()
    expect(page.get_by_role("heading", name="Logged out", level=2)).to_be_visible()

    is_signed_out(page, desk.origin)
