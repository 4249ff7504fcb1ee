"""When a person has let in as much as may live at once: which to end is theirs to say, before anything new comes in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts import places
from accounts.identity import Principal
from broker.awssso import queries, rules
from broker.awssso.queries import TerminalRow


@dataclass(frozen=True, slots=True)
class Full:
    """There is no room. most: how many may live; unused: those not used for longest; to: where to go on, as `places`
    keeps it."""

    most: int
    unused: tuple[TerminalRow, ...]
    to: str


def full(person_id: UUID, now: datetime, *, then: str = "") -> Full | None:
    """What to say to somebody who has no room for another terminal; None to all others. then: the page they were on."""
    beyond = queries.live_count(person_id, now) - rules.MOST_LIVE
    if beyond < 0:
        return None
    unused = queries.unused_longest(person_id, now, most=beyond + rules.ROOM)
    return Full(rules.MOST_LIVE, unused, places.keep(then))


def no_room(
    request: HttpRequest, principal: Principal, here: str, now: datetime
) -> HttpResponse | None:
    """The page in place of the question whether to let something in; None where there is room."""
    found = full(principal.person_id, now, then=here)
    if found is None:
        return None
    return render(request, "terminal/no_room.html", {"full": found}, status=409)
