"""Celery's part of terminals. What is due is found in the database, so an emptied queue loses nothing."""

from __future__ import annotations

from time import monotonic

from celery import shared_task
from django.utils import timezone

from broker.awssso import services

_SECONDS = 40
"""One run works no longer than this: the next one goes on where it stopped."""


@shared_task(name="broker.awssso.tasks.clear_terminals", time_limit=120, soft_time_limit=100)
def clear_terminals() -> None:
    """End terminals whose time is over, and clear what is over for long enough."""
    until = monotonic() + _SECONDS
    while monotonic() < until and services.expire_due(timezone.now()):
        pass
    services.clear(timezone.now())
