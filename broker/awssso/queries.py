"""Reading terminals and what administrators allow them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q

from accounts.models import IdentityProvider
from broker.awssso.models import Terminal, TerminalPolicy


@dataclass(frozen=True, slots=True)
class Policy:
    """What administrators allow the terminals of somebody. device_networks: CIDR; none listed: any.

    longest: how long a terminal may live; None: as long as the browser session that let it in.
    """

    enabled: bool = True
    device_codes: bool = True
    device_networks: tuple[str, ...] = ()
    script_tokens: bool = True
    longest: timedelta | None = None


def policy_of(provider_id: UUID | None) -> Policy:
    """The policy for people of this provider: its own row, else the one for everybody, else everything is allowed."""
    rows = {
        row.provider_id: row
        for row in TerminalPolicy.objects.filter(
            Q(provider_id=provider_id) | Q(provider__isnull=True)
        )
    }
    return _policy(rows.get(provider_id) or rows.get(None))


def policies_in_force() -> tuple[Policy, ...]:
    """What holds for anybody who might sign in: one policy for each provider that is switched on, or everybody's."""
    rows = {row.provider_id: row for row in TerminalPolicy.objects.all()}
    providers = IdentityProvider.objects.filter(enabled=True).values_list("pk", flat=True)
    return tuple(_policy(rows.get(pk) or rows.get(None)) for pk in [*providers]) or (
        _policy(rows.get(None)),
    )


def _policy(row: TerminalPolicy | None) -> Policy:
    if row is None:
        return Policy()
    return Policy(
        enabled=row.enabled,
        device_codes=row.device_codes,
        device_networks=tuple(row.device_networks),
        script_tokens=row.script_tokens,
        longest=timedelta(seconds=row.longest_seconds) if row.longest_seconds else None,
    )


@dataclass(frozen=True, slots=True)
class TerminalRow:
    """One terminal as pages show it. live: it may still ask. role_name: of the one role that it may ask for, or ""."""

    id: UUID
    kind: str
    kind_title: str
    flow: str
    flow_title: str
    label: str
    client_name: str
    user_agent: str
    role_id: UUID | None
    role_name: str
    account_id: str
    account_name: str
    asked_from: str
    approved_from: str
    created_at: datetime
    ends_at: datetime
    used_at: datetime | None
    used_from: str
    used_by: str
    ended_at: datetime | None
    ended_because: str
    ended_title: str
    live: bool


def of_person(person_id: UUID, now: datetime, *, at_most: int = 100) -> tuple[TerminalRow, ...]:
    """The terminals of a person, live ones first, each latest first. Those that are over are cleared after a while."""
    rows = Terminal.objects.select_related("role__account").filter(person_id=person_id)
    live = rows.filter(ended_at__isnull=True, ends_at__gt=now).order_by("-created_at", "id")
    over = rows.exclude(ended_at__isnull=True, ends_at__gt=now).order_by("-created_at", "id")
    found = [*live[:at_most]]
    found += over[: at_most - len(found)]
    return tuple(_row(terminal, now) for terminal in found)


def _row(terminal: Terminal, now: datetime) -> TerminalRow:
    role = terminal.role
    over = terminal.ended_at is None and terminal.ends_at <= now
    because = Terminal.Ended.EXPIRED if over else terminal.ended_because
    return TerminalRow(
        id=terminal.pk,
        kind=terminal.kind,
        kind_title=terminal.get_kind_display(),
        flow=terminal.flow,
        flow_title=terminal.get_flow_display(),
        label=terminal.label,
        client_name=terminal.client_name,
        user_agent=terminal.user_agent,
        role_id=terminal.role_id,
        role_name=role.name if role else "",
        account_id=role.account.account_id if role else "",
        account_name=role.account.name if role else "",
        asked_from=terminal.asked_from or "",
        approved_from=terminal.approved_from or "",
        created_at=terminal.created_at,
        ends_at=terminal.ends_at,
        used_at=terminal.used_at,
        used_from=terminal.used_from or "",
        used_by=terminal.used_by,
        ended_at=terminal.ends_at if over else terminal.ended_at,
        ended_because=str(because),
        ended_title=Terminal.Ended(because).label if because else "",
        live=terminal.ended_at is None and not over,
    )
