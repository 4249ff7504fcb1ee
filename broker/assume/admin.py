"""Whether Daypass's clock and AWS's agree."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from django.http import HttpRequest
from django.urls import reverse

from broker.aws import clock
from broker.backoffice import Attention, Panel, attentions, contributes, health


@contributes(attentions)
def clocks_apart(request: HttpRequest) -> Iterable[Attention]:
    """Wrong clocks: soon people will not get in, or they do not already."""
    reading = clock.latest()
    if reading is None or abs(reading.ahead) < clock.ALARM:
        return
    refused = abs(reading.ahead) >= clock.REFUSAL
    consequence = "Nothing is issued" if refused else "At 60 s nothing is issued any more"
    yield Attention(
        "wrong" if refused else "soon",
        f"Daypass's clock {clock.spoken(reading)}. {consequence}.",
        reverse("admin:health"),
        "See health",
    )


@contributes(health)
def clock_health(request: HttpRequest) -> Panel:
    reading = clock.latest()
    return Panel(
        "Clock",
        "admin/clock.html",
        {
            "spoken": clock.spoken(reading) if reading else "",
            "apart": bool(reading and abs(reading.ahead) >= clock.ALARM),
            "at": datetime.fromtimestamp(reading.at, UTC) if reading else None,
            "region": reading.region if reading else "",
        },
        note="Compared with the Date of every answer of STS. At 60 s difference nothing is issued.",
    )
