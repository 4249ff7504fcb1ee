"""What people arranged for themselves on their pages."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone


class Favourite(models.Model):
    """A role that a person pinned to the top of their list. It gives no right to it."""

    person = models.ForeignKey("accounts.Person", on_delete=models.CASCADE, related_name="+")
    role = models.ForeignKey("broker.AwsRole", on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering: ClassVar = ["created_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["person", "role"], name="one_favourite_per_person_and_role"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.person_id} pinned {self.role_id}"
