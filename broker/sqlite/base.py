"""Django's SQLite backend, in which transactions that will write wait for their turn in short steps.

SQLite's own waiting sleeps longer each time, up to a tenth of a second, and wakes nobody when the lock is free: with
eight clients issuing credentials one in a hundred waited more than a second for locks that were held for two
milliseconds. Here a transaction first takes a lock on a file beside the database, asked for every one to three
milliseconds. It is a courtesy among Daypass's own processes: SQLite's lock still decides, also for everybody else.
"""

from __future__ import annotations

import os
import random
import time

from django.db.backends.sqlite3 import base

try:
    import fcntl
except ImportError:  # not a POSIX system: SQLite's own waiting
    fcntl = None  # type: ignore[assignment]

PATIENCE = 3.0
"""Seconds after which the turn is forgone and SQLite's own waiting, with its own time limit, begins."""


class DatabaseWrapper(base.DatabaseWrapper):
    _turn: int | None = None
    _turn_process = 0

    def __del__(self) -> None:
        self._close_turn()  # the connection of a thread that ended

    def _start_transaction_under_autocommit(self) -> None:
        self._take_turn()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]  # not in its types
        except BaseException:
            self._end_turn()
            raise

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]
        self._end_turn()

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._end_turn()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._close_turn()

    def _take_turn(self) -> None:
        mode = self.transaction_mode  # type: ignore[attr-defined]
        if fcntl is None or mode != "IMMEDIATE" or self.is_in_memory_db():
            return
        if self._turn is None or self._turn_process != os.getpid():
            self._close_turn()  # one that was inherited over a fork is shared with the parent
            path = f"{self.settings_dict['NAME']}-turn"
            self._turn = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._turn_process = os.getpid()
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(self._turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    return
                time.sleep(random.uniform(0.001, 0.003))  # noqa: S311

    def _end_turn(self) -> None:
        if self._turn is not None and self._turn_process == os.getpid():
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def _close_turn(self) -> None:
        if self._turn is not None:
            os.close(self._turn)
            self._turn = None
