"""What an employee's own provider gave for AWS, kept for as long as it can be passed on there.

Two things are: the ID token of the sign-in, and the assertion of an application that the company made for AWS.

A company whose AWS roles already trust its own provider has that provider's ID token passed on in place of one of
Daypass's. To AWS such a token is as good as a password while it lives. So it is kept only where somebody has use for
it, only sealed, for one browser session of one person, until shortly before its own end; it goes with that session,
and leaves only towards AWS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NoReturn, SupportsIndex, TypeVar
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.views.decorators.debug import sensitive_variables

from accounts.events import RelayKept, announce
from accounts.identity import Principal
from accounts.models import (
    IdentityProvider,
    Person,
    ProviderSession,
    RelayedAssertion,
    RelayedToken,
)
from accounts.services.once import OneUse, consume
from broker.errors import DaypassError
from broker.errors import SignInRefused as Refused
from broker.sealing import seal, unseal

MARGIN = timedelta(seconds=60)
"""A token is taken for over this long before it is: the way to AWS takes time, and clocks differ."""

LONGEST_TOKEN = 20_000
LONGEST_ASSERTION = 100_000
"""Characters: AWS takes no longer WebIdentityToken, and no longer SAMLAssertion."""

ASSERTION_MARGIN = timedelta(seconds=15)
"""The same for an assertion, which lives for five minutes in all."""

MOST_RECORDED = 200
"""Roles of an assertion that its event names."""


class RelayOver(DaypassError):
    """What was kept for AWS is over, or was never kept; a new sign-in brings another."""

    code = "relay_over"
    message = "What your company's sign-in service gave Daypass for AWS has expired. Sign in again, then it works."


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
    """A token or assertion on its way to AWS. Its text never shows in a repr, a log line, a pickle or a copy.

    issuer: who made it. audience: for whom, where it is a token. provider_arn: of the SAML provider in the role's
    account that knows its maker, where it is an assertion.
    """

    __slots__ = ("_text", "audience", "issuer", "provider_arn")

    def __init__(
        self, text: str, *, issuer: str, audience: str = "", provider_arn: str = ""
    ) -> None:
        self._text = text
        self.issuer = issuer
        self.audience = audience
        self.provider_arn = provider_arn

    def reveal(self) -> str:
        """The text itself, for AWS and for nobody else."""
        return self._text

    def __repr__(self) -> str:
        return "<relayed, masked>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("what is relayed is neither pickled nor copied")


@sensitive_variables()
def relayed_token(principal: Principal, provider_id: UUID, *, now: datetime) -> Relayed:
    """The ID token of this very sign-in, for AWS and for nobody else; called at the moment of need, and kept nowhere.

    Raises RelayOver when there is none that is valid, KeyUnavailable when it cannot be opened.
    """
    kept = RelayedToken.objects.select_related("session__provider")
    row = _live(kept, principal, provider_id, now)
    if row is None:
        raise RelayOver(cause="The browser session holds no valid token of the role's provider.")
    text = unseal(row.sealed, place=_place(principal.relay, principal.person_id)).decode()
    provider = row.session.provider
    return Relayed(text, issuer=provider.issuer, audience=provider.client_id)


@sensitive_variables()
def take_assertion(
    person: Person,
    provider: IdentityProvider,
    message: str,
    *,
    session_key: str | None,
    asked: OneUse,
    assertion: OneUse,
    roles: Sequence[tuple[str, str]],
    evidence: Mapping[str, str],
    address: str,
    now: datetime,
) -> None:
    """Use up what was asked and the verified answer to it, and keep the answer for the session that asked, or nothing.

    evidence: of the verification; `until` says when AWS would not take the response any more.
    Raises SignInRefused when one of the two was used before, the session has ended, or the answer is over.
    """
    with transaction.atomic():
        consume(provider, asked)
        consume(provider, assertion)
        session = ProviderSession.objects.filter(
            session_key=session_key, person=person, provider=provider
        ).first()
        if session is None:
            raise Refused(
                code="state_unknown",
                cause="The sign-in at this provider that asked for the answer has ended.",
            )
        until = datetime.fromisoformat(evidence["until"])
        if not keep_assertion(session, message, roles=roles, expires=until, now=now):
            raise Refused(code="relay_over", cause="The answer for AWS is over already.")
        announce(
            RelayKept(
                person_id=person.pk,
                handle=person.handle,
                provider=provider.name,
                roles=tuple(role for role, _ in roles)[:MOST_RECORDED],
                evidence=evidence,
                address=address,
                at=now,
            )
        )


@sensitive_variables()
def keep_assertion(
    session: ProviderSession,
    message: str,
    *,
    roles: Iterable[tuple[str, str]],
    expires: datetime,
    now: datetime,
) -> bool:
    """Keep a verified response, as it was posted to the byte, in place of an earlier one. False when it is over.

    expires: when AWS would not take it any more. roles: its role and SAML provider ARNs.
    """
    ends = expires - ASSERTION_MARGIN
    if ends <= now:
        return False
    reference = relay_reference(session.session_key)
    RelayedAssertion.objects.update_or_create(
        session=session,
        defaults={
            "reference": reference,
            "sealed": seal(
                message.encode(), place=_place(reference, session.person_id, "assertion")
            ),
            "roles": [list(pair) for pair in roles],
            "expires_at": ends,
        },
    )
    return True


@sensitive_variables()
def relayed_assertion(
    principal: Principal, provider_id: UUID, role_arn: str, *, now: datetime
) -> Relayed:
    """The response that this very browser session brought, for a role that it lists; as `relayed_token`.

    Raises RelayOver, KeyUnavailable.
    """
    kept = RelayedAssertion.objects.select_related("session__provider__relay_application")
    row = _live(kept, principal, provider_id, now)
    provider_arn = dict(row.roles).get(role_arn) if row is not None else None
    if row is None or provider_arn is None:
        raise RelayOver(
            "What your company's sign-in service gave Daypass for AWS has expired. Open the role once more.",
            cause="The browser session holds no valid assertion that lists the role.",
        )
    place = _place(principal.relay, principal.person_id, "assertion")
    issuer = row.session.provider.relay_application.entity_id
    return Relayed(
        unseal(row.sealed, place=place).decode(), issuer=issuer, provider_arn=provider_arn
    )


Kept = TypeVar("Kept", RelayedToken, RelayedAssertion)


def _live(
    kept: QuerySet[Kept], principal: Principal, provider_id: UUID, now: datetime
) -> Kept | None:
    """What this very browser session of this very person holds of the provider that they signed in with, and lives."""
    if not principal.relay or principal.proof.provider_id != provider_id:
        return None
    return kept.filter(
        reference=principal.relay,
        session__person_id=principal.person_id,
        session__provider_id=provider_id,
        expires_at__gt=now,
    ).first()


def clear_relayed(*, now: datetime) -> int:
    """Delete what is over; how many there were."""
    tokens, _ = RelayedToken.objects.filter(expires_at__lte=now).delete()
    assertions, _ = RelayedAssertion.objects.filter(expires_at__lte=now).delete()
    return tokens + assertions


def _place(reference: str, person_id: UUID, what: str = "token") -> str:
    """What a sealed value is bound to: this one session of this one person."""
    return f"relayed-{what}:{reference}:{person_id}"
