"""Whether our clock agrees with AWS's: read from the Date header of every answer of STS (threats.md R45).

From ALARM seconds on administrators are told; from REFUSAL seconds on nothing is issued, because lifetimes, signatures
and the audit log would all be wrong. A reading is shared by all processes and counts for COUNTS seconds only, so that a
corrected clock, or one wrong answer, is over after a minute; a fresh reading always replaces it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from django.core.cache import cache

from broker.errors import AwsError

log = logging.getLogger("daypass.aws")

ALARM = 5.0
REFUSAL = 60.0
COUNTS = 60.0
"""Seconds for which a reading refuses without another look."""
TOLD = 15 * 60.0
"""Seconds for which administrators are told of a reading."""
_LOOKED = 5.0
"""Seconds for which a process trusts what it knows, before it asks what others read."""
_KEY = "clock:aws"


@dataclass(frozen=True, slots=True)
class Reading:
    """ahead: seconds by which our clock was ahead of AWS's, negative when behind. at: our time then. region: who
    said."""

    ahead: float
    at: float
    region: str

    def age(self, now: float) -> float:
        """Seconds since; negative when our clock was set back since."""
        return now - self.at


class ClocksApart(AwsError):
    """Our clock and AWS's differ so much that nothing is issued."""

    code = "clocks_apart"
    message = (
        "Daypass's clock is wrong, so it hands out nothing until that is mended. An administrator has to look at it; "
        "a minute after it is mended, it works again."
    )


def read(
    headers: Mapping[str, str], *, sent: float, received: float, region: str
) -> Reading | None:
    """What an answer says about our clock; None when it does not tell. Times in seconds since 1970, by our clock.

    The header has whole seconds and was written at some time between: what both could explain is no difference.
    """
    try:
        told = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    middle, doubt = (sent + received) / 2, max(0.0, received - sent) / 2
    ahead = middle - (told + 0.5)
    certain = max(0.0, abs(ahead) - doubt)
    return Reading(round(certain if ahead > 0 else -certain, 1), received, region)


class _Known:
    """What this process knows, and when it last asked what the others read."""

    reading: Reading | None = None
    looked = float("-inf")
    alarmed = False


_known = _Known()
_lock = threading.Lock()


def note(answer: Mapping[str, Any], *, sent: float, region: str) -> None:
    """Keep what an answer of STS (a parsed answer, or a refusal's) says, for this process and the others."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    reading = read(headers, sent=sent, received=time.time(), region=region)
    if reading is None:
        return
    apart = abs(reading.ahead)
    with _lock:
        before, _known.reading = _known.reading, reading
        first, _known.alarmed = apart >= ALARM and not _known.alarmed, apart >= ALARM
    if first:
        log.warning("clocks apart", extra={"seconds_ahead_of_aws": reading.ahead, "region": region})
    # The others are told of every alarm, of its end, and now and then that all is well.
    old = before is None or not 0 <= before.age(reading.at) < COUNTS
    if apart >= ALARM or old or (before is not None and abs(before.ahead) >= ALARM):
        _tell(reading)


def check() -> None:
    """Raise ClocksApart when a reading that still counts says so."""
    reading = latest()
    now = time.time()
    if reading and abs(reading.ahead) >= REFUSAL and 0 <= reading.age(now) < COUNTS:
        raise ClocksApart(
            cause=f"Daypass's clock is {abs(reading.ahead):.0f} seconds {_side(reading)} AWS's, as STS in "
            f"{reading.region} said.",
            remedy="Synchronise the clocks of all machines that run Daypass (chrony, systemd-timesyncd, or the "
            "platform's time service). Daypass looks again every minute.",
        )


def latest() -> Reading | None:
    """The newest reading of any process that is not older than TOLD."""
    now, ticks = time.time(), time.monotonic()
    with _lock:
        if ticks - _known.looked >= _LOOKED:
            _known.looked = ticks
            ask = True
        else:
            ask = False
    if ask:
        _hear(now)
    reading = _known.reading
    return reading if reading and 0 <= reading.age(now) < TOLD else None


def spoken(reading: Reading) -> str:
    """A reading as administrators read it."""
    if abs(reading.ahead) < 1:
        return "agrees with AWS's to the second"
    return f"is {abs(reading.ahead):.0f} s {_side(reading)} AWS's"


def forget() -> None:
    """Know nothing, here and for the others."""
    with _lock:
        _known.reading, _known.looked, _known.alarmed = None, float("-inf"), False
    try:
        cache.delete(_KEY)
    except Exception:
        log.warning("clock reading not forgotten")


def _side(reading: Reading) -> str:
    return "ahead of" if reading.ahead > 0 else "behind"


def _tell(reading: Reading) -> None:
    try:
        cache.set(_KEY, [reading.ahead, reading.at, reading.region], timeout=int(TOLD))
    except Exception as error:  # without the cache each process knows what it read itself
        log.warning("clock reading not shared", extra={"error": type(error).__name__})


def _hear(now: float) -> None:
    try:
        kept = cache.get(_KEY)
        theirs = Reading(float(kept[0]), float(kept[1]), str(kept[2])) if kept else None
    except Exception as error:
        log.warning("clock readings of others not heard", extra={"error": type(error).__name__})
        return
    with _lock:
        own = _known.reading
        if theirs and theirs.age(now) >= 0 and (own is None or theirs.at > own.at or own.at > now):
            _known.reading = theirs
