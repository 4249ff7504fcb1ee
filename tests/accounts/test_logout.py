"""The provider ends sessions: by what it calls them, wherever they are, once a message, and nobody else's."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import quote, urlsplit

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from lxml import etree
from signxml import DigestAlgorithm, SignatureMethod

from accounts import events, services
from accounts.browser import line_of
from accounts.events import LinesOver, SignedOut
from accounts.models import Person, ProviderSession, RelayedToken
from broker.audit.models import AuditEvent
from tests.accounts import web
from tests.accounts.conftest import BY
from tests.accounts.idp_saml import SAML, SAMLP
from tests.accounts.test_sessions_of_browsers import age

SLS = "https://daypass.test/saml/acme/sls/"
ATTRIBUTES = {"uid": ["ada"], "groups": ["readers"]}
HOW = "signed out at the provider"


def signed_in(idp, slug="acme", **answer):
    browser = web.browser()
    web.saml_sign_in(browser, idp, slug, attributes=ATTRIBUTES, **answer)
    assert web.is_signed_in(browser)
    return browser


def request(idp, *, name_id="u-0001", indexes=("s-1",), qualifiers=None):
    """A signed LogoutRequest as the address that brings it here."""
    root = etree.fromstring(idp.logout_request(SLS, name_id=name_id))
    for index in root.findall(f"{{{SAMLP}}}SessionIndex"):
        root.remove(index)
    for index in indexes:
        etree.SubElement(root, f"{{{SAMLP}}}SessionIndex").text = index
    for name, value in (qualifiers or {}).items():
        root.find(f"{{{SAML}}}NameID").set(name, value)
    return idp.redirect(SLS, "SAMLRequest", etree.tostring(root))


def endings(handle="ada"):
    events = AuditEvent.objects.filter(kind="sign_in.ended", actor=handle)
    return list(events.values_list("data__how", flat=True))


def test_a_session_is_known_by_what_its_provider_calls_it(saml_row, idp):
    browser = signed_in(idp)

    noted = ProviderSession.objects.get()

    assert noted.session_key == browser.session.session_key
    assert (noted.provider, noted.person) == (saml_row, Person.objects.get())
    assert noted.subject_digest and noted.index_digest
    assert timedelta(hours=9) < noted.expires_at - timezone.now() <= timedelta(hours=10)


def test_a_session_of_openid_connect_is_known_by_subject_and_sid(oidc_row, op):
    op.bend_claims = lambda claims: claims.update(sid="at-the-provider")
    browser = web.browser()
    web.oidc_sign_in(browser, op)

    ended = services.end_by_provider(
        oidc_row, subject=None, index="at-the-provider", how=HOW, now=timezone.now()
    )

    assert ended == 1
    assert not web.is_signed_in(browser)


def test_the_provider_ends_a_session_without_the_browsers_cookie(saml_row, idp):
    """In a frame of the provider's page no cookie of ours comes along."""
    browser = signed_in(idp)

    answer = web.call_back(web.browser(), request(idp))

    assert answer["Location"].startswith(idp.slo_url)
    assert not web.is_signed_in(browser)
    assert browser.get("/", secure=True)["Location"].startswith("/sign-in/")
    assert not ProviderSession.objects.exists()
    assert not UserSession.objects.exists()
    assert endings() == [HOW]


def test_the_browser_that_carries_the_request_is_signed_out_cleanly(saml_row, idp):
    browser = signed_in(idp)

    answer = web.call_back(browser, request(idp))

    assert answer.status_code == 302
    assert browser.cookies["__Host-daypass_session"].value == ""
    assert endings() == [HOW]


def test_several_indexes_end_those_sessions_and_no_other(saml_row, idp):
    first, second, third = (signed_in(idp, session_index=f"s-{n}") for n in (1, 2, 3))

    web.call_back(web.browser(), request(idp, indexes=("s-1", "s-3", "s-9")))

    assert [web.is_signed_in(b) for b in (first, second, third)] == [False, True, False]
    assert endings() == [HOW, HOW]


def test_without_an_index_all_sessions_of_the_name_end(saml_row, idp):
    hers = [signed_in(idp, session_index=f"s-{n}") for n in (1, 2)]
    his = signed_in(idp, name_id="u-0002")

    web.call_back(web.browser(), request(idp, indexes=()))

    assert not any(web.is_signed_in(browser) for browser in hers)
    assert web.is_signed_in(his)


def test_an_index_of_one_person_ends_nothing_of_another(saml_row, idp):
    browser = signed_in(idp, session_index="s-1")

    web.call_back(web.browser(), request(idp, name_id="u-0002", indexes=("s-1",)))

    assert web.is_signed_in(browser)


@pytest.mark.parametrize("indexes", [("",), ("s-1", ""), tuple(f"s-{n}" for n in range(300))])
def test_an_index_that_names_nothing_does_not_stand_for_all(saml_row, idp, indexes):
    browser = signed_in(idp, session_index="other")

    answer = web.call_back(web.browser(), request(idp, indexes=indexes))

    assert answer.status_code == 403
    assert web.is_signed_in(browser)


@pytest.mark.parametrize("qualifier", ["NameQualifier", "SPNameQualifier"])
def test_a_name_that_is_qualified_by_somebody_else_ends_nothing(saml_row, idp, refusals, qualifier):
    browser = signed_in(idp)

    answer = web.call_back(browser, request(idp, qualifiers={qualifier: "https://another.example"}))

    assert answer.status_code == 403
    assert web.is_signed_in(browser)
    assert qualifier in refusals()[0][1]


def test_our_own_qualifiers_are_understood(saml_row, idp):
    browser = signed_in(idp)
    own = {
        "NameQualifier": idp.entity_id,
        "SPNameQualifier": "https://daypass.test/saml/acme/metadata/",
    }

    web.call_back(browser, request(idp, qualifiers=own))

    assert not web.is_signed_in(browser)


def test_another_provider_ends_nothing_of_this_one(saml_row, idp, other_idp):
    services.create_provider_from_metadata(
        slug="other", name="Other", metadata_xml=other_idp.metadata, by=BY, enabled=True
    )
    browser = signed_in(idp)
    there = SLS.replace("acme", "other")
    message = other_idp.logout_request(there, name_id="u-0001")

    answer = web.call_back(browser, other_idp.redirect(there, "SAMLRequest", message))

    assert answer.status_code == 302
    assert web.is_signed_in(browser)


def test_a_logout_request_is_taken_once(saml_row, idp, refusals):
    url = request(idp)
    signed_in(idp)
    first = web.call_back(web.browser(), url)
    later = signed_in(idp)

    again = web.call_back(web.browser(), url)

    assert (first.status_code, again.status_code) == (302, 403)
    assert web.is_signed_in(later)
    assert [code for code, _ in refusals()] == ["replayed"]


def test_the_answer_to_our_own_logout_is_taken_once(saml_row, idp, refusals):
    browser = signed_in(idp)
    asked = idp.read(web.destination(browser.post("/sign-out/", secure=True)))
    message = idp.logout_response(SLS, in_response_to=asked.id)
    url = idp.redirect(SLS, "SAMLResponse", message, relay="https://evil.example/")

    first, again = web.call_back(browser, url), web.call_back(browser, url)

    assert first["Location"] == "/signed-out/"
    assert again.status_code == 403
    assert [code for code, _ in refusals()] == ["replayed"]


def test_an_answer_to_no_request_of_ours_is_refused(saml_row, idp):
    url = idp.redirect(SLS, "SAMLResponse", idp.logout_response(SLS, in_response_to="_made-up"))

    assert web.call_back(web.browser(), url).status_code == 403


def test_a_relay_state_leads_nowhere(saml_row, idp):
    signed_in(idp)
    root = idp.logout_request(SLS, name_id="u-0001")
    url = idp.redirect(SLS, "SAMLRequest", root, relay="https://evil.example/")

    answer = web.call_back(web.browser(), url)

    assert answer["Location"].startswith(idp.slo_url)
    assert web.query(answer["Location"])["RelayState"] == "https://evil.example/"


def test_a_provider_without_a_logout_address_gets_no_answer(saml_row, idp):
    saml_row.slo_url = ""
    services.save_provider(saml_row, by=BY)
    browser = signed_in(idp)

    answer = web.call_back(browser, request(idp))

    assert answer["Location"] == "/signed-out/"
    assert not web.is_signed_in(browser)


def test_signing_out_here_is_noted(saml_row, idp):
    browser = signed_in(idp)

    browser.post("/sign-out/", secure=True)

    assert not ProviderSession.objects.exists()
    assert not UserSession.objects.exists()
    assert endings() == ["signed out"]


def test_a_session_that_reached_its_limit_is_noted_no_longer(saml_row, idp):
    browser = signed_in(idp)
    session = browser.session
    session["daypass"] = {**session["daypass"], "began": 0}
    session.save()

    browser.get("/", secure=True)

    assert not ProviderSession.objects.exists()


def test_what_is_known_of_dead_sessions_is_cleared(saml_row, idp):
    signed_in(idp)
    alive = signed_in(idp)
    key = alive.session.session_key
    old = ProviderSession.objects.exclude(session_key=key)
    old.update(expires_at=timezone.now() - timedelta(minutes=1))

    cleared = services.clear_expired(now=timezone.now())

    assert cleared["sessions"] == 1
    assert ProviderSession.objects.get().session_key == key
    assert UserSession.objects.get().session_key == key


def test_a_session_that_no_provider_vouches_for_is_cleared_with_its_row(saml_row, idp):
    key = signed_in(idp).session.session_key
    ProviderSession.objects.all().delete()
    Session.objects.filter(session_key=key).update(expire_date=timezone.now() - timedelta(hours=1))

    services.clear_expired(now=timezone.now())

    assert not UserSession.objects.exists()


def test_signing_in_costs_the_same_however_many_sessions_a_person_has(saml_row, idp):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            signed_in(idp)
        return len(captured)

    signed_in(idp)
    few = queries()
    for _ in range(5):
        signed_in(idp)

    assert queries() == few


def test_a_sign_in_that_was_under_way_ends_with_the_session_it_was_for(saml_row, idp, refusals):
    """SAML core 3.7.3.2: a logout holds for an assertion that comes in after it."""
    browser = web.browser()
    answer = idp.answer(web.start(browser, "acme"), attributes=ATTRIBUTES, session_index="s-7")
    web.call_back(web.browser(), request(idp, indexes=("s-7",)))

    page = web.post_answer(browser, "acme", answer)

    assert page.status_code == 403
    assert not web.is_signed_in(browser)
    assert not Session.objects.exists()
    assert refusals()[0][0] == "signed_out_meanwhile"


def test_who_was_signed_out_can_sign_in_again_at_once(saml_row, idp):
    signed_in(idp)
    web.call_back(web.browser(), request(idp, indexes=()))

    assert web.is_signed_in(signed_in(idp))


@contextmanager
def heard(*kinds: type) -> Iterator[list[object]]:
    """What is announced meanwhile, of these kinds, in order."""
    told: list[object] = []
    for kind in kinds:
        events.subscribe(kind, told.append, name=f"test {kind.__name__}")
    try:
        yield told
    finally:
        for kind in kinds:
            events._announced.disconnect(sender=kind, dispatch_uid=f"test {kind.__name__}")


def test_the_lines_of_all_browsers_that_end_are_told_of_before_any_sign_out(saml_row, idp):
    """Whoever ends what hangs on a line locks that first and the audit log afterwards."""
    lines = {line_of(signed_in(idp).session) for _ in range(3)}

    with heard(LinesOver, SignedOut) as told:
        web.call_back(web.browser(), request(idp, indexes=()))

    first, *others = told
    assert isinstance(first, LinesOver)
    assert set(first.lines) == lines
    assert len(lines) == 3
    assert [type(one) for one in others] == [SignedOut] * 3


def test_what_was_let_in_from_a_browser_that_was_left_alone_is_meant_by_the_providers_word(
    saml_row, idp
):
    browser = signed_in(idp)
    line = line_of(browser.session)
    RelayedToken.objects.create(
        session=ProviderSession.objects.get(), reference="x", sealed="x", expires_at=timezone.now()
    )
    age(browser, seen=timedelta(hours=3))
    browser.get("/", secure=True)
    assert endings() == ["idle"]
    assert not RelayedToken.objects.exists()

    with heard(LinesOver) as told:
        web.call_back(web.browser(), request(idp))

    assert [one.lines for one in told] == [(line,)]
    assert endings() == ["idle"]
    assert not ProviderSession.objects.exists()


def test_who_signed_out_is_not_meant_by_the_providers_word_any_more(saml_row, idp):
    browser = signed_in(idp)
    browser.post("/sign-out/", secure=True)

    with heard(LinesOver) as told:
        web.call_back(web.browser(), request(idp))

    assert told == []


def test_naming_nobody_and_nothing_ends_nothing(saml_row, idp):
    browser = signed_in(idp)

    ended = services.end_by_provider(
        saml_row, subject=None, index=None, how=HOW, now=timezone.now()
    )

    assert ended == 0
    assert web.is_signed_in(browser)


def test_one_message_at_the_same_moment_eight_times_is_one_logout(together, idp):
    services.create_provider_from_metadata(
        slug="acme", name="Acme", metadata_xml=idp.metadata, by=BY, enabled=True
    )
    signed_in(idp)
    url = request(idp)

    results = together(lambda: web.call_back(web.browser(), url).status_code, times=8)

    assert results.count(302) == 1
    assert results.count(403) == 7
    assert endings() == [HOW]


@pytest.mark.parametrize("name", ["SAML%52equest", "%53AMLRequest", "SAMLReques%74"])
def test_a_message_under_an_encoded_name_does_not_stand_in_for_the_signed_one(saml_row, idp, name):
    """The signature is over the query as it was sent; what is read has to be what was signed."""
    browser = signed_in(idp)
    signed = request(idp, name_id="u-0002")
    forged = web.query(request(idp, name_id="u-0001"))["SAMLRequest"]

    answer = web.call_back(browser, f"{signed}&{name}={quote(forged, safe='')}")

    assert answer.status_code == 403
    assert web.is_signed_in(browser)


def test_a_request_and_an_answer_in_one_message_are_refused(saml_row, idp):
    browser = signed_in(idp)
    signed = request(idp)

    for more in ("SAMLResponse=x", "SAML%52esponse=x", "SAMLEncoding=x", "other=x"):
        assert web.call_back(browser, f"{signed}&{more}").status_code == 403
        assert web.is_signed_in(browser)


def test_who_sees_a_refused_sign_out_is_told_what_to_do(saml_row, idp, refusals):
    browser = signed_in(idp)

    page = web.call_back(browser, SLS + "?SAMLRequest=junk")

    text = page.content.decode()
    assert page.status_code == 403
    assert "This sign-out was not accepted" in text
    assert "if you are still signed in, sign out there" in text
    assert web.reference_of(page)
    assert refusals()[0][1] not in text


# --- Posted


def posted(idp, *, key, name_id="u-0001"):
    """A LogoutRequest for a form, signed inside where there is a key."""
    root = etree.fromstring(idp.logout_request(SLS, name_id=name_id))
    if key is not None:
        root = idp._sign(root, key, SignatureMethod.RSA_SHA256, DigestAlgorithm.SHA256)
    return base64.b64encode(etree.tostring(root)).decode()


def post(browser, **fields):
    return browser.post("/saml/acme/sls/", fields, secure=True)


def test_a_posted_logout_request_ends_the_session_it_names_once(saml_row, idp, refusals):
    browser = signed_in(idp)
    message = posted(idp, key=idp.key)

    answer = post(web.browser(), SAMLRequest=message, RelayState="r")
    again = post(web.browser(), SAMLRequest=message)

    assert answer["Location"].startswith(idp.slo_url)
    assert web.query(answer["Location"])["RelayState"] == "r"
    assert not web.is_signed_in(browser)
    assert again.status_code == 403
    assert refusals()[0][0] == "replayed"


def test_a_posted_logout_request_without_the_providers_signature_ends_nothing(
    saml_row, idp, other_idp
):
    browser = signed_in(idp)

    for key in (None, other_idp.key):
        assert post(browser, SAMLRequest=posted(idp, key=key)).status_code == 403
    assert web.is_signed_in(browser)


def test_a_form_with_several_logout_messages_ends_nothing(saml_row, idp):
    browser = signed_in(idp)
    message = posted(idp, key=idp.key)

    assert post(browser, SAMLRequest=[message, message]).status_code == 403
    assert post(browser, SAMLRequest=message, SAMLResponse=message).status_code == 403
    assert web.is_signed_in(browser)


def test_a_query_is_no_signature_for_what_is_posted(saml_row, idp):
    browser = signed_in(idp)
    query = urlsplit(request(idp)).query

    answer = browser.post(
        f"/saml/acme/sls/?{query}", {"SAMLRequest": posted(idp, key=None)}, secure=True
    )

    assert answer.status_code == 403
    assert web.is_signed_in(browser)
