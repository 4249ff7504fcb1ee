"""Sessions: one row for every issue of credentials. The credential itself is never here."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone


class Session(models.Model):
    """One issue of credentials for one role to one person.

    pending: written and committed before STS is asked. active: AWS answered with credentials. failed: AWS refused, or
    a crash left it pending and it was resolved. expired, revoked: over.
    """

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        ACTIVE = "active", "Active"
        FAILED = "failed", "Failed"
        EXPIRED = "expired", "Expired"
        REVOKED = "revoked", "Revoked"

    class HandOver(models.TextChoices):
        CONSOLE = "console", "Console"
        KEYS = "keys", "Keys"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    person = models.ForeignKey(
        "accounts.Person", on_delete=models.PROTECT, related_name="aws_sessions"
    )
    role = models.ForeignKey("broker.AwsRole", on_delete=models.PROTECT, related_name="sessions")
    mapping = models.ForeignKey(
        "broker.Mapping", null=True, blank=True, on_delete=models.SET_NULL, related_name="sessions"
    )
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    hand_over = models.CharField(max_length=8, choices=HandOver.choices)
    session_name = models.CharField(max_length=64, unique=True)
    source_identity = models.CharField(max_length=64)
    seconds = models.PositiveIntegerField(help_text="How long it was asked for.")
    requested_at = models.DateTimeField(default=timezone.now)
    issued_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    access_key_id = models.CharField(max_length=128, blank=True, db_index=True)
    assumed_role_arn = models.CharField(max_length=2048, blank=True)
    packed_policy_size = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Percent, as STS said."
    )
    aws_error_code = models.CharField(max_length=64, blank=True)
    failure = models.CharField(
        max_length=500, blank=True, help_text="The likely cause, for the administrator."
    )
    remedy = models.CharField(max_length=1000, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    client = models.CharField(
        max_length=200, blank=True, help_text="Browser or AWS client that asked."
    )

    class Meta:
        ordering: ClassVar = ["-requested_at"]
        indexes: ClassVar = [
            models.Index(fields=["person", "-requested_at"], name="session_by_person"),
            models.Index(
                fields=["requested_at"], condition=Q(state="pending"), name="session_pending"
            ),
            models.Index(fields=["expires_at"], condition=Q(state="active"), name="session_active"),
        ]

    def __str__(self) -> str:
        return self.session_name
