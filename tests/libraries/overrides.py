"""Which functions of libraries Daypass overrides: found by looking, so that none is forgotten."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator

import accounts
import broker
from tests.libraries.fingerprint import Gone, take

_ELSEWHERE = ("broker.demo", "accounts.migrations", "broker.migrations")
_PLAIN = {"admin", "models", "apps", "forms", "__main__"}
"""Modules that use Django's documented interfaces only; broker.backoffice, on which the admin's pages stand, is looked
at."""
_HARMLESS = ("django.forms.fields", "django.forms.widgets", "django.core.management")
_SKIPPED = {"__module__", "__doc__", "__qualname__", "__annotations__", "__dict__", "__weakref__"}
_SKIPPED |= {"__static_attributes__", "__firstlineno__", "__annotate_func__", "media", "Meta"}


def overridden() -> dict[str, list[str]]:
    """Target -> our classes that override it. Needs Django to be set up."""
    found: dict[str, list[str]] = {}
    for ours in _our_classes():
        for place, definer in enumerate(ours.__mro__):
            if not _is_ours(definer):
                continue  # what is defined in a mix-in of ours overrides what comes after it
            for name in set(vars(definer)) - _SKIPPED:
                later = (base for base in ours.__mro__[place + 1 :] if name in vars(base))
                base = next((base for base in later if not _is_ours(base)), None)
                if base is None or not _is_from_a_library(base):
                    continue
                target = f"{base.__module__}:{base.__qualname__}.{name}"
                by = f"{definer.__module__}.{definer.__qualname__}"
                if _is_written(target) and by not in found.setdefault(target, []):
                    found[target].append(by)
    return {target: names for target, names in found.items() if names}


def _is_ours(one: type) -> bool:
    """A class of a module that is looked at."""
    return one.__module__.startswith(("accounts.", "broker.")) and not _is_plain(one.__module__)


def _is_plain(module: str) -> bool:
    if module.startswith(_ELSEWHERE) or ".management" in module:
        return True
    return not _PLAIN.isdisjoint(module.split("."))


def _our_classes() -> Iterator[type]:
    for package in (accounts, broker):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if _is_plain(module.name):
                continue
            loaded = importlib.import_module(module.name)
            for thing in vars(loaded).values():
                if inspect.isclass(thing) and thing.__module__ == module.name:
                    yield thing


def _is_from_a_library(base: type) -> bool:
    root = base.__module__.partition(".")[0]
    if base is object or root in ("accounts", "broker") or root in sys.stdlib_module_names:
        return False
    return not base.__module__.startswith(_HARMLESS)


def _is_written(target: str) -> bool:
    """Whether there is Python source for it; a metaclass may have made it."""
    try:
        take(target)
    except Gone:
        return False
    return True
