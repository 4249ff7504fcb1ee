"""Keys for programs: what AWS gave, decided and recorded like every other hand-over, and never printed."""

from __future__ import annotations

import uuid

import boto3
import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Person
from broker.audit.models import AuditEvent
from broker.entitlements.rules import Ask, Refused
from broker.errors import AwsError
from broker.handover.machines import MachineKeys, get_machine_keys
from broker.sessions.models import Session
from tests import factories as make
from tests.aws.servers import SECRET, TOKEN, sts_answer, sts_error

TERMINAL = uuid.UUID(int=77)
CLI = "aws-cli/2.38.1 md/awscrt#0.38.1 ua/2.1 os/linux"


def keys_of(who, role, *, door="terminal", hand_over="keys"):
    ask = Ask(role.id, hand_over, door=door, terminal=TERMINAL)
    return get_machine_keys(make.principal(who), ask, client=CLI, now=timezone.now())


@pytest.mark.django_db
def test_the_values_work_and_aws_names_role_and_session(alice, role_for, aws):
    keys = keys_of(alice, role_for())

    assert isinstance(keys, MachineKeys)
    caller = boto3.client(
        "sts",
        region_name="eu-west-1",
        endpoint_url=aws.url,
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key,
        aws_session_token=keys.session_token,
    ).get_caller_identity()
    assert caller["Arn"].endswith(f":assumed-role/Developer/{keys.session_name}")
    assert keys.expires_at == Session.objects.get(pk=keys.session_id).expires_at


@pytest.mark.django_db
def test_the_values_are_those_of_aws_and_print_masked(alice, role_for, sts_stand_in):
    keys = keys_of(alice, role_for())

    assert (keys.secret_access_key, keys.session_token) == (SECRET, TOKEN)
    assert SECRET not in repr(keys)
    assert TOKEN not in repr(keys)


@pytest.mark.django_db
def test_the_session_names_the_client_and_the_audit_the_terminal_as_well(
    alice, role_for, sts_stand_in
):
    keys = keys_of(alice, role_for())

    session = Session.objects.get()
    assert (session.id, session.client, session.hand_over) == (keys.session_id, CLI, "keys")
    events = list(AuditEvent.objects.order_by("seq"))[-3:]
    assert [one.kind for one in events] == ["role.authorised", "session.issued", "hand_over.keys"]
    for one in (events[0], events[2]):
        assert one.data["terminal"] == str(TERMINAL)
        assert one.data["client"] == CLI
        assert one.data["door"] == "terminal"


@pytest.mark.django_db
def test_a_refusal_names_terminal_and_door_in_the_audit_and_asks_nobody(
    alice, role_for, sts_stand_in
):
    role = role_for(sensitive=True)

    refused = keys_of(alice, role, door="device_code")

    assert isinstance(refused, Refused)
    assert refused.code == "device_code_not_allowed"
    event = AuditEvent.objects.get(kind="role.refused")
    assert (event.data["terminal"], event.data["door"]) == (str(TERMINAL), "device_code")
    assert sts_stand_in.requests == []
    assert not Session.objects.exists()


@pytest.mark.django_db
def test_each_ask_is_a_session_of_its_own(alice, role_for, sts_stand_in):
    role = role_for()

    first, second = keys_of(alice, role), keys_of(alice, role)

    assert first.session_id != second.session_id
    assert first.session_name != second.session_name
    assert Session.objects.count() == len(sts_stand_in.requests) == 2


@pytest.mark.django_db(transaction=True)
def test_somebody_cut_off_while_sts_answers_gets_nothing(alice, role_for, sts_stand_in):
    def cut_off(request):
        Person.objects.filter(pk=alice.pk).update(epoch=7)
        connection.close()
        return sts_answer(request)

    sts_stand_in.will(cut_off)

    refused = keys_of(alice, role_for())

    assert isinstance(refused, Refused)
    assert refused.code == "access_ended"
    assert not AuditEvent.objects.filter(kind="hand_over.keys").exists()


@pytest.mark.django_db
def test_what_aws_refuses_is_raised_and_the_session_says_why(alice, role_for, sts_stand_in):
    sts_stand_in.will(sts_error("AccessDenied", "no", status=403))

    with pytest.raises(AwsError):
        keys_of(alice, role_for())

    session = Session.objects.get()
    assert (session.state, session.aws_error_code, session.client) == (
        "failed",
        "AccessDenied",
        CLI,
    )


def test_the_console_is_not_given_to_a_machine():
    with pytest.raises(ValueError, match="keys"):
        get_machine_keys(make.principal(), Ask(TERMINAL, "console"), client="", now=timezone.now())
