"""Regions that did not answer a moment ago and are asked last for a while, so that not everybody waits for them.

A failure is remembered for AVOIDED seconds, by this process and by the others through the cache. Afterwards one caller
looks again while the others keep away until it is known how that went. Who is avoided is only about the order: when
nothing else answers, an avoided region is asked all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from django.core.cache import cache

from broker.errors import AwsError, AwsUnavailable

log = logging.getLogger("daypass.aws")

Service = Literal["sts", "signin"]

AVOIDED = 60.0
"""Seconds for which a region is asked last after it did not answer."""
LOOK = 25.0
"""Seconds that one caller has for looking again: longer than a call to AWS can last."""
_HEARD = 2.0
"""Seconds for which a process trusts what it knows, before it asks what others saw."""
_KEPT = int(2 * AVOIDED)
_OWN, _OTHER = 260, 180
"""Characters of each place's trouble in an error about several: together they fit where one would."""


@dataclass(frozen=True, slots=True)
class Avoided:
    """place: a region for STS, a host for sign-in. since, until: seconds since 1970. why: our code of the failure."""

    service: Service
    place: str
    since: float
    until: float
    why: str


_Key = tuple[Service, str]
_known: dict[_Key, Avoided] = {}
_looked: dict[_Key, float] = {}
_lock = threading.Lock()


def in_order(service: Service, places: Sequence[str]) -> list[str]:
    """`places` with the first one to ask at the front: the first that is not being avoided, if there is one."""
    if len(places) < 2:
        return list(places)
    best = next(not_avoided(service, places), places[0])
    return [best, *(place for place in places if place != best)]


def not_avoided(service: Service, places: Sequence[str]) -> Iterator[str]:
    """Those of `places` that are not being avoided, in their order.

    Whoever takes one is to ask it and to say how that went: it may be the one call that looks again.
    """
    now = time.time()
    _hear(service, places, now)
    for place in places:
        if not _keep_away(service, place, now):
            yield place


def failed(service: Service, place: str, why: str) -> None:
    """It did not answer: everybody asks another one first, for AVOIDED seconds from now."""
    now = time.time()
    key: _Key = (service, place)
    with _lock:
        before = _known.get(key)
        if before is not None and now - before.until > LOOK:  # an old story
            before = None
        since = before.since if before else now
        seen = _known[key] = Avoided(service, place, since, now + AVOIDED, why)
        _looked[key] = time.monotonic()
    if before is None:
        log.warning("region avoided", extra={"service": service, "place": place, "code": why})
    _tell(seen)


def answered(service: Service, place: str) -> None:
    """It answered, whatever it said: nobody has to avoid it any more. Costs nothing where nobody does."""
    with _lock:
        before = _known.pop((service, place), None)
    if before is None:
        return
    log.info("region answers again", extra={"service": service, "place": place})
    try:
        cache.delete_many([_name(service, place), _look_name(service, place)])
    except Exception as error:
        log.warning("region not shared", extra={"error": type(error).__name__})


def avoided(service: Service, places: Iterable[str]) -> list[Avoided]:
    """Which of these are being avoided now, here or by other processes, for people to read."""
    now = time.time()
    listed = list(dict.fromkeys(places))
    _hear(service, listed, now, at_once=True)
    with _lock:
        found = [_known.get((service, place)) for place in listed]
    return [seen for seen in found if seen is not None and now < seen.until]


def forget() -> None:
    """Know nothing, here and for the others."""
    with _lock:
        keys = list(_known)
        _known.clear()
        _looked.clear()
    names = [name(*key) for key in keys for name in (_name, _look_name)]
    if names:
        try:
            cache.delete_many(names)
        except Exception as error:
            log.warning("region not shared", extra={"error": type(error).__name__})


def nobody_answered(troubles: Mapping[str, AwsError], first: str) -> AwsError:
    """One error for a call that several places did not answer: the first one's trouble, and what each of them said."""
    main = troubles.get(first) or next(iter(troubles.values()))
    if len(troubles) == 1:
        return main
    said = [
        f"{place}: {_last_words(trouble.cause)}"
        for place, trouble in troubles.items()
        if trouble is not main
    ]
    own = next(place for place, trouble in troubles.items() if trouble is main)
    kind = AwsUnavailable if main.retry else AwsError
    return kind(
        main.message,
        aws_code=main.aws_code,
        code=main.code,
        retry=main.retry,
        cause=" ".join([f"{own}: {main.cause[:_OWN]}", *said]),
        remedy=main.remedy,
    )


def _keep_away(service: Service, place: str, now: float) -> bool:
    """Whether to ask others first. When its time is over, the one who is told no looks again for everybody."""
    key: _Key = (service, place)
    with _lock:
        seen = _known.get(key)
        if seen is None:
            return False
        if seen.until - now > AVOIDED + LOOK:  # our clock was set back
            seen = replace(seen, until=now)
        if now < seen.until:
            return True
        _known[key] = replace(seen, until=now + LOOK)
    try:
        mine = bool(cache.add(_look_name(service, place), 1, timeout=int(LOOK)))
    except Exception:
        mine = True
    return not mine


def _last_words(cause: str) -> str:
    """What AWS itself said, for the place whose trouble is not the main one."""
    return cause.rpartition("AWS said: ")[2][:_OTHER]


def _name(service: Service, place: str) -> str:
    return f"avoided:{service}:{place}"


def _look_name(service: Service, place: str) -> str:
    return f"avoided:look:{service}:{place}"


def _tell(seen: Avoided) -> None:
    try:
        cache.set(
            _name(seen.service, seen.place), [seen.since, seen.until, seen.why], timeout=_KEPT
        )
        cache.delete(_look_name(seen.service, seen.place))
    except Exception as error:  # without the cache each process knows what it saw itself
        log.warning("region not shared", extra={"error": type(error).__name__})


def _hear(service: Service, places: Sequence[str], now: float, *, at_once: bool = False) -> None:
    """Take over what other processes saw, and that they saw it answer again."""
    ticks = time.monotonic()
    with _lock:
        ask = [
            place
            for place in places
            if at_once or ticks - _looked.get((service, place), float("-inf")) >= _HEARD
        ]
        _looked.update({(service, place): ticks for place in ask})
    if not ask:
        return
    try:
        kept: dict[str, Any] = cache.get_many([_name(service, place) for place in ask])
        theirs = {place: kept.get(_name(service, place)) for place in ask}
        heard = {
            place: Avoided(service, place, float(told[0]), float(told[1]), str(told[2]))
            for place, told in theirs.items()
            if told
        }
    except (
        Exception
    ):  # the cache is away, and whoever watches it says so; this process knows what it saw itself
        return
    with _lock:
        for place in ask:
            own, other = _known.get((service, place)), heard.get(place)
            if other is None:
                _known.pop((service, place), None)
            elif own is None or other.until > own.until:
                _known[(service, place)] = other
