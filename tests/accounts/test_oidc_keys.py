"""A provider changes its keys: sign-in goes on, and no stranger makes Daypass fetch anything."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from celery import current_app
from django.utils import timezone

from accounts import services
from accounts.models import IdentityProvider
from accounts.views import oidc as doors
from tests.accounts import web
from tests.accounts.conftest import BY


@pytest.fixture
def queue():
    """The real queue, empty, which no worker serves unless the test plays one."""
    with current_app.connection_for_write() as connection:
        found = connection.SimpleQueue("celery")
        found.clear()
        yield found
        found.clear()
        found.close()


@pytest.fixture
def at_once():
    """Tasks are done where they are asked for."""
    current_app.conf.task_always_eager = True
    yield
    current_app.conf.task_always_eager = False


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(doors, "KEYS_AWAITED", 0.5)


def waiting(queue) -> int:
    return queue.channel.client.llen("celery")


def serve(queue) -> None:
    """Take one task from the queue and do it, as a worker does."""
    message = queue.get(timeout=20)
    message.ack()
    (arguments, _, _) = message.payload
    current_app.tasks[message.headers["task"]].apply(args=arguments)


def connect(op, **fields) -> IdentityProvider:
    return services.create_oidc_provider(
        slug="globex",
        name="Globex",
        issuer=op.issuer,
        client_id=op.client_id,
        secret=op.client_secret,
        by=BY,
        enabled=True,
        **fields,
    )


def test_keys_that_are_announced_before_they_are_used_need_nobody_to_wait(oidc_row, op, queue):
    old, new = op.key, op.new_key()
    op.bend_keys = lambda document: document.update(
        keys=[key.as_dict(private=False) for key in (old, new)]
    )
    services.refresh_provider(oidc_row.pk)
    op.asked.clear()

    for key in (old, new):
        op.key = key
        browser = web.browser()
        web.oidc_sign_in(browser, op)
        assert web.is_signed_in(browser)

    assert op.asked == ["/token", "/token"]
    assert waiting(queue) == 0


def test_a_provider_that_switches_at_once_is_followed_within_the_sign_in(together, op, queue):
    connect(op)
    op.key = op.new_key()
    fetched_by: list[str] = []
    fetch_keys = op._get

    def note(request):
        fetched_by.append(request.path)
        fetch_keys(request)

    op._get = note
    parts = ["browser", "worker"]
    lock = threading.Lock()

    def play() -> object:
        with lock:
            part = parts.pop()
        if part == "worker":
            return serve(queue)
        browser = web.browser()
        web.oidc_sign_in(browser, op)
        return web.is_signed_in(browser)

    results = together(play, times=2)

    assert sorted(results, key=str) == [None, True]
    assert fetched_by.count("/jwks") == 1


def test_nobody_fetches_keys_while_a_stranger_waits(oidc_row, op, queue, impatient, refusals):
    op.bend_header = lambda header: header.update(kid="unknown")
    op.asked.clear()
    browser = web.browser()

    page = web.oidc_sign_in(browser, op)

    assert page.status_code == 403
    assert "Try again in a moment" in page.content.decode()
    assert not web.is_signed_in(browser)
    ((code, reason),) = refusals()
    assert code == "key_unknown"
    assert "not among the provider's" in reason
    assert op.asked == ["/token"]
    assert waiting(queue) == 1


def test_a_refresh_is_asked_for_once_however_many_come(oidc_row, op, queue, impatient):
    op.bend_header = lambda header: header.update(kid="unknown")

    for _ in range(3):
        web.oidc_sign_in(web.browser(), op)

    assert waiting(queue) == 1


def test_nobody_waits_for_a_refresh_that_has_long_ended(oidc_row, op, queue, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(doors.time, "sleep", slept.append)
    IdentityProvider.objects.update(refresh_asked_at=timezone.now() - timedelta(minutes=2))
    op.bend_header = lambda header: header.update(kid="unknown")

    page = web.oidc_sign_in(web.browser(), op)

    assert page.status_code == 403
    assert slept == []


def test_keys_that_came_while_the_code_was_exchanged_are_taken(oidc_row, op, queue, monkeypatch):
    new = op.new_key()
    redeem = doors.oidc.redeem

    def meanwhile(*args, **kwargs):
        IdentityProvider.objects.update(jwks={"keys": [new.as_dict(private=False)]})
        return redeem(*args, **kwargs)

    monkeypatch.setattr(doors.oidc, "redeem", meanwhile)
    browser = web.browser()
    url = web.start(browser, "globex")
    op.key = new

    web.call_back(browser, op.authorize(url))

    assert web.is_signed_in(browser)


def test_a_provider_that_names_no_key_may_change_its_only_one(oidc_row, op, at_once):
    op.key = op.new_key()
    op.bend_header = lambda header: header.pop("kid")
    browser = web.browser()

    web.oidc_sign_in(browser, op)

    assert web.is_signed_in(browser)
