"""One-use state: what was accepted once is refused ever after, decided by a unique constraint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, transaction

from accounts.models import (
    ConsumedMessage,
    IdentityProvider,
)
from broker.errors import SignInRefused as Refused


@dataclass(frozen=True, slots=True)
class OneUse:
    """A message that may be accepted once: the kind and id of it, and until when it would be fresh enough."""

    kind: str
    id: str
    expires_at: datetime


def consume(provider: IdentityProvider, message: OneUse) -> None:
    """Accept a message for the first and last time. Raises SignInRefused when it was accepted before.

    The unique constraint decides, so that of parallel attempts one wins (threats.md R4, R61).
    """
    try:
        with transaction.atomic():
            ConsumedMessage.objects.create(
                provider=provider,
                digest=_digest(message.kind, message.id),
                expires_at=message.expires_at,
            )
    except IntegrityError:
        raise Refused(
            code="replayed",
            cause=f"The same {message.kind} was used before.",
            remedy="Nothing, if somebody went back in the browser. Otherwise the message may have been stolen.",
        ) from None


def was_consumed(provider: IdentityProvider, kind: str, id: str) -> bool:
    """Whether this was accepted before. For a friendlier answer only: what counts is `consume`."""
    return ConsumedMessage.objects.filter(provider=provider, digest=_digest(kind, id)).exists()


def _digest(kind: str, id: str) -> str:
    return hashlib.sha256(f"{kind}\0{id}".encode()).hexdigest()
