"""Sign-in that begins at the provider: only where it is switched on, once, and never without the person's yes."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.sessions.models import Session
from lxml import etree

from accounts import services
from accounts.models import ConsumedMessage, Membership, Person, ProviderSession
from broker.audit.models import AuditEvent
from tests.accounts import web
from tests.accounts.conftest import BY
from tests.accounts.idp_saml import DS, SAML, Request, stamp

ACS = "https://daypass.test/saml/acme/acs/"
MAYA = {
    "uid": ["maya"],
    "displayName": ["Maya Lindqvist"],
    "mail": ["maya@example.com"],
    "groups": ["aws-readers"],
}


@pytest.fixture
def row(saml_row):
    """A provider at which sign-in may begin."""
    saml_row.idp_initiated = True
    saml_row.save()
    return saml_row


def part(root, name):
    return next(root.iter(f"{{{SAML}}}{name}"))


def unsolicited(idp, *, bend=None, sign_assertion=True, sign_response=True, **claims):
    """An answer that nobody asked for: without an InResponseTo in the envelope and in the confirmation."""
    asked = Request("", "https://daypass.test/saml/acme/metadata/", ACS, None, False, b"", "")
    root = idp.build(asked, **{"attributes": MAYA, "name_id": "u-maya", **claims})
    root.attrib.pop("InResponseTo")
    part(root, "SubjectConfirmationData").attrib.pop("InResponseTo")
    if bend:
        bend(root)
    signed = idp.sign(root, assertion=sign_assertion, response=sign_response)
    return base64.b64encode(signed).decode()


def post(browser, answer, **fields):
    return browser.post("/saml/acme/acs/", {"SAMLResponse": answer, **fields}, secure=True)


def arrive(browser, answer, **fields):
    """Post and follow to the page that asks."""
    posted = post(browser, answer, **fields)
    assert posted.status_code == 302, posted.content
    return browser.get(posted["Location"], secure=True)


def say(browser, word):
    return browser.post("/saml/acme/acs/confirm/", {"answer": word}, secure=True)


def test_it_is_off_until_an_administrator_switches_it_on(saml_row, idp, refusals):
    page = post(web.browser(), unsolicited(idp))

    assert page.status_code == 403
    code, reason = refusals()[0]
    assert code == "unsolicited"
    assert "Sign-in begins at Daypass" in reason
    assert not Session.objects.exists()
    assert not ConsumedMessage.objects.exists()


def test_the_person_is_asked_first_and_then_signed_in(row, idp):
    browser = web.browser()

    page = arrive(browser, unsolicited(idp))

    assert page.status_code == 200
    assert "Acme says you are Maya Lindqvist" in page.content.decode()
    assert "maya@example.com" in page.content.decode()
    assert not web.is_signed_in(browser)
    assert not Person.objects.exists()

    finished = say(browser, "yes")

    assert finished["Location"] == "/"
    assert web.is_signed_in(browser)
    assert Person.objects.get().handle == "maya"
    assert Membership.objects.get().group.key == "aws-readers"
    event = AuditEvent.objects.get(kind="sign_in.accepted")
    assert event.data["evidence"]["began"] == "at the provider"


def test_what_the_provider_calls_the_session_is_kept_through_the_question(row, idp):
    ends = stamp(datetime.now(UTC) + timedelta(minutes=30))
    browser = web.browser()
    arrive(
        browser,
        unsolicited(
            idp, bend=lambda root: part(root, "AuthnStatement").set("SessionNotOnOrAfter", ends)
        ),
    )
    say(browser, "yes")

    assert ProviderSession.objects.get().index_digest
    assert browser.session["daypass"]["logout"]["name_id"] == "u-maya"
    assert browser.session["daypass"]["ends"] - browser.session["daypass"]["began"] <= 1801
    url = web.destination(browser.post("/sign-out/", secure=True))
    assert url.startswith(idp.slo_url)


def test_who_says_no_is_not_signed_in(row, idp):
    browser = web.browser()
    arrive(browser, unsolicited(idp))

    answer = say(browser, "no")

    assert answer["Location"] == "/sign-in/?stay=1"
    assert not Session.objects.exists()
    assert say(browser, "yes").status_code == 403
    assert not web.is_signed_in(browser)
    assert not Person.objects.exists()


def test_a_yes_counts_once_and_in_this_browser_only(row, idp, refusals):
    browser, other = web.browser(), web.browser()
    arrive(browser, unsolicited(idp))
    cookie = browser.cookies["__Secure-daypass_arrival"].value
    say(browser, "yes")
    other.cookies["__Secure-daypass_arrival"] = cookie

    assert say(other, "yes").status_code == 403
    assert say(web.browser(), "yes").status_code == 403
    assert [code for code, _ in refusals()] == ["state_unknown", "state_unknown"]


def test_a_yes_needs_the_forms_token(row, idp):
    """Another site can make a browser arrive, and cannot make it say yes."""
    strict = web.Browser(headers={"host": "daypass.test"}, enforce_csrf_checks=True)
    posted = strict.post(
        "/saml/acme/acs/",
        f"SAMLResponse={unsolicited(idp).replace('+', '%2B').replace('=', '%3D')}",
        content_type="application/x-www-form-urlencoded",
        secure=True,
    )
    page = strict.get(posted["Location"], secure=True)
    assert page.status_code == 200

    assert say(strict, "yes").status_code == 403
    assert not Person.objects.exists()


def test_the_cookie_of_the_question_is_short_lived_opaque_and_for_that_page(row, idp):
    posted = post(web.browser(), unsolicited(idp))

    cookie = posted.cookies["__Secure-daypass_arrival"]

    assert (cookie["httponly"], cookie["secure"], cookie["samesite"]) == (True, True, "Lax")
    assert cookie["path"] == "/saml/acme/acs/confirm/"
    assert cookie["max-age"] == 300
    assert len(cookie.value) == 40


def test_the_question_names_who_is_signed_in_already(row, idp):
    browser = web.browser()
    web.saml_sign_in(browser, idp, attributes={"uid": ["bo"], "displayName": ["Bo Ek"]})
    before = browser.session.session_key

    page = arrive(browser, unsolicited(idp)).content.decode()

    assert "You are signed in as Bo Ek (bo). Continuing signs Bo Ek out" in page
    assert browser.session.session_key == before

    say(browser, "yes")

    assert browser.session["_auth_user_id"] == str(Person.objects.get(handle="maya").pk)
    assert not Session.objects.filter(session_key=before).exists()
    assert ProviderSession.objects.get().person.handle == "maya"
    ended = AuditEvent.objects.get(kind="sign_in.ended")
    assert (ended.actor, ended.data["how"]) == ("bo", "somebody else signed in")


def test_who_is_signed_in_as_the_same_person_is_told_so(row, idp):
    browser = web.browser()
    arrive(browser, unsolicited(idp))
    say(browser, "yes")

    page = arrive(browser, unsolicited(idp)).content.decode()

    assert "You are signed in already." in page
    assert "signs Maya Lindqvist out" not in page


def test_a_name_with_markup_is_text(row, idp):
    page = arrive(
        web.browser(), unsolicited(idp, attributes={**MAYA, "displayName": ["<b>Maya</b> & Co"]})
    )

    assert "&lt;b&gt;Maya&lt;/b&gt; &amp; Co" in page.content.decode()


def test_who_has_no_name_is_called_by_what_there_is(row, idp):
    page = arrive(web.browser(), unsolicited(idp, attributes={"groups": ["aws-readers"]}))

    assert "Acme says you are u-maya" in page.content.decode()


def test_relay_state_is_not_looked_at(row, idp):
    browser = web.browser()
    arrive(browser, unsolicited(idp), RelayState="https://evil.example/")

    assert say(browser, "yes")["Location"] == "/"


# --- Once, and no downgrade


def test_an_unsolicited_answer_is_taken_once(row, idp, refusals):
    answer = unsolicited(idp)
    arrive(web.browser(), answer)

    again = post(web.browser(), answer)

    assert again.status_code == 403
    assert refusals()[0][0] == "replayed"
    (kept,) = ConsumedMessage.objects.all()
    assert kept.expires_at > datetime.now(UTC) + timedelta(minutes=5)


def without_the_envelopes_request(root):
    root.attrib.pop("InResponseTo")


@pytest.mark.parametrize("used", [True, False], ids=["used", "fresh"])
def test_a_solicited_answer_stripped_of_its_request_is_refused(row, idp, refusals, used):
    """The confirmation still names the request: only the envelope's word can be taken away."""
    row.response_signed = False
    services.save_provider(row, by=BY)
    browser = web.browser()
    answer = idp.answer(
        web.start(browser, "acme"), attributes=MAYA, name_id="u-maya", sign_response=False
    )
    if used:
        web.post_answer(browser, "acme", answer)
    root = etree.fromstring(base64.b64decode(answer))
    root.attrib.pop("InResponseTo")
    stripped = base64.b64encode(etree.tostring(root)).decode()

    page = post(web.browser(), stripped)

    assert page.status_code == 403
    assert "InResponseTo" in refusals()[-1][1]
    assert AuditEvent.objects.filter(kind="sign_in.accepted").count() == int(used)


def test_an_empty_request_is_none_only_where_the_confirmation_names_none(row, idp, refusals):
    def bend(root):
        part(root, "SubjectConfirmationData").set("InResponseTo", "")

    assert post(web.browser(), unsolicited(idp, bend=bend)).status_code == 403


def test_an_answer_that_names_a_made_up_request_is_no_arrival(row, idp, refusals):
    def bend(root):
        root.set("InResponseTo", "_made-up")

    assert post(web.browser(), unsolicited(idp, bend=bend)).status_code == 403
    assert refusals()[0][0] == "unsolicited"


def test_a_solicited_sign_in_stays_as_strict(row, idp, refusals):
    """Switched on or not: an answer to a request counts in the browser that asked, and nowhere else."""
    answer = idp.answer(web.start(web.browser(), "acme"), attributes=MAYA)
    thief = web.browser()

    page = web.post_answer(thief, "acme", answer)

    assert page.status_code == 403
    assert not web.is_signed_in(thief)
    assert refusals()[0][0] == "state_unknown"


# --- Fresher than an answer that was asked for, and signed as the settings say


def at(name, attribute, value):
    def bend(root):
        element = root if name == "Response" else part(root, name)
        element.set(attribute, stamp(datetime.now(UTC) + value))

    return bend


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (at("Response", "IssueInstant", -timedelta(minutes=3)), "issued at"),
        (at("Assertion", "IssueInstant", -timedelta(minutes=3)), "issued at"),
        (at("Assertion", "IssueInstant", timedelta(minutes=3)), "issued at"),
        (at("SubjectConfirmationData", "NotOnOrAfter", timedelta(minutes=12)), "ten minutes"),
        (at("SubjectConfirmationData", "NotOnOrAfter", -timedelta(minutes=2)), ""),
        (at("Conditions", "NotOnOrAfter", -timedelta(minutes=2)), ""),
        (lambda root: root.set("Destination", ACS + "evil"), "Destination"),
        (lambda root: part(root, "SubjectConfirmationData").attrib.pop("Recipient"), "Recipient"),
        (
            lambda root: setattr(part(root, "Audience"), "text", "https://another.example"),
            "audience",
        ),
    ],
)
def test_an_arrival_outside_the_profile_is_refused(row, idp, refusals, bend, reason):
    page = post(web.browser(), unsolicited(idp, bend=bend))

    assert page.status_code == 403
    assert reason in refusals()[0][1]
    assert not Session.objects.exists()
    assert not ConsumedMessage.objects.exists()


def test_an_arrival_has_to_be_signed_as_the_settings_say(row, idp, refusals):
    page = post(web.browser(), unsolicited(idp, sign_response=False))

    assert page.status_code == 403
    assert "The response is not signed" in refusals()[0][1]

    row.response_signed = False
    services.save_provider(row, by=BY)

    assert arrive(web.browser(), unsolicited(idp, sign_response=False)).status_code == 200
    assert post(web.browser(), unsolicited(idp, sign_assertion=False)).status_code == 403


def test_an_arrival_of_another_providers_key_is_refused(row, idp, other_idp):
    other_idp_as_acme = type(other_idp)(entity_id=idp.entity_id)

    assert post(web.browser(), unsolicited(other_idp_as_acme)).status_code == 403
    assert not Session.objects.exists()


def test_a_signature_that_does_not_fit_is_refused(row, idp):
    root = etree.fromstring(base64.b64decode(unsolicited(idp)))
    value = next(root.iter(f"{{{DS}}}SignatureValue"))
    value.text = "AAAA" + value.text.strip()[4:]

    page = post(web.browser(), base64.b64encode(etree.tostring(root)).decode())

    assert page.status_code == 403
    assert not Session.objects.exists()


# --- The settings at the moment of the yes count


def test_switching_it_off_holds_for_who_is_being_asked(row, idp, refusals):
    browser = web.browser()
    arrive(browser, unsolicited(idp))
    row.idp_initiated = False
    row.save()

    assert say(browser, "yes").status_code == 403
    assert not web.is_signed_in(browser)
    assert refusals()[0][0] == "unsolicited"


def test_a_provider_that_is_switched_off_brings_nobody(row, idp, refusals):
    browser = web.browser()
    arrive(browser, unsolicited(idp))
    row.enabled = False
    row.save()

    assert say(browser, "yes").status_code == 403
    assert post(web.browser(), unsolicited(idp)).status_code == 403
    assert [code for code, _ in refusals()] == ["provider_disabled", "provider_disabled"]


def test_an_arrival_that_waited_too_long_is_gone(row, idp):
    browser = web.browser()
    arrive(browser, unsolicited(idp))
    Session.objects.update(expire_date=datetime.now(UTC))

    assert say(browser, "yes").status_code == 403


def test_a_session_that_the_provider_ended_meanwhile_does_not_begin(row, idp, refusals):
    browser = web.browser()
    arrive(browser, unsolicited(idp, session_index="s-5"))
    message = idp.logout_request(
        "https://daypass.test/saml/acme/sls/", name_id="u-maya", session_index="s-5"
    )
    web.call_back(
        web.browser(), idp.redirect("https://daypass.test/saml/acme/sls/", "SAMLRequest", message)
    )

    assert say(browser, "yes").status_code == 403
    assert not web.is_signed_in(browser)
    assert refusals()[0][0] == "signed_out_meanwhile"


def test_an_arrival_is_no_answer_and_an_answer_no_arrival(row, idp, refusals):
    arriving, answering = web.browser(), web.browser()
    arrive(arriving, unsolicited(idp))
    posted = post(answering, idp.answer(web.start(answering, "acme"), attributes=MAYA))
    assert posted.status_code == 302
    arrival = arriving.cookies["__Secure-daypass_arrival"].value
    answer = answering.cookies["__Secure-daypass_answer"].value
    arriving.cookies["__Secure-daypass_answer"] = arrival
    answering.cookies["__Secure-daypass_arrival"] = answer

    assert arriving.get("/saml/acme/acs/finish/", secure=True).status_code == 403
    assert say(answering, "yes").status_code == 403
    assert not Person.objects.exists()
    assert [code for code, _ in refusals()] == ["state_unknown", "state_unknown"]


def test_an_arrival_at_one_provider_is_nothing_at_another(row, idp, other_idp):
    other = services.create_provider_from_metadata(
        slug="other", name="Other", metadata_xml=other_idp.metadata, by=BY, enabled=True
    )
    other.idp_initiated = True
    other.save()
    browser = web.browser()
    arrive(browser, unsolicited(idp))

    page = browser.post("/saml/other/acs/confirm/", {"answer": "yes"}, secure=True)

    assert page.status_code == 403
    assert not web.is_signed_in(browser)


def test_of_eight_yeses_at_once_one_wins(together, idp):
    services.create_provider_from_metadata(
        slug="acme", name="Acme", metadata_xml=idp.metadata, by=BY, enabled=True
    ).__class__.objects.update(idp_initiated=True)
    first = web.browser()
    arrive(first, unsolicited(idp))
    cookies = first.cookies.output(header="", sep=";")

    def attempt():
        browser = web.browser()
        browser.cookies.load(cookies)
        return say(browser, "yes").status_code

    results = together(attempt, times=8)

    assert results.count(302) == 1
    assert AuditEvent.objects.filter(kind="sign_in.accepted").count() == 1


def test_of_eight_arrivals_at_once_one_is_asked(together, idp):
    services.create_provider_from_metadata(
        slug="acme", name="Acme", metadata_xml=idp.metadata, by=BY, enabled=True
    ).__class__.objects.update(idp_initiated=True)
    answer = unsolicited(idp)

    results = together(lambda: post(web.browser(), answer).status_code, times=8)

    assert results.count(302) == 1
    assert Session.objects.count() == 1
