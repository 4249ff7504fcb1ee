"""How often something may happen, counted for all processes together in the cache."""

from __future__ import annotations

import hashlib
import logging

from django.core.cache import cache

log = logging.getLogger("daypass.accounts")


def allowed(what: str, who: str, *, most: int, seconds: int) -> bool:
    """Count one more time; False when it was more than `most` within `seconds`.

    Without the cache nothing can be counted and everything is allowed: what must never happen twice is kept in the
    database instead.
    """
    key = f"throttle:{what}:{hashlib.sha256(who.encode()).hexdigest()[:32]}"
    try:
        if cache.add(key, 1, timeout=seconds):
            return True
        return int(cache.incr(key)) <= most
    except ValueError:  # it ended between the two
        return True
    except Exception as error:
        log.warning("nothing can be counted", extra={"error": type(error).__name__})
        return True
