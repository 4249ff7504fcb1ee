"""Reading what the doctor found."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from broker.doctor.models import TrustCheck
from broker.entitlements.models import AwsRole
from broker.sessions.models import Session

TOLD = timedelta(days=7)
"""For how long people are told of a failure; afterwards nobody knows any more."""
DUE = timedelta(hours=24)
_GOOD = (Session.State.ACTIVE, Session.State.EXPIRED, Session.State.REVOKED)


def did_not_work_at(role_id: UUID, now: datetime) -> datetime | None:
    """When the role was last tried and failed; None when it works, or nobody knows, or somebody got in since."""
    at = (
        TrustCheck.objects.filter(
            role_id=role_id, outcome=TrustCheck.Outcome.FAILS, at__gt=now - TOLD
        )
        .values_list("at", flat=True)
        .first()
    )
    if at is None:
        return None
    since = Session.objects.filter(role_id=role_id, state__in=_GOOD, issued_at__gt=at)
    return None if since.exists() else at


def due(now: datetime) -> QuerySet[AwsRole]:
    """Roles in use to look at again: never seen first, then the longest unseen; somebody's failure makes one due."""
    failed = Session.objects.filter(
        role=OuterRef("pk"),
        state=Session.State.FAILED,
        requested_at__gt=OuterRef("trust_check__at"),
    )
    return (
        in_use()
        .filter(Q(trust_check__isnull=True) | Q(trust_check__at__lt=now - DUE) | Q(Exists(failed)))
        .order_by(F("trust_check__at").asc(nulls_first=True), "id")
    )


def in_use() -> QuerySet[AwsRole]:
    """Roles that people may get, with their accounts, in the order of the catalogue."""
    return (
        AwsRole.objects.filter(enabled=True, account__enabled=True)
        .select_related("account")
        .order_by("account__name", "name", "id")
    )
