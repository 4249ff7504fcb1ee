"""Signing in with SAML, through the real views, with signatures made by another library."""

from __future__ import annotations

from accounts.models import Person
from tests.accounts import web


def test_a_signed_answer_signs_the_person_in(saml_row, idp):
    browser = web.browser()
    url = web.start(browser, "acme")
    answer = idp.answer(
        url, attributes={"displayName": ["Ada Lovelace"], "uid": ["ada"], "groups": ["a", "b"]}
    )

    posted = browser.post("/saml/acme/acs/", {"SAMLResponse": answer}, secure=True)
    finished = browser.get(posted["Location"], secure=True)

    assert finished.status_code == 302, finished.content.decode()
    assert web.is_signed_in(browser)
    ada = Person.objects.get(handle="ada")
    assert ada.name == "Ada Lovelace"
