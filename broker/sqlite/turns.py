"""Whose turn it is to write to an SQLite file: first among the threads of a process, then among the processes.

Threads wait for each other without asking. Of each process at most one thread then asks for locks on a file beside the
database, twice in a millisecond: for the place of the next one, and from there for the turn. Who comes back at once
finds the place taken by whoever waited, so no process keeps the turn to itself. A process that dies loses both.
"""

from __future__ import annotations

import os
import threading
import time

try:
    import fcntl
except ImportError:
    LOCKS_FILES = False  # not a POSIX system: SQLite's own waiting
else:
    LOCKS_FILES = True

PATIENCE = 3.0
"""Seconds after which the turn is forgone and SQLite's own waiting, with its own time limit, begins."""

STEP = 0.0005
"""Seconds between two questions."""

_TURN, _NEXT = 0, 1
"""The bytes of the file that are locked."""


class Turns:
    """The turns at one file, for all threads of this process. A turn may be ended by another thread than took it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._file: int | None = None
        """Opened once and never closed: closing any would give up the locks of all."""

    def take(self) -> bool:
        """Wait for the turn; False when that took too long, and nothing is held."""
        if not LOCKS_FILES:
            return False
        until = time.monotonic() + PATIENCE
        if not self._threads.acquire(timeout=PATIENCE):
            return False
        try:
            taken = self._lock(_NEXT, until)
            if taken:
                try:
                    taken = self._lock(_TURN, until)
                finally:
                    self._unlock(_NEXT)
        except BaseException:
            self._threads.release()
            raise
        if not taken:
            self._threads.release()
        return taken

    def end(self) -> None:
        self._unlock(_TURN)
        self._threads.release()

    def _lock(self, byte: int, until: float) -> bool:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as the system likes
                if time.monotonic() > until:
                    return False
                time.sleep(STEP)
            else:
                return True

    def _unlock(self, byte: int) -> None:
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)


_all: dict[str, Turns] = {}


def turns_at(path: str) -> Turns:
    """The turns at this file, the same for all threads. path: of the file that is locked, made where it is missing."""
    return _all.get(path) or _all.setdefault(path, Turns(path))


if hasattr(os, "register_at_fork"):  # a child has neither the locks nor the threads of its parent
    os.register_at_fork(after_in_child=_all.clear)
