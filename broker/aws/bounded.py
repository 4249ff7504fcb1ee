"""One HTTP request to AWS has an end, whatever answers.

The time limits of botocore and urllib3 are for each read: an answer that comes byte by byte, each in time, would never
end. Here one request as a whole (connecting to whichever address of a name, TLS, sending, and the answer to its last
byte) ends within so many seconds. Looking the name up is the system's own business and not counted.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPResponse
from typing import Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

_ends: ContextVar[float | None] = ContextVar("ends", default=None)
_AT_LEAST = 0.001
"""Seconds: a socket takes no time-out below zero, and zero means not to wait at all."""


class Bounded:
    """An HTTP session of botocore (URLLib3Session) of which every request ends within `seconds`.

    What is late raises botocore's ReadTimeoutError or ConnectTimeoutError, as for a single read.
    """

    def __init__(self, session: Any, *, seconds: float) -> None:
        session._pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        session._manager.pool_classes_by_scheme = session._pool_classes_by_scheme
        self._session = session
        self._seconds = seconds

    def send(self, request: Any) -> Any:
        with _within(self._seconds):
            return self._session.send(request)

    def close(self) -> None:
        self._session.close()


def bound(client: Any, *, seconds: float) -> Any:
    """The boto3 client, of which now every try ends within so many seconds."""
    endpoint = client._endpoint
    endpoint.http_session = Bounded(endpoint.http_session, seconds=seconds)
    return client


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    token = _ends.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends.reset(token)


def _left(most: float | None) -> float | None:
    """Seconds that a step may take: `most`, or what is left of the request if that is less."""
    ends = _ends.get()
    if ends is None:
        return most
    left = max(_AT_LEAST, ends - time.monotonic())
    return left if most is None else min(most, left)


class _Incoming(io.RawIOBase):
    """What a socket receives until the request has to be over."""

    def __init__(self, opened: Any, ends: float) -> None:
        self._socket, self._ends = opened, ends
        self._patience: float | None = opened.gettimeout()
        self._raw = opened.makefile("rb", buffering=0)  # the socket stays open for as long as this

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not end in time")
        self._socket.settimeout(left if self._patience is None else min(left, self._patience))
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()


class _Reading:
    """A socket, as far as http.client's answers need one: to be read."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def makefile(self, mode: str) -> Any:
        ends = _ends.get()
        if ends is None:
            return self._opened.makefile(mode)
        return io.BufferedReader(_Incoming(self._opened, ends))


class _Answer(HTTPResponse):
    def __init__(self, opened: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(_Reading(opened), *arguments, **named)  # type: ignore[arg-type]


class _Timed:
    """What both kinds of connection do in time. Comes before botocore's class."""

    response_class = _Answer
    port: int
    _dns_host: str

    @property
    def timeout(self) -> Any:
        """Of the next step: urllib3 sets it, and asks for it before connecting, sending and reading."""
        return _left(self._timeout)

    @timeout.setter
    def timeout(self, seconds: Any) -> None:
        self._timeout = seconds

    def _new_conn(self) -> socket.socket:
        """A connection to the first address that answers. Each has the connect time-out, all have what is left."""
        name, port = self._dns_host, self.port
        try:
            found = socket.getaddrinfo(name.strip("[]"), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []  # urllib3 says it in its own way
        *others, last = dict.fromkeys(str(address[0]) for *_, address in found) or [name]
        try:
            for address in others:
                self._dns_host = address
                try:
                    return super()._new_conn()  # type: ignore[misc,no-any-return]
                except (ConnectTimeoutError, NewConnectionError):
                    continue
            self._dns_host = last
            return super()._new_conn()  # type: ignore[misc,no-any-return]
        finally:
            self._dns_host = name


class _Connection(_Timed, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _SecureConnection(_Timed, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _Pool(AWSHTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(AWSHTTPSConnectionPool):
    ConnectionCls = _SecureConnection
