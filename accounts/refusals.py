"""What is refused at the doors: one quiet page with a number, and the real reason where an administrator finds it.

Strangers can send more than anybody wants to read. So many of a minute are recorded one by one; the rest is counted,
and recorded as one event for each provider and minute. Its number is on the pages of all that it counts.
"""

from __future__ import annotations

import atexit
import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from typing import Protocol
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils import timezone

from accounts import services, throttle
from accounts.models import IdentityProvider
from accounts.network import client_address, counted_address
from accounts.throttle import Count
from broker.errors import DaypassError
from broker.references import new_reference

log = logging.getLogger("daypass.accounts")

OF_ADDRESS = 30
"""Refusals of one address that a process records one by one, in a minute."""

OF_PROVIDER = 30
"""Refusals at one provider that a process records one by one, in a minute: as many of strangers and as many of people
who began at Daypass, so that strangers cannot hide these."""

AT_ONCE = 2
"""Strangers' refusals at one provider that a process records one by one within a second: a write is everybody's."""

_LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


class Named(Protocol):
    """A provider, as far as a record needs it."""

    @property
    def pk(self) -> UUID: ...
    @property
    def name(self) -> str: ...
    @property
    def slug(self) -> str: ...


# --- The record


@dataclass(frozen=True, slots=True)
class Recorded:
    """A refusal's number, and how many its address has had within the minute.

    shared: the number is that of the event that counts all strangers' refusals at this provider, wherever from.
    """

    reference: str
    of_address: int
    shared: bool = False


def record(
    request: HttpRequest, provider: Named | None, *, code: str, reason: str, proven: bool
) -> Recorded:
    """Record a refusal, alone or as one of many.

    proven: it came from a sign-in that began here, as far as can be seen.
    """
    now = timezone.now()
    address = counted_address(request)
    slug = provider.slug if provider else ""
    refused = throttle.count_in_steps(Count("refused", address, 60))
    of_address, of_provider, at_once = throttle.count_here(
        Count("refusals-noted", address, 60),
        Count("refusals-noted-of", f"{slug}\0{proven}", 60),
        Count("refusals-noted-at-once", f"{slug}\0{proven}", 1),
    )
    many = of_provider > OF_PROVIDER or (at_once > AT_ONCE and not proven)
    if of_address > OF_ADDRESS or many:
        shared = not proven and many
        return Recorded(tally(provider, code=code, now=now), refused, shared=shared)
    reference = new_reference()
    log.warning("sign-in refused", extra={"reference": reference, "code": code, "provider": slug})
    try:
        services.refuse(
            provider,  # type: ignore[arg-type]  # only its id and name are read
            code=code,
            reason=reason,
            reference=reference,
            address=client_address(request),
            now=now,
        )
    except DaypassError as unrecorded:
        log.error("refusal not recorded", extra={"code": unrecorded.code})
    return Recorded(reference, refused)


def tally(provider: Named | None, *, code: str, now: datetime) -> str:
    """Count a refusal without recording it alone; the number of the event that will tell of all of them."""
    minute = int(now.timestamp()) // 60
    slug = provider.slug if provider else ""
    _tallies.add(minute, slug, code)
    return summary_reference(minute, slug)


def count_alone(slug: str, *, code: str, minute: int) -> None:
    """As `tally`, for one whose number is known already."""
    _tallies.add(minute, slug, code)


def summary_reference(minute: int, slug: str) -> str:
    """The same for every process: it follows from the minute and the provider."""
    digest = hmac.new(
        hashlib.sha256(b"daypass refusals" + settings.SECRET_KEY.encode()).digest(),
        f"{minute}\0{slug}".encode(),
        hashlib.sha256,
    ).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:8])


def record_tallies(*, now: datetime) -> int:
    """Record what was counted in the minutes that are over; how many events that made. Run every minute."""
    minute = int(now.timestamp()) // 60
    made = 0
    for (then, slug), codes in _tallies.take(before=minute).items():
        _record_tally(then, slug, codes, now=now)
        made += 1
    return made


def _record_tally(minute: int, slug: str, codes: Mapping[str, int], *, now: datetime) -> None:
    provider = IdentityProvider.objects.filter(slug=slug).only("id", "name", "slug").first()
    many = sum(codes.values())
    said = ", ".join(f"{n} {code}" for code, n in sorted(codes.items(), key=lambda item: -item[1]))
    began = datetime.fromtimestamp(minute * 60, tz=now.tzinfo)
    reference = summary_reference(minute, slug)
    log.warning(
        "many sign-ins refused", extra={"reference": reference, "provider": slug, "many": many}
    )
    try:
        services.refuse(
            provider,
            code="many_refused",
            reason=f"In the minute from {began:%H:%M} (UTC), {many} more were refused than are recorded one by one: "
            f"{said}. If that goes on, somebody is trying the doors of this provider; see its network's address in "
            "the events beside this one.",
            reference=reference,
            address="",
            now=now,
        )
    except DaypassError as unrecorded:
        log.error("refusals not recorded", extra={"code": unrecorded.code, "many": many})
        for code, n in codes.items():
            _tallies.add(minute, slug, code, n)


@dataclass
class _Tallies:
    """Counts by minute, provider and code: of this process, and every second handed to Redis for all of them.

    While Redis is away they stay here, and the process that counted them records them.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    kept: dict[tuple[int, str], dict[str, int]] = field(default_factory=dict)
    flushing: bool = False
    looked: float = 0.0

    def add(self, minute: int, slug: str, code: str, n: int = 1) -> None:
        with self.lock:
            codes = self.kept.setdefault((minute, slug), {})
            codes[code] = codes.get(code, 0) + n
            start, self.flushing = not self.flushing, True
        if start:
            threading.Thread(target=self._flush_soon, name="refusals", daemon=True).start()

    def _flush_soon(self) -> None:
        time.sleep(1)
        with self.lock:
            self.flushing = False
        self.flush()

    def flush(self) -> None:
        with self.lock:
            kept, self.kept = self.kept, {}
        if kept and not throttle.keep_tallies(kept):
            with self.lock:
                for key, codes in kept.items():
                    here = self.kept.setdefault(key, {})
                    for code, n in codes.items():
                        here[code] = here.get(code, 0) + n

    def take(self, *, before: int) -> dict[tuple[int, str], dict[str, int]]:
        """Everything of earlier minutes, for the one who takes it to record."""
        self.flush()
        taken = throttle.take_tallies(before=before)
        with self.lock:
            own = [key for key in self.kept if key[0] < before]
            for key in own:
                codes = taken.setdefault(key, {})
                for code, n in self.kept.pop(key).items():
                    codes[code] = codes.get(code, 0) + n
        return taken

    def due(self) -> bool:
        """Whether this process has something of an earlier minute; looked at once a second at most."""
        moment = time.monotonic()
        if not self.kept or moment - self.looked < 1:
            return False
        self.looked = moment
        minute = int(time.time()) // 60
        return any(key[0] < minute for key in list(self.kept))

    def forget(self) -> None:
        with self.lock:
            self.kept.clear()


_tallies = _Tallies()
atexit.register(_tallies.flush)


def record_own_tallies() -> None:
    """Record what this process could hand to nobody, when there is something of an earlier minute. Cheap otherwise."""
    if _tallies.due():
        record_tallies(now=timezone.now())


def forget() -> None:
    """Drop what was counted and is not recorded yet."""
    _tallies.forget()


# --- The page

_PLACE = "daypass-place-of-{}"
_pages: dict[tuple[str, ...], str] = {}


def page(
    message: str,
    *,
    reference: str = "",
    again: str = "",
    leaving: bool = False,
    relaying: bool = False,
    status: int,
    retry_after: int = 0,
) -> HttpResponse:
    """The page for everything that ends at a door: what to do, and the number. leaving: it was the way out.

    relaying: it was an answer for AWS, and whoever is signed in still is.

    It is drawn once for each message and only filled in afterwards, so that refusing costs next to nothing.
    """
    drawn = _drawn(
        "accounts/problem.html", message, bool(reference), bool(again), leaving, relaying
    )
    drawn = drawn.replace(_PLACE.format("reference"), escape(reference))
    drawn = drawn.replace(_PLACE.format("again"), escape(again))
    response = HttpResponse(drawn, status=status)
    response["Content-Length"] = str(len(response.content))  # nobody after this would say it
    if retry_after:
        response["Retry-After"] = str(retry_after)
    return response


def nothing_here() -> HttpResponse:
    """The same for an address that no provider has."""
    return HttpResponse(_drawn("404.html", "", False, False), status=404)


def _drawn(
    template: str,
    message: str,
    reference: bool,
    again: bool,
    leaving: bool = False,
    relaying: bool = False,
) -> str:
    key = (
        template,
        message,
        str(reference),
        str(again),
        str(leaving),
        str(relaying),
        settings.DAYPASS_COMPANY,
        settings.DAYPASS_HELP_URL,
        settings.DAYPASS_HELP_TEXT,
    )
    found = _pages.get(key)
    if found is None:
        if len(_pages) > 100:
            _pages.clear()
        context = {
            "message": message,
            "reference": _PLACE.format("reference") if reference else "",
            "again": _PLACE.format("again") if again else "",
            "leaving": leaving,
            "relaying": relaying,
        }
        found = _pages[key] = render_to_string(template, context, request=HttpRequest())
    return found
