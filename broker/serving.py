"""A gunicorn worker that gives a thread only to whole requests, and takes it back as soon as the answer is made.

gunicorn's own threaded worker reads a request in the thread that will answer it, so eight connections that dawdle are
eight threads gone (threats.md R55). Here the main loop, which waits for everybody at once, collects what arrives and
sends what an answer's reader is slow to take. Each connection has a total time for its headers, its body and its
answer; when there are too many, the one that has been arriving for longest goes.

All processes wait for the same new connections, and the kernel tends to wake the same one first. A connection that is
used again and again stays where it was accepted, so one process could end up with everybody, under a flood above all.
Who has more to do than another, in connections and above all in requests that are being answered, therefore leaves a
new one to the others for a moment. For that to spread a flood as well, an application may ask for its answer to be the
last on its connection (`LAST`).

An application may answer some requests at once, without a thread (`early_answer`): what it would refuse anyway costs
less so.

gunicorn still parses every request itself; what is found here only decides when it is complete. If the two ever
disagree, gunicorn finds nothing more to read and the connection ends.
"""

from __future__ import annotations

import errno
import mmap
import re
import resource
import selectors
import socket
import struct
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

MOST_HEAD = 32 * 1024
MOST_BODY = 512 * 1024
MOST_ANSWER = 16 * 1024 * 1024
MOST_HELD = 64 * 1024 * 1024
"""Bytes: of a head, of a body, of an answer that waits to be taken, and of all that a process holds for slow peers."""

LEAVE_SECONDS = 0.005
"""How long a new connection is left to the other processes, each time."""

LEFT_IN_A_ROW = 3

LAST = "daypass.last_answer"
"""In the WSGI environment, set by the application: close the connection after this answer."""

AN_ANSWER = 8
"""What a request that is being answered weighs, in connections."""

FILES, FILES_OF_A_THREAD = 64, 8
"""Open files that connections leave to everything else: the database, Redis, AWS, the processes that read XML."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*(?=\r\n)", re.IGNORECASE)
_CODED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)


class Socket(socket.socket):
    """Takes every answer at once: what the reader does not take now is kept for the main loop. It never waits."""

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(fileno=accepted.detach())
        super().setblocking(False)
        self.kept = bytearray()

    def setblocking(self, flag: bool) -> None:
        """Whatever gunicorn wishes: it has nothing to wait for."""

    def sendall(self, data: Any, flags: int = 0) -> None:
        left = memoryview(data)
        if not self.kept:
            with suppress(BlockingIOError):
                left = left[self.send(left) :]
        if len(self.kept) + len(left) > MOST_ANSWER:
            raise OSError(errno.EPIPE, "the answer is longer than is kept for a slow reader")
        self.kept += left


class Connection(TConn):
    """One connection and what has arrived on it."""

    sock: Socket

    def __init__(self, cfg: Any, accepted: Socket, client: Any, server: Any) -> None:
        super().__init__(cfg, accepted, client, server)
        self.arrived = bytearray()
        self.whole = 0
        """Bytes of the request that is arriving, 0 until its head is there."""
        self.until = 0.0
        self.held = 0
        """Bytes of it that are in the worker's sum."""
        self.data_ready = True

    def init(self) -> None:
        """In the thread: gunicorn's parser, given everything that arrived."""
        super().init()
        self.parser.unreader.unread(bytes(self.arrived))
        self.arrived.clear()
        self.whole = 0


class Load:
    """How much each process has to do, in memory that they share: made before they are forked.

    A process that has not said so for three seconds does not count.
    """

    _ROW = struct.Struct("=dq")
    _ROWS = 64
    _FRESH = 3.0

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._ROW.size * self._ROWS)

    def say(self, who: int, much: int) -> None:
        """who: any number that differs for up to 64 processes in a row."""
        self._ROW.pack_into(self._memory, who % self._ROWS * self._ROW.size, time.monotonic(), much)

    def somebody_has_less(self, who: int, much: int) -> bool:
        """Whether another process has less to do than this."""
        fresh = time.monotonic() - self._FRESH
        return any(
            number != who % self._ROWS and said > fresh and theirs < much
            for number, (said, theirs) in enumerate(self._ROW.iter_unpack(self._memory))
        )

    def leave(self, who: int) -> None:
        self._ROW.pack_into(self._memory, who % self._ROWS * self._ROW.size, 0.0, 0)


def _may_open(wanted: int) -> int:
    """Raise the number of files that this process may open to this, as far as it is let; how many it may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return soft
    return most


def _closing_when_asked(application: Any) -> Any:
    """And what answers early goes on doing so."""

    def asked(environ: dict[str, Any], start_response: Any) -> Any:
        answer = application(environ, start_response)
        if environ.get(LAST):
            start_response.__self__.force_close()
        return answer

    return asked


class PatientWorker(ThreadWorker):
    """See the module. The times are seconds, each for the whole of what it names."""

    HEAD_SECONDS = 10.0
    BODY_SECONDS = 20.0
    ANSWER_SECONDS = 30.0
    GOODBYE_SECONDS = 2.0

    load = Load()

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        if cfg.is_ssl:
            raise RuntimeError("TLS ends at the proxy in front of Daypass, not here.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.early: Any = None
        """The application's own, if it has one: (head, body, peer) -> a whole answer, or None. It never waits."""
        self.waiting: dict[Connection, None] = {}
        """Connections that the main loop waits for, the one that has waited for longest first."""
        self.held = 0
        self._looked = 0.0
        self._notified = 0.0
        self.answering = 0
        self._left = 0
        self._left_until = 0.0
        """Until then a new connection is left to others; then it is looked for once more. 0 when none is left."""

    def init_process(self) -> None:
        """With as many open files as connections need, or as many connections as there may be files for."""
        kept = FILES + FILES_OF_A_THREAD * self.cfg.threads
        most: int = self.cfg.worker_connections
        self.worker_connections: int = max(16, min(most, _may_open(most + kept) - kept))
        super().init_process()

    def notify(self) -> None:
        """Tell gunicorn that this process lives: once a second, however many turns the main loop makes."""
        now = time.monotonic()
        if now - self._notified >= 1.0:
            self._notified = now
            super().notify()

    # -- sharing with the other processes

    def set_accept_enabled(self, enabled: bool) -> None:
        """Called before every turn of the main loop."""
        super().set_accept_enabled(enabled and self._left_until <= time.monotonic())

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        if self.alive:
            self._say_load()
        else:
            self.load.leave(self.age)
        until = self._left_until
        if until:
            timeout = min(timeout, max(0.0, until - time.monotonic()))
        super().wait_for_and_dispatch_events(timeout)
        if self._left_until == until and not timeout:
            self._left, self._left_until = 0, 0.0  # somebody else took it

    def _own_load(self) -> int:
        return int(self.nr_conns) + AN_ANSWER * self.answering

    def _say_load(self) -> None:
        self.load.say(self.age, self._own_load())

    def _leaves_it_to_others(self) -> bool:
        """Three times in a row at most, because what is found there again may be the same or another connection."""
        if self._left == LEFT_IN_A_ROW or not self.load.somebody_has_less(
            self.age, self._own_load()
        ):
            self._left, self._left_until = 0, 0.0
            return False
        self._left += 1
        self._left_until = time.monotonic() + LEAVE_SECONDS
        self.set_accept_enabled(False)
        return True

    # -- arriving

    def accept(self, listener: socket.socket) -> None:
        if self._leaves_it_to_others():
            return
        try:
            accepted, client = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._out_of_files()
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        self._say_load()
        self._make_room()
        conn = Connection(self.cfg, Socket(accepted), client, listener.getsockname())
        self._wait_for_request(conn, self.HEAD_SECONDS)

    def _out_of_files(self) -> None:
        """Whoever takes longest goes, and in a moment the new connection is looked for once more."""
        if self.waiting:
            self._drop(next(iter(self.waiting)))
        self._left_until = time.monotonic() + LEAVE_SECONDS
        self.set_accept_enabled(False)

    def _make_room(self) -> None:
        """Before there are too many, whoever takes longest goes."""
        while self.waiting and (self.nr_conns >= self.worker_connections or self.held > MOST_HELD):
            self._drop(next(iter(self.waiting)))

    def _wait_for_request(self, conn: Connection, seconds: float) -> None:
        self._wait(conn, selectors.EVENT_READ, self._on_request, seconds)

    def _wait(self, conn: Connection, event: int, then: Any, seconds: float) -> None:
        conn.until = time.monotonic() + seconds
        self.waiting[conn] = None
        self._weigh(conn)
        self.poller.register(conn.sock, event, partial(self._happened, then, conn))

    def _happened(self, then: Any, conn: Connection, _: socket.socket) -> None:
        """Unless what happened a moment earlier, to another connection, ended this one."""
        if conn in self.waiting:
            then(conn)

    def _wait_no_more(self, conn: Connection) -> None:
        del self.waiting[conn]
        self.poller.unregister(conn.sock)

    def _weigh(self, conn: Connection) -> None:
        now = len(conn.arrived) + len(conn.sock.kept)
        self.held += now - conn.held
        conn.held = now

    def _on_request(self, conn: Connection) -> None:
        try:
            data = conn.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(conn)
            return
        if not conn.arrived:
            conn.until = time.monotonic() + self.HEAD_SECONDS
        conn.arrived += data
        self._weigh(conn)
        self._look(conn)
        self._make_room()

    def _look(self, conn: Connection) -> None:
        """Give the request to a thread if it is there, and refuse it if it cannot be."""
        if not conn.whole:
            while conn.arrived.startswith(b"\r\n"):
                del conn.arrived[:2]
            end = conn.arrived.find(b"\r\n\r\n", 0, MOST_HEAD)
            if end < 0:
                if len(conn.arrived) >= MOST_HEAD:
                    self._refuse(conn, b"431 Request Header Fields Too Large")
                return
            head = bytes(conn.arrived[: end + 2])
            if _CODED.search(head):
                self._refuse(conn, b"411 Length Required")
                return
            length = _LENGTH.search(head)
            body = int(length[1]) if length else 0
            if body > MOST_BODY:
                self._refuse(conn, b"413 Content Too Large")
                return
            conn.whole = end + 4 + body
            conn.until = time.monotonic() + self.BODY_SECONDS
            if len(conn.arrived) < conn.whole and _EXPECT.search(head):
                short = _EXPECT.sub(b"", head, count=1)
                conn.arrived[: len(head)] = short
                conn.whole -= len(head) - len(short)
                try:
                    conn.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                except OSError:  # gone already: what fails in the main loop ends the process
                    self._drop(conn)
                    return
        if len(conn.arrived) >= conn.whole:
            early = self._early_answer(conn)
            self._wait_no_more(conn)
            if early:
                self._answer_and_close(conn, early)
            else:
                self.enqueue_req(conn)

    def _early_answer(self, conn: Connection) -> bytes | None:
        """What the application can say at once, without a thread (`early_answer`); whatever fails there goes on."""
        if self.early is None:
            return None
        end = conn.arrived.find(b"\r\n\r\n")
        peer = conn.client[0] if isinstance(conn.client, tuple) else ""
        try:
            said: bytes | None = self.early(
                bytes(conn.arrived[: end + 2]), conn.arrived[end + 4 : conn.whole], peer
            )
        except Exception:
            self.log.exception("an early answer failed")
            return None
        return said

    def _refuse(self, conn: Connection, status: bytes) -> None:
        self._wait_no_more(conn)
        self._answer_and_close(
            conn,
            b"HTTP/1.1 "
            + status
            + b"\r\nConnection: close\r\nCache-Control: no-store\r\nContent-Type: text/plain\r\n"
            + f"Content-Length: {len(status) + 1}\r\n\r\n".encode()
            + status
            + b"\n",
        )

    def _answer_and_close(self, conn: Connection, said: bytes) -> None:
        whole = 0 < conn.whole == len(conn.arrived)
        try:
            conn.sock.sendall(said)
        except OSError:
            self._forget(conn)
            return
        if conn.sock.kept:
            self._wait(
                conn, selectors.EVENT_WRITE, partial(self._on_taken, False), self.ANSWER_SECONDS
            )
        elif whole:
            self._forget(conn)  # everything was read, so closing takes nothing from the answer
        else:
            self._say_goodbye(conn)

    # -- answering

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self.early = getattr(self.wsgi, "early_answer", None)
        self.wsgi: Any = _closing_when_asked(self.wsgi)

    def enqueue_req(self, conn: Connection) -> None:
        self.answering += 1
        self._say_load()
        super().enqueue_req(conn)

    def finish_request(self, conn: Connection, done: Future[Any]) -> None:
        """In the main loop, after a thread made an answer: send the rest of it, then wait for the next request."""
        self.answering -= 1
        conn.arrived.clear()
        keep = not done.cancelled() and done.exception() is None and bool(done.result())
        if conn.sock.fileno() < 0:
            self._forget(conn)
        elif conn.sock.kept:
            self._wait(
                conn, selectors.EVENT_WRITE, partial(self._on_taken, keep), self.ANSWER_SECONDS
            )
        else:
            self._answered(conn, keep)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """A body that the application did not want is here already: passing over it waits for nobody.

        In one read, because gunicorn's own way copies all that is left for every thousand bytes of it.
        """
        if not keepalive:
            return False
        conn.parser.mesg.body.read()
        return bool(conn.parser.finish_body())

    def _on_taken(self, keep: bool, conn: Connection) -> None:
        try:
            del conn.sock.kept[: conn.sock.send(conn.sock.kept)]
        except BlockingIOError:
            return
        except OSError:
            self._drop(conn)
            return
        self._weigh(conn)
        if not conn.sock.kept:
            self._wait_no_more(conn)
            self._answered(conn, keep)

    def _answered(self, conn: Connection, keep: bool) -> None:
        if not keep or not self.alive:
            self._say_goodbye(conn)
            return
        conn.arrived += conn.parser.unreader.take_buffered()
        self._wait_for_request(conn, self.HEAD_SECONDS if conn.arrived else self.cfg.keepalive)
        if conn.arrived:
            self._look(conn)

    def _say_goodbye(self, conn: Connection) -> None:
        """Close in the order that lets the answer arrive (RFC 9112 section 9.6), without waiting for it here."""
        conn.arrived.clear()
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._forget(conn)
            return
        self._wait(conn, selectors.EVENT_READ, self._on_goodbye, self.GOODBYE_SECONDS)

    def _on_goodbye(self, conn: Connection) -> None:
        try:
            if conn.sock.recv(65536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(conn)

    # -- the end

    def _drop(self, conn: Connection) -> None:
        self._wait_no_more(conn)
        self._forget(conn)

    def _forget(self, conn: Connection) -> None:
        conn.arrived.clear()
        conn.sock.kept.clear()
        self._weigh(conn)
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        """Called after every turn of the main loop: who has used up their time goes, looked at twice a second."""
        now = time.monotonic()
        if now - self._looked < 0.5:
            return
        self._looked = now
        for conn in list(self.waiting):
            if conn.until < now or (not self.alive and not conn.arrived and not conn.sock.kept):
                self._drop(conn)
