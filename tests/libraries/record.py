"""The table beside what is recorded of it: what changed, in words, and recording it anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.libraries import table
from tests.libraries.fingerprint import Gone, installed, take
from tests.libraries.overrides import overridden

FILE = Path(__file__).with_name("recorded.json")


def watched() -> dict[str, str]:
    """Every watched function, with why it matters."""
    whys = {target: why for why, targets in table.RELIED_ON for target in targets.split()}
    for target, ours in overridden().items():
        reasons = {table.OVERRIDDEN_BY.get(name, "") for name in ours}
        names = ", ".join(sorted(ours))
        own = whys.get(target)
        whys[target] = " ".join(filter(None, [f"Overridden by {names}:", *sorted(reasons), own]))
    return whys


def now() -> dict[str, Any]:
    """As it is installed. What is gone is left out."""
    functions: dict[str, dict[str, str]] = {}
    whys = watched()
    for target in sorted(whys):
        try:
            taken = take(target)
        except Gone:
            continue
        functions[target] = {"signature": taken.signature, "source": taken.source}
    return {"versions": installed([*whys, *table.COMPILED]), "functions": functions}


def recorded() -> dict[str, Any]:
    return (
        dict(json.loads(FILE.read_text())) if FILE.exists() else {"versions": {}, "functions": {}}
    )


def write() -> None:
    FILE.write_text(json.dumps(now(), indent=1, sort_keys=True) + "\n")


def changes() -> str:
    """What is not as it was recorded, and what to do about it; "" when everything is."""
    was, current, whys = recorded(), now(), watched()
    lines: list[str] = []
    for target in sorted(set(was["functions"]) | set(whys)):
        before, after = was["functions"].get(target), current["functions"].get(target)
        if before == after and before is not None:
            continue
        if after is None and target in whys:
            what = "is not there any more, or has another name"
        elif after is None:
            what = "is not overridden any more (if it still should be: its name may have changed)"
        elif before is None:
            what = "is new here and was never read"
        elif before["signature"] != after["signature"]:
            what = f"is called otherwise: {before['signature']} became {after['signature']}"
        else:
            what = "does something else than it did"
        lines.append(f"  {target}\n      {what}.\n      {whys.get(target, '')}".rstrip())
    for name, why in table.COMPILED.items():
        if was["versions"].get(name) != current["versions"].get(name):
            lines.append(f"  {name} is compiled and cannot be read here.\n      {why}")
    if not lines:
        return ""
    versions = [
        f"{name} {was['versions'].get(name, 'not there')} -> {version}"
        for name, version in current["versions"].items()
        if was["versions"].get(name) != version
    ]
    return "\n".join(
        [
            "The libraries are not what they were when Daypass's reliance on them was last read.",
            f"Versions that changed: {', '.join(versions) or 'none'}.",
            *lines,
            "Read each change in the library's source and its release notes. Where what is said above about it does",
            "not hold any more, mend Daypass first. Then record it anew: python -m tests.libraries --record",
        ]
    )
