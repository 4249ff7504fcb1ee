"""What the admin pages of accounts have in common."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpRequest

from accounts import services

WARN_BEFORE = timedelta(days=60)


def by(request: HttpRequest) -> services.By:
    """Who changes something, for the services."""
    principal = getattr(request, "principal", None)
    user: Any = request.user
    return services.By(
        id=str(user.pk), name=user.get_username(), address=principal.address if principal else ""
    )
