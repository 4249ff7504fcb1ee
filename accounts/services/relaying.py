"""What an employee's own provider gave for AWS, kept for as long as it can be passed on there.

A company whose AWS roles already trust its own provider has that provider's ID token passed on in place of one of
Daypass's. To AWS such a token is as good as a password while it lives. So it is kept only where somebody has use for
it, only sealed, for one browser session of one person, until shortly before its own end; it goes with that session,
and leaves only towards AWS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NoReturn, SupportsIndex
from uuid import UUID

from django.views.decorators.debug import sensitive_variables

from accounts.identity import Principal
from accounts.models import IdentityProvider, ProviderSession, RelayedToken
from broker.errors import DaypassError
from broker.sealing import seal, unseal

MARGIN = timedelta(seconds=60)
"""A token is taken for over this long before it is: the way to AWS takes time, and clocks differ."""

LONGEST_TOKEN = 20_000
"""AWS takes no longer WebIdentityToken."""


class RelayOver(DaypassError):
    """What was kept for AWS is over, or was never kept; a new sign-in brings another."""

    code = "relay_over"
    message = (
        "What your company's sign-in service gave Daypass for AWS has expired. Sign out, sign in again and try once "
        "more."
    )


_wanted: list[Callable[[UUID], bool]] = []


def relay_for(wanted: Callable[[UUID], bool]) -> None:
    """Say who has use for tokens: `wanted(provider id)`. Until somebody says so, none is kept."""
    if wanted not in _wanted:
        _wanted.append(wanted)


def somebody_relays(provider: IdentityProvider) -> bool:
    """Whether anybody has use for the tokens of this provider's sign-ins now."""
    return any(wanted(provider.pk) for wanted in _wanted)


def relay_reference(session_key: str | None) -> str:
    """How the rest of Daypass names what a browser session keeps: leads nobody back to the session's own key."""
    if not session_key:
        return ""
    return hashlib.sha256(f"relay\0{session_key}".encode()).hexdigest()


@sensitive_variables()
def keep_token(
    session: ProviderSession, id_token: str, *, expires: datetime, now: datetime
) -> bool:
    """Keep the verified ID token of the sign-in that this session began with. False when AWS would not take it.

    expires: the token's own `exp`.
    """
    ends = expires - MARGIN
    if ends <= now or len(id_token) > LONGEST_TOKEN:
        return False
    reference = relay_reference(session.session_key)
    RelayedToken.objects.create(
        session=session,
        reference=reference,
        sealed=seal(id_token.encode(), place=_place(reference, session.person_id)),
        expires_at=ends,
    )
    return True


class Relayed:
    """An ID token on its way to AWS. Its text never shows in a repr, a log line, a pickle or a copy.

    issuer, client_id: who made it, and for whom; what a role's trust has to name.
    """

    __slots__ = ("_text", "client_id", "issuer")

    def __init__(self, text: str, *, issuer: str, client_id: str) -> None:
        self._text = text
        self.issuer = issuer
        self.client_id = client_id

    def reveal(self) -> str:
        """The token itself, for AWS and for nobody else."""
        return self._text

    def __repr__(self) -> str:
        return "<relayed token, masked>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a relayed token is neither pickled nor copied")


@sensitive_variables()
def relayed_token(principal: Principal, provider_id: UUID, *, now: datetime) -> Relayed:
    """The ID token of this very sign-in, for AWS and for nobody else; called at the moment of need, and kept nowhere.

    Raises RelayOver when there is none that is valid, KeyUnavailable when it cannot be opened.
    """
    row = (
        RelayedToken.objects.filter(
            reference=principal.relay,
            session__person_id=principal.person_id,
            session__provider_id=provider_id,
            expires_at__gt=now,
        )
        .select_related("session__provider")
        .first()
        if principal.relay and principal.proof.provider_id == provider_id
        else None
    )
    if row is None:
        raise RelayOver(cause="The browser session holds no valid token of the role's provider.")
    text = unseal(row.sealed, place=_place(principal.relay, principal.person_id)).decode()
    provider = row.session.provider
    return Relayed(text, issuer=provider.issuer, client_id=provider.client_id)


def clear_relayed(*, now: datetime) -> int:
    """Delete what is over; how many there were."""
    gone, _ = RelayedToken.objects.filter(expires_at__lte=now).delete()
    return gone


def _place(reference: str, person_id: UUID) -> str:
    """What a sealed value is bound to: this one session of this one person."""
    return f"relayed-token:{reference}:{person_id}"
