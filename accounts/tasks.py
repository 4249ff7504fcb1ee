"""Celery's part of accounts: providers are refreshed, certificates watched, what has expired is cleared."""

from __future__ import annotations

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.core.management import call_command
from django.utils import timezone

from accounts import refusals, services


@shared_task
def refresh_providers() -> None:
    """One task for each provider whose turn it is, so that a slow one holds nobody up."""
    for pk in services.claim_due(now=timezone.now()):
        refresh_one_provider.apply_async((str(pk),), expires=600)


@shared_task(soft_time_limit=40, time_limit=50)
def refresh_one_provider(provider_id: str) -> None:
    """Idempotent: the same news is told once, and a failure keeps what there was."""
    try:
        services.refresh_provider(provider_id, now=timezone.now())
    except SoftTimeLimitExceeded:
        services.refresh_failed(provider_id, "It took longer than 40 seconds.", now=timezone.now())


@shared_task
def warn_certificates() -> None:
    """What ends soon is told once at each step; the task may run as often as it likes."""
    services.warn_expiring(now=timezone.now())


@shared_task
def record_refusals() -> None:
    """One event for what was refused beyond what is recorded one by one."""
    refusals.record_tallies(now=timezone.now())


@shared_task
def clear_relayed() -> None:
    """What was kept for AWS and is over; more often than the rest, because it was a secret."""
    services.clear_relayed(now=timezone.now())


@shared_task
def clear_expired() -> None:
    services.clear_expired(now=timezone.now())
    call_command("clearsessions")
