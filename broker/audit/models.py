"""The audit log: append-only rows, chained by hash. Database triggers refuse update and delete (see migrations)."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class AuditEvent(models.Model):
    """One thing that happened. Values are copied in, never referenced, so that a row means the same for ever."""

    seq = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField(db_index=True)
    kind = models.CharField(max_length=60)
    actor_id = models.CharField(
        max_length=64, blank=True, help_text="Person id, or the name of a task."
    )
    actor = models.CharField(max_length=200, blank=True, help_text="Handle, as it was then.")
    subject_type = models.CharField(max_length=40, blank=True)
    subject_id = models.CharField(max_length=64, blank=True)
    reference = models.CharField(
        max_length=16, blank=True, help_text="The number a person was shown."
    )
    address = models.CharField(max_length=45, blank=True)
    data = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering: ClassVar = ["-seq"]
        indexes: ClassVar = [
            models.Index(fields=["actor_id", "-seq"], name="audit_by_actor"),
            models.Index(fields=["subject_type", "subject_id", "-seq"], name="audit_by_subject"),
            models.Index(fields=["kind", "-seq"], name="audit_by_kind"),
            models.Index(fields=["reference"], name="audit_by_reference"),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.kind}"


class AuditHead(models.Model):
    """The one locked row that orders the chain: where it ends now."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    seq = models.BigIntegerField(default=0)
    hash = models.CharField(max_length=64)
    verified_seq = models.BigIntegerField(default=0)
    verified_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=500, blank=True)

    def __str__(self) -> str:
        return f"audit head at {self.seq}"
