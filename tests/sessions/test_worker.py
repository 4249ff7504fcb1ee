"""A real Celery worker on a real Valkey: killed without warning, or with its queue emptied, it loses no work."""

from __future__ import annotations

import json

import kombu
import pytest
import redis

from broker.celery import app
from tests.product import Product, kill, until
from tests.servers import start_valkey

COUNT = 1500
EXPIRE = "broker.sessions.tasks.expire_due"

DUE_SESSIONS = f"""
from datetime import timedelta
from django.utils import timezone
from broker.sessions.models import Session
from tests import factories as make
alice, role, now = make.person("alice"), make.role("Developer"), timezone.now()
Session.objects.bulk_create(
    Session(person=alice, role=role, state="active", hand_over="keys", session_name=f"alice.{{n:08}}",
            source_identity="alice", seconds=900, issued_at=now, expires_at=now - timedelta(minutes=1))
    for n in range({COUNT})
)
"""


@pytest.fixture
def valkey():
    server = start_valkey()
    yield server
    server.stop()


@pytest.fixture
def product(tmp_path, valkey):
    made = Product(
        tmp_path, redis_url=valkey.url, DJANGO_SETTINGS_MODULE="tests.sessions.quick_redelivery"
    )
    made.python(DUE_SESSIONS)
    yield made
    made.stop()


def expired(product: Product) -> int:
    return product.rows("SELECT count(*) FROM broker_session WHERE state = 'expired'")[0][0]


def kill_in_the_middle(product: Product) -> None:
    worker = product.worker()
    product.send(EXPIRE)
    until(lambda: expired(product) > 0, every=0.01)
    kill(worker)

    assert 0 < expired(product) < COUNT, "the worker was not killed in the middle of its work"


def assert_each_expired_once(product: Product) -> None:
    until(lambda: expired(product) == COUNT, seconds=60)
    events = product.rows(
        "SELECT count(*), count(DISTINCT subject_id) FROM broker_auditevent WHERE kind = 'session.expired'"
    )
    assert events == [(COUNT, COUNT)]
    assert "Whole" in product.manage("verify_audit", "--skip-checks")


def test_a_killed_workers_message_comes_back_to_the_next_worker(product):
    kill_in_the_middle(product)

    product.worker()

    assert_each_expired_once(product)


def test_an_emptied_queue_loses_nothing_because_the_database_knows_what_is_due(product, valkey):
    kill_in_the_middle(product)
    redis.Redis.from_url(valkey.url).flushall()

    product.worker()
    product.send(EXPIRE)  # beat's next tick

    assert_each_expired_once(product)


def test_every_scheduled_task_is_one_that_the_worker_finds(settings):
    app.loader.import_default_modules()

    scheduled = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    assert scheduled <= set(app.tasks)


def test_a_message_carries_nothing_but_the_name_of_the_task(valkey):
    with kombu.Connection(valkey.url) as connection:
        app.send_task(EXPIRE, connection=connection)

    (message,) = redis.Redis.from_url(valkey.url).lrange("celery", 0, -1)
    envelope = json.loads(message)
    assert envelope["headers"]["task"] == EXPIRE
    assert envelope["headers"]["argsrepr"] == "()"
    assert envelope["headers"]["kwargsrepr"] == "{}"
    assert envelope["content-type"] == "application/json"
    assert b"alice" not in message


def test_the_worker_logs_json_lines(product):
    worker = product.worker()
    product.send(EXPIRE)

    def told() -> bool:
        whole = [
            line
            for line in product.logs.read_text().splitlines(keepends=True)
            if line.endswith("}\n")
        ]
        lines = [json.loads(line) for line in whole if line.startswith("{")]
        return any(li["logger"] == "daypass.sessions" and li["sessions"] == COUNT for li in lines)

    until(told, seconds=60)
    kill(worker)
