"""What the last look at a role's trust found."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from broker.entitlements.models import AwsRole


class TrustCheck(models.Model):
    """The last look at one role: every step in order, and the first cause of failure with its remedy."""

    class Outcome(models.TextChoices):
        WORKS = "works", "Works"
        FAILS = "fails", "Does not work"
        UNSURE = "unsure", "Could not be told"

    role = models.OneToOneField(AwsRole, on_delete=models.CASCADE, related_name="trust_check")
    at = models.DateTimeField(default=timezone.now)
    outcome = models.CharField(max_length=8, choices=Outcome.choices)
    code = models.CharField(max_length=64, blank=True)
    cause = models.TextField(blank=True)
    remedy = models.TextField(blank=True)
    document = models.TextField(blank=True, help_text="The corrected policy, when there is one.")
    steps = models.JSONField(default=list)

    class Meta:
        ordering: ClassVar = ["-at"]

    def __str__(self) -> str:
        return f"{self.role}: {self.get_outcome_display().lower()}"
