"""Every way in to its end: the console and keys, with moto as AWS and with the STS that truly checks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone

from broker.aws import sts
from broker.entitlements.rules import Ask
from broker.handover.console import ConsoleLink, open_console
from broker.handover.keys import Keys, get_keys
from broker.sessions.models import Session
from tests import factories as make
from tests.ways.cast import BROKER, World

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("published")]
WAYS = ("web_identity", "saml", "assume_role")


@pytest.fixture(params=["strict", "moto"])
def broker_at(request, strict, client, settings, monkeypatch) -> Callable[[str], World]:
    """Daypass in front of that AWS, with credentials of its own where the way needs some, and without elsewhere."""

    def at(way: str) -> World:
        keys = ("", "", "")
        if way == "assume_role":
            moto = request.param == "moto"
            keys = ("AKIAAMBIENT", "secret", "token") if moto else strict.lend(BROKER)
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        for name, value in zip(names, keys, strict=True):
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
        sts._clients.clear()
        world = World(strict, client)
        if request.param == "moto":
            settings.DAYPASS_STS_ENDPOINT = request.getfixturevalue("moto").url
        return world

    yield at
    sts._clients.clear()


@pytest.mark.parametrize("way", WAYS)
def test_keys_are_those_of_the_role(broker_at, way):
    world = broker_at(way)
    role = world.role(trust=way)

    sheet = get_keys(make.principal(world.alice), Ask(role.id, "keys"), now=timezone.now())

    assert isinstance(sheet, Keys)
    session = Session.objects.get()
    assert session.state == "active"
    assert session.assumed_role_arn.startswith(
        "arn:aws:sts::111122223333:assumed-role/Developer/alice."
    )


@pytest.mark.parametrize(
    ("way", "asked"), [("web_identity", "3600"), ("saml", "3600"), ("assume_role", None)]
)
def test_the_console_opens_and_only_a_chained_session_names_no_length(
    broker_at, signin_stand_in, way, asked
):
    """AWS answers 400 to a length for credentials of a chained role, and gives them what is left of their hour."""
    world = broker_at(way)
    role = world.role(trust=way, max_seconds=7200)

    opened = open_console(
        make.principal(world.alice), Ask(role.id, "console", 3600), now=timezone.now()
    )

    assert isinstance(opened, ConsoleLink)
    [request] = signin_stand_in.requests
    assert request.form.get("SessionDuration") == asked


def test_a_chained_session_is_offered_and_given_an_hour(broker_at):
    world = broker_at("assume_role")
    role = world.role(trust="assume_role", max_seconds=43200)

    sheet = get_keys(make.principal(world.alice), Ask(role.id, "keys"), now=timezone.now())

    assert isinstance(sheet, Keys)
    assert Session.objects.get().seconds == 3600
    assert (sheet.expires_at - timezone.now()).total_seconds() <= 3601
