"""People with a signed-in browser, and AWS on loopback."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from accounts import browser as browser_session
from accounts.models import Person
from tests import factories as make
from tests.aws.servers import (  # noqa: F401  (fixtures)
    _signin_server,
    _sts_server,
    signin_stand_in,
    sts_stand_in,
)


def sign_in(
    person: Person, *, mfa: bool = False, at: datetime | None = None, **options: bool
) -> Client:
    """A browser in which the person signed in through their provider, as the sign-in itself would leave it."""
    client = Client(headers={"host": "daypass.test"}, **options)
    client.force_login(person, backend=settings.AUTHENTICATION_BACKENDS[0])
    session = client.session
    browser_session.begin(
        SimpleNamespace(session=session),
        person,
        make.proof(at=at, mfa=mfa, of=person.provider),
        now=timezone.now(),
    )
    session.save()
    return client


@pytest.fixture
def group(db):
    return make.group("developers")


@pytest.fixture
def ada(group) -> Person:
    return make.person("ada", name="Ada Lindqvist", groups=[group])


@pytest.fixture
def browser(ada) -> Client:
    return sign_in(ada)


@pytest.fixture
def production(db):
    return make.environment("Production", colour="red", production=True)


@pytest.fixture
def payments(production):
    return make.account(
        "Payments production", account_id="111122223333", environment=production, region="eu-west-1"
    )


@pytest.fixture
def developer(group, payments):
    role = make.role("Developer", of=payments, description="Deploy and debug", max_seconds=28800)
    make.mapping(group, role)
    return role


@pytest.fixture
def page_text() -> Callable[..., str]:
    """What a reader sees of an answer: its text, without tags and with single spaces."""
    from lxml import html

    def text(response) -> str:
        tree = html.document_fromstring(response.content.decode())
        for hidden in tree.xpath("//script|//style|//dialog"):
            hidden.drop_tree()
        return " ".join(tree.text_content().split())

    return text
