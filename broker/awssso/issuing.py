"""Keys for a terminal, in whichever protocol they were asked for: decided, recorded, and kept back if it has ended."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.views.decorators.debug import sensitive_variables

from broker.audit.services import Actor
from broker.awssso.models import Terminal
from broker.awssso.services import Asker, Bearer
from broker.awssso.wire import Failure, Fault, WireError
from broker.entitlements.rules import Ask, Door, Refused
from broker.handover.machines import MachineKeys, get_machine_keys
from broker.sessions import services as sessions


def door_of(flow: str) -> Door:
    """Through which door a terminal's asks come; see `Ask`."""
    return "device_code" if flow == Terminal.Flow.DEVICE else "terminal"


def ask_of(terminal: Terminal, role_id: UUID, seconds: int | None = None) -> Ask:
    """What a terminal asks for when it wants keys of this role."""
    return Ask(role_id, "keys", seconds, door=door_of(terminal.flow), terminal=terminal.pk)


@sensitive_variables()
def keys_for(bearer: Bearer, ask: Ask, asker: Asker, *, now: datetime) -> MachineKeys | Refused:
    """New keys, as a session of their own, or why there are none.

    Raises AwsError and its kin; WireError (UnauthorizedException) when the terminal ended while AWS was asked: that may
    take seconds, and nothing leaves for it then (threats.md R18).
    """
    terminal = bearer.terminal
    client = asker.user_agent or terminal.client_name
    given = get_machine_keys(bearer.principal, ask, client=client, now=now)
    if isinstance(given, Refused):
        return given
    if not Terminal.objects.filter(pk=terminal.pk, ended_at__isnull=True).exists():
        sessions.end(given.session_id, Actor.task("terminals"), now)
        raise WireError(
            Failure(
                Fault.UNAUTHORIZED, "This terminal was ended while AWS was asked. Sign in again."
            )
        )
    return given
