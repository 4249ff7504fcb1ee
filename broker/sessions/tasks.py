"""Celery's part of sessions. What is due is found in the database, so an emptied queue loses nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from time import monotonic

from celery import shared_task
from django.utils import timezone

from broker.sessions import services

log = logging.getLogger("daypass.sessions")

_SECONDS = 40
"""One run works no longer than this: the next one goes on where it stopped."""


@shared_task(name="broker.sessions.tasks.resolve_pending", time_limit=120, soft_time_limit=100)
def resolve_pending() -> None:
    """Resolve sessions that a crash left pending."""
    resolved = _all(services.resolve_pending)
    if resolved:
        log.warning("resolved sessions that a crash left pending", extra={"sessions": resolved})


@shared_task(name="broker.sessions.tasks.expire_due", time_limit=120, soft_time_limit=100)
def expire_due() -> None:
    """Mark sessions whose time is over."""
    expired = _all(services.expire_due)
    if expired:
        log.info("expired sessions", extra={"sessions": expired})


def _all(batch: Callable[[datetime], int]) -> int:
    until = monotonic() + _SECONDS
    total = 0
    while monotonic() < until:
        changed = batch(timezone.now())
        total += changed
        if changed == 0:
            break
    return total
