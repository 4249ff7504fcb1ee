"""How often something may happen, counted for all processes together in Redis or Valkey.

While it is away each process counts for itself, so that its loss lets nobody try without end. What must never happen
twice is not counted here: it is kept in the database (threats.md R61).
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

log = logging.getLogger("daypass.accounts")

PATIENCE = 0.25
"""Seconds that a count may take; a Redis that hangs must not hold the doors."""

AWAY = 5.0
"""Seconds for which a Redis that failed is not asked again."""

MOST_KEYS = 50_000
"""Counts that one process keeps for itself at most."""

_TALLIES = "daypass:tallies"
_TALLIES_KEPT = 24 * 3600

_SCRIPT = """
local counts = {}
for n, key in ipairs(KEYS) do
  local by = tonumber(ARGV[2 * n - 1])
  if by == 0 then
    counts[n] = tonumber(redis.call('GET', key) or '0')
  else
    counts[n] = redis.call('INCRBY', key, by)
    if redis.call('TTL', key) < 0 then redis.call('EXPIRE', key, ARGV[2 * n]) end
  end
end
return counts
"""


@dataclass(frozen=True, slots=True)
class Count:
    """One thing to count: what happened, to or by whom, and for how long it is remembered.

    by: how much to add; 0 only asks. The time runs from the first that is counted.
    """

    what: str
    who: str
    seconds: int
    by: int = 1

    @property
    def key(self) -> str:
        return f"daypass:throttle:{self.what}:{_digest(self.who)}"


@lru_cache(maxsize=1024)
def _digest(who: str) -> str:
    return hashlib.sha256(who.encode()).hexdigest()[:32]


def allowed(what: str, who: str, *, most: int, seconds: int) -> bool:
    """Count one more time; False when it was more than `most` within `seconds`."""
    return count(Count(what, who, seconds))[0] <= most


def count(*counts: Count) -> Sequence[int]:
    """Count all of these in one step; how often each has happened by now."""
    shared = _everybodys()
    found = shared.count(counts)
    return _own.count(counts) if found is None else found


STEP = 10
"""How many a process counts before it tells the others, where telling would cost more than what is counted."""


def count_in_steps(each: Count) -> int:
    """Count one that is cheap and comes in floods; how often it happened, short of what other processes still hold."""
    (here,) = _own.count([Count(f"{each.what}-here", each.who, each.seconds, by=each.by)])
    if each.by and here % STEP == 0:
        (everywhere,) = count(Count(each.what, each.who, each.seconds, by=STEP))
        _own.note(each, everywhere)
    return _own.noted(each) + here % STEP


def count_without_asking(each: Count) -> int | None:
    """As `count_in_steps` between two steps; None, and nothing counted, when it is time to tell the others."""
    here = Count(f"{each.what}-here", each.who, each.seconds, by=each.by)
    if (_own.look(here) + each.by) % STEP == 0:
        return None
    return _own.noted(each) + _own.count([here])[0] % STEP


def count_here(*counts: Count) -> Sequence[int]:
    """Count these for this process alone."""
    return _own.count(counts)


def keep_tallies(tallies: Mapping[tuple[int, str], Mapping[str, int]]) -> bool:
    """Add up (minute, name) -> word -> count for all processes; False when that cannot be done now."""
    return _everybodys().keep_tallies(tallies)


def take_tallies(*, before: int) -> dict[tuple[int, str], dict[str, int]]:
    """What all processes added up for the minutes before this one. Whoever takes it is the only one to get it."""
    return _everybodys().take_tallies(before)


def forget(*counts: Count) -> None:
    """Count these anew from nothing; without any, everything that this process counted for itself."""
    _own.forget(counts)
    if counts:
        _everybodys().forget(counts)


class Own:
    """Counts of this process alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[int, float]] = {}

    def count(self, counts: Sequence[Count]) -> Sequence[int]:
        now = time.monotonic()
        with self._lock:
            if len(self._counts) > MOST_KEYS:
                self._make_room(now)
            return [self._one(each, now) for each in counts]

    def _one(self, each: Count, now: float) -> int:
        key = each.key
        before, ends = self._counts.get(key, (0, 0.0))
        if ends <= now:
            before, ends = 0, now + each.seconds
        if each.by:
            self._counts[key] = (before + each.by, ends)
        return before + each.by

    def look(self, each: Count) -> int:
        """How often this happened here, without counting it."""
        before, ends = self._counts.get(each.key, (0, 0.0))
        return before if ends > time.monotonic() else 0

    def note(self, each: Count, total: int) -> None:
        """Keep what all processes had counted together."""
        with self._lock:
            self._counts[f"{each.key}:all"] = (total, time.monotonic() + each.seconds)

    def noted(self, each: Count) -> int:
        total, ends = self._counts.get(f"{each.key}:all", (0, 0.0))
        return total if ends > time.monotonic() else 0

    def _make_room(self, now: float) -> None:
        """What is over goes; if that is not enough, what would be over first."""
        alive = sorted(
            ((key, kept) for key, kept in self._counts.items() if kept[1] > now),
            key=lambda item: item[1][1],
        )
        self._counts = dict(alive[-MOST_KEYS // 2 :])

    def forget(self, counts: Sequence[Count]) -> None:
        with self._lock:
            for each in counts:
                self._counts.pop(each.key, None)
            if not counts:
                self._counts.clear()


class Shared:
    """Counts in Redis or Valkey, added and read in one step for all processes."""

    def __init__(self, url: str) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._script: Any = self._redis.register_script(_SCRIPT)
        self._away_until = 0.0

    def count(self, counts: Sequence[Count]) -> Sequence[int] | None:
        """None when it cannot be asked now."""
        if time.monotonic() < self._away_until:
            return None
        arguments = [value for each in counts for value in (each.by, each.seconds)]
        try:
            found: list[int] = self._script(keys=[each.key for each in counts], args=arguments)
        except (RedisError, OSError) as error:
            self._failed(error)
            return None
        return found

    def forget(self, counts: Sequence[Count]) -> None:
        if time.monotonic() < self._away_until:
            return
        try:
            self._redis.delete(*(each.key for each in counts))
        except (RedisError, OSError) as error:
            self._failed(error)

    def keep_tallies(self, tallies: Mapping[tuple[int, str], Mapping[str, int]]) -> bool:
        if time.monotonic() < self._away_until:
            return False
        pipe = self._redis.pipeline(transaction=True)
        for (minute, name), words in tallies.items():
            place = f"{minute} {name}"
            for word, n in words.items():
                pipe.hincrby(f"{_TALLIES}:{place}", word, n)
            pipe.expire(f"{_TALLIES}:{place}", _TALLIES_KEPT)
            pipe.zadd(_TALLIES, {place: minute})
        pipe.expire(_TALLIES, _TALLIES_KEPT)
        try:
            pipe.execute()
        except (RedisError, OSError) as error:
            self._failed(error)
            return False
        return True

    def take_tallies(self, before: int) -> dict[tuple[int, str], dict[str, int]]:
        taken: dict[tuple[int, str], dict[str, int]] = {}
        if time.monotonic() < self._away_until:
            return taken
        try:
            for place in map(str, self._redis.zrangebyscore(_TALLIES, 0, before - 1)):
                if not self._redis.zrem(_TALLIES, place):
                    continue  # somebody else took it
                words = self._redis.hgetall(f"{_TALLIES}:{place}")
                self._redis.delete(f"{_TALLIES}:{place}")
                minute, _, name = place.partition(" ")
                taken[int(minute), name] = {str(word): int(n) for word, n in words.items()}
        except (RedisError, OSError) as error:
            self._failed(error)
        return taken

    def _failed(self, error: Exception) -> None:
        self._away_until = time.monotonic() + AWAY
        log.warning(
            "Redis is away: each process counts for itself", extra={"error": type(error).__name__}
        )


def _everybodys() -> Shared:
    return _shared(str(settings.CACHES["default"]["LOCATION"]))


@lru_cache(maxsize=4)
def _shared(url: str) -> Shared:
    return Shared(url)


_own = Own()
