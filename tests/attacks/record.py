"""All attacks in one process, measured: how long each took and how much memory it cost, and the page that says so."""

from __future__ import annotations

import logging
import platform
import re
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
from django.db import connection, transaction

import tests.attacks.oidc
import tests.attacks.saml  # noqa: F401 (both fill the registry)
from tests.attacks.registry import ATTACKS, CONTROLS, Attack, Control, Outcome, carry_out, let_in

PAGE = Path(__file__).resolve().parents[2] / "docs" / "attacks.md"
LIBRARIES = ("Django", "django-allauth", "python3-saml", "lxml", "xmlsec", "cryptography", "PyJWT")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def confined() -> list[psutil.Process]:
    """The children in which the XML of others is read."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if any("accounts.confined" in word for word in child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


class Memory:
    """The highest resident size of this process and of its confined children while something runs, in bytes more than
    before. The children are looked at together."""

    def __enter__(self) -> Memory:
        self.own = psutil.Process()
        self.children = confined()
        self.before, self.before_children = self._sizes()
        self.extra = self.extra_children = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _sizes(self) -> tuple[int, int]:
        together = 0
        for child in self.children:
            try:
                together += child.memory_info().rss
            except psutil.Error:
                continue
        return self.own.memory_info().rss, together

    def _look(self) -> None:
        own, together = self._sizes()
        self.extra = max(self.extra, own - self.before)
        self.extra_children = max(self.extra_children, together - self.before_children)

    def _watch(self) -> None:
        while not self.over.wait(0.002):
            self._look()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self._look()


@dataclass(frozen=True, slots=True)
class Measured:
    one: Attack | Control
    outcome: Outcome
    extra: int
    extra_children: int


def play(one: Attack | Control) -> Measured:
    """One attack or control, in a transaction that is undone."""
    with Memory() as memory, transaction.atomic():
        try:
            outcome = carry_out(one) if isinstance(one, Attack) else let_in(one)
        except Exception:
            problem = f"it could not be played: {traceback.format_exc(limit=-4)}"
            outcome = Outcome(one.name, 0, 0.0, (), (problem,))
        transaction.set_rollback(True)
    return Measured(one, outcome, memory.extra, memory.extra_children)


def run(*, words: Sequence[str], reasons: bool, write: bool) -> int:
    logging.disable(logging.CRITICAL)
    wanted = [
        one
        for one in (*CONTROLS, *ATTACKS)
        if write or not words or any(w in f"{one.protocol} {one.kind} {one.name}" for w in words)
    ]
    for warm in [one for one in CONTROLS if one in wanted][:2]:  # the pool and the caches are there
        play(warm)
    measured = [play(one) for one in wanted]
    failed = [m for m in measured if m.outcome.problems]
    for m in measured if reasons else failed:
        told = "; ".join(f"{code}: {reason}" for code, reason in m.outcome.reasons)
        say(f"{m.one.protocol} {m.one.kind}: {m.one.name} [{m.outcome.status}] {told}")
        for problem in m.outcome.problems:
            say(f"    {problem}")
    say(f"{len(measured)} played, {len(failed)} ended otherwise than they have to")
    if write and not failed:
        replace("corpus", corpus(measured))
    return 1 if failed else 0


# --- The page


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def corpus(measured: Sequence[Measured]) -> str:
    """The section about the corpus, in Markdown."""
    lines = [
        f"Recorded on {datetime.now(UTC):%d %B %Y} with Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
        + f" and {connection.vendor}, in one process, by `python -m tests.attacks --record`.",
        "",
        "| protocol | attacks | refused | controls | let in | p99 | slowest | extra memory, web process "
        "| extra memory, confined children |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for protocol, name in (("saml", "SAML"), ("oidc", "OpenID Connect")):
        attacks = [m for m in measured if isinstance(m.one, Attack) and m.one.protocol == protocol]
        controls = [
            m for m in measured if isinstance(m.one, Control) and m.one.protocol == protocol
        ]
        quick = [m.outcome.seconds for m in attacks if not _waits(m.one)]
        lines.append(
            f"| {name} | {len(attacks)} | {sum(not m.outcome.problems for m in attacks)} "
            f"| {len(controls)} | {sum(not m.outcome.problems for m in controls)} "
            f"| {percentile(quick, 0.99) * 1000:.0f} ms | {max(quick, default=0) * 1000:.0f} ms "
            f"| {max((m.extra for m in attacks), default=0) / 2**20:.1f} MiB "
            f"| {_children(attacks)} |"
        )
    slow = [m for m in measured if _waits(m.one)]
    if slow:
        lines += [
            "",
            f"The times leave out {len(slow)} attacks in which the provider itself answers slowly or a key is waited "
            f"for: the longest of them was ended after {max(m.outcome.seconds for m in slow):.1f} s.",
        ]
    for protocol, name in (("saml", "SAML"), ("oidc", "OpenID Connect")):
        lines += ["", f"### {name}, by class", "", "| class | requirements | attacks | controls |"]
        lines += ["| --- | --- | ---: | ---: |"]
        attacked = Counter(
            m.one.kind for m in measured if isinstance(m.one, Attack) and m.one.protocol == protocol
        )
        honest = Counter(
            m.one.kind
            for m in measured
            if isinstance(m.one, Control) and m.one.protocol == protocol
        )
        for kind in (*attacked, *(k for k in honest if k not in attacked)):
            numbers = {
                number
                for m in measured
                if isinstance(m.one, Attack) and (m.one.protocol, m.one.kind) == (protocol, kind)
                for number in m.one.requirements
            }
            ordered = ", ".join(sorted(numbers, key=lambda r: int(r[1:])))
            lines.append(f"| {kind} | {ordered} | {attacked[kind] or ''} | {honest[kind] or ''} |")
    return "\n".join(lines)


def _waits(one: Attack | Control) -> bool:
    return isinstance(one, Attack) and one.waits


def _children(attacks: Sequence[Measured]) -> str:
    most = max((m.extra_children for m in attacks), default=0)
    return f"{most / 2**20:.1f} MiB" if most > 0 else "none"


def replace(section: str, text: str) -> None:
    """Write one section of docs/attacks.md, between its two comments."""
    page = PAGE.read_text()
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    pattern = re.compile(f"({re.escape(begin)}\n).*?(\n{re.escape(end)})", re.DOTALL)
    changed, times = pattern.subn(lambda found: f"{found[1]}\n{text}\n{found[2]}", page)
    if times != 1:
        sys.exit(f"{PAGE} has no section {section!r}")
    PAGE.write_text(changed)
