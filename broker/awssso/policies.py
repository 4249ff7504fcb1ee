"""What administrators allow terminals: the only writer of policies, which records every change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from ipaddress import IPv6Network, ip_network
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from accounts.models import IdentityProvider
from broker.audit.rules import Kind
from broker.audit.services import Actor, Subject, record
from broker.awssso.models import TerminalPolicy
from broker.entitlements.drafts import FieldErrors
from broker.errors import BadInput

MOST_NETWORKS = 50
SHORTEST = 900
LONGEST = 90 * 86400
"""Seconds that a policy may let a terminal live; a client's registration lasts no longer."""


@dataclass(frozen=True, slots=True)
class PolicyDraft:
    """A policy as an administrator wrote it. provider None: for everybody whose provider has none of its own."""

    provider: UUID | None = None
    enabled: bool = True
    device_codes: bool = True
    device_networks: tuple[str, ...] = ()
    script_tokens: bool = True
    longest_seconds: int | None = None


def save_policy(
    draft: PolicyDraft, *, policy: int | None = None, actor: Actor, address: str = ""
) -> TerminalPolicy:
    """Make a policy, or with its key change one; whom it is for stays as it was. Raises FieldErrors, BadInput."""
    values = {**asdict(draft), "device_networks": networks_of(draft.device_networks)}
    provider = values.pop("provider")
    if draft.longest_seconds is not None and not SHORTEST <= draft.longest_seconds <= LONGEST:
        raise FieldErrors({"longest_seconds": "From 15 minutes to 90 days."})
    try:
        with transaction.atomic():
            if policy is None:
                if provider and not IdentityProvider.objects.filter(pk=provider).exists():
                    raise FieldErrors({"provider": "This provider does not exist any more."})
                row = TerminalPolicy(provider_id=provider)
                before: dict[str, Any] = {}
            else:
                row = _locked(policy)
                before = _said(row)
            for name, value in values.items():
                setattr(row, name, value)
            after = _said(row)
            changed = [name for name in after if before.get(name) != after[name]]
            if policy is None or changed:
                row.save()
                _record(
                    row,
                    "changed" if before else "created",
                    {name: before[name] for name in changed if name in before},
                    {name: after[name] for name in changed},
                    actor,
                    address,
                )
    except IntegrityError:
        raise FieldErrors(
            {"provider": "There is a policy for these people already: change that one."}
        ) from None
    return row


def delete_policy(policy: int, *, actor: Actor, address: str = "") -> None:
    """Take a policy away: its people fall under the one for everybody, or under none. Raises BadInput."""
    with transaction.atomic():
        row = _locked(policy)
        _record(row, "deleted", _said(row), {}, actor, address)
        row.delete()


def networks_of(written: Iterable[str]) -> list[str]:
    """The networks in their usual form, each once. Raises FieldErrors for what is none."""
    kept: dict[str, None] = {}
    for text in written:
        try:
            network = ip_network(text.strip(), strict=False)
        except ValueError:
            raise FieldErrors(
                {
                    "device_networks": f"{text[:60]!r} is not a network; write it like 192.0.2.0/24 or 2001:db8::/32."
                }
            ) from None
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
            raise FieldErrors({"device_networks": f"Write {text[:60]} as an IPv4 network."})
        if "/" in text and str(network) != text.strip().lower():
            raise FieldErrors(
                {"device_networks": f"{text[:60]} names a single address; did you mean {network}?"}
            )
        kept[str(network)] = None
    if len(kept) > MOST_NETWORKS:
        raise FieldErrors({"device_networks": f"Name at most {MOST_NETWORKS} networks."})
    return list(kept)


def _locked(policy: int) -> TerminalPolicy:
    row = TerminalPolicy.objects.select_for_update(of=("self",)).filter(pk=policy).first()
    if row is None:
        raise BadInput("This policy does not exist any more.", code="gone")
    return row


def _said(row: TerminalPolicy) -> dict[str, Any]:
    return {
        "provider": row.provider.name if row.provider else "everybody else",
        "enabled": row.enabled,
        "device_codes": row.device_codes,
        "device_networks": list(row.device_networks),
        "script_tokens": row.script_tokens,
        "longest_seconds": row.longest_seconds,
    }


def _record(
    row: TerminalPolicy,
    action: str,
    before: dict[str, Any],
    after: dict[str, Any],
    actor: Actor,
    address: str,
) -> None:
    record(
        Kind.ADMIN_CHANGED,
        actor=actor,
        subject=Subject("terminal_policy", str(row.pk)),
        data={"label": f"for {row}", "action": action, "before": before, "after": after},
        address=address,
    )
