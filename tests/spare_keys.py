"""RSA keys in stock, for tests: making one takes a tenth of a second, or a quarter for the longer ones.

All of them are real. Within one test no key is given twice, and no two living providers have the same.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

APART = 12
"""Keys of providers lie at least so long, counted in other keys, before they are given to another."""

_of_providers: deque[rsa.RSAPrivateKey] = deque()


def of_a_provider(owner: object) -> rsa.RSAPrivateKey:
    """A key of 2048 bits, the owner's own for as long as that lives."""
    if len(_of_providers) >= APART:
        key = _of_providers.popleft()
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    weakref.finalize(owner, _of_providers.append, key).atexit = False
    return key


class Stock:
    """In place of the module that makes RSA keys, where Daypass makes its own."""

    def __init__(self) -> None:
        self._free: dict[tuple[int, int], list[rsa.RSAPrivateKey]] = {}
        self._given: list[tuple[tuple[int, int], rsa.RSAPrivateKey]] = []
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(rsa, name)

    def generate_private_key(self, public_exponent: int, key_size: int) -> rsa.RSAPrivateKey:
        kind = (public_exponent, key_size)
        with self._lock:
            key = self._free[kind].pop() if self._free.get(kind) else None
        key = key or rsa.generate_private_key(public_exponent, key_size)
        with self._lock:
            self._given.append((kind, key))
        return key

    @contextmanager
    def lent(self) -> Iterator[None]:
        """What is given within comes back at the end."""
        before = len(self._given)
        yield
        with self._lock:
            for kind, key in self._given[before:]:
                self._free.setdefault(kind, []).append(key)
            del self._given[before:]

    @contextmanager
    def sold(self) -> Iterator[None]:
        """What is given within never comes back."""
        before = len(self._given)
        yield
        with self._lock:
            del self._given[before:]


stock = Stock()
