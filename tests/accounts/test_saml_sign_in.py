"""Signing in with SAML, through the real views, with signatures made by another library."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.sessions.models import Session
from lxml import etree
from signxml import DigestAlgorithm, SignatureMethod

from accounts import services
from accounts.models import ConsumedMessage, Membership, Person
from accounts.rules import PRESETS, ClaimMap
from broker.audit.models import AuditEvent
from tests.accounts import web
from tests.accounts.conftest import BY
from tests.accounts.idp_saml import DS, SAML, SAMLP, SamlIdp, stamp

GOOD = {
    "uid": ["ada"],
    "displayName": ["Ada Lovelace"],
    "mail": ["ada@example.com"],
    "groups": ["aws-admins", "aws-readers"],
}


def part(root, name):
    return next(root.iter(f"{{{SAML}}}{name}"))


@pytest.fixture
def refused(saml_row, idp, refusals):
    """Sign in with one thing bent, and see it refused: quietly, without a session, with the reason in the log."""

    def check(reason: str, *, code: str = "saml_refused", **answer):
        browser = web.browser()
        page = web.saml_sign_in(browser, idp, **{"attributes": GOOD, **answer})

        assert page.status_code in (400, 403), page.status_code
        assert not web.is_signed_in(browser)
        assert not Person.objects.exists()
        told = refusals()
        assert [c for c, _ in told] == [code]
        assert reason in told[0][1]
        assert told[0][1] not in page.content.decode()
        return page

    return check


def test_a_signed_answer_signs_the_person_in(saml_row, idp):
    browser = web.browser()

    finished = web.saml_sign_in(browser, idp, attributes=GOOD)

    assert (finished.status_code, finished["Location"]) == (302, "/")
    assert web.is_signed_in(browser)
    ada = Person.objects.get()
    assert (ada.handle, ada.name, ada.email) == ("ada", "Ada Lovelace", "ada@example.com")
    assert (ada.provider, ada.subject) == (saml_row, "u-0001")


def test_every_value_of_the_groups_attribute_becomes_a_membership(saml_row, idp):
    web.saml_sign_in(web.browser(), idp, attributes=GOOD)

    keys = Membership.objects.values_list("group__key", flat=True)

    assert set(keys) == {"aws-admins", "aws-readers"}


def test_groups_are_taken_byte_for_byte(saml_row, idp):
    web.saml_sign_in(
        web.browser(), idp, attributes=GOOD | {"groups": [" aws-admins", "AWS-Admins"]}
    )

    keys = Membership.objects.values_list("group__key", flat=True)

    assert set(keys) == {" aws-admins", "AWS-Admins"}


def test_the_sign_in_is_recorded_with_what_ties_it_to_the_message(saml_row, idp):
    web.saml_sign_in(web.browser(), idp, attributes=GOOD, assertion_id="_the-assertion")

    event = AuditEvent.objects.get(kind="sign_in.accepted")

    assert event.data["groups"] == ["aws-admins", "aws-readers"]
    assert event.data["evidence"]["issued_id"] == "_the-assertion"
    assert len(event.data["evidence"]["sha256"]) == 64


def test_our_request_is_signed_and_names_our_own_address(saml_row, idp):
    url = web.start(web.browser(), "acme")

    request = idp.read(url)
    query = web.query(url)

    assert url.startswith(idp.sso_url)
    assert request.acs == "https://daypass.test/saml/acme/acs/"
    assert request.issuer == "https://daypass.test/saml/acme/metadata/"
    assert query["SigAlg"].endswith("#rsa-sha256")
    assert query["Signature"]
    assert "RelayState" not in url  # an empty one is signed by some and not verified by others


def test_our_metadata_is_there_before_the_providers(db):
    from accounts.models import IdentityProvider

    IdentityProvider.objects.create(slug="new", name="New", protocol="saml")

    answer = web.browser().get("/saml/new/metadata/", secure=True)
    root = etree.fromstring(answer.content)

    assert root.get("entityID") == "https://daypass.test/saml/new/metadata/"
    # A provider that takes the format from here sends an id that stays.
    formats = [element.text for element in root.iter("{*}NameIDFormat")]
    assert formats == ["urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"]
    assert root.get("validUntil") is None
    described = next(iter(root))
    assert described.get("WantAssertionsSigned") == described.get("AuthnRequestsSigned") == "true"


def test_a_provider_that_signs_only_the_assertion_needs_the_administrators_word(
    saml_row, idp, refused
):
    refused("The response is not signed", sign_response=False)
    saml_row.response_signed = False
    services.save_provider(saml_row, by=BY)

    browser = web.browser()
    web.saml_sign_in(browser, idp, attributes=GOOD, sign_response=False)

    assert web.is_signed_in(browser)


# --- Signatures


def test_an_unsigned_answer_is_refused(refused):
    refused("not signed", sign_assertion=False, sign_response=False)


def test_an_unsigned_assertion_in_a_signed_response_is_refused(refused):
    refused("The assertion is not signed", sign_assertion=False)


def test_a_signature_by_another_key_is_refused(refused, other_idp):
    refused("fits no certificate", key=other_idp.key)


def test_another_providers_whole_answer_is_refused(refused, other_idp, saml_row, idp, refusals):
    browser = web.browser()

    page = web.saml_sign_in(browser, other_idp, attributes=GOOD)

    assert page.status_code == 403
    assert not web.is_signed_in(browser)


def _tamper(answer: str, old: str, new: str) -> str:
    xml = base64.b64decode(answer).decode()
    assert old in xml
    return base64.b64encode(xml.replace(old, new).encode()).decode()


@pytest.mark.parametrize(
    ("old", "new"),
    [("u-0001", "u-0002"), ("aws-readers", "aws-owners"), ("Password", "Passwort")],
)
def test_what_was_changed_after_signing_is_refused(saml_row, idp, old, new):
    browser = web.browser()
    answer = idp.answer(web.start(browser, "acme"), attributes=GOOD)

    page = web.post_answer(browser, "acme", _tamper(answer, old, new))

    assert page.status_code == 403
    assert not web.is_signed_in(browser)


def test_a_comment_inside_a_name_is_refused(saml_row, idp, refusals):
    browser = web.browser()
    answer = idp.answer(web.start(browser, "acme"), attributes=GOOD, name_id="admin.evil")

    page = web.post_answer(browser, "acme", _tamper(answer, "admin.evil", "admin<!-- -->.evil"))

    assert page.status_code == 403
    assert "comment" in refusals()[0][1]


@pytest.mark.parametrize(
    "wrap",
    [
        # The signed assertion is moved aside and an unsigned one is put in its place.
        lambda root, signed, forged: (root.replace(signed, forged), forged.append(signed)),
        lambda root, signed, forged: root.insert(0, forged),
        lambda root, signed, forged: root.append(forged),
        lambda root, signed, forged: (
            root.replace(signed, forged),
            etree.SubElement(root, f"{{{SAMLP}}}Extensions").append(signed),
        ),
        lambda root, signed, forged: (
            root.replace(signed, forged),
            etree.SubElement(signed.find(f"{{{DS}}}Signature"), f"{{{DS}}}Object").append(signed),
        ),
    ],
)
def test_signature_wrapping_is_refused(saml_row, idp, wrap):
    from copy import deepcopy

    saml_row.response_signed = False
    services.save_provider(saml_row, by=BY)
    browser = web.browser()
    answer = idp.answer(
        web.start(browser, "acme"), attributes=GOOD, sign_response=False, name_id="mallory"
    )
    root = etree.fromstring(base64.b64decode(answer))
    signed = root.find(f"{{{SAML}}}Assertion")
    forged = deepcopy(signed)
    forged.set("ID", "_forged")
    forged.remove(forged.find(f"{{{DS}}}Signature"))
    part(forged, "NameID").text = "admin"
    try:
        wrap(root, signed, forged)
    except (ValueError, TypeError):
        root.append(forged)

    page = web.post_answer(browser, "acme", base64.b64encode(etree.tostring(root)).decode())

    assert page.status_code == 403
    assert not web.is_signed_in(browser)
    assert not Person.objects.exists()


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        (SignatureMethod.RSA_SHA224, DigestAlgorithm.SHA256),
        (SignatureMethod.RSA_SHA256, DigestAlgorithm.SHA224),
    ],
)
def test_weak_algorithms_are_refused(saml_row, idp, refusals, algorithm, digest):
    browser = web.browser()
    request = idp.read(web.start(browser, "acme"))
    signed = idp.sign(idp.build(request, attributes=GOOD), algorithm=algorithm, digest=digest)

    web.post_answer(browser, "acme", base64.b64encode(signed).decode())

    assert not web.is_signed_in(browser)
    assert "Let the provider sign with RSA or ECDSA and SHA-256 or stronger." in refusals()[0][1]


def test_a_second_reference_never_reaches_the_crypto_library(saml_row, idp, refusals):
    """libxmlsec follows references before the signature counts: one to a device would never return."""
    from copy import deepcopy

    browser = web.browser()
    root = etree.fromstring(base64.b64decode(idp.answer(web.start(browser, "acme"))))
    reference = next(root.iter(f"{{{DS}}}Reference"))
    second = deepcopy(reference)
    second.set("URI", "file:///dev/zero")
    reference.addnext(second)

    page = web.post_answer(browser, "acme", base64.b64encode(etree.tostring(root)).decode())

    assert page.status_code == 403
    assert "does not cover exactly" in refusals()[0][1]


# --- The profile


def at(name, attribute, value):
    def bend(root):
        element = root if name == "Response" else part(root, name)
        if value is None:
            element.attrib.pop(attribute)
        else:
            element.set(attribute, value() if callable(value) else value)

    return bend


def ago(**span):
    return lambda: stamp(datetime.now(UTC) - timedelta(**span))


def ahead(**span):
    return lambda: stamp(datetime.now(UTC) + timedelta(**span))


ACS = "https://daypass.test/saml/acme/acs/"


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (at("SubjectConfirmationData", "NotOnOrAfter", ago(minutes=2)), ""),
        (at("SubjectConfirmationData", "NotOnOrAfter", None), "NotOnOrAfter is missing"),
        (at("SubjectConfirmationData", "NotOnOrAfter", ahead(hours=3)), "more than an hour"),
        (at("SubjectConfirmationData", "NotBefore", ago(minutes=1)), "NotBefore"),
        (at("SubjectConfirmationData", "Recipient", None), "Recipient"),
        (at("SubjectConfirmationData", "Recipient", ACS + "evil"), "Recipient"),
        (at("SubjectConfirmationData", "Recipient", "https://evil.example/"), ""),
        (at("SubjectConfirmationData", "InResponseTo", None), "InResponseTo"),
        (at("SubjectConfirmationData", "InResponseTo", "_other"), ""),
        (at("Conditions", "NotOnOrAfter", ago(minutes=2)), "expired"),
        (at("Conditions", "NotBefore", ahead(minutes=2)), "not valid yet"),
        (at("Assertion", "IssueInstant", ago(minutes=10)), "issued at"),
        (at("Response", "IssueInstant", ago(minutes=10)), "issued at"),
        (at("Response", "IssueInstant", ahead(minutes=10)), "issued at"),
        (at("Response", "Destination", None), "Destination"),
        (at("Response", "Destination", ACS + "evil"), "Destination"),
        (at("AuthnStatement", "AuthnInstant", ahead(minutes=5)), "AuthnInstant"),
        (at("AuthnStatement", "SessionNotOnOrAfter", ago(minutes=5)), ""),
        (at("NameID", "SPNameQualifier", "https://another.example"), "SPNameQualifier"),
        (at("NameID", "NameQualifier", "https://another.example"), "NameQualifier"),
    ],
)
def test_an_answer_outside_the_profile_is_refused(refused, bend, reason):
    refused(reason, bend=bend)


def test_an_hour_by_a_clock_that_is_a_little_fast_is_an_hour(saml_row, idp):
    """Entra ID and Auth0 confirm for exactly an hour."""
    browser = web.browser()
    bend = at("SubjectConfirmationData", "NotOnOrAfter", ahead(hours=1, seconds=30))

    web.saml_sign_in(browser, idp, attributes=GOOD, bend=bend)

    assert web.is_signed_in(browser)


def _no_audience(root):
    conditions = part(root, "Conditions")
    conditions.remove(part(root, "AudienceRestriction"))


def _second_audience(root):
    restriction = etree.SubElement(part(root, "Conditions"), f"{{{SAML}}}AudienceRestriction")
    etree.SubElement(restriction, f"{{{SAML}}}Audience").text = "https://another.example"


def _proxy(root):
    etree.SubElement(part(root, "Conditions"), f"{{{SAML}}}ProxyRestriction", Count="0")


def _no_issuer(root):
    root.remove(root.find(f"{{{SAML}}}Issuer"))


def _other_issuer(root):
    part(root.find(f"{{{SAML}}}Assertion"), "Issuer").text = "https://another.example"


def _sub_status(root):
    code = next(root.iter(f"{{{SAMLP}}}StatusCode"))
    etree.SubElement(
        code, f"{{{SAMLP}}}StatusCode", Value="urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"
    )


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (_no_audience, "no audience"),
        (_second_audience, "another audience"),
        (_proxy, "a condition that Daypass cannot keep"),
        (_other_issuer, ""),
        (_sub_status, ""),
    ],
)
def test_an_answer_with_other_parts_is_refused(refused, bend, reason):
    refused(reason, bend=bend)


def test_an_answer_for_another_service_is_refused(refused):
    refused("audience", audience="https://another.example/metadata")


def test_a_missing_issuer_of_the_response_is_refused(saml_row, idp, refusals):
    saml_row.response_signed = False
    services.save_provider(saml_row, by=BY)
    browser = web.browser()

    web.saml_sign_in(browser, idp, attributes=GOOD, bend=_no_issuer, sign_response=False)

    assert not web.is_signed_in(browser)
    assert "Issuer" in refusals()[0][1]


def test_the_providers_own_no_is_told_to_administrators(refused):
    def bend(root):
        next(root.iter(f"{{{SAMLP}}}StatusCode")).set(
            "Value", "urn:oasis:names:tc:SAML:2.0:status:Responder"
        )

    refused("did not sign the person in: Responder", code="provider_said_no", bend=bend)


# --- Once, and only when asked


def test_an_answer_is_taken_once(saml_row, idp, refusals):
    browser = web.browser()
    answer = idp.answer(web.start(browser, "acme"), attributes=GOOD)
    web.post_answer(browser, "acme", answer)
    session = browser.session.session_key

    again = web.post_answer(web.browser(), "acme", answer)
    going_back = web.post_answer(browser, "acme", answer)

    assert again.status_code == 403
    assert refusals()[0][0] == "replayed"
    assert going_back["Location"] == "/"
    assert browser.session.session_key == session
    assert AuditEvent.objects.filter(kind="sign_in.accepted").count() == 1


def test_an_answer_is_of_no_use_in_another_browser(saml_row, idp, refusals):
    answer = idp.answer(web.start(web.browser(), "acme"), attributes=GOOD)
    thief = web.browser()

    page = web.post_answer(thief, "acme", answer)

    assert page.status_code == 403
    assert not web.is_signed_in(thief)
    assert refusals()[0][0] == "state_unknown"


def test_an_answer_that_nobody_asked_for_is_refused_and_not_kept(saml_row, idp, refusals):
    url = web.start(web.browser(), "acme")
    Session.objects.all().delete()

    def unsolicited(root):
        root.attrib.pop("InResponseTo")

    page = web.browser().post(
        "/saml/acme/acs/", {"SAMLResponse": idp.answer(url, bend=unsolicited)}, secure=True
    )

    assert page.status_code == 403
    assert refusals()[0][0] == "unsolicited"
    assert not Session.objects.exists()


def test_an_answer_to_another_providers_request_is_refused(saml_row, idp, other_idp):
    services.create_provider_from_metadata(
        slug="other", name="Other", metadata_xml=other_idp.metadata, by=BY, enabled=True
    )
    browser = web.browser()
    answer = idp.answer(web.start(browser, "other"), attributes=GOOD)

    at_acme = web.post_answer(browser, "acme", answer)
    at_other = web.post_answer(browser, "other", answer)

    assert (at_acme.status_code, at_other.status_code) == (403, 403)
    assert not web.is_signed_in(browser)


def test_an_assertion_id_is_taken_once_even_for_another_request(saml_row, idp, refusals):
    web.saml_sign_in(web.browser(), idp, attributes=GOOD, assertion_id="_same")
    browser = web.browser()

    web.saml_sign_in(browser, idp, attributes=GOOD, assertion_id="_same")

    assert not web.is_signed_in(browser)
    assert refusals()[0][0] == "replayed"


def test_of_eight_posts_at_once_one_wins(together, idp):
    services.create_provider_from_metadata(
        slug="acme", name="Acme", metadata_xml=idp.metadata, by=BY, enabled=True
    )
    first = web.browser()
    answer = idp.answer(web.start(first, "acme"), attributes=GOOD)
    cookies = first.cookies.output(header="", sep=";")

    def attempt() -> int:
        browser = web.browser()
        browser.cookies.load(cookies)
        return web.post_answer(browser, "acme", answer).status_code

    results = together(attempt, times=8)

    assert results.count(302) == 1
    assert set(results) <= {302, 400, 403}
    assert AuditEvent.objects.filter(kind="sign_in.accepted").count() == 1
    assert Person.objects.count() == 1
    assert ConsumedMessage.objects.count() == 2


# --- Junk


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "not base64 ***",
        base64.b64encode(b"not xml").decode(),
        base64.b64encode(b"<a/>").decode(),
        base64.b64encode(b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>').decode(),
        base64.b64encode(b"\xff\xfe<a/>").decode(),
        base64.b64encode(b"<a>" * 20000).decode(),
        base64.b64encode(b"<a>" * 100 + b"</a>" * 100).decode(),
        "A" * 250_000,
        base64.b64encode(f'<p:Response xmlns:p="{SAMLP}" InResponseTo="_x"/>'.encode()).decode(),
    ],
)
def test_junk_is_answered_quietly_and_leaves_nothing(saml_row, junk):
    page = web.browser().post("/saml/acme/acs/", {"SAMLResponse": junk}, secure=True)

    assert page.status_code in (400, 403)
    assert not Session.objects.exists()
    assert web.reference_of(page)


def test_a_post_that_is_too_long_is_refused_before_it_is_read(saml_row):
    page = web.browser().post("/saml/acme/acs/", {"SAMLResponse": "A" * 3_000_000}, secure=True)

    assert page.status_code == 413
    assert not Session.objects.exists()


def test_the_finishing_page_alone_does_nothing(saml_row):
    page = web.browser().get("/saml/acme/acs/finish/", secure=True)

    assert page.status_code == 403


@pytest.mark.parametrize("path", ["acs/", "acs/finish/", "sls/", "metadata/"])
def test_an_unknown_provider_is_not_found(db, path):
    method = web.browser().post if path == "acs/" else web.browser().get

    assert method(f"/saml/nobody/{path}", secure=True).status_code == 404


# --- Who somebody is


@pytest.mark.parametrize("name_id", [" u-1", "u-1 ", "  ", "ﬁ", "a\u200bb", "x" * 256])
def test_a_subject_that_could_be_mistaken_is_refused(refused, name_id):
    refused("The id of the person", code="subject_unusable", name_id=name_id)


def test_a_transient_name_is_nobody(refused):
    def bend(root):
        part(root, "NameID").set("Format", "urn:oasis:names:tc:SAML:2.0:nameid-format:transient")

    refused("the NameID is transient", code="subject_unusable", bend=bend)


def test_the_subject_may_be_an_attribute_and_then_nothing_stands_in_for_it(saml_row, idp):
    saml_row.claim_map = {"subject": ["employeeNumber"], "username": ["uid"]}
    services.save_provider(saml_row, by=BY)
    without, having = web.browser(), web.browser()

    web.saml_sign_in(without, idp, attributes=GOOD)
    web.saml_sign_in(having, idp, attributes=GOOD | {"employeeNumber": ["4711"]})

    assert not web.is_signed_in(without)
    assert web.is_signed_in(having)
    assert Person.objects.get().subject == "4711"


def test_the_same_name_at_two_providers_is_two_people(saml_row, idp, other_idp):
    services.create_provider_from_metadata(
        slug="other", name="Other", metadata_xml=other_idp.metadata, by=BY, enabled=True
    )

    web.saml_sign_in(web.browser(), idp, attributes=GOOD)
    web.saml_sign_in(web.browser(), other_idp, "other", attributes=GOOD)

    people = Person.objects.order_by("created_at")
    assert [p.handle for p in people] == ["ada", "ada-2"]
    assert people[0].email == people[1].email
    assert set(Membership.objects.values_list("person__handle", "group__provider__slug")) == {
        ("ada", "acme"),
        ("ada-2", "other"),
    }


def test_distinguished_names_become_common_names(saml_row, idp):
    saml_row.claim_map = ClaimMap(
        groups=("memberOf",), groups_form=PRESETS["saml"].groups_form.DISTINGUISHED_NAMES
    ).to_json()
    services.save_provider(saml_row, by=BY)

    web.saml_sign_in(
        web.browser(),
        idp,
        attributes={"memberOf": [r"CN=Cloud\, Admins,OU=Groups,DC=example,DC=com", "cn=devs,dc=x"]},
    )

    keys = Membership.objects.values_list("group__key", flat=True)
    assert set(keys) == {"Cloud, Admins", "devs"}


def test_entras_overage_is_explained_to_administrators(saml_row, idp, refusals):
    saml_row.claim_map = PRESETS["entra-saml"].to_json() | {"subject": []}
    services.save_provider(saml_row, by=BY)
    browser = web.browser()

    page = web.saml_sign_in(
        browser,
        idp,
        attributes={"http://schemas.microsoft.com/claims/groups.link": ["https://graph/…"]},
    )

    assert page.status_code == 403
    code, reason = refusals()[0]
    assert code == "groups_overage"
    assert "assigned to the application" in reason


def test_multi_factor_counts_when_the_claim_map_says_so(saml_row, idp):
    browser = web.browser()

    web.saml_sign_in(browser, idp, attributes=GOOD, context="https://refeds.org/profile/mfa")

    assert browser.session["daypass"]["proof"]["mfa"] is True


def test_a_password_alone_is_not_multi_factor(saml_row, idp):
    browser = web.browser()

    web.saml_sign_in(browser, idp, attributes=GOOD)

    assert browser.session["daypass"]["proof"]["mfa"] is False


def test_a_provider_that_is_switched_off_lets_nobody_in(saml_row, idp, refusals):
    browser = web.browser()
    url = web.start(browser, "acme")
    saml_row.enabled = False
    saml_row.save()

    page = web.post_answer(browser, "acme", idp.answer(url, attributes=GOOD))

    assert page.status_code == 403
    assert refusals()[0][0] == "provider_disabled"
    assert web.browser().post("/sign-in/acme/", secure=True).status_code == 404


def test_the_administrator_finds_the_reason_by_the_number_on_the_page(saml_row, idp):
    page = web.saml_sign_in(web.browser(), idp, sign_assertion=False)

    event = AuditEvent.objects.get(reference=web.reference_of(page))

    assert "The assertion is not signed" in event.data["reason"]


def test_a_new_idp_can_be_made_for_each_test():
    assert SamlIdp().certificate != SamlIdp().certificate
