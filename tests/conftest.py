"""The stage on which every test plays: production settings, a real Valkey, and a cast of people."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from tests.servers import start_valkey

# Before Django reads its settings: production mode, as an operator would configure it.
_valkey = start_valkey()
_static_root = tempfile.mkdtemp(prefix="daypass-static-")
atexit.register(shutil.rmtree, _static_root, ignore_errors=True)
os.environ.update(
    DAYPASS_MODE="production",
    DAYPASS_ORIGIN="https://daypass.test",
    DAYPASS_SECRET_KEY="for tests only, and as long as it has to be in production",
    DAYPASS_SEALING_KEYS="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    DAYPASS_COMPANY="Example Corp",
    DAYPASS_STATIC_ROOT=_static_root,
    REDIS_URL=_valkey.url,
)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broker.settings")

import django  # noqa: E402
import pytest  # noqa: E402

# Here and not by pytest-django's own setting, which would read Django's settings before this file.
django.setup()

from django.test import Client  # noqa: E402


@pytest.fixture
def client() -> Client:
    """A browser without a session, at the canonical origin."""
    return Client(headers={"host": "daypass.test"})


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
