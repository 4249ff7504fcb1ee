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
        date = formatdate(usegmt=True).encode("ascii")
        return b"HTTP/1.1 %b\r\nDate: %b\r\n%b" % (self.status, date, self.rest)


_kept: dict[tuple[str, str, int], _Kept] = {}


def mark(environ: dict[str, Any], slug: str, door: str, status: int, *, asked_for: bool) -> None:
    """This answer is the same for everybody whose message is refused like this here, until the minute is over.

    status: 403 for what answers nothing of ours, 413 for what is too long, 429 for either when its address has to wait.
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
    """Keep no answer."""
    _kept.clear()


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
    status = 403 if len(body) <= MESSAGE else 413
    refused, waiting = _live(slug, door, status), _live(slug, door, 429)
    if refused is None:
        return None
    headers = _headers(rest)
    if headers is None or headers.get("host") != refused.host:
        return None
    if status == 413:
        code = "too_large"
    elif door == "acs":
        code = _junk(slug, headers, body, asked_for=refused.same.asked_for)
    else:
        code = _stray(slug, found["query"] or "", body)
    if not code:
        return None
    address = counted(address_of(headers.get("x-forwarded-for", ""), peer))
    spent = throttle.count_without_asking(Count("refused", address, 60))
    if spent is None:
        return None
    kept = refused
    if spent > settings.DAYPASS_REFUSALS_PER_ADDRESS:
        if waiting is None:
            return None
        kept = waiting
    refusals.count_alone(slug, code=code, minute=kept.same.minute)
    return kept.said()


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


def _junk(
    slug: str,
    headers: Mapping[str, str],
    body: bytes | bytearray | memoryview,
    *,
    asked_for: bool,
) -> str:
    """Why a posted message is refused, "" when that is not certain."""
    if headers.get("content-type") != "application/x-www-form-urlencoded":
        return ""
    found = _FORM.fullmatch(body)
    if found is None:
        return ""
    encoded = bytes(found[1][:_BEGINNING])
    try:
        message = unquote_to_bytes(encoded.replace(b"+", b" ")).decode("ascii")
    except UnicodeDecodeError:
        return ""
    try:
        claimed = saml.in_response_to(message)
    except SignInRefused as error:
        return error.code
    if not claimed:
        return "unsolicited" if asked_for else ""
    return "" if saml.is_our_request_id(claimed, slug, purpose="sign-in") else "unsolicited"


def _stray(slug: str, query: str, body: bytes | bytearray | memoryview) -> str:
    """Why an authorization response is refused, "" when that is not certain."""
    if len(body):
        return ""
    try:
        states = parse_qs(query, keep_blank_values=True, max_num_fields=20).get("state", [""])
    except ValueError:
        return ""
    ours = any(saml.is_our_request_id(each, slug, purpose="oidc sign-in") for each in states)
    return "" if ours else "state_unknown"
