"""The cache, which may be away: then it remembers nothing, and nobody fails for it.

What must not be forgotten is in the database (threats.md R61); what is counted is in accounts/throttle.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError


def _or(empty: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def forgetful(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except (RedisError, OSError):
            return empty

    return forgetful


class ForgetfulCache(RedisCache):
    """Redis or Valkey; while it is away, an empty cache."""

    add = _or(True, RedisCache.add)
    set = _or(None, RedisCache.set)
    touch = _or(False, RedisCache.touch)
    delete = _or(False, RedisCache.delete)
    has_key = _or(False, RedisCache.has_key)

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        try:
            return super().get(key, default, version)
        except (RedisError, OSError):
            return default
