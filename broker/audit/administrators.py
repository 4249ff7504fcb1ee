"""Who changes something in the admin, as services take it and the audit log keeps it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from broker.audit.services import Actor


def actor_of(request: HttpRequest) -> Actor:
    """The administrator who sent this request."""
    user: Any = request.user
    return Actor(id=str(user.pk), name=user.get_username())


def by(request: HttpRequest) -> dict[str, Any]:
    """`actor` and `address`, for services that take both."""
    principal = getattr(request, "principal", None)
    return {"actor": actor_of(request), "address": principal.address if principal else ""}
