"""Django's SQLite backend, in which whatever writes waits for its turn in short steps (`turns`).

SQLite's own waiting sleeps longer each time, up to a tenth of a second, and wakes nobody when the lock is free: with
eight clients issuing credentials one in a hundred waited more than a second for locks that were held for two
milliseconds. Here a transaction, or a statement that is one by itself, first takes its turn. It is a courtesy among
Daypass's own processes: SQLite's lock still decides, also for everybody else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.backends.sqlite3 import base

from broker.sqlite.turns import Turns, turns_at

_WRITING = ("INSERT", "UPDATE", "DELETE", "REPLACE")


class DatabaseWrapper(base.DatabaseWrapper):
    _held: Turns | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute_wrappers.append(self._in_turn)

    def __del__(self) -> None:
        self._end_turn()  # the connection of a thread that ended

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
            self._end_turn()

    def _in_turn(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        """Execute a statement; in its turn, when it writes outside of any transaction."""
        if self.in_atomic_block or self._held or not sql.lstrip()[:7].upper().startswith(_WRITING):
            return execute(sql, params, many, context)
        self._take_turn()
        try:
            return execute(sql, params, many, context)
        finally:
            self._end_turn()

    def _take_turn(self) -> None:
        mode = self.transaction_mode  # type: ignore[attr-defined]
        if self._held or mode != "IMMEDIATE" or self.is_in_memory_db():
            return
        turns = turns_at(f"{self.settings_dict['NAME']}-turn")
        if turns.take():
            self._held = turns

    def _end_turn(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.end()
