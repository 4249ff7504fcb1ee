"""An STS that truly checks, and Daypass in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client

from broker.aws import clock
from tests.aws.servers import (  # noqa: F401  (fixtures)
    _signin_server,
    _sts_server,
    aws,
    moto,
    signin_stand_in,
    sts_stand_in,
)
from tests.strict_sts import Published, StrictSts

ISSUER = "https://daypass.test"


@pytest.fixture
def documents() -> Iterator[Published]:
    """Where the internet finds an issuer's documents."""
    with Published() as published:
        yield published


@pytest.fixture
def strict(documents, settings) -> Iterator[StrictSts]:
    """The strict STS, as the endpoint of Daypass; it knows no role and no provider yet."""
    with StrictSts(issuer_urls={ISSUER: documents.url}) as sts:
        settings.DAYPASS_STS_ENDPOINT = sts.url
        yield sts
    clock.forget()


@pytest.fixture
def published(client: Client, documents: Published, signing_keys) -> Published:
    """Daypass's documents, where AWS fetches them."""
    documents.publish_daypass(client)
    return documents
