"""Which accounts are read."""

from __future__ import annotations

from django.db.models import QuerySet

from broker.entitlements.models import AwsAccount


def readable() -> QuerySet[AwsAccount]:
    """Accounts in use with a discovery role; those that list an organisation first."""
    return (
        AwsAccount.objects.filter(enabled=True)
        .exclude(discovery_role="")
        .order_by("-management", "name", "id")
    )
