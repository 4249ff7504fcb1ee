"""Which regions of AWS are asked for an account, and which are being avoided because they did not answer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from broker.arns import PARTITIONS
from broker.aws import regions, signin
from broker.backoffice import Attention, Panel, attentions, contributes, health, panel
from broker.entitlements.models import AwsAccount

MEANT: dict[str, str] = {
    "aws_internal": "answers with an error of its own",
    "aws_unreachable": "cannot be reached",
    "aws_no_answer": "does not answer in time",
    "aws_unreadable": "answers with something that is no answer",
}
"""Why something is avoided, by the code of the failure."""


@panel("broker.awsaccount", position=15)
def regions_of_account(request: HttpRequest, account: AwsAccount) -> Panel:
    partition = PARTITIONS[account.partition]
    first = account.region or partition.home_region
    second = account.second_region or partition.second_region(first)
    asked = [region for region in (first, second) if region]
    away = {seen.place: seen for seen in regions.avoided("sts", asked)}
    return Panel(
        "Regions",
        "admin/regions_of_account.html",
        {
            "first": first,
            "second": second,
            "own_first": bool(account.region),
            "own_second": bool(account.second_region),
            "away": [_row(away[region]) for region in asked if region in away],
            "opt_in": [region for region in asked if partition.needs_opt_in(region)],
        },
        note="Where credentials are asked for. They work in every region, wherever they come from.",
    )


@contributes(health)
def regions_health(request: HttpRequest) -> Panel:
    return Panel(
        "AWS regions",
        "admin/regions.html",
        {"away": [_row(seen) for seen in _avoided()]},
        note="A region that does not answer is asked last for a minute, then tried again.",
    )


@contributes(attentions)
def regions_away(request: HttpRequest) -> Iterable[Attention]:
    """People still get in, by the second region; until that one fails as well."""
    for seen in _avoided():
        yield Attention(
            "note",
            f"{_called(seen)} {MEANT.get(seen.why, seen.why)}. Another region is asked meanwhile.",
            reverse("admin:health"),
            "See health",
        )


def _avoided() -> list[regions.Avoided]:
    """Of all that accounts in use are asked for at, by STS and by sign-in."""
    rows = (
        AwsAccount.objects.filter(enabled=True)
        .order_by()
        .values_list("partition", "region", "second_region")
        .distinct()
    )
    places: set[str] = set()
    hosts: set[str] = set()
    for name, region, chosen in rows:
        partition = PARTITIONS[name]
        second = chosen or partition.second_region(region)
        places.update(filter(None, (region or partition.home_region, second)))
        hosts.update(signin.hosts(partition, region, chosen))
    return [*regions.avoided("sts", sorted(places)), *regions.avoided("signin", sorted(hosts))]


def _row(seen: regions.Avoided) -> dict[str, Any]:
    return {
        "called": _called(seen),
        "meant": MEANT.get(seen.why, seen.why),
        "since": datetime.fromtimestamp(seen.since, UTC),
    }


def _called(seen: regions.Avoided) -> str:
    return f"STS in {seen.place}" if seen.service == "sts" else f"The sign-in host {seen.place}"
