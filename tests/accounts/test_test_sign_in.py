"""An administrator tries a provider: what arrived and what it became, and nothing granted."""

from __future__ import annotations

import pytest
from django.urls import reverse

from accounts.models import DirectoryGroup, Membership, Person, SignInTest
from broker.audit.models import AuditEvent
from tests import factories as make
from tests.accounts import web


@pytest.fixture
def staff(saml_row, idp):
    """A browser in which an administrator is signed in."""
    make.group("operators", at=saml_row, confers_staff=True)
    browser = web.browser()
    web.saml_sign_in(
        browser, idp, name_id="boss", attributes={"uid": ["boss"], "groups": ["operators"]}
    )
    return browser


def begin(browser, slug="acme") -> str:
    return web.destination(browser.post(reverse("provider_test_start", args=[slug]), secure=True))


def test_it_shows_what_arrived_and_what_it_became(staff, idp):
    answer = idp.answer(
        begin(staff),
        name_id="u-7",
        attributes={"uid": ["new"], "displayName": ["New One"], "groups": ["operators", "unseen"]},
    )

    finished = web.post_answer(staff, "acme", answer)
    page = staff.get(finished["Location"], secure=True)

    test = page.context["test"]
    assert test.problem == ""
    assert test.arrived["attributes"]["groups"] == ["operators", "unseen"]
    assert test.became["subject"] == "u-7"
    assert test.became["groups"] == [
        {"key": "operators", "known": True},
        {"key": "unseen", "known": False},
    ]
    checks = dict(test.checks)
    assert checks["Signature of the assertion"].startswith(
        "RSA-SHA256 by certificate CN=idp, SHA-256 "
    )
    assert checks["Audience"] == "https://daypass.test/saml/acme/metadata/"
    assert all(seen in page.content.decode() for seen in checks.values())
    assert "This sign-in would be accepted." in page.content.decode()


def test_a_sign_in_without_groups_is_no_success(staff, idp):
    finished = web.post_answer(staff, "acme", idp.answer(begin(staff), name_id="u-7"))
    page = staff.get(finished["Location"], secure=True).content.decode()

    assert "but brings no groups" in page
    assert "notice success" not in page


def test_it_grants_nothing_and_the_administrator_stays_who_they_are(staff, idp):
    key = staff.session.session_key
    people, memberships = Person.objects.count(), Membership.objects.count()

    web.post_answer(
        staff, "acme", idp.answer(begin(staff), name_id="u-7", attributes={"groups": ["unseen"]})
    )

    assert Person.objects.count() == people
    assert Membership.objects.count() == memberships
    assert not DirectoryGroup.objects.filter(key="unseen").exists()
    assert staff.session.session_key == key
    assert staff.get("/", secure=True).wsgi_request.principal.handle == "boss"
    assert AuditEvent.objects.filter(kind="sign_in.accepted").count() == 1
    assert AuditEvent.objects.filter(kind="sign_in.tested").count() == 1


def test_it_works_before_the_provider_is_switched_on(staff, oidc_row, op):
    oidc_row.enabled = False
    oidc_row.save()

    finished = web.call_back(staff, op.authorize(begin(staff, "globex")))

    test = SignInTest.objects.get()
    assert finished["Location"] == reverse("provider_test_result", args=[test.pk])
    assert test.became["name"] == "Ada Lovelace"
    assert "nonce" not in test.arrived["attributes"]


def test_it_says_why_it_would_be_refused(staff, idp):
    finished = web.post_answer(staff, "acme", idp.answer(begin(staff), sign_assertion=False))

    page = staff.get(finished["Location"], secure=True).content.decode()

    assert "would be refused" in page
    assert "The assertion is not signed" in page


def test_a_claim_map_that_does_not_fit_still_shows_what_arrived(staff, idp, saml_row):
    saml_row.claim_map = {"subject": ["employeeNumber"]}
    saml_row.save()

    web.post_answer(staff, "acme", idp.answer(begin(staff), attributes={"uid": ["x"]}))

    test = SignInTest.objects.get()
    assert "employeeNumber" in test.problem
    assert test.arrived["attributes"] == {"uid": ["x"]}
    assert test.became == {}


def test_the_message_of_a_test_cannot_be_used_to_sign_in(staff, idp, refusals):
    answer = idp.answer(begin(staff), assertion_id="_tested")
    web.post_answer(staff, "acme", answer)
    browser = web.browser()

    web.saml_sign_in(browser, idp, assertion_id="_tested")

    assert not web.is_signed_in(browser)
    assert refusals()[0][0] == "replayed"


def test_whoever_is_no_administrator_cannot_try(saml_row, idp):
    browser = web.browser()
    web.saml_sign_in(browser, idp)

    assert browser.post("/sign-in/acme/test/", secure=True).status_code == 403
    assert (
        web.browser().post("/sign-in/acme/test/", secure=True)["Location"].startswith("/sign-in/")
    )
    assert not SignInTest.objects.exists()


def test_the_result_is_for_the_one_who_tried(staff, saml_row, idp):
    web.post_answer(staff, "acme", idp.answer(begin(staff)))
    url = reverse("provider_test_result", args=[SignInTest.objects.get().pk])
    other = web.browser()
    web.saml_sign_in(other, idp, name_id="boss-2", attributes={"groups": ["operators"]})

    assert staff.get(url, secure=True).status_code == 200
    assert other.get(url, secure=True).status_code == 404


def test_who_lost_the_right_meanwhile_sees_nothing(staff, idp):
    answer = idp.answer(begin(staff))
    staff.post("/sign-out/", secure=True)

    assert web.post_answer(staff, "acme", answer).status_code == 403
    assert SignInTest.objects.get().finished_at is None


def test_what_arrives_is_shown_as_text(staff, idp):
    finished = web.post_answer(
        staff,
        "acme",
        idp.answer(
            begin(staff), attributes={"displayName": ["<script>alert(1)</script>"], "items": ["x"]}
        ),
    )

    page = staff.get(finished["Location"], secure=True).content.decode()

    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;" in page
