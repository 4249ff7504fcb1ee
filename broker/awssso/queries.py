"""Reading terminals and what administrators allow them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Model, Q, QuerySet
from django.db.models.functions import Coalesce

from accounts.models import IdentityProvider, Person
from broker.awssso.models import Terminal, TerminalPolicy, TerminalToken
from broker.prepared import Prepared


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
    found = {row[0]: row[1:] for row in _policies_for(provider_id=provider_id or UUID(int=0))}
    row = found.get(provider_id) or found.get(None)
    return _policy(*row) if row else Policy()


def policies_in_force() -> tuple[Policy, ...]:
    """What holds for anybody who might sign in: one policy for each provider that is switched on, or everybody's."""
    found = {row[0]: _policy(*row[1:]) for row in _columns(TerminalPolicy.objects.order_by())}
    for_all = found.get(None, Policy())
    providers = IdentityProvider.objects.filter(enabled=True).values_list("pk", flat=True)
    return tuple(found.get(pk, for_all) for pk in providers) or (for_all,)


def _columns(rows: QuerySet[TerminalPolicy]) -> QuerySet[TerminalPolicy, tuple[Any, ...]]:
    return rows.values_list(
        "provider_id",
        "enabled",
        "device_codes",
        "device_networks",
        "script_tokens",
        "longest_seconds",
    )


_policies_for = Prepared(
    lambda provider_id: _columns(
        TerminalPolicy.objects.filter(
            Q(provider_id=provider_id) | Q(provider_id__isnull=True)
        ).order_by()
    )
)


def _policy(
    enabled: bool,
    device_codes: bool,
    device_networks: list[str],
    script_tokens: bool,
    longest_seconds: int | None,
) -> Policy:
    return Policy(
        enabled=enabled,
        device_codes=device_codes,
        device_networks=tuple(device_networks),
        script_tokens=script_tokens,
        longest=timedelta(seconds=longest_seconds) if longest_seconds else None,
    )


# --- Whose token it is


def _fields(model: type[Model], *names: str) -> tuple[str, ...]:
    """These fields of a model, or all, in the order in which `from_db` takes them."""
    every = (field.attname for field in model._meta.concrete_fields)
    return tuple(name for name in every if name in names or not names)


_OF_TERMINAL = _fields(Terminal)
_OF_PERSON = _fields(
    Person, "id", "handle", "name", "email", "is_active", "epoch", "attributes", "provider_id"
)
_OF_PROVIDER = _fields(IdentityProvider, "id", "enabled")

_tokens_by = Prepared(
    lambda digest: (
        TerminalToken.objects.filter(digest=digest)
        .order_by()
        .values_list(
            "kind",
            "expires_at",
            *(f"terminal__{name}" for name in _OF_TERMINAL),
            *(f"terminal__person__{name}" for name in _OF_PERSON),
            *(f"terminal__person__provider__{name}" for name in _OF_PROVIDER),
        )
    )
)


def token_by(digest: str) -> tuple[str, datetime, Terminal] | None:
    """A token's kind, its end, and its terminal with the person and their provider as they are now, in one read."""
    for kind, expires_at, *values in _tokens_by(digest=digest):
        terminal = Terminal.from_db(None, _OF_TERMINAL, values[: len(_OF_TERMINAL)])
        rest = values[len(_OF_TERMINAL) :]
        person = Person.from_db(None, _OF_PERSON, rest[: len(_OF_PERSON)])
        if person.provider_id is not None:
            person.provider = IdentityProvider.from_db(None, _OF_PROVIDER, rest[len(_OF_PERSON) :])
        terminal.person = person
        return kind, expires_at, terminal
    return None


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
    environment: str
    environment_colour: str
    production: bool
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


def of_person(person_id: UUID, now: datetime, *, over: int = 20) -> tuple[TerminalRow, ...]:
    """The terminals of a person, live ones first, each latest first; all that live, and so many that are over."""
    rows = Terminal.objects.select_related("role__account__environment").filter(person_id=person_id)
    live = (
        _living(person_id, now)
        .select_related("role__account__environment")
        .order_by("-created_at", "id")
    )
    past = rows.exclude(ended_at__isnull=True, ends_at__gt=now).order_by("-created_at", "id")
    return tuple(_row(terminal, now) for terminal in (*live, *past[:over]))


def one_of_person(person_id: UUID, terminal_id: UUID, now: datetime) -> TerminalRow | None:
    """This terminal, if it is that person's."""
    rows = Terminal.objects.select_related("role__account__environment")
    found = rows.filter(person_id=person_id, pk=terminal_id).first()
    return _row(found, now) if found else None


def live_count(person_id: UUID, now: datetime) -> int:
    """How many terminals and script tokens of a person live."""
    return _living(person_id, now).count()


def unused_longest(person_id: UUID, now: datetime, *, most: int) -> tuple[TerminalRow, ...]:
    """Those that live and were not used for longest; one that was never used counts from when it was let in."""
    rows = _living(person_id, now).select_related("role__account__environment")
    return tuple(
        _row(terminal, now)
        for terminal in rows.order_by(Coalesce("used_at", "created_at"), "id")[:most]
    )


def _living(person_id: UUID, now: datetime) -> QuerySet[Terminal]:
    return Terminal.objects.filter(person_id=person_id, ended_at__isnull=True, ends_at__gt=now)


def _row(terminal: Terminal, now: datetime) -> TerminalRow:
    role = terminal.role
    environment = role.account.environment if role else None
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
        environment=environment.name if environment else "",
        environment_colour=environment.colour if environment else "",
        production=bool(environment and environment.production),
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
