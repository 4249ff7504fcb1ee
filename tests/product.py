"""Daypass as processes of its own for tests: a folder with an SQLite file, a Valkey, and programs run beside them.

For what cannot be shown in the test's own process: being killed, and keeping nothing.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import kombu

from broker.celery import app

ROOT = Path(__file__).resolve().parent.parent


_migrated: list[bytes] = []
"""The database file after all migrations, made once."""


class Product:
    """One installation in a folder. Every process that was started is ended by `stop`."""

    def __init__(self, folder: Path, *, redis_url: str, **environment: str) -> None:
        self.folder = folder
        self.database = folder / "daypass.sqlite3"
        self.logs = folder / "log"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "broker.settings",
            "DAYPASS_ORIGIN": "https://daypass.test",
            "DAYPASS_SECRET_KEY": os.environ["DAYPASS_SECRET_KEY"],
            "DAYPASS_SEALING_KEYS": os.environ["DAYPASS_SEALING_KEYS"],
            "DAYPASS_DATA_DIR": str(folder),
            "REDIS_URL": redis_url,
            "CELERY_SKIP_CHECKS": "1",  # the stand-ins speak http, which production refuses
            "AWS_EC2_METADATA_DISABLED": "true",
            **environment,
        }
        self._started: list[subprocess.Popen[bytes]] = []
        if "DATABASE_URL" in environment:
            self.manage("migrate", "--skip-checks", "--verbosity", "0")
            return
        if not _migrated:
            self.manage("migrate", "--skip-checks", "--verbosity", "0")
            _migrated.append(self.database.read_bytes())
        self.database.write_bytes(_migrated[0])

    def manage(self, *words: str) -> str:
        """Run a management command to its end; what it printed."""
        return self._run([sys.executable, "manage.py", *words])

    def python(self, body: str) -> str:
        """Run Python with Django set up, to its end; what it printed."""
        return self._run([sys.executable, "-c", self._body(body)])

    def start_python(self, body: str) -> subprocess.Popen[bytes]:
        return self.start([sys.executable, "-c", self._body(body)])

    def start(self, words: list[str]) -> subprocess.Popen[bytes]:
        """Start a process in a group of its own, its output appended to the log."""
        with self.logs.open("ab") as log:
            process = subprocess.Popen(
                words,
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        words = "-m celery -A broker.celery worker -c 1 --loglevel INFO --without-gossip --without-mingle"
        return self.start([sys.executable, *words.split()])

    def send(self, task: str) -> None:
        """Put a message into the queue, as beat does."""
        with kombu.Connection(self.environment["REDIS_URL"]) as connection:
            app.send_task(task, connection=connection)

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask the database directly, over a connection of nobody's."""
        with closing(sqlite3.connect(self.database, timeout=20)) as connection, connection:
            return connection.execute(sql, parameters).fetchall()

    def stop(self) -> None:
        for process in self._started:
            kill(process)

    def _run(self, words: list[str]) -> str:
        done = subprocess.run(
            words, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120
        )
        with self.logs.open("a") as log:
            log.write(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _body(self, body: str) -> str:
        return "import django\ndjango.setup()\n" + textwrap.dedent(body)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the whole group: nothing gets to tidy up."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


def until(true: Callable[[], object], *, seconds: float = 30, every: float = 0.05) -> None:
    """Wait for something to become true; fail when it does not."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(every)
