"""What the test of the header says, where administrators look."""

from __future__ import annotations

from collections.abc import Iterable

from django.http import HttpRequest
from django.urls import reverse

from broker.awssso.checks import REMEDY, Passage, last
from broker.backoffice import Attention, Panel, attentions, contributes, health

COLOURS = {Passage.PASSES: "green", Passage.DROPPED: "red", Passage.UNKNOWN: "amber"}


@contributes(health)
def header_health(request: HttpRequest) -> Panel:
    seen = last()
    return Panel(
        "Sign-in of the AWS CLI through your proxy",
        "admin/header_test.html",
        {
            "seen": seen,
            "remedy": REMEDY,
            "dropped": Passage.DROPPED,
            "colour": COLOURS[seen.passage] if seen else "",
        },
        note="The CLI and the SDKs bring their token in a header that some proxies drop; people are then told, right "
        "after they signed in, that their sign-in has expired. "
        "Daypass asks itself at its own public address, after a start and once a day. "
        "manage.py check_terminal does it now.",
    )


@contributes(attentions)
def header_dropped(request: HttpRequest) -> Iterable[Attention]:
    """Nobody can use the AWS CLI, and what it tells its users leads nowhere."""
    seen = last()
    if seen is not None and seen.passage is Passage.DROPPED:
        yield Attention("wrong", f"{seen.said} {REMEDY}", reverse("admin:health"), "See the test")
