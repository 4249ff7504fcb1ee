"""A small closed-loop load generator: N clients, each with one kept-alive connection, no think time.

Raw sockets, because an HTTP library would cost more than the server it measures.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """`count` answers in `seconds`; latencies in milliseconds, sorted."""

    count: int
    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    def percentile(self, share: float) -> float:
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


class Connection:
    """One kept-alive HTTP/1.1 connection to a loopback port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._open()

    def _open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def close(self) -> None:
        self.socket.close()

    def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Send a request; answer its status, head and body."""
        try:
            self.socket.sendall(request)
            return self._answer()
        except (ConnectionError, EOFError):
            self._open()
            self.socket.sendall(request)
            return self._answer()

    def _answer(self) -> tuple[int, bytes, bytes]:
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            body = self._chunked()
        else:
            marker = lower.find(b"content-length:")
            length = int(lower[marker + 15 :].split(b"\r\n", 1)[0]) if marker >= 0 else 0
            while len(self.buffer) < length:
                self._more()
            body, self.buffer = self.buffer[:length], self.buffer[length:]
        if b"connection: close" in lower:
            self.socket.close()
            self._open()
        return int(head[9:12]), head, body

    def _chunked(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self.buffer:
                self._more()
            size, self.buffer = self.buffer.split(b"\r\n", 1)
            length = int(size, 16)
            while len(self.buffer) < length + 2:
                self._more()
            body += self.buffer[:length]
            self.buffer = self.buffer[length + 2 :]
            if length == 0:
                return body

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self.buffer += data


def run(
    port: int,
    request: Callable[[int], bytes],
    *,
    clients: int,
    seconds: float,
    expect: int,
    warmup: float = 1.0,
) -> Result:
    """Ask in a closed loop; raises AssertionError with the answer when a status is not the expected one."""
    latencies: list[list[float]] = [[] for _ in range(clients)]
    problems: list[str] = []
    start = time.monotonic() + warmup
    end = start + seconds

    def client(number: int) -> None:
        connection = Connection(port)
        turn = number
        while not problems:
            began = time.monotonic()
            if began >= end:
                return
            status, head, body = connection.ask(request(turn))
            took = time.monotonic() - began
            turn += clients
            if status != expect:
                problems.append(f"{status} instead of {expect}: {head[:300]!r} {body[:500]!r}")
                return
            if began >= start:
                latencies[number].append(took * 1000)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems[0]
    flat = sorted(value for each in latencies for value in each)
    assert flat, "nothing was answered within the time"
    return Result(len(flat), seconds, flat)
