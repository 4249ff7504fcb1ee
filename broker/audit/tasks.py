"""Celery's part of the audit: verify the chain, in short steps often and whole once a night."""

from __future__ import annotations

import logging

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from broker.audit import queries
from broker.audit.models import AuditHead
from broker.audit.rules import Kind, Violation
from broker.audit.services import Actor, record

log = logging.getLogger("daypass.audit")
TASK = Actor.task("verify_audit")


@shared_task(name="broker.audit.tasks.verify_recent", time_limit=120)
def verify_recent() -> None:
    """Verify what was written since the last verification."""
    head = AuditHead.objects.filter(pk=1).first()
    _keep(queries.verify_chain(after=head.verified_seq if head else 0), whole=False)


@shared_task(name="broker.audit.tasks.verify_whole", time_limit=3600, soft_time_limit=3500)
def verify_whole() -> None:
    """Verify the log from its first event."""
    _keep(queries.verify_chain(), whole=True)


def _keep(outcome: queries.Verified | Violation, *, whole: bool) -> None:
    """Keep what was found. A problem stands until the whole log is verified: its end may be whole and its past not."""
    with transaction.atomic():
        head = AuditHead.objects.select_for_update().filter(pk=1).first()
        if head is None:
            return
        if isinstance(outcome, Violation):
            log.error(
                "the audit log was tampered with",
                extra={"seq": outcome.seq, "problem": outcome.problem},
            )
            if head.problem != outcome.problem:
                AuditHead.objects.filter(pk=1).update(problem=outcome.problem[:500])
                record(
                    Kind.AUDIT_VIOLATED,
                    actor=TASK,
                    data={"seq": outcome.seq, "problem": outcome.problem},
                )
            return
        AuditHead.objects.filter(pk=1).update(
            verified_seq=outcome.last,
            verified_at=timezone.now(),
            problem="" if whole else head.problem,
        )
