"""Roles that Daypass itself uses: obtained like anybody else's, short, and never without their record."""

from __future__ import annotations

import json

import pytest
from django.db import transaction
from django.utils import timezone

from broker.assume.rules import Unplannable
from broker.assume.services import borrow
from broker.audit.models import AuditEvent
from broker.aws.credentials import Credentials
from broker.errors import AuditBroken, AwsError, BadInput
from broker.sessions.models import Session
from tests.assume.test_issue import break_the_audit, mend_the_audit
from tests.aws.servers import Answer, sts_error
from tests.minting.claims import parts_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signing_keys")]


def borrowed(**changed) -> Credentials:
    wanted = {
        "account_id": "111122223333",
        "partition": "aws",
        "region": "eu-west-1",
        "role_name": "DaypassDiscovery",
        "purpose": "discovery",
        "now": timezone.now(),
    }
    return borrow(**(wanted | changed))


def borrowings() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(kind="role.borrowed"))


def test_a_task_gets_fifteen_minutes_with_a_token_that_speaks_for_no_person(sts_stand_in):
    credentials = borrowed()

    assert isinstance(credentials, Credentials)
    [asked] = sts_stand_in.requests
    assert asked.form["Action"] == "AssumeRoleWithWebIdentity"
    assert asked.form["DurationSeconds"] == "900"
    assert asked.form["RoleArn"] == "arn:aws:iam::111122223333:role/DaypassDiscovery"
    assert asked.form["RoleSessionName"].startswith("daypass=discovery.")
    _, claims = parts_of(asked.form["WebIdentityToken"])
    assert claims["sub"] == "role/111122223333/DaypassDiscovery/task/discovery"
    assert claims["https://aws.amazon.com/roles"] == asked.form["RoleArn"]
    assert claims["https://aws.amazon.com/source_identity"] == "daypass=discovery"
    assert "authorization" not in asked.headers


def test_a_task_goes_to_the_accounts_second_region_as_people_do(sts_stand_in, settings):
    settings.DAYPASS_STS_ENDPOINT = f"{sts_stand_in.url}/{{region}}"
    sts_stand_in.will(Answer(503))

    borrowed(second_region="eu-north-1")

    assert [asked.path for asked in sts_stand_in.requests] == ["/eu-west-1", "/eu-north-1"]


def test_it_is_recorded_with_the_task_as_actor_and_is_nobodys_session(sts_stand_in):
    credentials = borrowed()

    [event] = borrowings()
    assert (event.actor_id, event.subject_id) == ("task:discovery", "111122223333")
    assert event.data["role"] == "arn:aws:iam::111122223333:role/DaypassDiscovery"
    assert event.data["access_key_id"] == credentials.access_key_id
    assert credentials.reveal().secret_access_key not in json.dumps(event.data)
    assert not Session.objects.exists()


def test_a_role_with_a_path_is_named_with_it(sts_stand_in):
    borrowed(role_name="/daypass/Discovery")

    [asked] = sts_stand_in.requests
    assert asked.form["RoleArn"] == "arn:aws:iam::111122223333:role/daypass/Discovery"
    _, claims = parts_of(asked.form["WebIdentityToken"])
    assert claims["sub"] == "role/111122223333/Discovery/task/discovery"


def test_a_refusal_of_aws_is_told_and_nothing_else_is_tried(sts_stand_in, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient-secret")
    sts_stand_in.will(sts_error("AccessDenied", "Not authorized", 403))

    with pytest.raises(AwsError) as told:
        borrowed()

    assert told.value.aws_code == "AccessDenied"
    assert "DaypassDiscovery" in told.value.cause
    assert len(sts_stand_in.requests) == 1
    assert borrowings() == []


@pytest.mark.django_db(transaction=True)
def test_without_its_record_nothing_is_lent(sts_stand_in):
    break_the_audit()
    try:
        with pytest.raises(AuditBroken):
            borrowed()
    finally:
        mend_the_audit()


def test_inside_a_transaction_nothing_is_asked(sts_stand_in):
    """What is rolled back later would take the record with it."""
    with transaction.atomic(), pytest.raises(RuntimeError):
        borrowed()

    assert sts_stand_in.requests == []


@pytest.mark.parametrize("purpose", ["", "Discovery", "a b", "../x", "x" * 40, "a\n"])
def test_what_does_not_name_a_task_is_refused(sts_stand_in, purpose):
    with pytest.raises(Unplannable):
        borrowed(purpose=purpose)

    assert sts_stand_in.requests == []


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "Dev;arn:aws:iam::111122223333:role/Admin"])
def test_what_does_not_name_one_role_is_refused(sts_stand_in, name):
    with pytest.raises(BadInput):
        borrowed(role_name=name)

    assert sts_stand_in.requests == []
