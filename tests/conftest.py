"""The stage on which every test plays: production settings, a real Valkey, and a cast of people."""

from __future__ import annotations

import os

from tests.servers import start_valkey

# Before Django reads its settings: production mode, as an operator would configure it.
_valkey = start_valkey()
os.environ.update(
    DAYPASS_MODE="production",
    DAYPASS_ORIGIN="https://daypass.test",
    DAYPASS_SECRET_KEY="for tests only, and as long as it has to be in production",
    DAYPASS_SEALING_KEYS="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    DAYPASS_COMPANY="Example Corp",
    REDIS_URL=_valkey.url,
)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broker.settings")

import pytest  # noqa: E402
from django.test import Client  # noqa: E402


@pytest.fixture
def client() -> Client:
    """A browser without a session, at the canonical origin."""
    return Client(headers={"host": "daypass.test"})


@pytest.fixture(autouse=True, scope="session")
def _audit_log_can_be_flushed_between_transactional_tests():
    """Django empties the tables after a transactional test; the audit log's triggers would refuse that."""
    from django.db import connection
    from django.test import TransactionTestCase

    from broker.audit.triggers import INSTALL, REMOVE

    teardown = TransactionTestCase._fixture_teardown

    def without_triggers(self):
        with connection.cursor() as cursor:
            for statement in REMOVE[connection.vendor]:
                cursor.execute(statement)
        teardown(self)
        with connection.cursor() as cursor:
            for statement in INSTALL[connection.vendor]:
                cursor.execute(statement)

    TransactionTestCase._fixture_teardown = without_triggers
    yield
    TransactionTestCase._fixture_teardown = teardown
