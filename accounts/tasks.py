"""Celery's part of accounts: providers are refreshed, certificates watched, what has expired is cleared."""

from __future__ import annotations

from celery import shared_task
from django.core.management import call_command
from django.utils import timezone

from accounts import services
from accounts.models import IdentityProvider


@shared_task
def refresh_providers() -> None:
    """One task a provider, so that a slow one holds nobody up."""
    for pk in IdentityProvider.objects.filter(enabled=True).values_list("pk", flat=True):
        refresh_one_provider.delay(str(pk))


@shared_task
def refresh_one_provider(provider_id: str) -> None:
    """Idempotent: the same news is told once, and a failure keeps what there was."""
    services.refresh_provider(provider_id, now=timezone.now())


@shared_task
def warn_certificates() -> None:
    services.warn_certificates(now=timezone.now())


@shared_task
def clear_expired() -> None:
    services.clear_expired(now=timezone.now())
    call_command("clearsessions")
