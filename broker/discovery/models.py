"""What was found in AWS and is not in the catalogue, or not any more."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone


class Finding(models.Model):
    """An account or a role as AWS shows it. An administrator takes it into the catalogue, or sets it aside."""

    class Kind(models.TextChoices):
        ACCOUNT = "account", "AWS account"
        ROLE = "role", "AWS role"

    class State(models.TextChoices):
        NEW = "new", "New"
        ACCEPTED = "accepted", "Taken into the catalogue"
        DISMISSED = "dismissed", "Set aside"
        VANISHED = "vanished", "Not there any more"

    kind = models.CharField(max_length=8, choices=Kind.choices)
    arn = models.CharField("ARN", max_length=2048, unique=True)
    account_id = models.CharField("account id", max_length=12)
    name = models.CharField(max_length=200)
    state = models.CharField(max_length=12, choices=State.choices, default=State.NEW)
    details = models.JSONField(default=dict)
    first_seen_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    decided_by = models.ForeignKey(
        "accounts.Person", null=True, on_delete=models.SET_NULL, related_name="+"
    )
    decided_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["state", "account_id", "name"]
        indexes: ClassVar = [models.Index(fields=["kind", "account_id"], name="finding_by_account")]

    def __str__(self) -> str:
        return self.arn
