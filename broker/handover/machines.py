"""Handing over keys to a program: the bare values, for the wire form that its protocol wants."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.views.decorators.debug import sensitive_variables

from accounts.identity import Principal
from broker.entitlements.rules import Ask, Refused, RoleFacts
from broker.handover.keys import issue_keys

__all__ = ["MachineKeys", "get_machine_keys"]


@dataclass(frozen=True, slots=True)
class MachineKeys:
    """Temporary keys as AWS gave them, for one answer; nothing of it may be kept. Prints masked."""

    session_id: UUID
    role: RoleFacts
    session_name: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: datetime


@sensitive_variables()
def get_machine_keys(
    principal: Principal, ask: Ask, *, client: str, now: datetime
) -> MachineKeys | Refused:
    """New keys for a role, decided and recorded like all others before they are returned.

    client: the program's User-Agent; the portal shows it with the session. Raises AwsError and its kin,
    KeyUnavailable, AuditBroken.
    """
    issued = issue_keys(principal, ask, now=now, client=client)
    if isinstance(issued, Refused):
        return issued
    revealed = issued.credentials.reveal()
    return MachineKeys(
        session_id=issued.session_id,
        role=issued.role,
        session_name=issued.session_name,
        access_key_id=revealed.access_key_id,
        secret_access_key=revealed.secret_access_key,
        session_token=revealed.session_token,
        expires_at=issued.expires_at,
    )
