"""Every call that sign-in makes to the outside: bounded, without redirects, and never into the private network.

Addresses are checked when the socket is opened, after resolution, so that no name can be turned into another address
in between (threats.md R22). What may be reached inside is named by the operator in DAYPASS_PRIVATE_PROVIDERS.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from django.conf import settings
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError

from broker.errors import BadInput, ProviderUnavailable

DEADLINE = 8.0
"""Seconds for the whole of a call, from connecting to the last byte."""

MAX_JSON = 300_000
MAX_METADATA = 2_000_000
"""Federations publish SAML metadata of many members in one document."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Forbidden(NewConnectionError):
    """The address behind a name is one that Daypass does not call."""


def check_url(url: str, what: str = "The address") -> str:
    """The URL when sign-in may call it or send a browser there, else BadInput with what to do.

    https always; plain http only to loopback addresses that are listed as private providers, or in the demo.
    """
    if len(url) > 1024 or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise BadInput(f"{what} has blanks or control characters, or is longer than 1,024.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadInput(f"{what} is not an address.") from None
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise BadInput(f"{what} has to be an address such as https://login.example.com/metadata.")
    if parts.fragment:
        raise BadInput(f"{what} must not have a part after #.")
    if parts.scheme == "https":
        return url
    if (
        parts.scheme == "http"
        and parts.hostname in LOOPBACK
        and _allowed(parts.hostname, port or 80)
    ):
        return url
    raise BadInput(f"{what} has to begin with https://")


def _allowed(host: str, port: int) -> bool:
    """Whether the operator lets sign-in reach this host although its address is private."""
    if settings.DEMO and host in LOOPBACK:
        return True
    listed = {entry.lower() for entry in settings.DAYPASS_PRIVATE_PROVIDERS}
    bracketed = f"[{host}]" if ":" in host else host
    return not listed.isdisjoint({host.lower(), f"{bracketed.lower()}:{port}"})


def _open(host: str, port: int, connection: HTTPConnection) -> socket.socket:
    """Resolve, check every address, connect to the first that answers."""
    host = host.strip("[]")
    private_allowed = _allowed(host, port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NewConnectionError(connection, f"{host} has no address") from error
    problem: OSError | None = None
    for family, kind, protocol, _, address in found:
        ip: ipaddress.IPv4Address | ipaddress.IPv6Address
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        if not private_allowed and (not ip.is_global or ip.is_multicast):
            raise Forbidden(
                connection,
                f"{host} is {ip}, which is not a public address. If this provider is inside your own network, "
                f"list {host}:{port} in DAYPASS_PRIVATE_PROVIDERS",
            )
        opened = socket.socket(family, kind, protocol)
        opened.settimeout(DEADLINE / 2)
        try:
            opened.connect(address)
        except OSError as error:
            opened.close()
            problem = error
            continue
        opened.settimeout(DEADLINE)
        return opened
    raise NewConnectionError(connection, f"{host} cannot be connected") from problem


class _Deadline:
    """Shuts the connections of a call down when its time is over, however slowly the other side drips.

    A duplicate of the descriptor outlives the TLS wrapping, which takes the original away.
    """

    def __init__(self) -> None:
        self.over = False
        self._twins: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(DEADLINE, self._end)
        self._timer.daemon = True

    def watch(self, opened: socket.socket) -> socket.socket:
        with self._lock:
            self._twins.append(socket.socket(fileno=os.dup(opened.fileno())))
        return opened

    def _end(self) -> None:
        with self._lock:
            self.over = True
            for twin in self._twins:
                with contextlib.suppress(OSError):
                    twin.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> _Deadline:
        _calls.deadline = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        _calls.deadline = None
        self._timer.cancel()
        with self._lock:
            for twin in self._twins:
                twin.close()
            self._twins.clear()


class _Calls(threading.local):
    deadline: _Deadline | None = None


_calls = _Calls()
"""The call that this thread is making."""


def _watched(host: str, port: int, connection: HTTPConnection) -> socket.socket:
    deadline = _calls.deadline
    assert deadline is not None, "connections are only opened inside a call"
    return deadline.watch(_open(host, port, connection))


class _Http(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _watched(self.host, int(self.port or 80), self)


class _Https(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _watched(self.host, int(self.port or 443), self)


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


class _Adapter(HTTPAdapter):
    """Connects through `_open`, one connection a call, and reads the whole answer before handing it on."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        self.poolmanager = PoolManager(num_pools=4, maxsize=1, block=False)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        check_url(str(request.url))
        kwargs.update(stream=True, timeout=DEADLINE, proxies=None)
        with _Deadline() as deadline:
            try:
                response = super().send(request, *args, **kwargs)
                body = self._read(response)
            except (requests.RequestException, OSError):
                if deadline.over:
                    raise requests.Timeout("the time of the call is over") from None
                raise
            if deadline.over:
                raise requests.Timeout("the time of the call is over")
        response._content = body
        response._content_consumed = True  # type: ignore[attr-defined]
        return response

    def _read(self, response: requests.Response) -> bytes:
        try:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise requests.ConnectionError("the answer is compressed, which was not asked for")
            body = bytearray()
            for chunk in response.iter_content(16_384):
                body += chunk
                if len(body) > self.limit:
                    raise requests.ConnectionError(f"the answer is longer than {self.limit} bytes")
        finally:
            response.close()
        return bytes(body)


class _Session(requests.Session):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self.trust_env = False
        self.verify = settings.DAYPASS_CA_BUNDLE or True
        self.headers["Accept-Encoding"] = "identity"
        self.headers["User-Agent"] = "Daypass"
        self.headers["Connection"] = "close"
        self.mount("https://", _Adapter(limit))
        self.mount("http://", _Adapter(limit))

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["allow_redirects"] = False
        response = super().request(*args, **kwargs)
        if response.is_redirect or 300 <= response.status_code < 400:
            raise requests.ConnectionError("the answer is a redirect, which is not followed")
        return response


def session(limit: int = MAX_JSON) -> requests.Session:
    """A session for allauth and for the functions below. Raises requests' exceptions and BadInput."""
    return _Session(limit)


def get(
    url: str, what: str, *, limit: int = MAX_JSON, headers: Mapping[str, str] | None = None
) -> bytes:
    """The body of a 200 answer. Raises ProviderUnavailable (see its `cause`), BadInput for the URL."""
    try:
        with session(limit) as caller:
            response = caller.get(url, headers=dict(headers or {}))
    except (requests.RequestException, OSError, ValueError) as error:
        raise ProviderUnavailable(cause=f"{what} could not be fetched: {_reason(error)}.") from None
    if response.status_code != 200:
        raise ProviderUnavailable(cause=f"{what} was answered with HTTP {response.status_code}.")
    return bytes(response.content)


def get_json(url: str, what: str, *, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A JSON object. Raises like `get`."""
    body = get(url, what, headers={"Accept": "application/json", **(headers or {})})
    try:
        return strict_json(body)
    except ValueError as error:
        raise ProviderUnavailable(cause=f"{what} is not a JSON object: {error}.") from None


def strict_json(text: bytes | str) -> dict[str, Any]:
    """A JSON object without repeated keys and without NaN or infinity (threats.md R52). Raises ValueError."""
    try:
        found = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is not an object")
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _reason(error: Exception) -> str:
    """What a person can act on, without the library's own wrapping."""
    inner: Any = error
    for _ in range(4):
        if isinstance(inner, Forbidden | NewConnectionError):
            return str(inner).partition(": ")[2] or str(inner)
        nested = getattr(inner, "reason", None) or (inner.args[0] if inner.args else None)
        if not isinstance(nested, Exception):
            break
        inner = nested
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted here (DAYPASS_CA_BUNDLE names your own authority)"
    if isinstance(error, requests.Timeout):
        return f"no answer within {DEADLINE:.0f} seconds"
    return str(inner)[:200]
