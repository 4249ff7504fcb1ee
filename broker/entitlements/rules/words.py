"""Times, and who gives a right, in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from broker.entitlements.rules.facts import MappingFacts


def duration(length: int | timedelta) -> str:
    """A length of time in words: "1 hour 30 minutes", "2 days", "45 seconds"."""
    seconds = int(length.total_seconds()) if isinstance(length, timedelta) else length
    seconds = max(seconds, 0)
    words = []
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            words.append(f"{count} {unit}" if count == 1 else f"{count} {unit}s")
    return " ".join(words[:2]) or "0 seconds"


def moment(at: datetime) -> str:
    """A point in time in words, in UTC: "3 March 2026, 14:30 UTC"."""
    at = at.astimezone(UTC)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def by(mapping: MappingFacts) -> str:
    """Whence somebody has a right."""
    return f"through the group {mapping.group_name}"


def capital(text: str) -> str:
    """As a sentence begins."""
    return text[0].upper() + text[1:]


def full_stop(text: str) -> str:
    """As a sentence ends."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
