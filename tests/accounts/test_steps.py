"""The steps of a sign-in are taken in their order, in one browser, once; and nothing of before comes along."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from accounts import services
from accounts.models import ConsumedMessage, Person, ProviderSession, SignInTest
from broker.audit.models import AuditEvent
from tests import factories as make
from tests.accounts import web
from tests.accounts.conftest import BY
from tests.servers import free_port

ADA = {"uid": ["ada"], "displayName": ["Ada Lovelace"], "groups": ["readers"]}
SESSION = "__Host-daypass_session"
ANSWER = "__Secure-daypass_answer"


def post(browser, slug, answer):
    return browser.post(f"/saml/{slug}/acs/", {"SAMLResponse": answer}, secure=True)


def finish(browser, slug="acme"):
    return browser.get(f"/saml/{slug}/acs/finish/", secure=True)


def accepted():
    return AuditEvent.objects.filter(kind="sign_in.accepted").count()


@pytest.fixture
def other_row(db, other_idp):
    return services.create_provider_from_metadata(
        slug="other", name="Other", metadata_xml=other_idp.metadata, by=BY, enabled=True
    )


@pytest.fixture
def staff(saml_row, idp):
    """A browser in which an administrator is signed in."""
    make.group("operators", at=saml_row, confers_staff=True)
    browser = web.browser()
    web.saml_sign_in(
        browser, idp, name_id="boss", attributes={"uid": ["boss"], "groups": ["operators"]}
    )
    return browser


def start_test(browser, slug="acme"):
    return web.destination(browser.post(reverse("provider_test_start", args=[slug]), secure=True))


# --- The order


def test_finishing_twice_signs_in_once(saml_row, idp, refusals):
    browser = web.browser()
    answer = idp.answer(web.start(browser, "acme"), attributes=ADA)
    post(browser, "acme", answer)
    key = browser.cookies[ANSWER].value
    assert finish(browser)["Location"] == "/"
    session = browser.session.session_key
    browser.cookies[ANSWER] = key

    again = finish(browser)

    assert again["Location"] == "/"
    assert browser.session.session_key == session
    assert accepted() == 1

    stranger = web.browser()
    stranger.cookies[ANSWER] = key
    assert finish(stranger).status_code == 403
    assert refusals()[-1][0] == "state_unknown"


def test_finishing_without_a_posted_answer_is_refused(saml_row, refusals):
    browser = web.browser()
    web.start(browser, "acme")

    assert finish(browser).status_code == 403
    assert refusals()[0][0] == "state_unknown"


def test_who_is_signed_in_and_goes_back_to_the_finishing_page_goes_home(saml_row, idp, refusals):
    browser = web.browser()
    web.saml_sign_in(browser, idp, attributes=ADA)

    page = finish(browser)

    assert page["Location"] == "/"
    assert web.is_signed_in(browser)
    assert refusals() == []


def test_an_answer_is_finished_at_the_provider_that_gave_it(saml_row, other_row, idp):
    browser = web.browser()
    post(browser, "acme", idp.answer(web.start(browser, "acme"), attributes=ADA))

    elsewhere = finish(browser, "other")

    assert elsewhere.status_code == 403
    assert not web.is_signed_in(browser)
    assert finish(browser)["Location"] == "/"


def test_an_answer_does_not_outlive_a_sign_out(saml_row, idp, refusals):
    browser = web.browser()
    web.saml_sign_in(browser, idp, attributes=ADA)
    answer = idp.answer(web.start(browser, "acme", fresh=True), attributes=ADA)
    browser.post("/sign-out/", secure=True)

    page = web.post_answer(browser, "acme", answer)

    assert page.status_code == 403
    assert not web.is_signed_in(browser)
    assert refusals()[0][0] == "state_unknown"


def test_an_answer_does_not_outlive_another_sign_in(saml_row, idp):
    browser = web.browser()
    early = idp.answer(web.start(browser, "acme"), attributes=ADA, name_id="u-0002")
    web.saml_sign_in(browser, idp, attributes=ADA)
    browser.cookies.pop(SESSION)

    assert web.post_answer(browser, "acme", early).status_code == 403
    assert accepted() == 1


def test_a_test_sign_in_never_becomes_a_login(staff, saml_row, idp):
    url = start_test(staff)
    before = accepted()
    staff.post("/sign-out/", secure=True)

    page = web.post_answer(staff, "acme", idp.answer(url, attributes=ADA))

    assert page.status_code == 403
    assert not web.is_signed_in(staff)
    assert SignInTest.objects.get().finished_at is None
    assert accepted() == before


def test_a_test_sign_in_is_finished_by_the_administrator_who_began_it(staff, saml_row, idp):
    url = start_test(staff)
    answer = idp.answer(url, attributes=ADA)
    somebody = web.browser()
    web.saml_sign_in(somebody, idp, attributes=ADA)

    assert web.post_answer(somebody, "acme", answer).status_code == 403
    assert SignInTest.objects.get().finished_at is None


def test_a_login_never_becomes_a_test_sign_in(staff, saml_row, idp):
    start_test(staff)

    web.saml_sign_in(staff, idp, attributes=ADA)

    assert SignInTest.objects.get().finished_at is None
    assert staff.get("/", secure=True).wsgi_request.principal.handle == "ada"


def test_an_answer_is_for_one_protocol(saml_row, oidc_row, op, idp):
    browser = web.browser()
    state = web.query(web.start(browser, "globex"))["state"]
    request = web.start(browser, "acme")

    crossed = web.call_back(
        browser,
        f"{web.ORIGIN}/oidc/globex/callback/?code=x&state={idp.read(request).id}",
    )
    page = web.post_answer(
        browser, "acme", idp.answer(request, bend=lambda r: r.set("InResponseTo", state))
    )

    assert (crossed.status_code, page.status_code) == (403, 403)
    assert not web.is_signed_in(browser)


# --- Nothing of before comes along


def sign_in_saml(browser, idp, op):
    web.saml_sign_in(browser, idp, attributes=ADA)


def sign_in_oidc(browser, idp, op):
    web.oidc_sign_in(browser, op)


@pytest.mark.parametrize("sign_in", [sign_in_saml, sign_in_oidc])
def test_nothing_of_an_anonymous_session_is_kept(saml_row, oidc_row, idp, op, sign_in):
    """Whoever planted a session in a browser knows nothing about the one that a sign-in makes."""
    browser = web.browser()
    planted = browser.session
    planted["planted"] = "before"
    planted["daypass"] = {"proof": {"mfa": True}}
    planted.save()
    before = planted.session_key
    web.start(browser, "acme")

    sign_in(browser, idp, op)

    session = browser.session
    assert web.is_signed_in(browser)
    assert session.session_key != before
    assert not Session.objects.filter(session_key=before).exists()
    assert "planted" not in session
    assert session["daypass"]["proof"]["mfa"] is False
    assert "socialaccount_states" not in session


@pytest.mark.parametrize("sign_in", [sign_in_saml, sign_in_oidc])
def test_nothing_of_somebody_elses_session_is_kept(saml_row, oidc_row, idp, op, sign_in):
    browser = web.browser()
    web.saml_sign_in(browser, idp, name_id="u-bo", attributes={"uid": ["bo"]})
    theirs = browser.session
    theirs["of bo"] = True
    theirs.save()
    before = theirs.session_key

    sign_in(browser, idp, op)

    assert browser.session["_auth_user_id"] == str(Person.objects.get(handle="ada").pk)
    assert browser.session.session_key != before
    assert "of bo" not in browser.session
    assert not Session.objects.filter(session_key=before).exists()
    assert ProviderSession.objects.get().person.handle == "ada"
    ended = AuditEvent.objects.get(kind="sign_in.ended")
    assert (ended.actor, ended.data["how"]) == ("bo", "somebody else signed in")


def test_signing_in_again_begins_a_session_of_its_own(saml_row, idp):
    browser = web.browser()
    web.saml_sign_in(browser, idp, attributes=ADA)
    before = browser.session.session_key
    session = browser.session
    session["of before"] = True
    session.save()

    web.saml_sign_in(browser, idp, attributes=ADA)

    assert browser.session.session_key != before
    assert "of before" not in browser.session
    assert ProviderSession.objects.get().session_key == browser.session.session_key
    assert not AuditEvent.objects.filter(kind="sign_in.ended").exists()


# --- What is kept of a posted answer


def test_an_answers_cookie_is_for_the_finishing_page_alone(saml_row, idp):
    browser = web.browser()

    posted = post(browser, "acme", idp.answer(web.start(browser, "acme")))

    cookie = posted.cookies[ANSWER]
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"]) == (True, True, "Lax")
    assert cookie["path"] == "/saml/acme/acs/finish/"
    assert cookie["max-age"] == 120
    assert SESSION not in posted.cookies


def test_of_the_answers_to_one_request_three_are_kept(saml_row, idp):
    url = web.start(web.browser(), "acme")
    before = Session.objects.count()

    results = [post(web.browser(), "acme", idp.answer(url)).status_code for _ in range(5)]

    assert results == [302, 302, 302, 403, 403]
    assert Session.objects.count() == before + 3


def test_any_of_the_answers_that_were_kept_will_do(saml_row, idp):
    """A second click at the provider, while the first is under way, does not lock anybody out."""
    browser = web.browser()
    answer = idp.answer(web.start(browser, "acme"), attributes=ADA)
    post(browser, "acme", answer)
    post(browser, "acme", answer)

    assert finish(browser)["Location"] == "/"
    assert web.is_signed_in(browser)


def test_an_answer_is_kept_for_two_minutes(saml_row, idp):
    browser = web.browser()
    answer = idp.answer(web.start(browser, "acme"), attributes=ADA)
    post(browser, "acme", answer)
    kept = Session.objects.order_by("expire_date").first()
    assert timedelta(seconds=100) < kept.expire_date - timezone.now() <= timedelta(minutes=2)
    Session.objects.filter(pk=kept.pk).update(expire_date=timezone.now())

    assert finish(browser).status_code == 403
    assert not web.is_signed_in(browser)


def test_nothing_is_kept_for_a_request_that_was_answered(saml_row, idp):
    browser = web.browser()
    answer = idp.answer(web.start(browser, "acme"), attributes=ADA)
    web.post_answer(browser, "acme", answer)
    rows = Session.objects.count()

    posted = post(web.browser(), "acme", answer)

    assert posted["Location"] == "/saml/acme/acs/finish/?again"
    assert ANSWER not in posted.cookies
    assert Session.objects.count() == rows


def test_the_request_is_used_up_before_the_answer_is_verified(saml_row, idp, refusals):
    browser = web.browser()
    url = web.start(browser, "acme")
    web.post_answer(browser, "acme", idp.answer(url, sign_assertion=False, attributes=ADA))

    second = web.post_answer(browser, "acme", idp.answer(url, attributes=ADA))

    assert second.status_code == 403
    assert not web.is_signed_in(browser)
    assert [code for code, _ in refusals()] == ["saml_refused", "replayed"]
    assert ConsumedMessage.objects.count() == 1


def test_who_loses_a_race_does_not_delete_the_winners_cookie(saml_row, oidc_row, idp, op):
    """Two tabs share a cookie by name: the loser's answer may arrive last, and must leave it alone."""
    browser = web.browser()
    answer = idp.answer(web.start(browser, "acme"), attributes=ADA)
    callback = op.authorize(web.start(browser, "globex"))
    late = web.browser()
    late.cookies[SESSION] = browser.cookies[SESSION].value
    web.post_answer(browser, "acme", answer)

    pages = [web.post_answer(late, "acme", answer), finish(late), web.call_back(late, callback)]

    assert [page.status_code for page in pages] == [403, 403, 403]
    assert not any(SESSION in page.cookies for page in pages)


# --- The stores


def test_without_redis_an_answer_still_counts_once(saml_row, idp, settings):
    """Redis may make things quick; that something was used is in the database (threats.md R61)."""
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": nobody}}
    browser = web.browser()
    answer = idp.answer(web.start(browser, "acme"), attributes=ADA)

    first = web.post_answer(browser, "acme", answer)
    again = web.post_answer(web.browser(), "acme", answer)

    assert first["Location"] == "/"
    assert again.status_code == 403
    assert accepted() == 1


def test_without_the_store_of_used_messages_nobody_is_let_in(transactional_db, idp):
    services.create_provider_from_metadata(
        slug="acme", name="Acme", metadata_xml=idp.metadata, by=BY, enabled=True
    )
    browser, later = web.browser(), web.browser()
    answer = idp.answer(web.start(browser, "acme"), attributes=ADA)
    other = idp.answer(web.start(later, "acme"), attributes=ADA)
    post(later, "acme", other)
    rename = 'ALTER TABLE "{}" RENAME TO "{}"'
    table = ConsumedMessage._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(rename.format(table, "away"))

    try:
        pages = [web.post_answer(browser, "acme", answer), finish(later)]
    finally:
        with connection.cursor() as cursor:
            cursor.execute(rename.format("away", table))

    assert [page.status_code for page in pages] == [403, 403]
    assert not web.is_signed_in(browser)
    assert not web.is_signed_in(later)
    assert accepted() == 0
