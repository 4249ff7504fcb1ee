"""SimpleSAMLphp, as Debian has it, is a company's identity provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from tests.interop.people import ENGINEERS, SAML_PEOPLE
from tests.interop.providers import SimpleSamlPhp
from tests.interop.steps import sees_no_role, sees_role, sign_in

SLUG = "simplesamlphp"


@pytest.fixture(scope="module")
def idp(folder, desk) -> Iterator[SimpleSamlPhp]:
    """Connected: Daypass knows its metadata, and it knows Daypass's."""
    server = SimpleSamlPhp(folder / "simplesamlphp", SAML_PEOPLE)
    try:
        desk.do("connect_saml", slug=SLUG, metadata_url=server.metadata_url, claims={})
        desk.do("give_role", slug=SLUG, group=ENGINEERS, account="111122223333", role="Developer")
        server.trust(metadata_of(desk.origin, SLUG))
        yield server
    finally:
        server.stop()


def metadata_of(origin: str, slug: str) -> bytes:
    """Daypass's metadata, as the provider's administrator fetches it."""
    answer = requests.get(f"{origin}/saml/{slug}/metadata/", timeout=10)
    assert answer.ok
    return answer.content


@pytest.mark.parametrize("person", SAML_PEOPLE, ids=lambda person: person.login)
def test_groups_arrive_in_every_shape_exactly_as_they_are(idp, desk, page, person):
    sign_in(page, desk.origin, SLUG, person.login)

    if ENGINEERS in person.keys:
        sees_role(page, "Developer")
    else:
        sees_no_role(page)
    known = desk.do("person", slug=SLUG, username=person.login)
    assert known["groups"] == sorted(person.keys)
    assert known["name"] == person.name
