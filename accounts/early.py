"""Junk in a flood, refused before a thread is given to it.

Once a process has refused so many strangers' messages at a provider that it only counts them, one answer is the same
for all of them until the minute is over. That answer is kept here as bytes, and the server's main loop asks `answer`
for it as soon as a message has arrived. What is asked here is what `limits` asks at its early look, with the same
functions; whatever is not certain to be refused there goes the usual way. Nothing here waits for anything.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes

from django.conf import settings

from accounts import refusals, saml, throttle
from accounts.network import address_of, counted
from accounts.throttle import Count
from broker.errors import SignInRefused

MESSAGE = 256 * 1024
"""Bytes of a message at most."""

SAME = "daypass.same_for_all"
"""In the WSGI environment: the `Same` that this answer is, set by `limits` where a refusal is only counted."""

KEPT = 5.0
"""Seconds for which an answer is given again before the usual way is asked whether it still holds."""

MOST_KEPT = 200

SHUT = 1.0
"""Seconds for which a provider of whose answers no more are read is not asked about again."""

WORN_OUT = 600.0
"""Seconds for which a request that was answered too often is known here; it is too old then in any case."""

MOST_WORN_OUT = 20_000

_DOOR = re.compile(
    r"POST /saml/(?P<saml>[-a-zA-Z0-9_]{1,64})/acs/ HTTP/1\.1"
    r"|GET /oidc/(?P<oidc>[-a-zA-Z0-9_]{1,64})/callback/\?(?P<query>[!-~]{0,4096}) HTTP/1\.1"
)
_HEADER = re.compile(r"([-!#$%&'*+.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*")
_FORM = re.compile(rb"(?:RelayState=[^&;]*&)?SAMLResponse=([^&;]*)(?:&RelayState=[^&;]*)?")

_BEGINNING = 72_000
"""Bytes of an encoded message that `saml.in_response_to` can have a use for."""


@dataclass(frozen=True, slots=True)
class Same:
    """What an answer depends on: nothing of who sent the message, but whether their address has to wait.

    asked_for: only what answers a request of ours is taken there, so that everything else is refused.
    """

    slug: str
    door: str
    status: int
    minute: int
    asked_for: bool


@dataclass(frozen=True, slots=True)
class _Kept:
    same: Same
    host: str
    until: float
    status: bytes
    rest: bytes

    def said(self) -> bytes:
        """The whole answer, of this moment."""
        return b"HTTP/1.1 %b\r\nDate: %b\r\n%b" % (self.status, _date(int(time.time())), self.rest)


@lru_cache(maxsize=1)
def _date(now: int) -> bytes:
    return formatdate(now, usegmt=True).encode("ascii")


_kept: dict[tuple[str, str, int], _Kept] = {}
_shut: dict[str, float] = {}
_worn_out: dict[str, float] = {}


def shut(slug: str) -> None:
    """No more answers of this provider are read just now, whoever sends them. Asked again after a moment."""
    _shut[slug] = time.monotonic() + SHUT


def wear_out(answers: str) -> None:
    """The request with this id was answered so often that no further answer is looked at."""
    if len(_worn_out) >= MOST_WORN_OUT:
        _worn_out.clear()
    _worn_out[answers] = time.monotonic() + WORN_OUT


def mark(environ: dict[str, Any], slug: str, door: str, status: int, *, asked_for: bool) -> None:
    """This answer is the same for everybody whose message is refused like this here, until the minute is over.

    status: 403 for what answers nothing of ours, 413 for what is too long, 503 where no more answers are read, 429 for
    any of them when its address has to wait.
    """
    if door in ("acs", "callback"):
        environ[SAME] = Same(slug, door, status, int(time.time()) // 60, asked_for)


class Remembering:
    """The WSGI application, with what it says kept where it is the same for all; `early_answer` gives it again."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.early_answer = answer

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        said: dict[str, Any] = {}

        def noting(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            said.update(status=status, headers=headers)
            return start_response(status, headers, *error)

        body = self._application(environ, noting)
        found = environ.get(SAME)
        if found and said and isinstance(getattr(body, "content", None), bytes):
            _keep(found, host=environ.get("HTTP_HOST", ""), content=body.content, **said)
        result: Iterable[bytes] = body
        return result


def _keep(
    same: Same, *, host: str, status: str, headers: list[tuple[str, str]], content: bytes
) -> None:
    names = {name.lower() for name, _ in headers}
    if "set-cookie" in names or "transfer-encoding" in names:
        return
    head = [f"{name}: {value}" for name, value in headers if name.lower() != "content-length"]
    head += ["Connection: close", f"Content-Length: {len(content)}"]
    if len(_kept) >= MOST_KEPT:
        _kept.clear()
    _kept[same.slug, same.door, same.status] = _Kept(
        same=same,
        host=host,
        until=time.monotonic() + KEPT,
        status=status.encode("latin-1"),
        rest="\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + content,
    )


def forget() -> None:
    """Keep no answer, and nothing of requests and providers."""
    _kept.clear()
    _shut.clear()
    _worn_out.clear()


def answer(head: bytes, body: bytes | bytearray | memoryview, peer: str) -> bytes | None:
    """The whole answer to a message that is refused for certain and only counted, None for every other.

    head: the request up to the empty line; body: all of it; peer: the address of the connection. Called in the
    server's main loop: it asks nobody and waits for nothing. The connection is to be closed after the answer.
    """
    if not _kept:
        return None
    line, _, rest = head.decode("latin-1").partition("\r\n")
    found = _DOOR.fullmatch(line)
    if found is None:
        return None
    slug, door = (found["saml"], "acs") if found["saml"] else (found["oidc"], "callback")
    live = {status: kept for status in (403, 413, 429, 503) if (kept := _live(slug, door, status))}
    headers = _headers(rest) if live else None
    if headers is None or any(kept.host != headers.get("host") for kept in live.values()):
        return None
    if len(body) > MESSAGE:
        status, code = 413, "too_large"
    elif door == "acs":
        asked_for = next(iter(live.values())).same.asked_for
        status, code = _junk(slug, headers, body, asked_for=asked_for)
    else:
        status, code = _stray(slug, found["query"] or "", body)
    refused = live.get(status)
    if refused is None:
        return None
    address = counted(address_of(headers.get("x-forwarded-for", ""), peer))
    spent = throttle.count_without_asking(Count("refused", address, 60))
    if spent is None:
        return None
    if spent > settings.DAYPASS_REFUSALS_PER_ADDRESS:
        refused = live.get(429)
        if refused is None:
            return None
    refusals.count_alone(slug, code=code, minute=refused.same.minute)
    return refused.said()


def _live(slug: str, door: str, status: int) -> _Kept | None:
    kept = _kept.get((slug, door, status))
    if kept is None or kept.until < time.monotonic() or kept.same.minute != int(time.time()) // 60:
        return None
    return kept


def _headers(text: str) -> Mapping[str, str] | None:
    """By lower-case name; None when one comes twice, is folded or is anything but plain."""
    headers: dict[str, str] = {}
    for line in text.split("\r\n"):
        if not line:
            continue
        found = _HEADER.fullmatch(line)
        if found is None or found[1].lower() in headers:
            return None
        headers[found[1].lower()] = found[2]
    return headers


_NOT_CERTAIN = (0, "")
_UNSOLICITED = (403, "unsolicited")


def _junk(
    slug: str,
    headers: Mapping[str, str],
    body: bytes | bytearray | memoryview,
    *,
    asked_for: bool,
) -> tuple[int, str]:
    """With which status and why a posted message is refused, `_NOT_CERTAIN` when it may not be."""
    if headers.get("content-type") != "application/x-www-form-urlencoded":
        return _NOT_CERTAIN
    found = _FORM.fullmatch(body)
    if found is None:
        return _NOT_CERTAIN
    try:
        message = _decoded(bytes(found[1][:_BEGINNING])).decode("ascii")
    except UnicodeDecodeError:
        return _NOT_CERTAIN
    try:
        claimed = saml.in_response_to(message)
    except SignInRefused as error:
        return 403, error.code
    if not claimed:
        return _UNSOLICITED if asked_for else _NOT_CERTAIN
    if not saml.is_our_request_id(claimed, slug, purpose="sign-in"):
        return _UNSOLICITED
    return _no_more(slug, claimed, "unsolicited")


def _decoded(encoded: bytes) -> bytes:
    """Without its form encoding. What base64 needs goes first and all at once: what comes of that begins no escape."""
    for escape, meant in ((b"+", b" "), (b"%2B", b"+"), (b"%2F", b"/"), (b"%3D", b"=")):
        encoded = encoded.replace(escape, meant)
    return unquote_to_bytes(encoded)


def _stray(slug: str, query: str, body: bytes | bytearray | memoryview) -> tuple[int, str]:
    """With which status and why an authorization response is refused, `_NOT_CERTAIN` when it may not be."""
    if len(body):
        return _NOT_CERTAIN
    try:
        states = parse_qs(query, keep_blank_values=True, max_num_fields=20).get("state", [""])
    except ValueError:
        return _NOT_CERTAIN
    if not any(saml.is_our_request_id(each, slug, purpose="oidc sign-in") for each in states):
        return 403, "state_unknown"
    return _no_more(slug, states[0], "state_unknown") if len(states) == 1 else _NOT_CERTAIN


def _no_more(slug: str, answers: str, worn_out: str) -> tuple[int, str]:
    """What answers a request of ours is refused where that was answered too often, or no more answers are read."""
    now = time.monotonic()
    if _worn_out.get(answers, 0.0) > now:
        return 403, worn_out
    return (503, "busy") if _shut.get(slug, 0.0) > now else _NOT_CERTAIN
