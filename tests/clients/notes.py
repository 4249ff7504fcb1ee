"""What was seen, kept for docs/clients.md: which client passed which step, and what it said to its user."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.clients.homes import Ran
from tests.servers import ROOT

RESULTS = ROOT / "test-results" / "clients.json"

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_HERE = re.compile(r"\blocalhost[:-]\d+|127\.0\.0\.1:\d+")
_ALWAYS_OTHERS = (
    (re.compile(r"(?s)Browser will not .*?URL:\s+\S+"), ""),
    (re.compile(r"(?i)request ?id:? ?[\w-]{8,}"), "RequestID: …"),
    (re.compile(r"/(?:[\w.-]+/)*home\b"), "~"),
    (re.compile(r"\b\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\b"), "…"),
)


class Notes:
    def __init__(self) -> None:
        self._seen: dict[str, dict[str, str]] = {}

    def passed(self, client: object, step: str, how: str = "yes") -> None:
        """Called at the end of a test: what is noted has been shown. Ways that several tests show stand together."""
        seen = self._seen.setdefault(str(client), {})
        seen[step] = ", ".join(sorted({seen.get(step, how), how}))

    def said(self, client: object, step: str, ran: Ran) -> None:
        """The words with which a client refuses."""
        self._seen.setdefault(str(client), {})[step] = words(ran)

    def keep(self, path: Path = RESULTS) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(self._seen, indent=1, sort_keys=True, ensure_ascii=False))


def words(ran: Ran) -> str:
    """What a person reads, on one line, without what differs from run to run."""
    text = _HERE.sub("daypass.example.com", _COLOURS.sub("", ran.said))
    for pattern, instead in _ALWAYS_OTHERS:
        text = pattern.sub(instead, text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = " ".join(line for line in lines if "Failed to lsd" not in line)
    return told if len(told) <= 500 else f"{told[:500]}…"
