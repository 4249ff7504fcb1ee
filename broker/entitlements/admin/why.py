"""Who gets what, and why: of a person and of a role."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from accounts.models import Person
from broker.backoffice import Panel, panel, spoken
from broker.entitlements import queries
from broker.entitlements.admin.common import ASSERTED
from broker.entitlements.models import AwsRole
from broker.entitlements.rules import Allowed

PER_PAGE = 25


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody gets of one role, in words for a list."""

    allowed: bool
    text: str
    reasons: tuple[Any, ...]


def verdict_of(console: Any, keys: Any) -> Verdict:
    """Two decisions (console, keys) as one line, with the reasons of the one that says more."""
    ways = [
        way
        for way, decision in (("console", console), ("keys", keys))
        if isinstance(decision, Allowed)
    ]
    if not ways:
        return Verdict(False, console.sentence, console.reasons)
    longest = max(
        decision.longest_seconds for decision in (console, keys) if isinstance(decision, Allowed)
    )
    said = " and ".join(ways) if len(ways) == 2 else f"{ways[0]} only"
    decided = console if isinstance(console, Allowed) else keys
    return Verdict(True, f"{said.capitalize()}, up to {spoken(longest)}", decided.reasons)


def _rights(rights: Iterable[queries.Right]) -> list[dict[str, Any]]:
    return [
        {
            "mapping": right.mapping,
            "url": reverse("admin:broker_mapping_change", args=(right.mapping.id,)),
            "fresh": right.fresh,
            "member": right.group is not None,
            "conditions": right.conditions,
            "limits": right.limits,
        }
        for right in rights
    ]


def _denies(denies: Iterable[Any], verdict: Verdict) -> list[dict[str, Any]]:
    """The denies that concern somebody; `said` where the verdict gives the reason already."""
    return [
        {
            "deny": deny,
            "url": reverse("admin:broker_deny_change", args=(deny.id,)),
            "said": deny.enabled and not verdict.allowed and deny.reason in verdict.text,
        }
        for deny in denies
    ]


def _page_number(request: HttpRequest) -> int:
    text = request.GET.get("page", "1")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1


@panel("accounts.person", position=20)
def roles_of_person(request: HttpRequest, person: Person) -> Panel:
    text = request.GET.get("why", "")[:200]
    page = queries.explain_person(
        person.pk, timezone.now(), text=text, page=_page_number(request), page_size=PER_PAGE
    )
    rows = [
        {
            "title": row.role.name,
            "under": f"{row.role.account_name} ({row.role.account_id})",
            "url": reverse("admin:broker_awsrole_change", args=(row.role.id,)),
            "role": row.role,
            "verdict": verdict,
            "rights": _rights(row.rights),
            "denies": _denies(row.denies, verdict),
        }
        for row in page
        for verdict in (verdict_of(row.console, row.keys),)
    ]
    return Panel(
        "Every role they get, and why",
        "admin/why.html",
        {
            "rows": rows,
            "page": page,
            "text": text,
            "what": "role",
            "empty": "No mapping concerns any of their groups.",
        },
        note="As if they signed in right now; conditions on the sign-in stand beside each mapping.",
    )


@panel("broker.awsrole", position=20)
def people_of_role(request: HttpRequest, role: AwsRole) -> Panel:
    text = request.GET.get("why", "")[:200]
    page = queries.explain_role(
        role.pk, timezone.now(), text=text, page=_page_number(request), page_size=PER_PAGE
    )
    rows = [
        {
            "title": row.person.name or row.person.handle,
            "under": " · ".join(filter(None, (row.person.handle, row.person.email))),
            "url": reverse("admin:accounts_person_change", args=(row.person.id,)),
            "role": None,
            "verdict": verdict,
            "rights": _rights(row.rights),
            "denies": _denies(row.denies, verdict),
        }
        for row in page
        for verdict in (verdict_of(row.console, row.keys),)
    ]
    return Panel(
        "Everyone who can reach it, and why",
        "admin/why.html",
        {
            "rows": rows,
            "page": page,
            "text": text,
            "what": "person",
            "empty": f"The AWS application of {role.relay_provider} says whose this role is; no mapping does."
            if role.trust == ASSERTED
            else "No mapping gives this role to anybody who has signed in so far.",
        },
        note="As if they signed in right now; conditions on the sign-in stand beside each mapping.",
    )
