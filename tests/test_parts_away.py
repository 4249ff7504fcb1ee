"""Without its database Daypass says so quietly; without Redis people still get in, and nothing can be used twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from django.conf import settings as django_settings
from django.core.cache import cache

from accounts.models import ConsumedMessage
from tests.accounts import web
from tests.accounts.conftest import (  # noqa: F401  (fixtures)
    idp,
    oidc_row,
    op,
    saml_row,
)
from tests.accounts.test_break_glass import LOCAL, break_glass, enrol, log_in, totp

ROOT = Path(__file__).resolve().parent.parent

ASK = """
import django, json, os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broker.settings")
django.setup()
from django.conf import settings
from django.test import Client, override_settings
plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
client = Client(headers={"host": "daypass.test"}, raise_request_exception=False)
client.cookies[settings.SESSION_COOKIE_NAME] = "a" * 32
said = {}
with override_settings(STORAGES={**settings.STORAGES, "staticfiles": plain}):
    for method, path, data in json.loads(os.environ["ASK"]):
        answer = getattr(client, method)(path, data, secure=True)
        said[f"{method} {path}"] = [
            answer.status_code, answer.headers.get("Retry-After", ""), answer.content.decode()
        ]
print(json.dumps(said))
"""

DOORS = [
    ("get", "/", {}),
    ("get", "/sign-in/", {}),
    ("post", "/sign-in/acme/", {}),
    ("get", "/saml/acme/metadata/", {}),
    ("get", "/saml/acme/acs/finish/", {}),
    ("get", "/oidc/globex/callback/", {"state": "x", "code": "y"}),
    ("post", "/sign-in/local/", {"login": "break-glass", "password": "whatever"}),
    ("get", "/admin/", {}),
    ("get", "/sessions/", {}),
]


def test_without_the_database_every_door_answers_503_without_a_word_of_why(tmp_path):
    url = "postgresql://daypass:hidden-password@127.0.0.1:1/daypass"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK],
        env={**os.environ, "DATABASE_URL": url, "ASK": json.dumps(DOORS)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    for door, (status, retry, page) in json.loads(done.stdout.splitlines()[-1]).items():
        assert status == 503, (door, status)
        assert retry == "10", door
        assert "Daypass cannot do that right now" in page, door
        for word in ("Traceback", "psycopg", "OperationalError", "hidden", "127.0.0.1"):
            assert word not in page, door
    assert "hidden-password" not in done.stderr


# --- Redis


@pytest.fixture
def own_valkey(valkey, settings):
    """The cache of this test, which it may end."""
    settings.CACHES = {
        "default": {**django_settings.CACHES["default"], "LOCATION": valkey.url},
    }
    yield valkey
    cache.close()
    if valkey.process.poll() is None:
        valkey.process.send_signal(signal.SIGCONT)


def end(server) -> None:
    server.process.kill()
    server.process.wait(timeout=10)


def make_read_only(server) -> None:
    """A replica of nobody: reads go on, every write is refused."""
    redis.Redis(port=server.port).execute_command("REPLICAOF", "127.0.0.1", "1")


def empty(server) -> None:
    redis.Redis(port=server.port).flushall()


def freeze(server) -> None:
    """It takes connections and answers nothing."""
    server.process.send_signal(signal.SIGSTOP)


FAULTS = [end, make_read_only, empty, freeze]


@pytest.mark.parametrize("fault", FAULTS)
def test_people_sign_in_and_stay_in_without_redis(own_valkey, saml_row, idp, fault):  # noqa: F811
    before = web.browser()
    web.saml_sign_in(before, idp)

    fault(own_valkey)

    after = web.browser()
    web.saml_sign_in(after, idp)
    assert web.is_signed_in(after)
    assert before.get("/", secure=True).status_code == 200


@pytest.mark.parametrize("fault", FAULTS)
def test_oidc_signs_in_without_redis(own_valkey, oidc_row, op, fault):  # noqa: F811
    fault(own_valkey)

    client = web.browser()
    web.oidc_sign_in(client, op)

    assert web.is_signed_in(client)


@pytest.mark.parametrize("fault", FAULTS)
def test_without_redis_no_answer_is_taken_twice(own_valkey, saml_row, idp, fault):  # noqa: F811
    client = web.browser()
    answer = idp.answer(web.start(client, "acme"))
    web.post_answer(client, "acme", answer)
    assert web.is_signed_in(client)
    taken = ConsumedMessage.objects.count()
    assert taken >= 1

    fault(own_valkey)

    for again in (client, web.browser()):
        again.cookies.pop(django_settings.SESSION_COOKIE_NAME, None)
        web.post_answer(again, "acme", answer)
        assert not web.is_signed_in(again)
    assert ConsumedMessage.objects.count() >= taken


@pytest.mark.parametrize("fault", FAULTS)
def test_no_session_that_ended_is_revived(own_valkey, saml_row, idp, fault):  # noqa: F811
    client = web.browser()
    web.saml_sign_in(client, idp)
    cookie = client.cookies[django_settings.SESSION_COOKIE_NAME].value
    client.post("/sign-out/", secure=True)

    fault(own_valkey)

    thief = web.browser()
    thief.cookies[django_settings.SESSION_COOKIE_NAME] = cookie
    assert not web.is_signed_in(thief)
    assert thief.get("/", secure=True).status_code == 302


@pytest.mark.parametrize("fault", FAULTS)
def test_the_break_glass_door_opens_without_redis_once_per_code(own_valkey, db, settings, fault):
    """It is for the day on which other things do not work; what is used up is used up in the database."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    password = break_glass()
    first = web.browser()
    log_in(first, password)
    code = totp(enrol(first), step=1)
    fault(own_valkey)
    browsers = [web.browser(), web.browser()]

    for client in browsers:
        log_in(client, password)
        client.post(f"{LOCAL}second-factor/authenticate/", {"code": code}, secure=True)

    assert [web.is_signed_in(client) for client in browsers] == [True, False]


def test_with_redis_emptied_the_break_glass_door_opens_once_per_code(own_valkey, db, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    password = break_glass()
    first = web.browser()
    log_in(first, password)
    code = totp(enrol(first), step=1)
    browsers = [web.browser(), web.browser()]
    for client in browsers:
        log_in(client, password)

    for client in browsers:
        client.post(f"{LOCAL}second-factor/authenticate/", {"code": code}, secure=True)
        empty(own_valkey)

    assert [web.is_signed_in(client) for client in browsers] == [True, False]
