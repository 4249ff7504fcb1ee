"""Clocks that disagree with AWS's: nothing is handed out by any way, and the admin says so."""

from __future__ import annotations

import time

import pytest
from django.utils import timezone

from broker.assume import services
from broker.audit.models import AuditEvent
from broker.aws import clock
from broker.aws.clock import ClocksApart, Reading
from broker.entitlements.rules import Ask
from broker.minting.keys import ensure_keys
from broker.sessions.models import Session
from tests import factories as make
from tests.admin.conftest import (  # noqa: F401  (fixtures)
    ada,
    admin_client,
    okta,
)
from tests.aws.test_clock import answering

pytestmark = pytest.mark.django_db


def known(ahead: float) -> None:
    clock._tell(Reading(ahead, time.time(), "eu-west-1"))


@pytest.fixture
def alice():
    ensure_keys(timezone.now())
    return make.person("alice", groups=[make.group("developers")])


def role_for(person, **fields):
    role = make.role("Developer", of=make.account("Payments"), **fields)
    make.mapping(person.memberships.get().group, role)
    return role


def test_credentials_of_a_wrong_clock_are_dropped_and_the_session_says_why(alice, sts_stand_in):
    role = role_for(alice)
    sts_stand_in.will(answering(-90))

    with pytest.raises(ClocksApart):
        services.issue(make.principal(alice), Ask(role.id, "keys"), now=timezone.now())

    session = Session.objects.get()
    assert (session.state, session.access_key_id) == ("failed", "")
    assert session.aws_error_code == "clocks_apart"
    assert "behind AWS's" in session.failure
    assert "Synchronise" in session.remedy
    event = AuditEvent.objects.get(kind="session.failed")
    assert event.data["code"] == "clocks_apart"


def test_no_assertion_is_vouched_for_by_a_wrong_clock(alice):
    role = role_for(alice, trust="saml")
    known(120)
    opened = services.begin(make.principal(alice), Ask(role.id, "console"), timezone.now())

    with pytest.raises(ClocksApart):
        services.vouch(opened)

    assert Session.objects.get().state == "failed"


@pytest.mark.parametrize(
    ("ahead", "said", "severity"),
    [
        (7.0, "is 7 s ahead of AWS&#x27;s. At 60 s nothing is issued any more", "soon"),
        (-75.0, "is 75 s behind AWS&#x27;s. Nothing is issued", "wrong"),
    ],
)
def test_administrators_are_told_on_their_first_page(admin_client, ahead, said, severity):  # noqa: F811
    known(ahead)

    answer = admin_client.get("/admin/")

    assert said in answer.content.decode()
    assert severity in {item.severity for item in answer.context["attentions"]}


def test_health_says_how_the_clock_is(admin_client):  # noqa: F811
    page = admin_client.get("/admin/health/").content.decode()
    assert "STS was not asked in the last quarter of an hour" in page

    clock._known.looked = float("-inf")
    known(0.2)
    page = admin_client.get("/admin/health/").content.decode()

    assert "agrees with AWS&#x27;s to the second, as STS in eu-west-1 said" in page
