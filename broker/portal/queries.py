"""What the pages read about a person's own arrangement: what they pinned and what they used last."""

from __future__ import annotations

from uuid import UUID

from broker.portal.models import Favourite
from broker.sessions.models import Session

_LOOK_BACK = 40


def pinned_roles(person_id: UUID) -> tuple[UUID, ...]:
    """The roles that the person pinned, in the order of pinning."""
    return tuple(
        Favourite.objects.filter(person_id=person_id)
        .order_by("created_at", "id")
        .values_list("role_id", flat=True)
    )


def recent_roles(person_id: UUID) -> tuple[UUID, ...]:
    """The roles of the person's last sessions, latest first, each once."""
    used = (
        Session.objects.filter(person_id=person_id)
        .exclude(state=Session.State.FAILED)
        .order_by("-requested_at")
        .values_list("role_id", flat=True)[:_LOOK_BACK]
    )
    return tuple(dict.fromkeys(used))
