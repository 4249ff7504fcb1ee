"""The broker's signing keys. Private halves are sealed at rest and opened only inside broker.minting."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone


class SigningKey(models.Model):
    """One key of one purpose. At most one per purpose signs; others are published before or after their turn.

    published: in the JWKS or metadata, not signing yet. signing: the one in use. retired: still published until
    everything it signed is dead. removed: its turn is over, it is published no more. revoked: taken out of everything
    before its time, for good. Of a removed or revoked key nothing private is kept.
    retired_at: when its turn ended; of a revoked key when it was revoked, for until then it may have opened sessions.
    """

    class Purpose(models.TextChoices):
        OIDC = "oidc", "Tokens for AWS (OpenID Connect)"
        SAML = "saml", "Assertions for AWS (SAML)"

    class State(models.TextChoices):
        PUBLISHED = "published", "Published"
        SIGNING = "signing", "Signing"
        RETIRED = "retired", "Retired"
        REMOVED = "removed", "Removed"
        REVOKED = "revoked", "Revoked"

    class Backend(models.TextChoices):
        SEALED = "sealed", "Sealed in the database"
        KMS = "kms", "AWS KMS"

    kid = models.CharField("key id", max_length=64, unique=True, editable=False)
    purpose = models.CharField(max_length=8, choices=Purpose.choices, editable=False)
    algorithm = models.CharField(max_length=8, default="RS256", editable=False)
    state = models.CharField(max_length=12, choices=State.choices, default=State.PUBLISHED)
    backend = models.CharField(
        max_length=8, choices=Backend.choices, default=Backend.SEALED, editable=False
    )
    private_sealed = models.TextField(blank=True, editable=False)
    kms_key_arn = models.CharField("KMS key ARN", max_length=2048, blank=True, editable=False)
    certificate = models.TextField(editable=False, help_text="PEM, self-signed.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    signing_since = models.DateTimeField(null=True, editable=False)
    retired_at = models.DateTimeField(null=True, editable=False)
    expires_at = models.DateTimeField(editable=False, help_text="End of the certificate.")

    class Meta:
        ordering: ClassVar = ["purpose", "-created_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["purpose"], condition=Q(state="signing"), name="one_signing_key_per_purpose"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose.upper()} key {self.kid[:8]}"
