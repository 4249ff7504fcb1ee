"""What a setting has to be, and why: one line each, so that the list can be read, and shown where it is not met."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Critical


@dataclass(frozen=True, slots=True)
class Demand:
    """A setting whose other values would be unsafe. `missing`: what it counts as when it is not set at all."""

    name: str
    met: Callable[[Any], bool]
    has_to_be: str
    why: str
    missing: Any = None


def exactly(name: str, value: object, why: str, *, missing: Any = None) -> Demand:
    return Demand(name, lambda found: bool(found == value), repr(value), why, missing)


def among(name: str, values: Collection[object], why: str) -> Demand:
    words = " or ".join(repr(value) for value in values)
    return Demand(name, lambda found: found in values, words, why)


def at_most(name: str, most: Any, why: str) -> Demand:
    return Demand(name, lambda found: found is not None and found <= most, f"at most {most}", why)


def unset(name: str, why: str) -> Demand:
    """Not set, or set to something empty."""
    return Demand(name, lambda found: not found, "left unset", why)


def unmet(demands: Iterable[Demand], *, id: str) -> list[CheckMessage]:
    """A message for each demand that the settings do not meet. Values are shown: none of these is a secret."""
    found: list[CheckMessage] = []
    for demand in demands:
        value = getattr(settings, demand.name, demand.missing)
        if not demand.met(value):
            found.append(
                Critical(
                    f"{demand.name} is {value!r}; it has to be {demand.has_to_be}.",
                    hint=f"Otherwise {demand.why}",
                    id=id,
                )
            )
    return found
