"""The console: a link or a form that works, recorded before it leaves, for console pages only."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Person
from broker.assume import services as assume
from broker.audit.models import AuditEvent
from broker.entitlements.rules import Ask, Refused
from broker.errors import AwsError, AwsUnavailable, BadInput
from broker.handover.console import ConsoleLink, SamlForm, open_console
from broker.sessions.models import Session
from tests import factories as make
from tests.aws.servers import Answer, sts_answer, sts_error

pytestmark = pytest.mark.django_db


def open_it(alice, role, **more):
    return open_console(make.principal(alice), Ask(role.id, "console"), now=timezone.now(), **more)


def kinds() -> list[str]:
    events = AuditEvent.objects.exclude(kind__startswith="key.").order_by("seq")
    return list(events.values_list("kind", flat=True))


def test_the_link_signs_in_with_credentials_of_this_very_session(
    alice, role_for, aws, signin_stand_in
):
    link = open_it(alice, role_for())

    assert isinstance(link, ConsoleLink)
    query = {key: values[0] for key, values in parse_qs(urlsplit(link.url).query).items()}
    assert query["Action"] == "login"
    assert (
        query["Destination"]
        == "https://eu-west-1.console.aws.amazon.com/console/home?region=eu-west-1"
    )
    assert Session.objects.get().access_key_id in signin_stand_in.requests[0].form["Session"]
    assert link.url not in repr(link)


def test_the_hand_over_is_recorded_before_the_sign_in_service_is_asked(
    alice, role_for, sts_stand_in, signin_stand_in
):
    seen = []

    def look(request):
        seen.append(request.form["Action"])
        return Answer(503)

    signin_stand_in.will(look, look, look)

    with pytest.raises(AwsUnavailable):
        open_it(alice, role_for())

    assert seen == ["getSigninToken"] * 3
    assert kinds() == ["role.authorised", "session.issued", "hand_over.console", "hand_over.failed"]
    assert Session.objects.get().state == "active"  # AWS did issue them; nobody was given them
    assert AuditEvent.objects.get(kind="hand_over.failed").data["code"] == "aws_internal"


def test_the_record_names_the_page_without_its_query(
    alice, role_for, sts_stand_in, signin_stand_in
):
    destination = "https://eu-west-1.console.aws.amazon.com/s3/object/bucket?prefix=secret-name#x"

    open_it(alice, role_for(), destination=destination)

    event = AuditEvent.objects.get(kind="hand_over.console")
    assert event.data["destination"] == "https://eu-west-1.console.aws.amazon.com/s3/object/bucket"
    assert event.data["way"] == "link"
    assert event.subject_id == str(Session.objects.get().id)


@pytest.mark.parametrize(
    ("trust", "max_seconds", "sent"),
    [("web_identity", 43200, "3600"), ("saml", 43200, "3600"), ("assume_role", 43200, None)],
)
def test_session_duration_follows_the_trust(
    alice, role_for, sts_stand_in, signin_stand_in, monkeypatch, trust, max_seconds, sent
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient-secret")
    role = role_for(trust=trust, max_seconds=max_seconds)

    open_console(make.principal(alice), Ask(role.id, "console", seconds=3600), now=timezone.now())

    assert signin_stand_in.requests[0].form.get("SessionDuration") == sent


@pytest.mark.parametrize(
    "destination",
    [
        "https://evil.example/",
        "http://console.aws.amazon.com/",
        "https://console.aws.amazon.com.evil.example/",
        "https://console.aws.amazon.com@evil.example/",
        "//evil.example",
        "javascript:alert(1)",
        "https://evil.example\\@console.aws.amazon.com/",
        "https://console.aws.amazon.com:8443/",
    ],
)
def test_a_destination_that_is_no_console_page_is_refused_before_anything_is_issued(
    alice, role_for, sts_stand_in, signin_stand_in, destination
):
    role = role_for()

    with pytest.raises(BadInput):
        open_it(alice, role, destination=destination)

    assert kinds() == []
    assert not Session.objects.exists()
    assert sts_stand_in.requests == []


def test_a_console_page_of_another_partition_is_refused_without_asking_aws(
    alice, role_for, sts_stand_in, signin_stand_in
):
    role = role_for()

    with pytest.raises(BadInput):
        open_it(alice, role, destination="https://console.amazonaws.cn/s3")

    assert Session.objects.get().state == "failed"
    assert sts_stand_in.requests == []


def test_a_person_without_the_right_is_refused_and_aws_is_not_asked(
    alice, sts_stand_in, signin_stand_in
):
    refused = open_it(alice, make.role())

    assert isinstance(refused, Refused)
    assert sts_stand_in.requests == signin_stand_in.requests == []


def test_when_sts_refuses_there_is_no_hand_over(alice, role_for, sts_stand_in, signin_stand_in):
    sts_stand_in.will(sts_error("AccessDenied", "no", 403))

    with pytest.raises(AwsError):
        open_it(alice, role_for())

    assert kinds() == ["role.authorised", "session.failed"]
    assert signin_stand_in.requests == []


def cut_off_while_asked(alice):
    """An answer of STS before which somebody switches the person off."""

    def answer(request):
        Person.objects.filter(pk=alice.pk).update(is_active=False)
        connection.close()
        return sts_answer(request)

    return answer


@pytest.mark.django_db(transaction=True)
def test_somebody_cut_off_while_sts_answers_gets_no_link(
    alice, role_for, sts_stand_in, signin_stand_in
):
    sts_stand_in.will(cut_off_while_asked(alice))

    refused = open_it(alice, role_for())

    assert isinstance(refused, Refused)
    assert signin_stand_in.requests == []
    assert kinds() == ["role.authorised", "session.failed"]


# --- The SAML form


def test_the_form_carries_a_response_for_this_role_to_aws(alice, role_for, settings, sts_stand_in):
    settings.DAYPASS_SIGNIN_ENDPOINT = ""
    role = role_for(trust="saml", console="saml_form")

    form = open_it(alice, role)

    assert isinstance(form, SamlForm)
    assert form.action == "https://eu-west-1.signin.aws.amazon.com/saml"
    assert set(form.fields) == {"SAMLResponse", "RelayState"}
    response = base64.b64decode(form.fields["SAMLResponse"]).decode()
    assert f"{role.arn},arn:aws:iam::123456789012:saml-provider/Daypass" in response
    assert f'Recipient="{form.action}"' in response
    assert form.fields["RelayState"].startswith("https://eu-west-1.console.aws.amazon.com/")
    assert form.fields["SAMLResponse"] not in repr(form)
    assert sts_stand_in.requests == []


def test_the_form_is_recorded_as_an_active_session_without_a_key(alice, role_for):
    role = role_for(trust="saml", console="saml_form")

    form = open_it(alice, role)

    session = Session.objects.get()
    assert (session.state, session.access_key_id) == ("active", "")
    assert session.expires_at == form.expires_at
    assert session.assumed_role_arn.endswith(f":assumed-role/Developer/{session.session_name}")
    assert kinds() == ["role.authorised", "session.issued", "hand_over.console"]
    assert AuditEvent.objects.get(kind="hand_over.console").data["way"] == "saml_form"


def test_a_form_that_cannot_be_signed_leaves_a_failed_session(alice, role_for):
    role = role_for(trust="saml", console="saml_form", of={"saml_provider_name": "not a name"})

    with pytest.raises(BadInput):
        open_it(alice, role)

    assert Session.objects.get().state == "failed"
    assert kinds() == ["role.authorised", "session.failed"]


def test_somebody_cut_off_a_moment_ago_gets_no_form(alice, role_for):
    role = role_for(trust="saml", console="saml_form")
    opened = assume.begin(make.principal(alice), Ask(role.id, "console"), timezone.now())
    Person.objects.filter(pk=alice.pk).update(epoch=9)

    refused = assume.vouch(opened)

    assert isinstance(refused, Refused)
    assert Session.objects.get().state == "failed"


def test_the_form_of_the_demo_goes_to_its_stand_in(alice, role_for, signin_stand_in):
    form = open_it(alice, role_for(trust="saml", console="saml_form"))

    assert form.action == f"{signin_stand_in.url}/saml"


def test_asking_for_keys_does_not_open_a_console(alice, role_for):
    with pytest.raises(ValueError, match="console"):
        open_console(make.principal(alice), Ask(role_for().id, "keys"), now=timezone.now())
