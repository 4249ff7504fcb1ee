"""Announcements: what happens to people and providers, told to whoever listens.

`broker.apps` is the one place that subscribes. A listener runs inside the announcer's transaction: if it fails, what
was announced does not happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.dispatch import Signal


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody signed in. `created`: for the first time. `groups`: keys of the groups they came with."""

    person_id: UUID
    handle: str
    provider_id: UUID | None
    provider: str
    method: str
    mfa: bool
    at: datetime
    address: str
    created: bool
    groups: tuple[str, ...] = ()
    evidence: Mapping[str, str] = field(default_factory=dict)
    """Ids that tie this session to the provider's message: assertion id, message hash, jti. Never the message."""


@dataclass(frozen=True, slots=True)
class SignInRefused:
    """A sign-in was refused. `reason` is the real one, for administrators; `reference` is what the person saw."""

    provider_id: UUID | None
    provider: str
    code: str
    reason: str
    reference: str
    address: str
    at: datetime


@dataclass(frozen=True, slots=True)
class SignedOut:
    """A person's browser session ended: by themselves, by the provider, or by a limit."""

    person_id: UUID
    handle: str
    how: str
    address: str
    at: datetime


@dataclass(frozen=True, slots=True)
class LinesOver:
    """Lines of browser sessions (`browser.line_of`) that end, all that end together, before their `SignedOut`."""

    lines: tuple[str, ...]
    how: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RelayKept:
    """A provider's AWS application said something of a person, which is kept for AWS. roles: ARNs that it lists."""

    person_id: UUID
    handle: str
    provider: str
    roles: tuple[str, ...]
    evidence: Mapping[str, str]
    address: str
    at: datetime


@dataclass(frozen=True, slots=True)
class StaffChanged:
    """Somebody gained or lost the right to use the admin because of their directory groups."""

    person_id: UUID
    handle: str
    staff: bool
    group: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ProviderNews:
    """Refreshed metadata, a failed refresh, what waits for an administrator, an expiring certificate, a test sign-in.

    what: "refreshed" | "refresh_failed" | "proposed" | "proposal_dismissed" | "proposal_withdrawn" |
    "certificate_expiring" | "resealed" | "tested".
    """

    what: str
    provider_id: UUID
    provider: str
    details: Mapping[str, Any]
    at: datetime
    actor_id: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class ServiceProviderKeyNews:
    """A key of Daypass towards SAML providers: what: "made" | "state" | "resealed" | "expiring"."""

    what: str
    key_id: int
    purpose: str
    details: Mapping[str, Any]
    at: datetime
    actor_id: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """An administrator changed something of this app: who, what, before, after. Secrets show as "set" or "not set"."""

    actor_id: str
    actor: str
    subject_type: str
    subject_id: str
    label: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    address: str
    at: datetime


Announcement = (
    SignedIn
    | SignInRefused
    | SignedOut
    | LinesOver
    | RelayKept
    | StaffChanged
    | ProviderNews
    | ServiceProviderKeyNews
    | Changed
)

_announced = Signal()


def announce(event: Announcement) -> None:
    """Tell every listener, now, in this transaction."""
    _announced.send(sender=type(event), event=event)


def subscribe(event_type: type, listener: Any, *, name: str) -> None:
    """Call `listener(event)` for every announcement of this type, once, however often `name` subscribes."""

    def receive(sender: type, event: Announcement, **_: object) -> None:
        listener(event)

    _announced.connect(receive, sender=event_type, weak=False, dispatch_uid=name)
