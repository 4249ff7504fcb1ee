"""Handing over keys: recorded, revealed once, in one response."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.views.decorators.debug import sensitive_variables

from accounts.identity import Principal
from broker.assume import services as assume
from broker.audit.rules import Kind
from broker.audit.services import Actor, Entry, Subject
from broker.entitlements.rules import Ask, Refused, RoleFacts
from broker.handover import rules
from broker.handover.rules import KeyForm

__all__ = ["KeyForm", "Keys", "get_keys", "issue_keys"]


@dataclass(frozen=True, slots=True)
class Keys:
    """Temporary keys in every form, for one response; nothing of it may be kept."""

    session_id: UUID
    role: RoleFacts
    session_name: str
    access_key_id: str
    expires_at: datetime
    forms: tuple[KeyForm, ...] = field(repr=False)


@sensitive_variables()
def get_keys(principal: Principal, ask: Ask, *, now: datetime, client: str = "") -> Keys | Refused:
    """Temporary keys for a role, in every form. Raises as `issue_keys`."""
    issued = issue_keys(principal, ask, now=now, client=client)
    if isinstance(issued, Refused):
        return issued
    revealed = issued.credentials.reveal()
    role = issued.role
    forms = rules.key_forms(
        rules.KeyFacts(
            access_key_id=revealed.access_key_id,
            secret_access_key=revealed.secret_access_key,
            session_token=revealed.session_token,
            expires_at=revealed.expires_at,
            account_id=role.account_id,
            region=role.region,
            profile=rules.profile_name(role.account_id, role.name),
        )
    )
    return Keys(
        session_id=issued.session_id,
        role=role,
        session_name=issued.session_name,
        access_key_id=issued.credentials.access_key_id,
        expires_at=issued.expires_at,
        forms=forms,
    )


def issue_keys(
    principal: Principal, ask: Ask, *, now: datetime, client: str
) -> assume.Issued | Refused:
    """Credentials that are about to leave as keys; the hand-over is recorded before this returns.

    client: the program that asks, as it names itself; the session keeps it. Which terminal asked (`Ask.terminal`) is
    recorded as well. Raises AwsError and its kin, KeyUnavailable, AuditBroken.
    """
    if ask.hand_over != "keys":
        raise ValueError("keys are handed over for an ask with hand_over keys")
    opened = assume.begin(principal, ask, now, client=client)
    if isinstance(opened, Refused):
        return opened
    data = {"role": opened.plan.role.arn, "session_name": opened.plan.session_name}
    if ask.terminal is not None:
        data |= {"client": client[:200], "door": ask.door, "terminal": str(ask.terminal)}
    handing_over = Entry(
        Kind.HAND_OVER_KEYS,
        actor=Actor(id=str(principal.person_id), name=principal.handle),
        subject=Subject("session", str(opened.id)),
        data=data,
        address=principal.address,
    )
    return assume.obtain(opened, also=[handing_over])
