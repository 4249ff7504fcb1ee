"""What every verb of accounts has in common: who acts, and announcing what was changed or befell a provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from accounts.events import Changed, ProviderNews, announce
from accounts.models import IdentityProvider


@dataclass(frozen=True, slots=True)
class By:
    """Who changes something here, and from where: an administrator, or a task by name."""

    id: str
    name: str
    address: str = ""


def announce_changed(
    subject_type: str,
    subject_id: object,
    label: str,
    *,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    by: By,
    now: datetime,
) -> None:
    """Somebody changed something of this app: what it is, what is different, and who did it."""
    announce(
        Changed(
            actor_id=by.id,
            actor=by.name,
            subject_type=subject_type,
            subject_id=str(subject_id),
            label=label,
            before=before,
            after=after,
            address=by.address,
            at=now,
        )
    )


def news(
    what: str,
    provider: IdentityProvider,
    details: Mapping[str, Any],
    now: datetime,
    *,
    by: By | None = None,
) -> None:
    """Something happened with a provider; by: who did it, where it was a person or a task."""
    announce(
        ProviderNews(
            what=what,
            provider_id=provider.pk,
            provider=provider.name,
            details=dict(details),
            at=now,
            actor_id=by.id if by else "",
            actor=by.name if by else "",
        )
    )
