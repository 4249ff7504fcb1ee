"""`python -m broker.demo`, what `make run` starts: sets the stage, then becomes the supervisor of its processes."""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from broker.demo.preparation import prepare
from broker.demo.stage import (
    ROOT,
    CannotStart,
    refuse_beside_production,
    set_stage,
)
from broker.demo.tree import write_supervisor, write_valkey

_LOCK = 3  # a descriptor that supervisord neither closes nor passes on


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m broker.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=_port_wish(), help="where people open it")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument(
        "--empty",
        action="store_true",
        help="nothing is set up: try the first run as its administrator",
    )
    options = parser.parse_args(arguments)
    folder = options.data_dir or ROOT / "var" / ("first-run" if options.empty else "demo")
    try:
        refuse_beside_production(os.environ)
        _only_one(folder)
        stage = set_stage(folder, port=options.port, empty=options.empty)
        write_valkey(stage)
        configuration = write_supervisor(stage)
    except CannotStart as problem:
        print(problem, file=sys.stderr)  # noqa: T201
        return 1
    environment = stage.environment()
    os.chdir(ROOT)
    first = not (stage.folder / "seeded").exists()
    print(  # noqa: T201
        "Daypass demo: setting the stage"
        + (" (the first time takes half a minute) ..." if first else " ..."),
        flush=True,
    )
    prepare(stage, environment)
    # The greeting waits in a process of its own until everything answers; this one becomes the supervisor.
    actor = [sys.executable, "-m", "broker.demo.actor"]
    subprocess.Popen(  # noqa: S603  (this program itself)
        [*actor, sys.executable, "-m", "broker.demo.opening"], env=environment
    )
    os.execve(  # noqa: S606
        sys.executable,
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)],
        environment,
    )


def _port_wish() -> int:
    wish = os.environ.get("DAYPASS_PORT", "") or "8000"
    if not wish.isdigit() or not 0 < int(wish) < 65536:
        raise SystemExit(f"DAYPASS_PORT is {wish!r}; it has to be a port number, such as 8010.")
    return int(wish)


def _only_one(folder: Path) -> None:
    """Two demos in one folder would spoil each other's data. The lock is held until the supervisor ends."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise CannotStart(
            f"This demo is already running ({folder}). Use it, or stop it with Ctrl-C where it was started."
        ) from None
    if lock != _LOCK:
        os.dup2(lock, _LOCK)
        os.close(lock)
    os.set_inheritable(_LOCK, True)


if __name__ == "__main__":
    sys.exit(main())
