"""Auth0's SAML provider, npm's samlp: signed in its own way, and encrypted."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.interop.people import ENGINEERS, SAML_PEOPLE
from tests.interop.providers import Samlp
from tests.interop.steps import choose, metadata_of, sees_no_role, sees_role, sign_in

SLUG = "samlp"


@pytest.fixture(scope="module")
def connected(folder, desk) -> Iterator[Samlp]:
    server = Samlp(folder / SLUG, SAML_PEOPLE)
    try:
        desk.do("connect_saml", slug=SLUG, metadata_url=server.metadata_url, claims={})
        desk.do("give_role", slug=SLUG, group=ENGINEERS, account="111122223333", role="Developer")
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


def certificate_for(use: str, metadata: bytes) -> str:
    """The certificate that an administrator copies out of our metadata, as PEM."""
    part = metadata.decode().partition(f'use="{use}"')[2]
    bare = re.search(r"X509Certificate>([^<]+)<", part)[1]
    body = "\n".join(re.findall(".{1,64}", "".join(bare.split())))
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("person", SAML_PEOPLE, ids=lambda person: person.login)
def test_groups_arrive_in_every_shape_exactly_as_they_are(idp, desk, page, person):
    sign_in(page, desk.origin, SLUG, person.login)

    if ENGINEERS in person.keys:
        sees_role(page, "Developer")
    else:
        sees_no_role(page)
    known = desk.do("person", slug=SLUG, email=f"{person.login}@example.org")
    assert known["groups"] == sorted(person.keys)


def test_an_assertion_for_another_audience_is_refused(idp, desk, page, administrator):
    idp.say(options={"audience": "https://another.example/metadata"})

    sign_in(page, desk.origin, SLUG, "ada")

    assert "https://another.example/metadata" in administrator.reason(page)


def test_it_verifies_our_signed_requests(idp, desk, page):
    from tests.interop.providers import key_pair

    idp.say(signing=key_pair("somebody else")[1])

    choose(page, desk.origin, SLUG)
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("correct-horse")
    page.get_by_role("button", name="Login").click()

    assert "The provider refused" in page.content()
