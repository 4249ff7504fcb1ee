"""Celery's part of the doctor: gently, one role after the other, and never for long."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from broker.audit.services import Actor
from broker.doctor import queries, services
from broker.doctor.models import TrustCheck
from broker.doctor.services import Who
from broker.entitlements.models import AwsRole

log = logging.getLogger("daypass.doctor")

ACTOR = Actor.task("doctor")
_SECONDS = 60.0
"""No look begins later than this in one run."""
_PAUSE = 1.0
_MOST = 40


@shared_task(name="broker.doctor.tasks.check_due", time_limit=170, soft_time_limit=160)
def check_due() -> None:
    """Look at the roles that are due, when DAYPASS_CHECK_ROLES is on: each about once a day."""
    if settings.DAYPASS_CHECK_ROLES:
        _look(queries.due(timezone.now())[:_MOST], Who(ACTOR))


@shared_task(name="broker.doctor.tasks.check_account", time_limit=170, soft_time_limit=160)
def check_account(account: int, actor: list[str], address: str = "", after: str = "") -> None:
    """Look at every role of an account for an administrator (id, name); `after`: the last role that was looked at."""
    roles = queries.in_use().filter(account_id=account).order_by("id")
    if after:
        roles = roles.filter(id__gt=after)
    last = _look(roles, Who(Actor(*actor), address))
    if last is not None:
        check_account.delay(account, actor, address, str(last.role_id))


def _look(roles: Iterable[AwsRole], who: Who) -> TrustCheck | None:
    """Look until time is up. The last result when there was more to look at."""
    until = time.monotonic() + _SECONDS
    check = None
    for check in services.check_roles(roles, who=who, now=timezone.now):
        if time.monotonic() > until:
            return check
        time.sleep(_PAUSE)
    return None
