"""The room where XML of others is read: a few confined processes, lent out for one message at a time.

The processes (`accounts.confined`) can do nothing but answer; here is what keeps them: they are started before they are
needed, replaced when one ends, takes too long or has served for long, and shared so that no provider gets them all.
Without them nobody signs in by SAML: there is no other place where a message would be read (threats.md R1).
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import secrets
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings

from accounts.confined import wire
from accounts.confined.values import Wrapped
from broker.errors import BadInput, DaypassError, SignInRefused

log = logging.getLogger("daypass.accounts")

Unwrap = Callable[[Wrapped], bytes]

SECONDS = 2.5
"""For one message, by the clock on the wall."""
METADATA_SECONDS = 10.0
BUSY_SECONDS = 1.0
"""How long somebody waits for a process to be free."""
START_SECONDS = 20.0
"""How long a process may take until it is ready."""
MOST_WAITING = 4
SLOW_SECONDS = 0.25
"""How many wait behind a message that takes this long; the next of the same provider is sent away at once, so that one
slow provider does not hold every thread of a web process."""
RECYCLED_AFTER = 5_000
"""Messages after which a process is replaced."""
_PASSED_ON = ("LD_LIBRARY_PATH", "PYTHONHOME")
"""All that a confined process has of our environment: where the interpreter's own parts are."""


def command() -> list[str]:
    """How a confined process is started: this interpreter, nothing from the working directory or the user's own."""
    return [sys.executable, "-s", "-P", "-m", "accounts.confined", str(os.getpid())]


def environment() -> dict[str, str]:
    return {
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    }


class _Ended(Exception):
    """A confined process stopped answering; the text says how."""


class _Process:
    """One confined process. Used by one thread at a time."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.served = 0
        self.popen = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            list(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment(),
            start_new_session=True,
            bufsize=0,
        )
        assert self.popen.stdin is not None and self.popen.stdout is not None
        self.writes, self.reads = self.popen.stdin.fileno(), self.popen.stdout.fileno()
        os.set_blocking(self.writes, False)
        os.set_blocking(self.reads, False)

    def tell(self, document: Mapping[str, Any], until: float) -> None:
        """Raises _Ended."""
        raw = memoryview(wire.frame(document))
        while raw:
            self._wait(self.writes, select.POLLOUT, until)
            with contextlib.suppress(BlockingIOError):
                try:
                    raw = raw[os.write(self.writes, raw) :]
                except OSError as error:
                    if isinstance(error, BlockingIOError):
                        raise
                    raise _Ended("it ended") from None

    def hear(self, until: float) -> dict[str, Any]:
        """Raises _Ended."""

        def read(count: int) -> bytes:
            parts = bytearray()
            while len(parts) < count:
                self._wait(self.reads, select.POLLIN, until)
                try:
                    part = os.read(self.reads, count - len(parts))
                except BlockingIOError:
                    continue
                if not part:
                    raise _Ended("it ended")
                parts += part
            return bytes(parts)

        try:
            document = wire.read_frame(read)
        except ValueError:
            raise _Ended("it answered nonsense") from None
        assert document is not None
        return document

    def _wait(self, descriptor: int, event: int, until: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        left = until - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise _Ended("it took too long")

    def end(self) -> None:
        """Kill it, whatever it is doing, and leave no trace."""
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()

    def forget(self) -> None:
        """In a fork, it is somebody else's process: let go of the pipes, so that its end is noticed."""
        self.popen.returncode = 0
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()


class Room:
    """At most `size` confined processes. Every method may be called from any thread of the process that made it."""

    def __init__(self, size: int, *, arguments: Sequence[str] | None = None) -> None:
        self.size = size
        self.share = (size + 1) // 2
        self._arguments = arguments
        self._change = threading.Condition()
        self._idle: list[_Process] = []
        self._all: list[_Process] = []
        self._taken: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._working: dict[_Process, tuple[str, float]] = {}
        self._wanted = 0
        self._problem = ""
        self._closed = False
        self._keeper: threading.Thread | None = None
        self.walls: list[str] = []

    # --- Keeping

    def warm(self) -> None:
        """Have all the processes started, without waiting for them."""
        with self._change:
            self._want(self.size)

    def _want(self, count: int) -> None:
        self._wanted = max(self._wanted, min(count, self.size))
        if self._keeper is None and not self._closed:
            # One thread starts them all and lives as long as we do: on Linux a process ends with the thread that
            # started it (PR_SET_PDEATHSIG), and threads of a web server come and go.
            self._keeper = threading.Thread(target=self._keep, name="daypass-xml-room", daemon=True)
            self._keeper.start()
        self._change.notify_all()

    def _keep(self) -> None:
        pause = 0.5
        while True:
            with self._change:
                while not self._closed and len(self._all) >= self._wanted:
                    self._change.wait()
                if self._closed:
                    return
            problem = self._start()
            with self._change:
                self._problem = problem
                self._change.notify_all()
                if problem and not self._closed:
                    log.error("no process to read XML in", extra={"reason": problem})
                    self._change.wait_for(lambda: self._closed, timeout=pause)
                    pause = min(2 * pause, 30.0)
                else:
                    pause = 0.5

    def _start(self) -> str:
        """Start one process and wait until it is ready; what went wrong, "" when nothing did."""
        try:
            process = _Process(self._arguments or command())
        except OSError as error:
            return f"it cannot be started: {type(error).__name__}"
        try:
            hello = process.hear(time.monotonic() + START_SECONDS)
        except _Ended as ended:
            process.end()
            return str(ended)
        ready = hello.get("ready")
        if not isinstance(ready, dict):
            process.end()
            return str(hello.get("failed", "it is not ready"))[:500]
        with self._change:
            if self._closed:
                process.end()
                return ""
            walls = [str(wall) for wall in ready.get("walls", ())]
            if walls != self.walls and sys.platform == "linux" and "system calls" not in walls:
                log.warning("XML is read without a list of system calls", extra={"walls": walls})
            self.walls = walls
            self._all.append(process)
            self._idle.append(process)
            self._change.notify_all()
        return ""

    def close(self) -> None:
        """End every process, also those at work."""
        with self._change:
            self._closed = True
            idle, working = self._idle, list(self._working)
            self._all, self._idle = [], []
            self._change.notify_all()
        for process in idle:
            process.end()
        for process in working:  # whoever asked it still holds its pipes, and puts them away
            process.popen.kill()

    def forget(self) -> None:
        """In a fork: nothing here is ours."""
        for process in self._all:
            process.forget()

    def processes(self) -> list[int]:
        """The ids of the processes there are."""
        with self._change:
            return [process.popen.pid for process in self._all]

    # --- Asking

    def ask(
        self,
        job: str,
        said: Mapping[str, Any],
        *,
        provider: str,
        unwrap: Unwrap | None = None,
        seconds: float = SECONDS,
    ) -> Any:
        """What a confined process answers to a job about one provider's message.

        Raises SignInRefused and BadInput as the process raised them; SignInRefused with code `busy` when no process
        becomes free, `xml_room_unavailable` when there is none, `xml_room_ended` when one did not survive the message.
        """
        process = self._take(provider)
        good = False
        try:
            answer = _converse(process, {**said, "job": job}, time.monotonic() + seconds, unwrap)
            good = "broke" not in answer
        except _Ended as ended:
            raise SignInRefused(
                code="xml_room_ended",
                cause=f"The process that read the message was given up: {ended}. The message may have wanted more "
                "time or memory than any message needs.",
            ) from None
        finally:
            self._give_back(process, provider, good)
        if "done" in answer:
            return answer["done"]
        if "refused" in answer:
            code, cause, remedy = (str(part) for part in answer["refused"])
            raise SignInRefused(code=code, cause=cause, remedy=remedy)
        if "bad" in answer:
            raise BadInput(str(answer["bad"]))
        raise SignInRefused(
            code="saml_refused",
            cause=f"The message could not be checked ({str(answer.get('broke'))[:60]}).",
        )

    def _take(self, provider: str) -> _Process:
        began = time.monotonic()
        up_since: float | None = None
        with self._change:
            self._want(1)
            if self._waiting[provider] >= MOST_WAITING and self._is_slow(provider, began):
                raise _busy()
            self._waiting[provider] += 1
            try:
                while True:
                    if self._idle and self._taken[provider] < self.share:
                        self._taken[provider] += 1
                        process = self._idle.pop()
                        self._working[process] = provider, time.monotonic()
                        return process
                    now = time.monotonic()
                    if self._all:
                        if len(self._all) == self._wanted and not self._idle:
                            self._want(self._wanted + 1)
                        up_since = up_since or now
                        left = up_since + BUSY_SECONDS - now
                        if left <= 0:
                            raise _busy()
                    else:
                        left = began + START_SECONDS - now
                        if self._problem or self._closed or left <= 0:
                            raise _unavailable(self._problem)
                    self._change.wait(left)
            finally:
                self._waiting[provider] -= 1
                if not self._waiting[provider]:
                    del self._waiting[provider]

    def _is_slow(self, provider: str, now: float) -> bool:
        return any(
            who == provider and now - since > SLOW_SECONDS for who, since in self._working.values()
        )

    def _give_back(self, process: _Process, provider: str, good: bool) -> None:
        process.served += 1
        again = good and process.served < RECYCLED_AFTER
        if not again:
            process.end()
        with self._change:
            del self._working[process]
            self._taken[provider] -= 1
            if not self._taken[provider]:
                del self._taken[provider]
            if process in self._all:
                if again:
                    self._idle.append(process)
                else:
                    self._all.remove(process)
            self._change.notify_all()


def _converse(
    process: _Process, said: Mapping[str, Any], until: float, unwrap: Unwrap | None
) -> dict[str, Any]:
    process.tell(said, until)
    answer = process.hear(until)
    if "unwrap" in answer:
        try:
            wrapped = wire.read_wrapped(answer["unwrap"])
        except (ValueError, KeyError, TypeError):
            raise _Ended("it answered nonsense") from None
        process.tell({"key": wire.write_bytes(_content_key(wrapped, unwrap))}, until)
        answer = process.hear(until)
    return answer


def _content_key(wrapped: Wrapped, unwrap: Unwrap | None) -> bytes:
    """The content key; one at random when there is none, so that every failure ends in the same way and place."""
    instead = secrets.token_bytes(wrapped.length)
    try:
        found = unwrap(wrapped) if unwrap is not None else b""
    except (DaypassError, ValueError):
        return instead
    return found if len(found) == wrapped.length else instead


def _busy() -> SignInRefused:
    return SignInRefused(
        code="busy",
        retry=True,
        cause="Every process that reads XML was taken for longer than a second.",
        remedy="If this goes on, this provider's people sign in in great numbers, or its door is being flooded: see "
        "DAYPASS_XML_PROCESSES in docs/configuration.md.",
    )


def _unavailable(problem: str) -> SignInRefused:
    return SignInRefused(
        code="xml_room_unavailable",
        retry=True,
        cause=f"There is no process to read XML in: {problem or 'none became ready in time'}.",
        remedy="Nobody can sign in by SAML until there is one. Look at Daypass's log for the reason.",
    )


# --- The room of this process

_room: Room | None = None
_making = threading.Lock()


def room() -> Room:
    """The one room of this process; made at the first need, anew after a fork."""
    global _room
    with _making:
        if _room is None:
            _room = Room(settings.DAYPASS_XML_PROCESSES)
        return _room


def warm() -> None:
    """Somebody is about to sign in by SAML: have the processes ready when the answer comes."""
    room().warm()


def _after_fork() -> None:
    global _room, _making
    _making = threading.Lock()
    if _room is not None:
        _room.forget()
    _room = None


def _at_exit() -> None:
    if _room is not None:
        _room.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
