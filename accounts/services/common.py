"""What every verb of accounts has in common: who acts, reference numbers, news of a provider."""

from __future__ import annotations

import secrets
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

_REFERENCE_LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True)
class By:
    """Who changes something here, and from where: an administrator, or a task by name."""

    id: str
    name: str
    address: str = ""


def new_reference() -> str:
    """A number that a person can read out on the telephone."""
    return "".join(secrets.choice(_REFERENCE_LETTERS) for _ in range(8))


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
