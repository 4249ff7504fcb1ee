"""The spine: from a wish to credentials, each step recorded, and nothing without its record."""

from __future__ import annotations

from datetime import timedelta

import boto3
import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import IdentityProvider, Person
from broker.assume.services import Issued, issue
from broker.audit.models import AuditEvent
from broker.entitlements.rules import Ask, NextStep, Refused
from broker.errors import AuditBroken, AwsError, AwsUnavailable, BadInput
from broker.minting.keys import ensure_keys
from broker.sessions.models import Session
from broker.sessions.services import SessionOver
from tests import factories as make
from tests.aws.servers import Answer, sts_answer, sts_error

MOTO = "123456789012"
"""The one account whose unsigned calls moto remembers when it is asked who the caller is."""

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice():
    ensure_keys(timezone.now())
    return make.person("alice", groups=[make.group("developers")])


def role_for(person: Person, *, saml_provider_name: str = "Daypass", **fields):
    payments = make.account("Payments", account_id=MOTO, saml_provider_name=saml_provider_name)
    role = make.role("Developer", of=payments, **fields)
    make.mapping(person.memberships.get().group, role)
    return role


def kinds() -> list[str]:
    """Every event, in order, but those of making keys."""
    events = AuditEvent.objects.exclude(kind__startswith="key.").order_by("seq")
    return list(events.values_list("kind", flat=True))


@pytest.mark.parametrize("trust", ["web_identity", "saml"])
def test_credentials_are_those_of_the_role_and_the_session_without_any_aws_key(
    alice, aws, trust, monkeypatch
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    role = role_for(alice, trust=trust)

    issued = issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())

    assert isinstance(issued, Issued)
    revealed = issued.credentials.reveal()
    caller = boto3.client(
        "sts",
        region_name="us-east-1",
        endpoint_url=aws.url,
        aws_access_key_id=revealed.access_key_id,
        aws_secret_access_key=revealed.secret_access_key,
        aws_session_token=revealed.session_token,
    ).get_caller_identity()
    session = Session.objects.get()
    assert caller["Arn"] == session.assumed_role_arn
    assert caller["Arn"].endswith(f":assumed-role/Developer/{issued.session_name}")
    assert (session.state, session.access_key_id) == ("active", revealed.access_key_id)
    assert session.expires_at == issued.expires_at
    assert kinds() == ["role.authorised", "session.issued"]


def test_assume_role_trust_uses_the_brokers_own_role_for_an_hour_at_most(alice, aws, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient-secret")
    role = role_for(alice, trust="assume_role", max_seconds=43200, external_id="customer-7")

    issued = issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())

    assert isinstance(issued, Issued)
    assert issued.chained
    assert Session.objects.get().seconds == 3600
    assert issued.expires_at <= timezone.now() + timedelta(seconds=3601)


@pytest.mark.django_db(transaction=True)
def test_verdict_and_pending_row_are_committed_before_sts_is_asked(alice, sts_stand_in):
    seen = []

    def look(request):
        """Over a connection of its own: what is not committed is not there."""
        session = Session.objects.get(session_name=request.form["RoleSessionName"])
        seen.append((session.state, kinds()))
        connection.close()
        return sts_answer(request)

    sts_stand_in.will(look)
    role = role_for(alice)

    issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())

    assert seen == [("pending", ["role.authorised"])]


def test_a_refusal_is_recorded_with_its_reasons_and_opens_nothing(alice, sts_stand_in):
    other = make.role("Administrator")

    refused = issue(
        make.principal(alice), Ask(other.id, "keys"), now=timezone.now(), client="curl/8"
    )

    assert isinstance(refused, Refused)
    event = AuditEvent.objects.get(kind="role.refused")
    assert (event.actor, event.subject_id, event.address) == (
        "alice",
        str(other.id),
        "198.51.100.7",
    )
    assert event.data["code"] == refused.code
    assert event.data["reasons"][0]["sentence"] == refused.reasons[0].sentence
    assert event.data["client"] == "curl/8"
    assert not Session.objects.exists()
    assert sts_stand_in.requests == []


def test_a_role_that_does_not_exist_is_refused_like_one_without_a_right(alice, sts_stand_in):
    refused = issue(make.principal(alice), Ask(alice.id, "keys"), now=timezone.now())

    assert isinstance(refused, Refused)
    assert not refused.visible
    assert kinds() == ["role.refused"]


def test_a_verdict_names_every_reason_and_the_session_it_led_to(alice, sts_stand_in):
    role = role_for(alice)

    issued = issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())

    verdict = AuditEvent.objects.get(kind="role.authorised")
    assert verdict.data["session_id"] == str(issued.session_id)
    assert verdict.data["role"] == role.arn
    assert any(reason["counts"] for reason in verdict.data["reasons"])
    assert verdict.data["proof"]["method"] == "oidc"


def test_the_issue_is_recorded_with_key_id_and_end_but_never_the_secret(alice, sts_stand_in):
    role = role_for(alice)

    issued = issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())

    event = AuditEvent.objects.get(kind="session.issued")
    assert event.subject_id == str(issued.session_id)
    assert event.data["access_key_id"] == issued.credentials.access_key_id
    assert event.data["expires_at"] == issued.expires_at.isoformat()
    assert event.data["source_identity"] == "alice"
    assert issued.credentials.reveal().secret_access_key not in str(event.data)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (sts_error("AccessDenied", "Not authorized", 403), "AccessDenied"),
        (sts_error("PackedPolicyTooLarge", "consumes 142% of"), "PackedPolicyTooLarge"),
        (Answer(200, b"<nonsense"), "ResponseParserError"),
    ],
)
def test_when_aws_fails_the_row_and_the_audit_say_why(alice, sts_stand_in, answer, code):
    sts_stand_in.will(answer, answer, answer)
    role = role_for(alice)

    with pytest.raises(AwsError) as told:
        issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())

    session = Session.objects.get()
    assert (session.state, session.aws_error_code) == ("failed", code)
    assert session.failure == told.value.cause[:500]
    assert session.remedy == told.value.remedy
    assert session.ended_at is not None
    assert session.access_key_id == ""
    assert kinds() == ["role.authorised", "session.failed"]
    assert AuditEvent.objects.get(kind="session.failed").data["code"] == code


# --- Threats R10: what changes between the click and the answer


@pytest.mark.parametrize(
    ("change", "step"),
    [({"epoch": 2}, NextStep.SIGN_IN_AGAIN), ({"is_active": False}, NextStep.ASK_ADMINISTRATOR)],
)
def test_somebody_cut_off_since_the_page_was_loaded_is_refused(alice, sts_stand_in, change, step):
    role = role_for(alice)
    principal = make.principal(alice)
    Person.objects.filter(pk=alice.pk).update(**change)

    refused = issue(principal, Ask(role.id, "keys"), now=timezone.now())

    assert isinstance(refused, Refused)
    assert refused.next_step is step
    assert sts_stand_in.requests == []
    assert kinds() == ["role.refused"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", [{"epoch": 2}, {"is_active": False}])
def test_somebody_cut_off_while_sts_answers_gets_nothing(alice, sts_stand_in, change):
    def cut_off(request):
        Person.objects.filter(pk=alice.pk).update(**change)
        connection.close()
        return sts_answer(request)

    role = role_for(alice)
    sts_stand_in.will(cut_off)

    refused = issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())

    assert isinstance(refused, Refused)
    session = Session.objects.get()
    assert session.state == "failed"
    assert session.access_key_id == ""
    assert kinds() == ["role.authorised", "session.failed"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("moment", ["before", "while sts answers"])
def test_with_the_provider_switched_off_nothing_is_issued(alice, sts_stand_in, moment):
    """Between the page's look at the provider and the credentials there is a moment as well (threats.md R53)."""
    role = role_for(alice)
    principal = make.principal(alice)

    def switch_off(request):
        IdentityProvider.objects.update(enabled=False)
        connection.close()
        return sts_answer(request)

    if moment == "before":
        IdentityProvider.objects.update(enabled=False)
    else:
        sts_stand_in.will(switch_off)
    refused = issue(principal, Ask(role.id, "keys"), now=timezone.now())

    assert isinstance(refused, Refused)
    assert len(sts_stand_in.requests) == (0 if moment == "before" else 1)
    assert not Session.objects.filter(state="active").exists()


@pytest.mark.django_db(transaction=True)
def test_a_session_ended_while_sts_answers_gives_nothing(alice, sts_stand_in):
    def end_it(request):
        Session.objects.update(state="revoked")
        connection.close()
        return sts_answer(request)

    role = role_for(alice)
    sts_stand_in.will(end_it)

    with pytest.raises(SessionOver):
        issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())

    assert Session.objects.get().state == "revoked"
    assert kinds() == ["role.authorised"]


@pytest.mark.django_db(transaction=True)
def test_without_an_audit_row_there_is_no_session_and_no_call(alice, sts_stand_in):
    role = role_for(alice)
    break_the_audit()

    with pytest.raises(AuditBroken):
        issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())
    mend_the_audit()

    assert not Session.objects.exists()
    assert sts_stand_in.requests == []


@pytest.mark.django_db(transaction=True)
def test_when_the_audit_breaks_while_sts_answers_no_credential_is_given(alice, sts_stand_in):
    def broken_meanwhile(request):
        break_the_audit()
        connection.close()
        return sts_answer(request)

    role = role_for(alice)
    sts_stand_in.will(broken_meanwhile)

    with pytest.raises(AuditBroken):
        issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())
    mend_the_audit()

    assert Session.objects.get().state == "pending"
    assert kinds() == ["role.authorised"]


def break_the_audit() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE broker_auditevent RENAME TO broker_auditevent_away")


def mend_the_audit() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE broker_auditevent_away RENAME TO broker_auditevent")


def test_issuing_inside_a_transaction_is_refused(alice, sts_stand_in):
    """A pending row that is not committed would be lost with a crash."""
    role = role_for(alice)

    with transaction.atomic(), pytest.raises(RuntimeError):
        issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())

    assert sts_stand_in.requests == []


def test_unavailable_aws_is_told_as_such(alice, sts_stand_in):
    sts_stand_in.will(*[sts_error("Throttling")] * 3)
    role = role_for(alice)

    with pytest.raises(AwsUnavailable) as told:
        issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())

    assert told.value.retry
    assert Session.objects.get().aws_error_code == "Throttling"


def test_what_aws_would_not_take_fails_before_sts_is_asked(alice, sts_stand_in):
    role = role_for(alice, saml_provider_name="not a name", trust="saml")

    with pytest.raises(BadInput):
        issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())

    assert Session.objects.get().state == "failed"
    assert sts_stand_in.requests == []
