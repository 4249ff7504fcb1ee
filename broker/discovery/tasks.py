"""Celery's part of discovery: each account in a task of its own, so that one that fails stops no other."""

from __future__ import annotations

import logging

from celery import shared_task
from django.utils import timezone

from broker.audit.services import Actor
from broker.discovery import queries, services
from broker.errors import DaypassError

log = logging.getLogger("daypass.discovery")

ACTOR = Actor.task("discovery")
APART = 2
"""Seconds between the beginnings of two looks: IAM and Organizations allow few calls."""


@shared_task(name="broker.discovery.tasks.discover_all", time_limit=120, soft_time_limit=100)
def discover_all() -> None:
    """Read every account that has a discovery role; nothing where none has."""
    for number, key in enumerate(queries.readable().values_list("pk", flat=True)):
        discover_account.apply_async((key,), countdown=number * APART)


@shared_task(
    name="broker.discovery.tasks.discover_account",
    time_limit=170,
    soft_time_limit=160,
    rate_limit="30/m",
)
def discover_account(account: int) -> None:
    found = queries.readable().filter(pk=account).first()
    if found is None:
        return
    try:
        services.look(found, actor=ACTOR, now=timezone.now())
    except DaypassError as error:
        log.warning(
            "account not read",
            extra={"account": found.account_id, "code": error.code, "cause": error.cause[:300]},
        )
