"""Celery's part of upkeep. What is due is found in the database, so an emptied queue loses nothing."""

from __future__ import annotations

import logging

from celery import shared_task
from django.utils import timezone

from broker.errors import DaypassError
from broker.upkeep import services

log = logging.getLogger("daypass.upkeep")


@shared_task(name="broker.upkeep.tasks.turn_keys", soft_time_limit=100, time_limit=120)
def turn_keys() -> None:
    """Take the steps that are due with the signing keys."""
    for planned in services.turn_keys(now=timezone.now()):
        log.info("signing keys: a step was taken", extra={"step": planned.deed, "kid": planned.kid})


@shared_task(name="broker.upkeep.tasks.publish_copy", soft_time_limit=100, time_limit=120)
def publish_copy() -> None:
    """Write the published copy. What goes wrong stands in the admin and is tried again by the schedule."""
    try:
        services.publish_copy(now=timezone.now())
    except DaypassError as error:
        log.error("the keys are not published", extra={"code": error.code, "cause": error.cause})


@shared_task(name="broker.upkeep.tasks.follow_up_all", soft_time_limit=100, time_limit=120)
def follow_up_all() -> None:
    """One task for each account whose SAML provider has to be looked at, so that a slow one holds nobody up."""
    for pk in services.to_follow_up(now=timezone.now()):
        follow_up.apply_async((pk,), expires=600)


@shared_task(name="broker.upkeep.tasks.follow_up", soft_time_limit=100, time_limit=120)
def follow_up(account: int) -> None:
    services.follow_up(account, now=timezone.now())
