"""`make test`: every check and every test, with one summary at the end.

What drives a browser waits much, so the stages of that kind run side by side; each says its piece when it has ended.

`python -m tests` runs all stages; `python -m tests checks` (or sqlite, postgresql, journeys, interop, clients) those
that are named.
With CI=true nothing may be left out: a missing browser, a missing provider or a skipped test is a failure.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI", "").lower() in ("1", "true")
PYTHON = sys.executable
TOOLS = Path(PYTHON).parent
RESULTS = ROOT / "test-results"
WORKERS = str(min(8, (os.cpu_count() or 2) * 3 // 2))
SIDE_BY_SIDE = ("-n", WORKERS, "--dist", "worksteal")
"""Processes that test side by side: more than there are cores, because much of it waits for servers. Who has
nothing left to do takes from the others."""

MOST = 25 * 60
"""Seconds for a stage. A test that hangs fails long before (pyproject.toml); this is for what hangs around them."""


@dataclass
class Outcome:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    note: str = ""


def checks() -> Outcome:
    """Each is one thing that passes or fails."""
    production = {
        "DAYPASS_ORIGIN": "https://daypass.example.com",
        "DAYPASS_SECRET_KEY": "made up for the check of a production configuration",
        "DAYPASS_SEALING_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "REDIS_URL": "rediss://:made-up@redis.example.com:6379/0",
        "DATABASE_URL": "postgresql://daypass:made-up@db.example.com/daypass",
    }
    with tempfile.TemporaryDirectory() as folder:
        embedded = production | {"DAYPASS_DATA_DIR": folder, "DATABASE_URL": ""}
        deploy = [
            PYTHON,
            "-W",
            "error",
            "manage.py",
            "check",
            "--deploy",
            "--fail-level",
            "WARNING",
        ]
        commands: list[tuple[str, list[str], dict[str, str]]] = [
            ("lint", [str(TOOLS / "ruff"), "check", "."], {}),
            ("format", [str(TOOLS / "ruff"), "format", "--check", "."], {}),
            ("types", [str(TOOLS / "mypy"), "."], embedded),
            ("contracts", [str(TOOLS / "lint-imports")], embedded),
            (
                "migrations",
                [PYTHON, "manage.py", "makemigrations", "--check", "--dry-run"],
                embedded,
            ),
            ("production checks", deploy, production),
        ]
        outcome = Outcome()
        for name, command, environment in commands:
            started = time.monotonic()
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=os.environ | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            good = done.returncode == 0
            say(f"  {'ok    ' if good else 'FAILED'} {name} ({time.monotonic() - started:.0f} s)")
            if not good:
                say(done.stdout.rstrip())
            outcome.passed += good
            outcome.failed += not good
    return outcome


def sqlite() -> Outcome:
    return pytest("sqlite", ["-m", "not journey and not interop and not client", *SIDE_BY_SIDE], {})


def postgresql() -> Outcome:
    from tests.servers import start_postgres

    server = start_postgres()
    try:
        # What touches no database of Daypass, is refused before it, or stands on services that are tested on both, has
        # been tested a minute ago.
        elsewhere = (
            "demo",
            "attacks",
            "aws",
            "fuzz",
            "trust",
            "test_checks.py",
            "test_deployment.py",
            "test_serving.py",
            "test_parts_away.py",
            "test_sqlite.py",
            "test_threat_model.py",
            "accounts/test_confined.py",
            "accounts/test_early.py",
            "accounts/test_encryption.py",
            "accounts/test_jose.py",
            "accounts/test_libraries.py",
            "accounts/test_outbound.py",
            "accounts/test_outbound_hostile.py",
            "accounts/test_rules.py",
            "accounts/test_saml_messages.py",
            "accounts/test_saml_metadata.py",
            "accounts/test_shapes.py",
            "awssso/test_abuse_bodies.py",
            "awssso/test_api.py",
            "awssso/test_machines.py",
            "awssso/test_profiles.py",
            "awssso/test_profiles_work.py",
            "awssso/test_restarts.py",
            "awssso/test_signin_page.py",
            "awssso/test_start.py",
            "awssso/test_wire_clients.py",
            "awssso/test_wire_conformity.py",
            "doctor/test_misconfigurations.py",
            "entitlements/test_laws.py",
            "minting/test_rotation_under_load.py",
            "minting/test_tokens.py",
            "upkeep/test_reach.py",
            "ways/test_strict_sts.py",
        )
        apart = [f"--ignore=tests/{name}" for name in elsewhere]
        return pytest(
            "postgresql",
            ["-m", "not journey and not interop and not client", *SIDE_BY_SIDE, *apart],
            {"DATABASE_URL": server.url},
        )
    finally:
        server.stop()


def journeys() -> Outcome:
    return no_chromium() or pytest("journeys", ["-m", "journey", "tests/journeys"], {})


def interop() -> Outcome:
    """The providers that are here or can be fetched; the others are named with what they need."""
    from tests.interop.parts import TESTS, missing

    without_browser = no_chromium()
    if without_browser is not None:
        return without_browser
    absent = missing()
    for name, reason in absent.items():
        say(f"  {'FAILED' if CI else 'Left out'}: {name}: {reason}")
    if CI and absent:
        return Outcome(failed=len(absent))
    if len(absent) == len(TESTS):
        return Outcome(note="left out: no provider")
    files = [f"tests/interop/{file}" for name in TESTS.keys() - absent for file in TESTS[name]]
    outcome = pytest("interop", ["-m", "interop", *sorted(files)], {})
    if absent and not outcome.failed:
        outcome.note = f"{outcome.passed} passed; left out: {', '.join(absent)}"
    return outcome


def clients() -> Outcome:
    """AWS's clients that come from PyPI and npm; `python -m tests.clients` tries the others as well."""
    from tests.clients.parts import missing

    without_browser = no_chromium()
    if without_browser is not None:
        return without_browser
    absent = missing()
    for name, reason in absent.items():
        say(f"  {'FAILED' if CI else 'Left out'}: {name}: {reason}")
    if absent:
        return Outcome(failed=len(absent)) if CI else Outcome(note="left out: no clients")
    files = [f"tests/clients/test_{name}.py" for name in ("sdks", "machines", "sso_util")]
    return pytest("clients", ["-m", "client", *files], {})


def no_chromium() -> Outcome | None:
    """What comes of a stage that needs a browser where there is none; None where there is one."""
    from tests.servers import chromium

    if chromium() is not None:
        return None
    remedy = "On Debian and Ubuntu: apt-get install chromium"
    if CI:
        say(f"  FAILED: there is no Chromium. {remedy}")
        return Outcome(failed=1)
    say(f"  Left out: there is no Chromium, which this needs. {remedy}")
    return Outcome(note="left out: no Chromium")


def pytest(name: str, arguments: list[str], environment: dict[str, str]) -> Outcome:
    RESULTS.mkdir(exist_ok=True)
    report = RESULTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    process = subprocess.Popen(
        [PYTHON, "-X", "faulthandler", "-m", "pytest", "-q", f"--junitxml={report}", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=_apart.said,
        stderr=_apart.said,
    )
    outcome = Outcome()
    try:
        returned = process.wait(timeout=MOST)
    except subprocess.TimeoutExpired:
        say(f"  FAILED: {name} has not ended after {MOST // 60} minutes. It stands here:")
        process.send_signal(signal.SIGABRT)  # has faulthandler say where its threads are
        returned = process.wait()
    if report.exists():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            total, failed, errors, skipped = (
                int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
            )
            outcome.failed += failed + errors
            outcome.skipped += skipped
            outcome.passed += total - failed - errors - skipped
    if returned != 0 and outcome.failed == 0:
        outcome.failed = 1  # nothing collected, a crash, an interrupt
    if CI and outcome.skipped:
        say(f"  FAILED: {outcome.skipped} tests were skipped, which CI does not allow")
        outcome.failed += outcome.skipped
        outcome.skipped = 0
    return outcome


STAGES: dict[str, tuple[str, Callable[[], Outcome]]] = {
    "checks": ("Lint, types, contracts, migrations, production checks", checks),
    "sqlite": ("Tests on SQLite", sqlite),
    "postgresql": ("Tests on PostgreSQL", postgresql),
    "journeys": ("Journeys: a real browser against the whole demo", journeys),
    "interop": ("Interoperability: other people's identity providers, in a browser", interop),
    "clients": ("AWS's own clients, unmodified, against the whole demo", clients),
}

BESIDE = ("journeys", "interop", "clients")


class _Apart(threading.local):
    """Where a thread's stage says what it has to say: None for the screen."""

    said: IO[str] | None = None


_apart = _Apart()


def say(text: str) -> None:
    to = _apart.said or sys.stdout
    to.write(f"{text}\n")
    to.flush()


Timed = dict[str, tuple[Outcome, float]]


def play(names: Iterable[str]) -> Timed:
    """These stages, one after the other: how each ended, and its seconds."""
    outcomes: Timed = {}
    for name in names:
        title, stage = STAGES[name]
        say(f"\n=== {title}")
        started = time.monotonic()
        outcomes[name] = (stage(), time.monotonic() - started)
    return outcomes


def play_apart(name: str) -> tuple[Timed, str]:
    """How this stage ended, with its seconds, and what was said meanwhile."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        _apart.said = said
        outcomes = play([name])
        said.seek(0)
        return outcomes, said.read()


def play_all() -> Timed:
    outcomes = play(("checks", "sqlite", "postgresql"))
    with ThreadPoolExecutor(len(BESIDE)) as lanes:
        for lane in [lanes.submit(play_apart, name) for name in BESIDE]:
            ended, said = lane.result()
            outcomes |= ended
            say(said.rstrip())
    return outcomes


def main(names: list[str]) -> int:
    unknown = set(names) - set(STAGES)
    if unknown:
        say(f"There is no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}.")
        return 2
    outcomes = play(names) if names else play_all()
    say("")
    for name, (outcome, seconds) in outcomes.items():
        counts = f"{outcome.passed} passed, {outcome.failed} failed, {outcome.skipped} skipped"
        say(f"{name:<11} {seconds:>5.0f} s   {outcome.note or counts}")
    every = [outcome for outcome, _ in outcomes.values()]
    failed = sum(outcome.failed for outcome in every)
    say(
        f"\n{sum(o.passed for o in every)} passed, {failed} failed, {sum(o.skipped for o in every)} skipped"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ["PATH"] = f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # hundreds of processes would compile everything anew
    sys.exit(main(sys.argv[1:]))
