"""What people arrange for themselves: pinning roles. The only writer of favourites."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from broker.entitlements.models import AwsRole
from broker.errors import BadInput
from broker.portal.models import Favourite

MOST_PINNED = 30
"""More than this is no longer a short list at the top."""


def pin(person_id: UUID, role_id: UUID) -> None:
    """Pin a role; pinning it twice is pinning it. A role that does not exist is passed over in silence.

    Raises BadInput when the person has pinned too many.
    """
    with transaction.atomic():
        mine = Favourite.objects.filter(person_id=person_id)
        if mine.filter(role_id=role_id).exists() or not AwsRole.objects.filter(id=role_id).exists():
            return
        if mine.count() >= MOST_PINNED:
            raise BadInput(
                f"You have pinned {MOST_PINNED} roles already; unpin one first.",
                code="too_many_pinned",
            )
        Favourite.objects.get_or_create(person_id=person_id, role_id=role_id)


def unpin(person_id: UUID, role_id: UUID) -> None:
    """Unpin a role; nothing happens when it was not pinned."""
    Favourite.objects.filter(person_id=person_id, role_id=role_id).delete()
