"""What is remembered of the published copy of the OpenID documents."""

from __future__ import annotations

from django.db import models


class Publication(models.Model):
    """One place that DAYPASS_PUBLISH_TO named, and since when it holds which keys. A new place begins anew."""

    target = models.CharField(max_length=500, unique=True)
    held = models.JSONField(default=dict, help_text="Key id -> since when the copy holds it.")
    tried_at = models.DateTimeField(null=True)
    succeeded_at = models.DateTimeField(null=True)
    problem = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.target
