"""The assertion of a company's own AWS application: asked for here, passed on as it is, and read as entitlements."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.utils import timezone
from lxml import etree

from accounts import relay, services, tasks, throttle
from accounts.models import ConsumedMessage, ProviderSession, RelayApplication, RelayedAssertion
from accounts.services.relaying import relay_reference
from accounts.throttle import Count
from broker.audit.models import AuditEvent
from broker.entitlements import queries
from broker.entitlements.drafts import FieldErrors, RoleDraft
from broker.entitlements.services import register_role
from broker.errors import BadInput, KeyUnavailable
from broker.sessions.models import Session
from tests import factories as make
from tests.accounts import web
from tests.accounts.conftest import BY
from tests.accounts.idp_saml import SAML, Request, SamlIdp, stamp
from tests.relay.conftest import keys_given, keys_shown
from tests.strict_sts import Refusal, StrictRole, StrictSts

AWS = "https://signin.aws.amazon.com/saml"
DOOR = "https://daypass.test/saml/acme/aws/"
PROVIDER_ARN = "arn:aws:iam::111122223333:saml-provider/Acme"
DEVELOPER = "arn:aws:iam::111122223333:role/Developer"
READER = "arn:aws:iam::111122223333:role/Reader"
ASSUMED = "arn:aws:sts::111122223333:assumed-role/Developer/ada@example.com"
ROLE = "https://aws.amazon.com/SAML/Attributes/Role"
NAME = "https://aws.amazon.com/SAML/Attributes/RoleSessionName"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Federated": PROVIDER_ARN},
            "Action": "sts:AssumeRoleWithSAML",
            "Condition": {"StringEquals": {"SAML:aud": AWS}},
        }
    ],
}


@pytest.fixture(scope="session")
def aws_app() -> SamlIdp:
    """The AWS application at the same company: an entity id and a key of its own, as Okta gives each application."""
    return SamlIdp(entity_id="https://idp.example/aws-application")


class Application:
    """What the application's page does: it makes the browser post a response for AWS to the door."""

    def __init__(self, made: SamlIdp) -> None:
        self.made = made

    def element(
        self,
        *,
        name_id: str = "u-0001",
        roles: Sequence[str] = (f"{DEVELOPER},{PROVIDER_ARN}",),
        attributes: Mapping[str, Sequence[str]] | None = None,
        audience: str = "urn:amazon:webservices",
        recipient: str = AWS,
        destination: str = AWS,
        now: datetime | None = None,
        answers: str = "",
    ) -> etree._Element:
        request = Request(answers or "x", audience, recipient, None, False, b"", "")
        root = self.made.build(
            request,
            name_id=name_id,
            attributes={ROLE: roles, NAME: ["ada@example.com"], **(attributes or {})},
            destination=destination,
            now=now,
        )
        if not answers:
            for element in root.iter():
                element.attrib.pop("InResponseTo", None)
        return root

    def answer(self, *, bend: Any = None, key: Any = None, **claims: Any) -> str:
        root = self.element(**claims)
        if bend:
            bend(root)
        return base64.b64encode(self.made.sign(root, response=False, key=key)).decode()


@pytest.fixture
def app(aws_app) -> Application:
    return Application(aws_app)


@pytest.fixture
def application(saml_row, aws_app):
    return services.save_application(
        saml_row,
        start_url="https://idp.example/start/aws",
        metadata_xml=aws_app.metadata,
        by=BY,
    )


@pytest.fixture
def account(db):
    return make.account("Payments", account_id="111122223333", region="eu-west-1")


@pytest.fixture
def role(account, application, saml_row):
    return make.role("Developer", of=account, trust="relayed_assertion", relay_provider=saml_row)


@pytest.fixture
def aws(aws_app, settings):
    with StrictSts() as sts:
        sts.saml_providers[PROVIDER_ARN] = aws_app.metadata
        sts.roles[DEVELOPER] = StrictRole(trust_policy=TRUST)
        sts.roles[READER] = StrictRole(trust_policy=TRUST)
        settings.DAYPASS_STS_ENDPOINT = sts.url
        yield sts


@pytest.fixture
def ada(saml_row, idp, role):
    """A browser in which Ada is signed in at Acme."""
    browser = web.browser()
    answer = web.saml_sign_in(browser, idp, attributes={"uid": ["ada"]})
    assert answer.status_code == 302 and web.is_signed_in(browser)
    return browser


def ask(browser, *, to: str = "") -> str:
    """Ask for an answer for AWS; the address of the application's page."""
    fields = {"to": to} if to else {}
    return web.destination(browser.post("/relay/acme/", fields, secure=True))


def bring(browser, message: str):
    """The provider's page posts across sites, so the session cookie stays behind; then the browser follows."""
    jar, session = browser.cookies, browser.cookies.pop(django_settings.SESSION_COOKIE_NAME, None)
    posted = browser.post("/saml/acme/aws/", {"SAMLResponse": message}, secure=True)
    if session is not None:
        jar[django_settings.SESSION_COOKIE_NAME] = session.value
    if posted.status_code != 302:
        return posted
    return browser.get(posted["Location"], secure=True)


def relayed(browser, message: str):
    ask(browser)
    answer = bring(browser, message)
    assert answer.status_code == 302, answer.content.decode()
    return answer


def keys(browser, role):
    return browser.post(f"/keys/{role.pk}/", secure=True)


# --- The whole way


def test_the_very_response_opens_the_role_in_aws(ada, app, aws, role):
    message = app.answer()

    assert ask(ada) == "https://idp.example/start/aws"
    assert bring(ada, message)["Location"] == "/"
    answer = keys(ada, role)

    assert answer.status_code == 200, answer.content.decode()
    (call,) = aws.requests
    assert call.action == "AssumeRoleWithSAML"
    assert call.form["SAMLAssertion"] == message
    assert call.form["PrincipalArn"] == PROVIDER_ARN
    session = Session.objects.get()
    assert (session.state, session.mapping, session.source_identity) == ("active", None, "")
    assert session.assumed_role_arn.endswith("/ada@example.com")


@pytest.mark.parametrize("order", ["role first", "provider first"])
def test_the_role_attribute_may_name_the_two_in_either_order(ada, app, aws, role, order):
    pair = (DEVELOPER, PROVIDER_ARN) if order == "role first" else (PROVIDER_ARN, DEVELOPER)

    relayed(ada, app.answer(roles=[",".join(pair)]))

    assert keys(ada, role).status_code == 200


def test_one_answer_opens_every_role_that_it_lists_and_no_other(
    ada,
    app,
    aws,
    role,
    account,
    saml_row,
):
    reader = make.role("Reader", of=account, trust="relayed_assertion", relay_provider=saml_row)
    other = make.role("Other", of=account, trust="relayed_assertion", relay_provider=saml_row)

    relayed(ada, app.answer(roles=[f"{DEVELOPER},{PROVIDER_ARN}", f"{READER},{PROVIDER_ARN}"]))

    assert keys(ada, role).status_code == keys(ada, reader).status_code == 200
    assert keys(ada, other).status_code == 404
    assert AuditEvent.objects.get(kind="role.refused").data["code"] == "not_asserted"


def test_a_role_leads_to_the_provider_and_back_to_itself(ada, app, aws, role):
    page = ada.get("/go/111122223333/Developer/", secure=True)
    assert page.status_code == 200
    refused = ada.post(f"/console/{role.pk}/", secure=True)
    assert refused.status_code == 403
    tree = etree.HTML(refused.content.decode())
    (form,) = tree.xpath("//form[@action='/relay/acme/']")
    to = form.xpath(".//input[@name='to']/@value")[0]

    ask(ada, to=to)
    back = bring(ada, app.answer())

    assert back["Location"] == "/go/111122223333/Developer/"


def test_a_role_whose_application_is_off_leads_to_those_who_help(ada, application, role, settings):
    settings.DAYPASS_HELP_URL = "https://help.example/"
    application.enabled = False
    application.save()

    refused = keys(ada, role)

    page = refused.content.decode()
    assert refused.status_code == 403
    assert "not connected to Daypass" in page and settings.DAYPASS_HELP_TEXT in page
    assert etree.HTML(page).xpath("//a[text()='Ask for help']/@href") == ["https://help.example/"]


def test_the_list_offers_to_ask_and_then_shows_what_was_named(ada, app, aws, role):
    before = ada.get("/", secure=True).content.decode()
    assert "Ask Acme" in before and "Developer" not in before
    assert "You have no AWS roles yet" not in before

    relayed(ada, app.answer())

    after = ada.get("/", secure=True).content.decode()
    assert "Developer" in after and "from Acme" in after and "Get keys" in after
    assert f"/roles/{role.pk}/pin/" not in after
    found = ada.get("/?q=develop", secure=True).content.decode()
    nothing = ada.get("/?q=nothing", secure=True).content.decode()
    assert f"/keys/{role.pk}/" in found and f"/keys/{role.pk}/" not in nothing
    assert "1 role matches" in found and "No role matches" not in found
    assert "No role matches" in nothing


def test_nobody_is_asked_where_no_role_is_given_so(saml_row, idp, application):
    browser = web.browser()
    web.saml_sign_in(browser, idp, attributes={"uid": ["ada"]})

    assert "Ask Acme" not in browser.get("/", secure=True).content.decode()


def test_what_was_said_is_recorded_without_the_answer_itself(ada, app, aws, role):
    message = app.answer()

    relayed(ada, message)

    event = AuditEvent.objects.get(kind="relay.kept")
    assert event.data["roles"] == [DEVELOPER]
    assert message[:60] not in json.dumps(event.data)


def test_an_application_that_holds_the_id_in_an_attribute(ada, app, aws, role):
    RelayApplication.objects.update(subject_attribute="id")

    relayed(ada, app.answer(name_id="ada@example.com", attributes={"id": ["u-0001"]}))

    assert keys(ada, role).status_code == 200


def test_a_response_made_out_to_a_regional_address_and_posted_here(ada, app, aws, role):
    regional = "https://eu-west-1.signin.aws.amazon.com/saml"

    relayed(ada, app.answer(recipient=regional, destination=DOOR))

    assert RelayedAssertion.objects.exists()


# --- To the end, with moto as AWS


def test_the_keys_are_those_that_moto_gave_for_the_response(ada, app, at_moto, role):
    relayed(ada, app.answer())

    arn = at_moto(*keys_shown(keys(ada, role)))

    # Of keys for an assertion moto says only whose account's they are; of keys that it did not make, another's.
    assert arn.startswith("arn:aws:sts::111122223333:")
    session = Session.objects.get()
    assert session.state == "active"
    assert session.assumed_role_arn == ASSUMED


def test_the_console_opens_with_what_moto_gave_for_the_response(
    ada, app, at_moto, role, signin_stand_in
):
    relayed(ada, app.answer())

    answer = ada.post(f"/console/{role.pk}/", secure=True)

    assert answer.status_code == 303, answer.content.decode()
    assert answer["Location"].startswith(f"{signin_stand_in.url}/federation?Action=login")
    assert at_moto(*keys_given(signin_stand_in)).startswith("arn:aws:sts::111122223333:")
    assert Session.objects.get().assumed_role_arn == ASSUMED


# --- What a deny, and what refuses everybody, says


def test_a_deny_beats_the_assertion(ada, app, aws, role):
    relayed(ada, app.answer())
    make.deny(person=Session.objects.model.person.field.related_model.objects.get(), role=role)

    assert keys(ada, role).status_code == 403
    assert AuditEvent.objects.get(kind="role.refused").data["code"] == "denied"
    assert aws.requests == []


@pytest.mark.parametrize("what", ["role", "account", "application", "provider"])
def test_what_is_switched_off_gives_nothing(ada, app, aws, role, what, account, saml_row):
    relayed(ada, app.answer())
    for row, name in ((role, "role"), (account, "account"), (saml_row, "provider")):
        if name == what:
            row.enabled = False
            row.save()
    if what == "application":
        RelayApplication.objects.update(enabled=False)

    assert keys(ada, role).status_code in (302, 403)
    assert aws.requests == []


def test_a_mapping_does_not_give_such_a_role(ada, aws, role, saml_row):
    person = Session.objects.model.person.field.related_model.objects.get()
    group = make.group("everybody", at=saml_row)
    make.membership(person, group)
    make.mapping(group, role)

    assert keys(ada, role).status_code == 403
    assert AuditEvent.objects.get(kind="role.refused").data["code"] == "relay_not_asked"


def test_a_longer_session_than_the_role_has_is_refused(ada, app, aws, role):
    relayed(ada, app.answer())

    answer = ada.post(f"/keys/{role.pk}/", {"seconds": "7200"}, secure=True)

    assert answer.status_code == 403
    assert AuditEvent.objects.get(kind="role.refused").data["code"] == "duration_too_long"


# --- Attacks


@pytest.fixture
def refused(ada, refusals, aws):
    """Bring an answer that was asked for, and see it refused, nothing kept, nothing told."""

    def check(message: str, reason: str, *, code: str = "saml_refused"):
        ask(ada)
        answer = bring(ada, message)
        assert answer.status_code in (400, 403), answer.status_code
        told = refusals()
        assert told and told[-1][0] == code, told
        assert reason in told[-1][1]
        page = answer.content.decode()
        assert "answer for AWS was not accepted" in page and told[-1][1] not in page
        assert not RelayedAssertion.objects.exists()
        return answer

    return check


def test_another_persons_answer_is_refused(refused, app):
    refused(app.answer(name_id="u-0666"), "not about the person", code="relay_other_person")


def test_an_answer_without_a_name_is_nobodys(refused, app):
    transient = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
    refused(
        app.answer(bend=lambda root: next(root.iter(f"{{{SAML}}}NameID")).set("Format", transient)),
        "not about the person",
        code="relay_other_person",
    )


def test_another_applications_key_is_refused(refused, app, idp):
    refused(app.answer(key=idp.key), "signature")


def test_the_sign_in_providers_own_answer_is_no_answer_for_aws(refused, idp):
    refused(Application(idp).answer(), "fits no certificate")


def test_an_unsigned_answer_is_refused(refused, app):
    message = base64.b64encode(etree.tostring(app.element())).decode()
    refused(message, "not signed")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"audience": "https://daypass.test/saml/acme/metadata/"}, "another audience"),
        ({"audience": "urn:amazon:webservices:govcloud"}, "another audience"),
        ({"recipient": DOOR}, "Recipient"),
        ({"recipient": "https://daypass.test/saml/acme/acs/"}, "Recipient"),
        ({"recipient": "https://signin.amazonaws-us-gov.com/saml"}, "Recipient"),
        ({"recipient": "https://evil.example/saml"}, "Recipient"),
        ({"destination": "https://daypass.test/saml/acme/acs/"}, "Destination"),
        ({"answers": "_somebody-elses-request"}, "InResponseTo"),
    ],
)
def test_an_answer_that_is_made_out_otherwise_is_refused(refused, app, claims, reason):
    refused(app.answer(**claims), reason)


@pytest.mark.parametrize("minutes", [-6, 3])
def test_an_answer_of_another_time_is_refused(refused, app, minutes):
    refused(app.answer(now=datetime.now(UTC) + timedelta(minutes=minutes)), "issued at")


def test_a_tampered_role_is_refused(refused, app):
    raw = base64.b64decode(app.answer()).replace(b"role/Developer", b"role/Admin")
    refused(base64.b64encode(raw).decode(), "signature")


@pytest.mark.parametrize(
    "value",
    [
        DEVELOPER,
        PROVIDER_ARN,
        f"{DEVELOPER},{DEVELOPER}",
        f" {DEVELOPER},{PROVIDER_ARN}",
        f"{DEVELOPER},{PROVIDER_ARN},x",
        f"{DEVELOPER},arn:aws:iam::999999999999:saml-provider/Acme",
        DEVELOPER.replace("arn:aws:", "arn:aws-cn:")
        + ","
        + PROVIDER_ARN.replace("arn:aws:", "arn:aws-cn:"),
    ],
)
def test_a_value_that_aws_would_not_understand_names_no_role(refused, app, value):
    refused(app.answer(roles=[value]), "names no role", code="relay_no_roles")


def test_an_answer_is_taken_once(ada, app, aws, role, refusals):
    message = app.answer()
    relayed(ada, message)

    ask(ada)
    again = bring(ada, message)

    assert again.status_code == 403
    assert refusals()[-1][0] == "replayed"


def test_a_stranger_may_not_even_post(db, app, role, refusals):
    answer = web.browser().post("/saml/acme/aws/", {"SAMLResponse": app.answer()}, secure=True)

    assert answer.status_code == 403
    assert "answer for AWS was not accepted" in answer.content.decode()
    assert refusals()[-1][0] == "unsolicited"


def test_a_cookie_of_another_purpose_does_not_open_the_door(ada, app, role):
    from accounts import saml
    from accounts.views import RELAY_COOKIE

    ada.cookies[RELAY_COOKIE] = saml.request_id("acme", purpose="sign-in")

    assert (
        ada.post("/saml/acme/aws/", {"SAMLResponse": app.answer()}, secure=True).status_code == 403
    )


def test_an_answer_asked_for_elsewhere_does_not_count_here(ada, app, role, idp, refusals):
    """Somebody's own answer, planted in the browser of another who has a session: it did not ask."""
    from accounts.views import RELAY_COOKIE

    mallory = web.browser()
    web.saml_sign_in(mallory, idp, name_id="u-0666", attributes={"uid": ["mallory"]})
    ask(mallory)
    ada.cookies[RELAY_COOKIE] = mallory.cookies[RELAY_COOKIE].value

    answer = bring(ada, app.answer())

    assert answer.status_code == 403
    assert refusals()[-1] == (
        "state_unknown",
        "This session did not ask for the answer.",
    )
    assert not RelayedAssertion.objects.exists()
    # It was fetched, by the wrong session: it waits no more, and it was a bad one.
    kept, bad = throttle.count(
        Count("kept-of", "acme", 60, by=0), Count("bad-of", "acme", 60, by=0)
    )
    assert (kept, bad) == (0, 1)


def test_an_answer_that_is_read_counts_as_kept_no_more(ada, app, aws, role):
    ask(ada)
    session = ada.cookies.pop(django_settings.SESSION_COOKIE_NAME)
    posted = ada.post("/saml/acme/aws/", {"SAMLResponse": app.answer()}, secure=True)
    ada.cookies[django_settings.SESSION_COOKIE_NAME] = session.value
    kept, bad = Count("kept-of", "acme", 60, by=0), Count("bad-of", "acme", 60, by=0)
    assert list(throttle.count(kept, bad)) == [1, 0]

    ada.get(posted["Location"], secure=True)

    assert list(throttle.count(kept, bad)) == [0, 0]


def test_an_answer_whose_session_ends_while_it_is_read_is_not_kept(ada, app, role, refusals):
    """The provider's logout comes in between: nothing is kept of the answer, and nothing of it is used up."""
    ask(ada)
    ProviderSession.objects.all().delete()
    before = ConsumedMessage.objects.count()

    answer = bring(ada, app.answer())

    assert answer.status_code == 403
    assert refusals()[-1][0] == "state_unknown"
    assert not RelayedAssertion.objects.exists()
    assert not AuditEvent.objects.filter(kind="relay.kept").exists()
    assert ConsumedMessage.objects.count() == before


def test_an_answer_for_aws_signs_nobody_in(application, app, idp, refusals):
    browser = web.browser()
    web.start(browser, "acme")

    answer = web.post_answer(browser, "acme", app.answer())

    assert answer.status_code == 403
    assert not web.is_signed_in(browser)


def test_an_answer_for_aws_signs_nobody_in_even_where_sign_in_may_begin_at_the_provider(
    application,
    saml_row,
    idp,
    refusals,
):
    saml_row.idp_initiated = True
    saml_row.response_signed = False
    saml_row.save()

    answer = web.post_answer(web.browser(), "acme", Application(idp).answer())

    assert answer.status_code == 403
    assert "Destination" in refusals()[-1][1]


@pytest.mark.parametrize("sent_on", ["as it is", "made out to AWS's addresses"])
def test_an_answer_to_a_sign_in_is_no_answer_for_aws(refused, saml_row, idp, sent_on):
    """Also where both applications sign with one key under one name, as Entra ID's may."""
    services.save_application(
        saml_row, start_url="https://idp.example/aws", metadata_xml=idp.metadata, by=BY
    )
    more = {} if sent_on == "as it is" else {"recipient": AWS, "destination": AWS}

    refused(
        idp.answer(web.start(web.browser(), "acme"), name_id="u-0001", **more),
        "InResponseTo" if more else "Destination",
    )


def test_a_longer_answer_than_aws_takes_is_refused(refused, app):
    refused(app.answer(attributes={"more": ["x" * 90_000]}), "AWS takes 100000")


def test_nobody_of_another_provider_asks_there(application, role, db):
    from tests.portal.conftest import sign_in

    bob = make.person("bob")

    assert sign_in(bob).post("/relay/acme/", secure=True).status_code == 404


# --- What programs are told


def test_programs_are_told_of_named_roles_beside_mapped_ones_as_long_as_it_lasts(
    ada, app, aws, role, account, saml_row
):
    relayed(ada, app.answer())
    person = RelayedAssertion.objects.get().session.person
    group = make.group(at=saml_row)
    make.membership(person, group)
    make.mapping(
        group,
        make.role("Administrator", of=account),
        make.role("Zoologist", of=account),
        make.role("Elsewhere", of=make.account("Another")),
    )
    who = make.principal(
        person,
        signed_in=make.proof(of=saml_row),
        relay=relay_reference(ada.session.session_key),
    )
    way = {"door": "terminal", "most": 100}

    def listed(now, **more):
        found = queries.roles_with_keys(who, account.account_id, now=now, **way | more)
        return [one.name for one in found.rows]

    now = timezone.now()
    accounts = queries.accounts_with_keys(who, now=now, **way)
    assert {one.account_id for one in accounts.rows} >= {account.account_id}
    assert len(accounts.rows) == 2
    assert listed(now) == ["Administrator", "Developer", "Zoologist"]
    assert listed(now, only=role.pk) == ["Developer"]
    assert listed(now + timedelta(minutes=10)) == ["Administrator", "Zoologist"]
    role.sensitive = True
    role.save()
    assert listed(now, door="device_code") == ["Administrator", "Zoologist"]


# --- What is kept


def test_it_is_kept_sealed_for_this_session_and_five_minutes_at_most(ada, app, aws, role, idp):
    issued = datetime.now(UTC)
    relayed(ada, app.answer())
    kept = RelayedAssertion.objects.get()
    assert kept.expires_at <= issued + timedelta(minutes=5)

    elsewhere = web.browser()
    web.saml_sign_in(elsewhere, idp, attributes={"uid": ["ada"]})
    relayed(elsewhere, app.answer())
    other = RelayedAssertion.objects.exclude(pk=kept.pk).get()
    RelayedAssertion.objects.filter(pk=other.pk).update(sealed=kept.sealed)
    person = kept.session.person
    who = make.principal(person, relay=relay_reference(elsewhere.session.session_key))
    with pytest.raises(KeyUnavailable):
        services.relayed_assertion(who, role.relay_provider_id, DEVELOPER, now=timezone.now())


def test_an_answer_that_ends_earlier_is_kept_no_longer(ada, app, aws, role):
    soon = datetime.now(UTC) + timedelta(minutes=2)

    def bend(root: etree._Element) -> None:
        next(root.iter(f"{{{SAML}}}Conditions")).set("NotOnOrAfter", stamp(soon))

    relayed(ada, app.answer(bend=bend))

    assert RelayedAssertion.objects.get().expires_at <= soon


def test_when_it_is_over_the_provider_is_asked_again(ada, app, aws, role):
    relayed(ada, app.answer())
    RelayedAssertion.objects.update(expires_at=timezone.now())

    assert keys(ada, role).status_code == 403
    assert aws.requests == []
    tasks.clear_relayed()
    assert not RelayedAssertion.objects.exists()


def test_a_later_answer_takes_the_place_of_an_earlier_one(ada, app, aws, role):
    relayed(ada, app.answer())
    relayed(ada, app.answer(roles=[f"{READER},{PROVIDER_ARN}"]))

    assert RelayedAssertion.objects.get().roles == [[READER, PROVIDER_ARN]]
    assert keys(ada, role).status_code == 404


def test_it_goes_with_the_session(ada, app, aws, role):
    relayed(ada, app.answer())

    ada.post("/sign-out/", secure=True)

    assert not RelayedAssertion.objects.exists()


def test_the_answer_stands_nowhere_in_the_clear(ada, app, aws, role, caplog):
    caplog.set_level(logging.DEBUG)
    message = app.answer()
    ask(ada)
    session = ada.cookies.pop(django_settings.SESSION_COOKIE_NAME)
    posted = ada.post("/saml/acme/aws/", {"SAMLResponse": message}, secure=True)
    waiting = [repr(row) for row in _every_row()]
    ada.cookies[django_settings.SESSION_COOKIE_NAME] = session.value
    finished = ada.get(posted["Location"], secure=True)
    answer = keys(ada, role)

    raw = base64.b64decode(message)
    signature = raw.partition(b"SignatureValue>")[2][:60].decode()
    pieces = [message[400:480], signature]
    kept = [
        *waiting,
        *(repr(row) for row in _every_row()),
        caplog.text,
        *(repr(vars(record)) for record in caplog.records),
        *(page.content.decode() + repr(dict(page.headers)) for page in (posted, finished, answer)),
        repr(dict(ada.session)),
        repr(ada.cookies),
    ]
    assert answer.status_code == 200 and len(kept) > 50
    assert not [text[:200] for text in kept for piece in pieces if piece in text]


def _every_row() -> list[tuple]:
    rows = []
    for table in connection.introspection.table_names():
        with connection.cursor() as cursor:
            cursor.execute(f'SELECT * FROM "{table}"')
            found = cursor.fetchall()
            if table == "django_session":
                from django.contrib.sessions.models import Session as BrowserSession

                rows += [(row.get_decoded(),) for row in BrowserSession.objects.all()]
            rows += found
    return rows


# --- What AWS says


def test_a_trust_that_does_not_name_the_recipient_is_explained(ada, app, aws, role):
    aws.roles[DEVELOPER] = StrictRole(
        trust_policy=json.loads(json.dumps(TRUST).replace(AWS, "https://elsewhere.example/saml"))
    )
    relayed(ada, app.answer())

    assert keys(ada, role).status_code == 502
    assert "SAML:aud" in Session.objects.get().remedy


def test_metadata_that_was_not_uploaded_anew_is_explained(ada, app, aws, role, idp):
    aws.saml_providers[PROVIDER_ARN] = idp.metadata.replace(idp.entity_id, app.made.entity_id)
    relayed(ada, app.answer())

    assert keys(ada, role).status_code == 502
    assert "current one" in Session.objects.get().remedy


def test_an_answer_that_aws_finds_too_old_leads_to_the_provider_and_back(ada, app, aws, role):
    relayed(ada, app.answer())
    aws._check_assertion = lambda *_: (_ for _ in ()).throw(Refusal("ExpiredTokenException", "old"))

    failed = keys(ada, role)

    page = failed.content.decode()
    (form,) = etree.HTML(page).xpath("//form[@action='/relay/acme/']")
    assert form.xpath("string(.//button)") == "Open it once more"
    assert "too old for AWS" in page and "Ask the people" not in page
    ask(ada, to=form.xpath(".//input[@name='to']/@value")[0])
    assert bring(ada, app.answer())["Location"] == f"/roles/{role.pk}/"
    del aws._check_assertion
    assert keys(ada, role).status_code == 200


# --- Connecting it


def test_an_application_without_metadata_is_not_connected(saml_row):
    with pytest.raises(BadInput):
        services.save_application(saml_row, start_url="https://idp.example/aws", by=BY)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "http://idp.example/", "not an address"])
def test_people_are_sent_to_real_addresses_only(saml_row, aws_app, url):
    with pytest.raises(BadInput):
        services.save_application(saml_row, start_url=url, metadata_xml=aws_app.metadata, by=BY)


def test_changing_it_is_recorded_and_keeps_what_was_read(application, saml_row):
    certificates = application.certificates

    changed = services.save_application(
        saml_row, start_url="https://idp.example/other", enabled=False, by=BY
    )

    assert (changed.pk, changed.certificates) == (application.pk, certificates)
    event = AuditEvent.objects.filter(kind="admin.changed").order_by("seq").last()
    assert event.data["after"] == {"start_url": "https://idp.example/other", "enabled": False}


def test_a_role_takes_assertions_only_where_an_application_is_connected(account, saml_row, aws_app):
    from broker.audit.services import Actor

    draft = RoleDraft(arn=DEVELOPER, trust="relayed_assertion", relay_provider_id=saml_row.pk)
    with pytest.raises(FieldErrors):
        register_role(draft, actor=Actor.task("test"))

    services.save_application(
        saml_row, start_url="https://idp.example/aws", metadata_xml=aws_app.metadata, by=BY
    )

    assert register_role(draft, actor=Actor.task("test")).trust == "relayed_assertion"


def test_the_admin_connects_it_and_says_what_the_application_has_to_be_told(saml_row, aws_app):
    from tests.admin.conftest import browser_at_origin
    from tests.admin.conftest import sign_in as admin_sign_in

    staff = make.person("root", at=make.provider(), is_staff=True)
    browser = admin_sign_in(browser_at_origin(), staff)

    answer = browser.post(
        "/admin/accounts/relayapplication/add/",
        {
            "provider": str(saml_row.pk),
            "metadata_xml": aws_app.metadata,
            "start_url": "https://idp.example/start/aws",
            "subject_attribute": "",
            "partition": "aws",
            "enabled": "on",
        },
        secure=True,
    )
    made = RelayApplication.objects.get()
    page = browser.get(f"/admin/accounts/relayapplication/{made.pk}/change/", secure=True)

    assert answer.status_code == 302, answer.content.decode()
    text = page.content.decode()
    assert DOOR in text and AWS in text and "urn:amazon:webservices" in text
    assert browser.get("/admin/accounts/relayapplication/", secure=True).status_code == 200


def test_a_new_application_needs_its_metadata_and_a_known_one_keeps_it(saml_row, aws_app):
    from tests.admin.conftest import browser_at_origin
    from tests.admin.conftest import sign_in as admin_sign_in

    browser = admin_sign_in(
        browser_at_origin(), make.person("root", at=make.provider(), is_staff=True)
    )
    form = {
        "provider": str(saml_row.pk),
        "metadata_xml": "",
        "start_url": "https://idp.example/start/aws",
        "partition": "aws",
        "enabled": "on",
    }

    bare = browser.post("/admin/accounts/relayapplication/add/", form, secure=True)
    assert "metadata_xml" in bare.context["adminform"].form.errors
    browser.post(
        "/admin/accounts/relayapplication/add/",
        {**form, "metadata_xml": aws_app.metadata},
        secure=True,
    )
    made = RelayApplication.objects.get()
    later = browser.post(
        f"/admin/accounts/relayapplication/{made.pk}/change/",
        {**form, "start_url": "https://idp.example/start/other"},
        secure=True,
    )

    assert later.status_code == 302
    made.refresh_from_db()
    assert (made.start_url, made.entity_id) == (
        "https://idp.example/start/other",
        aws_app.entity_id,
    )


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn", "aws-eusc"])
def test_each_partition_has_its_own_addresses_and_name(partition):
    others = {"aws", "aws-us-gov", "aws-cn", "aws-eusc"} - {partition}

    mine = set(relay.recipients_of(partition))

    assert mine and not any(mine & set(relay.recipients_of(other)) for other in others)
    assert relay.audience_of(partition) not in {relay.audience_of(other) for other in others}


def test_the_cookie_that_comes_along_is_for_that_door_alone(ada, role):
    from accounts.views import RELAY_COOKIE

    answer = ada.post("/relay/acme/", secure=True)

    cookie = answer.cookies[RELAY_COOKIE]
    assert (cookie["samesite"], cookie["path"]) == ("None", "/saml/acme/aws/")
    assert cookie["secure"] and cookie["httponly"] and cookie["max-age"] == 600
