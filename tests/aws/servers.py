"""AWS on loopback for tests: moto as a process of its own, and stand-ins for what moto has not or never does wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pytest

from tests.servers import Server, free_port, wait_for_port


def start_moto() -> Server:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_port(port, process, seconds=30)
    return Server(process, port, f"http://127.0.0.1:{port}")


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    form: dict[str, str]
    headers: dict[str, str]
    client_port: int


@dataclass
class Answer:
    """What is sent back. `hang` seconds pass first; `drop` closes the connection instead.

    drip: seconds between two of the many small pieces in which it comes, `"head"` or `"body"` of it.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "text/xml"
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0
    drop: bool = False
    drip: tuple[str, float] | None = None


class _Dripping:
    """What a handler writes goes out in PIECES, with a pause before each."""

    PIECES = 40

    def __init__(self, out: Any, pause: Callable[[], object]) -> None:
        self._out, self._pause = out, pause

    def write(self, data: bytes) -> None:
        step = -(-len(data) // self.PIECES)
        for start in range(0, len(data), step):
            self._pause()
            self._out.write(data[start : start + step])


class StandIn:
    """A real HTTP server on loopback that answers as it is told and remembers what it got."""

    def __init__(self, otherwise: Callable[[Request], Answer]) -> None:
        self.otherwise = otherwise
        self.requests: list[Request] = []
        self._script: deque[Answer | Callable[[Request], Answer]] = deque()
        self.released = threading.Event()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length).decode()
                parts = urlsplit(self.path)
                request = Request(
                    self.command,
                    self.path if self.command == "CONNECT" else parts.path,
                    {k: v[0] for k, v in parse_qs(parts.query).items()},
                    {k: v[0] for k, v in parse_qs(body).items()},
                    {k.lower(): v for k, v in self.headers.items()},
                    self.client_address[1],
                )
                stand_in.requests.append(request)
                answer = stand_in._next(request)
                if answer.hang:
                    stand_in.released.wait(answer.hang)
                if answer.drop:
                    self.close_connection = True
                    return
                out = self.wfile
                drip, pause = answer.drip or ("", 0.0)
                slow: Any = _Dripping(out, lambda: stand_in.released.wait(pause))
                self.wfile = slow if drip == "head" else out
                self.send_response_only(answer.status)
                if "date" not in answer.headers:
                    self.send_header("date", self.date_time_string())
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(answer.body)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile = slow if drip == "body" else out
                self.wfile.write(answer.body)
                self.wfile = out

            do_GET = do_POST = do_PUT = do_CONNECT = _any  # noqa: N815  (the names that http.server looks for)

            def log_message(self, *args: object) -> None:
                pass

        class QuietServer(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: object) -> None:
                pass  # a client that gave up waiting is what some tests are about

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    def will(self, *answers: Answer | Callable[[Request], Answer]) -> None:
        """The next answers, in this order; afterwards what it always answers."""
        self._script.extend(answers)

    def forget(self) -> None:
        self._script.clear()
        self.requests.clear()
        self.released.clear()

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _next(self, request: Request) -> Answer:
        if self._script:
            answer = self._script.popleft()
            return answer(request) if callable(answer) else answer
        return self.otherwise(request)


SECRET = "canarySecretAccessKey+/="
TOKEN = "canarySessionToken+/=="


def sts_answer(request: Request, *, arn: str = "", minutes: int = 60) -> Answer:
    """Credentials for the asked role, as STS words them."""
    action = request.form["Action"]
    account, role = request.form["RoleArn"].split(":")[4], request.form["RoleArn"].rsplit("/")[-1]
    name = request.form.get("RoleSessionName", "from.assertion")
    arn = arn or f"arn:aws:sts::{account}:assumed-role/{role}/{name}"
    expiration = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = f"""<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>
<AssumedRoleUser><Arn>{arn}</Arn><AssumedRoleId>AROAEXAMPLE:{name}</AssumedRoleId></AssumedRoleUser>
<Credentials><AccessKeyId>ASIAEXAMPLEEXAMPLE00</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>
<SessionToken>{TOKEN}</SessionToken><Expiration>{expiration}</Expiration></Credentials>
<PackedPolicySize>6</PackedPolicySize></{action}Result>
<ResponseMetadata><RequestId>c6104cbe-0000</RequestId></ResponseMetadata></{action}Response>"""
    return Answer(200, body.encode())


def sts_error(code: str, message: str = "", status: int = 400, **headers: str) -> Answer:
    """A refusal, as STS words it."""
    body = f"""<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error><RequestId>c6104cbe</RequestId></ErrorResponse>"""
    return Answer(status, body.encode(), headers=headers)


def signin_answer(request: Request) -> Answer:
    """The federation endpoint: a token for well-formed credentials, else the bare 400 that AWS gives."""
    if request.method != "POST" or request.form.get("Action") != "getSigninToken":
        return Answer(400)
    session = json.loads(request.form["Session"])
    if set(session) != {"sessionId", "sessionKey", "sessionToken"}:
        return Answer(400)
    body = json.dumps({"SigninToken": f"canarySigninToken-{time.monotonic_ns()}"})
    return Answer(200, body.encode(), "application/json")


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    server = start_moto()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _sts_server() -> Iterator[StandIn]:
    server = StandIn(sts_answer)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _signin_server() -> Iterator[StandIn]:
    server = StandIn(signin_answer)
    yield server
    server.stop()


@pytest.fixture
def sts_stand_in(_sts_server: StandIn, settings) -> StandIn:
    """An STS that answers well unless told otherwise, set as the endpoint."""
    _sts_server.forget()
    settings.DAYPASS_STS_ENDPOINT = _sts_server.url
    return _sts_server


@pytest.fixture
def signin_stand_in(_signin_server: StandIn, settings) -> StandIn:
    """A sign-in service, set as the endpoint."""
    _signin_server.forget()
    settings.DAYPASS_SIGNIN_ENDPOINT = _signin_server.url
    return _signin_server


@pytest.fixture
def aws(moto: Server, signin_stand_in: StandIn, settings) -> Server:
    """moto as STS, and the sign-in stand-in."""
    settings.DAYPASS_STS_ENDPOINT = moto.url
    return moto
