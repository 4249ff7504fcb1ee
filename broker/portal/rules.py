"""What the pages say about times, durations and matches, in words. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

_MINUTE = 60
_HOUR = 3600
_DAY = 86400


def duration_in_words(seconds: int) -> str:
    """A length of time as people say it: "15 min", "1 hour", "8 hours", "1 h 30 min". Rounded down to minutes."""
    if seconds < _MINUTE:
        return "less than a minute"
    hours, minutes = divmod(seconds // _MINUTE, 60)
    if not hours:
        return f"{minutes} min"
    if not minutes:
        return "1 hour" if hours == 1 else f"{hours} hours"
    return f"{hours} h {minutes} min"


def time_left(until: datetime, now: datetime) -> str:
    """How long something still lives: "52 min left", "3 h 5 min left", "ended". Never promises more than there is."""
    seconds = int((until - now).total_seconds())
    if seconds <= 0:
        return "ended"
    if seconds < _MINUTE:
        return "less than a minute left"
    hours, minutes = divmod(seconds // _MINUTE, 60)
    if not hours:
        return f"{minutes} min left"
    return f"{hours} h {minutes} min left" if minutes else f"{hours} h left"


def time_ago(moment: datetime, now: datetime) -> str:
    """How long ago something happened: "just now", "12 min ago", "3 h ago", "2 days ago"."""
    seconds = int((now - moment).total_seconds())
    if seconds < _MINUTE:
        return "just now"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min ago"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h ago"
    days = seconds // _DAY
    return "yesterday" if days == 1 else f"{days} days ago"


def highlight(text: str, words: Sequence[str]) -> tuple[tuple[str, bool], ...]:
    """Cut `text` into pieces and say of each whether it matches a word, without regard to case.

    The pieces joined give `text` again; matches that touch or overlap become one piece.
    """
    wanted = [word for word in words if word]
    if not wanted or not text:
        return ((text, False),) if text else ()
    marked = bytearray(len(text))
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter whose lower case is longer: positions would not agree
        return ((text, False),)
    for word in wanted:
        for match in re.finditer(re.escape(word.lower()), lowered):
            marked[match.start() : match.end()] = b"\x01" * (match.end() - match.start())
    pieces: list[tuple[str, bool]] = []
    start = 0
    for position in range(1, len(text) + 1):
        if position == len(text) or marked[position] != marked[start]:
            pieces.append((text[start:position], bool(marked[start])))
            start = position
    return tuple(pieces)


def duration_choices(longest_seconds: int) -> tuple[tuple[int, str], ...]:
    """The lengths worth offering up to the longest that is allowed, longest first, in words."""
    steps = [step * _MINUTE for step in (15, 30, 60, 120, 240, 480, 720)]
    offered = {step for step in steps if step < longest_seconds} | {longest_seconds}
    return tuple((seconds, duration_in_words(seconds)) for seconds in sorted(offered, reverse=True))


def day_of(moment: datetime, now: datetime) -> str:
    """The heading of a day in a list of the past: "Today", "Yesterday", "Thursday 20 November 2025"."""
    age = now.date() - moment.date()
    if age == timedelta(0):
        return "Today"
    if age == timedelta(days=1):
        return "Yesterday"
    return f"{moment:%A} {moment.day} {moment:%B %Y}"


_BROWSERS = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def client_in_words(user_agent: str) -> str:
    """Which browser on which system, as far as the User-Agent tells: "Firefox on Windows". Only ever a hint."""
    browser = next((name for sign, name in _BROWSERS if sign in user_agent), "")
    system = next((name for sign, name in _SYSTEMS if sign in user_agent), "")
    if browser and system:
        return f"{browser} on {system}"
    return browser or system or "".join(c for c in user_agent[:60] if c.isprintable())
