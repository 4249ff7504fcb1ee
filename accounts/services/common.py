"""What every verb of accounts has in common: who acts, and announcing what was changed or befell a provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from accounts.events import (
    ProviderNews,
    announce,
)
from accounts.models import (
    IdentityProvider,
)


@dataclass(frozen=True, slots=True)
class By:
    """Who changes something here, and from where: an administrator, or a task by name."""

    id: str
    name: str
    address: str = ""


def news(
    what: str,
    provider: IdentityProvider,
    details: Mapping[str, Any],
    now: datetime,
    *,
    by: By | None = None,
) -> None:
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
