"""The stage on which every test plays, and its cast. The environment comes from tests/environment.py."""

from __future__ import annotations

import hypothesis
import pytest
from django.test import Client

from tests.servers import Aws, Server, start_aws, start_valkey
from tests.spare_keys import stock

# How fast an example is made or tried is no property of ours: the machine may be busy.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


@pytest.fixture
def client() -> Client:
    """A browser without a session, at the canonical origin."""
    return Client(headers={"host": "daypass.test"})


@pytest.fixture(scope="session")
def aws() -> Aws:
    """moto as AWS with the sign-in stand-in beside it, in another process."""
    return start_aws()


@pytest.fixture
def valkey() -> Server:
    """A Valkey of the test's own, which it may empty or kill. The one that the settings name is there anyway."""
    server = start_valkey()
    yield server
    server.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything under tests/journeys is a journey, whether or not its author remembered the mark; interop alike."""
    for item in items:
        if "journeys" in item.path.parts:
            item.add_marker(pytest.mark.journey)
        if "interop" in item.path.parts:
            item.add_marker(pytest.mark.interop)
        if "clients" in item.path.parts:
            item.add_marker(pytest.mark.client)


@pytest.fixture
def signing_keys(db) -> None:
    """The broker's signing keys, ready-made: for every test that issues something."""
    from tests.signing_keys import keep_ready_made

    keep_ready_made()


@pytest.fixture(autouse=True)
def _own_keys_come_from_stock(monkeypatch: pytest.MonkeyPatch):
    """Those towards SAML providers and AWS: real RSA keys, made once and lent to one test after the other."""
    from accounts.services import keys
    from broker.minting import keys as signing_keys

    monkeypatch.setattr(keys, "rsa", stock)
    monkeypatch.setattr(signing_keys, "rsa", stock)
    with stock.lent():
        yield


@pytest.fixture(autouse=True)
def _no_reading_of_the_clock_outlives_a_test():
    """One test's AWS with a wrong clock would stop the next test from issuing."""
    from broker.aws import clock

    yield
    if clock._known.reading is not None:
        clock.forget()
    clock._known.looked = float("-inf")


@pytest.fixture(autouse=True)
def _no_region_is_avoided_after_a_test():
    """One test's region that does not answer would be asked last in the next."""
    from broker.aws import regions, signin

    yield
    signin._seen_well.clear()
    if regions._known:
        regions.forget()
    regions._looked.clear()


@pytest.fixture(autouse=True, scope="session")
def _pages_link_static_files_without_a_manifest():
    """The names of static files carry a hash only after collectstatic, which tests do not need."""
    from django.conf import settings
    from django.test import override_settings

    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    with override_settings(STORAGES={**settings.STORAGES, "staticfiles": plain}):
        yield


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


@pytest.fixture(autouse=True)
def _nothing_is_counted_from_test_to_test():
    """Neither in Redis nor in this process."""
    from django.core.cache import cache

    from accounts import limits, refusals, throttle

    cache.clear()
    throttle.forget()
    refusals.forget()
    limits.forget()
