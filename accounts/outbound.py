"""Every call that sign-in makes to the outside: bounded, without redirects, and never into the private network.

One call is one connection with one request, spoken by hand on top of `http.client`'s parser: nothing is followed,
retried, unpacked, remembered or taken from the environment, because nothing here can. Addresses are checked after
resolution and the socket is opened to the very address that was checked, so that no name can become another address
in between (threats.md R22). What may be reached inside is named by the operator in DAYPASS_PRIVATE_PROVIDERS.
"""

from __future__ import annotations

import base64
import functools
import http.client
import io
import ipaddress
import json
import math
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, cast
from urllib.parse import SplitResult, unquote, urlencode, urlsplit

import certifi
from django.conf import settings

from broker.errors import BadInput, ProviderUnavailable

DEADLINE = 8.0
"""Seconds for the whole of a call, from looking the name up to the last byte."""

MAX_JSON = 300_000
MAX_METADATA = 2_000_000
"""Federations publish SAML metadata of many members in one document."""

MAX_HEADERS = 64 * 1024
MAX_DEPTH = 32
"""How deep JSON may be nested. Claims are two or three deep."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side said. media_type: in lower case, without parameters, "" when it said none."""

    status: int
    media_type: str
    body: bytes


class Forbidden(Exception):
    """The address behind a name is one that Daypass does not call."""


class _Failed(Exception):
    """The call failed in a way that a sentence can tell."""


# --- Addresses


def check_url(url: str, what: str = "The address") -> str:
    """The URL when sign-in may call it or send a browser there, else BadInput with what to do.

    https always; plain http only to loopback addresses that are listed as private providers, or in the demo.
    """
    if len(url) > 1024 or any(ord(c) <= 32 or ord(c) >= 127 for c in url):
        raise BadInput(
            f"{what} has blanks, control characters or letters outside ASCII, or is longer than 1,024."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadInput(f"{what} is not an address.") from None
    host = parts.hostname or ""
    if not (_HOST.fullmatch(host) or _is_ipv6(host)) or "@" in parts.netloc or port == 0:
        raise BadInput(f"{what} has to be an address such as https://login.example.com/path.")
    if "#" in url:
        raise BadInput(f"{what} must not have a part after #.")
    if parts.scheme == "https":
        return url
    if parts.scheme == "http" and host in LOOPBACK and _allowed(host, port or 80):
        return url
    raise BadInput(f"{what} has to begin with https://")


def origin(url: str) -> str:
    """Scheme, host and port of a URL in one spelling: `https://login.example.com`."""
    parts = urlsplit(url)
    host, port = _host_and_port(parts)
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    return f"{parts.scheme}://{_bracketed(host)}" + ("" if port == usual else f":{port}")


def _host_and_port(parts: SplitResult) -> tuple[str, int]:
    return (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6 and "%" not in host
    except ValueError:
        return False


def _allowed(host: str, port: int) -> bool:
    """Whether the operator lets sign-in reach this host although its address is private."""
    if settings.DEMO and host in LOOPBACK:
        return True
    listed = {entry.lower() for entry in settings.DAYPASS_PRIVATE_PROVIDERS}
    bracketed = _bracketed(host.lower())
    return not listed.isdisjoint({host.lower(), f"{bracketed}:{port}"})


_GLOBAL_6 = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NOT_ONLY_PRIVATE = (
    "192.0.0.0/24",  # protocol assignments; one cloud keeps its metadata there
    "192.88.99.0/24",  # relays of 6to4
    "168.63.129.16/32",  # public by its number, and yet the inside of one cloud
)
_RELAYS_6 = ("2002::/16", "2001::/32", "2001:10::/28", "2001:20::/28", "3fff::/20")
_ELSEWHERE = tuple(ipaddress.ip_network(text) for text in (*_NOT_ONLY_PRIVATE, *_RELAYS_6))
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "fd00:ec2::254", "168.63.129.16", "100.100.100.200")
)


def _plain(ip: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 address only wraps (mapped, or translated by the well-known prefix)."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def is_public(ip: IpAddress) -> bool:
    """Whether an address is of the public network, and of nothing that leads somewhere else."""
    ip = _plain(ip)
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_6:
        return False  # also the old IPv4-compatible form, site-local and unassigned addresses
    return (
        ip.is_global
        and not ip.is_multicast
        and not ip.is_reserved
        and not any(ip.version == net.version and ip in net for net in _ELSEWHERE)
    )


def _never(ip: IpAddress) -> bool:
    """What is not called even for a listed provider: a cloud's metadata, and what is no host's address."""
    ip = _plain(ip)
    return ip in _METADATA or ip.is_multicast or ip.is_unspecified or ip.is_link_local


# --- Time and names


class _Clock:
    """How much of a call's time is left."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + DEADLINE

    def left(self) -> float:
        """Seconds, more than zero. Raises TimeoutError when there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


_Found = list[tuple[int, int, int, str, tuple[Any, ...]]]


class Resolver:
    """Name look-ups with an end: the system's own has none, so it runs in a thread that may be left behind.

    A thread that hangs cannot be ended, only outlived. There are never more than `most` of them, and never more than
    `most_for_one` for one name, so that the names of one provider do not use up what the others need.
    """

    def __init__(self, *, most: int = 32, most_for_one: int = 2) -> None:
        self._most, self._most_for_one = most, most_for_one
        self._busy: Counter[str] = Counter()
        self._changed = threading.Condition()

    def find(self, host: str, port: int, clock: _Clock) -> _Found:
        """Every address of a name. Raises OSError, TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._room(host), timeout=clock.left()):
                raise TimeoutError
            self._busy[host] += 1
        said: SimpleQueue[_Found | Exception] = SimpleQueue()
        try:
            threading.Thread(target=self._look, args=(host, port, said), daemon=True).start()
        except RuntimeError:
            self._free(host)
            raise
        try:
            found = said.get(timeout=clock.left())
        except Empty:
            raise TimeoutError from None
        if isinstance(found, Exception):
            raise found
        return found

    def _room(self, host: str) -> bool:
        return self._busy.total() < self._most and self._busy[host] < self._most_for_one

    def _look(self, host: str, port: int, said: SimpleQueue[_Found | Exception]) -> None:
        try:
            said.put(cast(_Found, socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except Exception as error:
            said.put(error)
        finally:
            self._free(host)

    def _free(self, host: str) -> None:
        with self._changed:
            self._busy[host] -= 1
            if not self._busy[host]:
                del self._busy[host]
            self._changed.notify_all()


_resolver = Resolver()


def _resolve(host: str, port: int, clock: _Clock) -> _Found:
    try:
        found = _resolver.find(host, port, clock)
    except TimeoutError:
        raise _Failed(f"no name server answered for {host} in time") from None
    except (OSError, UnicodeError):
        raise _Failed(f"{host} has no address") from None
    if not found:
        raise _Failed(f"{host} has no address")
    return found


def _connect(found: _Found, name: str, clock: _Clock) -> socket.socket:
    """A socket to the first of these addresses that answers; an address that is silent does not use up all time."""
    problem: OSError | None = None
    for number, (family, kind, protocol, _, address) in enumerate(found[:8]):
        opened = socket.socket(family, kind, protocol)
        try:
            last = number == len(found[:8]) - 1
            opened.settimeout(clock.left() if last else clock.left() / 2)
            opened.connect(address)
            return opened
        except OSError as error:
            opened.close()
            problem = error
    raise _Failed(f"{name} cannot be connected") from problem


def _open(host: str, port: int, clock: _Clock, *, private: bool) -> socket.socket:
    """Resolve, check every address, connect to one of those that were checked."""
    found = _resolve(host, port, clock)
    for *_, address in found:
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if private and not _never(ip):
            continue
        if not is_public(ip):
            raise Forbidden(_not_public(host, port, ip))
    return _connect(found, host, clock)


def _not_public(host: str, port: int, ip: IpAddress) -> str:
    return (
        f"{host} is {ip}, which is not a public address. If this provider is inside your own network, "
        f"list {_bracketed(host)}:{port} in DAYPASS_PRIVATE_PROVIDERS"
    )


# --- The proxy on the way out


def egress_proxy() -> SplitResult | None:
    """The proxy of DAYPASS_EGRESS_PROXY, None when there is none. Raises BadInput when it cannot be understood."""
    if not settings.DAYPASS_EGRESS_PROXY:
        return None
    try:
        parts = urlsplit(settings.DAYPASS_EGRESS_PROXY)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme != "http" or not parts.hostname or not port or parts.path not in ("", "/"):
        raise BadInput("DAYPASS_EGRESS_PROXY has to look like http://proxy.example.com:3128.")
    return parts


def _open_through(proxy: SplitResult, host: str, port: int, clock: _Clock) -> socket.socket:
    """A tunnel to host:port (RFC 9110 section 9.3.6). The name is resolved, and its address judged, by the proxy.

    What can be judged without resolving is judged here: an address written as a number, and names of this machine.
    """
    if host == "localhost" or host.endswith(".localhost"):
        raise Forbidden(f"{host} is this machine")
    literal = _literal(host)
    if literal is not None and not is_public(literal):
        raise Forbidden(_not_public(host, port, literal))
    proxy_host, proxy_port = proxy.hostname or "", proxy.port or 0
    opened = _connect(_resolve(proxy_host, proxy_port, clock), "the egress proxy", clock)
    try:
        target = f"{_bracketed(host)}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.username:
            pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
            credentials = base64.b64encode(pair.encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {credentials}")
        opened.settimeout(clock.left())
        opened.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):  # byte by byte: what follows belongs to the tunnel
            opened.settimeout(clock.left())
            byte = opened.recv(1)
            if not byte or len(head) > 8192:
                raise _Failed("the egress proxy gave no answer that can be read")
            head += byte
        status = head.split(b" ", 2)[1:2]
        if not head.startswith(b"HTTP/1.") or status != [b"200"]:
            said = status[0][:3].decode("ascii", "replace") if status else "nothing"
            raise _Failed(f"the egress proxy does not let Daypass reach {host} (it says {said})")
    except BaseException:
        opened.close()
        raise
    return opened


def _literal(host: str) -> IpAddress | None:
    """The address that a host is when it is written as one, also in the old forms (a single number, hexadecimal)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


# --- A call


@functools.lru_cache(maxsize=4)
def _tls(bundle: str) -> ssl.SSLContext:
    """Who is trusted: the public authorities, and the operator's own."""
    context = ssl.create_default_context(cafile=certifi.where())
    if bundle:
        context.load_verify_locations(cafile=bundle)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Incoming(io.RawIOBase):
    """What arrives on a socket, until the time or the size is up."""

    def __init__(self, opened: socket.socket, clock: _Clock) -> None:
        self._opened, self._clock = opened, clock
        self.may_still = MAX_HEADERS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.may_still <= 0:
            raise _Failed("the answer is longer than is read")
        self._opened.settimeout(self._clock.left())
        count = self._opened.recv_into(memoryview(buffer)[: self.may_still])
        self.may_still -= count
        return count


class _Stream:
    """What `http.client.HTTPResponse` takes for a socket."""

    def __init__(self, incoming: _Incoming) -> None:
        self._buffered = io.BufferedReader(incoming)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedIOBase:
        return self._buffered


def call(
    method: str,
    url: str,
    what: str,
    *,
    limit: int = MAX_JSON,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    origins: frozenset[str] | None = None,
    ours: bool = False,
) -> Answer:
    """One request and its whole answer. what: how the call is named in a cause ("The key set").

    origins: where this call may go, as `origin` writes them; None for anywhere that is public. ours: it goes to an
    address that the operator set and nobody else, so that it may be a private one; then no proxy is used. Raises
    ProviderUnavailable (see its `cause`) for what went wrong outside, BadInput for a URL that is not called.
    """
    check_url(url, what)
    if origins is not None and origin(url) not in origins:
        raise BadInput(f"{what} is at {origin(url)}, which is not an origin of this provider.")
    try:
        return _call(method, url, limit, dict(headers or {}), form, ours)
    except (Forbidden, _Failed) as error:
        reason = str(error)
    except TimeoutError:
        reason = f"no answer within {DEADLINE:.0f} seconds"
    except ssl.SSLCertVerificationError as error:
        reason = (
            f"its certificate is not trusted here: {str(error.verify_message)[:120]} (DAYPASS_CA_BUNDLE names your "
            "own authority)"
        )
    except (OSError, http.client.HTTPException, ValueError, RuntimeError) as error:
        reason = f"it does not answer as a web server does ({type(error).__name__})"
    raise ProviderUnavailable(cause=f"{what} could not be fetched: {reason}.")


def _call(
    method: str,
    url: str,
    limit: int,
    headers: dict[str, str],
    form: Mapping[str, str] | None,
    ours: bool,
) -> Answer:
    clock = _Clock()
    parts = urlsplit(url)
    host, port = _host_and_port(parts)
    proxy = egress_proxy()
    private = ours or _allowed(host, port)
    if proxy is not None and parts.scheme == "https" and not private:
        opened = _open_through(proxy, host, port, clock)
    else:
        opened = _open(host, port, clock, private=private)
    try:
        if parts.scheme == "https":
            opened.settimeout(clock.left())
            opened = _tls(settings.DAYPASS_CA_BUNDLE).wrap_socket(opened, server_hostname=host)
        opened.settimeout(clock.left())
        opened.sendall(_request(method, parts, headers, form))
        incoming = _Incoming(opened, clock)
        response = http.client.HTTPResponse(cast(Any, _Stream(incoming)), method=method)
        response.begin()
        return _read(response, incoming, limit)
    finally:
        opened.close()


def _request(
    method: str, parts: SplitResult, headers: dict[str, str], form: Mapping[str, str] | None
) -> bytes:
    body = urlencode(form).encode("ascii") if form is not None else b""
    headers = {
        "Host": parts.netloc,
        "User-Agent": "Daypass",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **headers,
    }
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        headers["Content-Length"] = str(len(body))
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"{method} {target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if any(ord(c) < 32 or ord(c) > 126 for line in lines for c in line):
        raise _Failed("the request would hold control characters")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii") + body


def _read(response: http.client.HTTPResponse, incoming: _Incoming, limit: int) -> Answer:
    for name in ("Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding"):
        if len(response.headers.get_all(name) or ()) > 1:
            raise _Failed(f"the answer has two headers of the name {name}")
    if 300 <= response.status < 400:
        raise _Failed("the answer is a redirect, which is not followed")
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise _Failed("the answer is compressed, which was not asked for")
    too_long = _Failed(f"the answer is longer than {limit} bytes")
    if response.length is not None and response.length > limit:
        raise too_long
    incoming.may_still = 2 * limit + MAX_HEADERS  # chunks have headers of their own
    body = bytearray()
    while piece := response.read(16_384):
        body += piece
        if len(body) > limit:
            raise too_long
    if response.length:
        raise _Failed("the answer ends before its end")
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return Answer(
        status=response.status,
        media_type=media_type if _MEDIA_TYPE.fullmatch(media_type) else "",
        body=bytes(body),
    )


def get(
    url: str,
    what: str,
    *,
    limit: int = MAX_JSON,
    headers: Mapping[str, str] | None = None,
    origins: frozenset[str] | None = None,
) -> bytes:
    """The body of a 200 answer. Raises like `call`."""
    return _ok(call("GET", url, what, limit=limit, headers=headers, origins=origins), what).body


def get_json(
    url: str,
    what: str,
    *,
    headers: Mapping[str, str] | None = None,
    origins: frozenset[str] | None = None,
    ours: bool = False,
) -> dict[str, Any]:
    """The JSON object of a 200 answer that says it is JSON. Raises like `call`."""
    headers = {"Accept": "application/json", **(headers or {})}
    answer = call("GET", url, what, headers=headers, origins=origins, ours=ours)
    return json_of(_ok(answer, what), what)


def _ok(answer: Answer, what: str) -> Answer:
    if answer.status != 200:
        raise ProviderUnavailable(cause=f"{what} was answered with HTTP {answer.status}.")
    return answer


def json_of(answer: Answer, what: str) -> dict[str, Any]:
    """The JSON object in an answer. Raises ProviderUnavailable when it is none, or of another type."""
    if answer.media_type not in ("application/json", "application/jwk-set+json"):
        said = answer.media_type or "nothing"
        raise ProviderUnavailable(cause=f"{what} is not JSON: its type is {said}.")
    try:
        return strict_json(answer.body)
    except ValueError as error:
        raise ProviderUnavailable(cause=f"{what} is not a JSON object: {error}.") from None


# --- JSON


def strict_json(text: bytes | str) -> dict[str, Any]:
    """A JSON object that every reader would understand alike (threats.md R52). Raises ValueError.

    UTF-8 without a byte order mark, no key twice in an object, no NaN or infinity however it is written, no number
    beyond 64 bits, no text that cannot be stored (lone surrogates, NUL), nested at most MAX_DEPTH deep.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("it is not UTF-8") from None
    try:
        found = json.loads(
            text,
            object_pairs_hook=_distinct,
            parse_constant=_no_constant,
            parse_int=_whole,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is not an object")
    _check_texts(found)
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError("a number is beyond 64 bits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if len(digits) > 40 or not math.isfinite(number):
        raise ValueError("a number is beyond what can be kept")
    return number


def _check_texts(whole: dict[str, Any]) -> None:
    waiting: list[tuple[Any, int]] = [(whole, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        match value:
            case str():
                if _UNSTORABLE.search(value):
                    raise ValueError("a text holds half a character or a NUL")
            case dict():
                waiting.extend((name, depth) for name in value)
                waiting.extend((inner, depth + 1) for inner in value.values())
            case list():
                waiting.extend((inner, depth + 1) for inner in value)
