"""The spine: from a wish to credentials, each step recorded, and nothing without its record."""

from __future__ import annotations

import boto3
import pytest
from django.utils import timezone

from accounts.models import Person
from broker.assume.services import Issued, issue
from broker.audit.models import AuditEvent
from broker.entitlements.rules import Ask
from broker.minting.keys import ensure_keys
from broker.sessions.models import Session
from tests import factories as make

MOTO = "123456789012"
"""The one account whose unsigned calls moto remembers when it is asked who the caller is."""

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice():
    ensure_keys(timezone.now())
    return make.person("alice", groups=[make.group("developers")])


def role_for(person: Person, **fields):
    role = make.role("Developer", of=make.account("Payments", account_id=MOTO), **fields)
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
