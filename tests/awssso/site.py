"""Daypass under gunicorn as operators run it, with people who are signed in, roles at AWS, and restarts at any moment.

For what one process cannot show: races, several clients, and a server that forgot everything but its database.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import redis

from tests.awssso.abuse import Cli
from tests.awssso.conformity import Reply
from tests.product import Product, kill, until
from tests.servers import free_port, start_valkey, wait_for_port

ACCOUNT = "123456789012"
ROLE = "Developer"
REDIRECT = "http://127.0.0.1:39953/oauth/callback"

SIGN_IN_EVERY = 150.0

CAST = """
from django.utils import timezone
from broker.minting.keys import ensure_keys
from tests import factories as make

ensure_keys(timezone.now())
at = make.provider("acme")
account = make.account("Payments", account_id={account!r}, region="eu-west-1")
group = make.group("developers", at=at)
make.mapping(group, make.role({role!r}, of=account))
for handle in {people!r}:
    own = make.group(f"only-{{handle}}", at=at)
    make.person(handle, at=at, groups=[group, own])
    make.mapping(own, make.role(f"Only-{{handle}}", of=account))
"""

SIGN_IN = """
import json
from django.conf import settings
from accounts.models import Person
from tests.portal.conftest import sign_in
keys = {{}}
for handle in {people!r}:
    keys[handle] = sign_in(Person.objects.get(handle=handle)).session.session_key
print(json.dumps([settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME, keys]))
"""


class Connections:
    """To one port, one for each thread, kept open until `close`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._own = threading.local()
        self._all: list[http.client.HTTPConnection] = []

    def mine(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if found is None:
            found = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            self._own.connection = found
            self._all.append(found)
        return found

    def close(self) -> None:
        for connection in self._all:
            connection.close()


@dataclass
class Wire:
    """Somebody's way to Daypass; every request says whose address it is from, as a proxy would."""

    connections: Connections
    origin: str
    address: str

    def ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        sent = {
            "Host": urlsplit(self.origin).netloc,
            "X-Forwarded-For": self.address,
            **headers,
        }
        if method == "POST" and body is None:
            sent["Content-Length"] = "0"
        connection = self.connections.mine()
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            connection.close()  # kept open for longer than the server keeps it
            connection.request(method, path, body, sent)
            response = connection.getresponse()
        text = response.read()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, text)


def pkce() -> tuple[str, str]:
    """A verifier and its challenge."""
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    return verifier, base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@dataclass
class Browser:
    """Somebody's signed-in browser, as far as these pages need one."""

    wire: Wire
    session_name: str
    csrf_name: str
    session: str

    def ask(self, method: str, path: str, form: Mapping[str, str] | None = None) -> Reply:
        token = secrets.token_hex(16)
        headers = {
            "Cookie": f"{self.session_name}={self.session}; {self.csrf_name}={token}",
            "Origin": self.wire.origin,
        }
        body = None
        if form is not None:
            body = urlencode({"csrfmiddlewaretoken": token, **form}).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        return self.wire.ask(method, path, body, headers)

    def authorize(self, client_id: str) -> tuple[str, str]:
        """Let a client in on its page: the code that is brought to it, and the verifier that it kept."""
        verifier, challenge = pkce()
        asked = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": REDIRECT,
            "state": secrets.token_hex(8),
            "code_challenge_method": "S256",
            "scopes": "sso:account:access",
            "code_challenge": challenge,
        }
        path = f"/authorize?{urlencode(asked)}"
        shown = self.ask("GET", path)
        assert shown.status == 200, (shown.status, shown.headers.get("location"))
        led = self.ask("POST", path, {"answer": "yes"})
        assert led.status == 302, (led.status, led.body[:2000])
        given = parse_qs(urlsplit(led.headers["location"]).query)
        assert led.headers["location"].startswith(REDIRECT + "?")
        assert given["state"] == [asked["state"]]
        return given["code"][0], verifier

    def review(self, user_code: str) -> str:
        """Type a code; what the page that asks for a yes holds for it."""
        shown = self.ask("POST", "/device", {"user_code": user_code})
        found = re.search(rb'name="ticket" value="([^"]+)"', shown.body)
        assert shown.status == 200 and found, (shown.status, shown.body[:3000])
        return unescape(found[1].decode())

    def approve(self, ticket: str) -> Reply:
        return self.ask("POST", "/device", {"ticket": ticket, "answer": "yes"})


def port_answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Site:
    """One installation in a folder. `restart` ends gunicorn without notice and empties what Redis held."""

    def __init__(
        self,
        folder: Path,
        *,
        sts: str = "",
        database_url: str = "",
        people: tuple[str, ...] = ("ada", "grace"),
        processes: int = 2,
    ) -> None:
        self.people = people
        self.valkey = start_valkey()
        self.port = free_port()
        self.connections = Connections(self.port)
        self.database_url = database_url
        self.origin = f"http://127.0.0.1:{self.port}" if sts else "https://daypass.test"
        more = {"DATABASE_URL": database_url} if database_url else {}
        if sts:  # only a demo is served, and asks AWS, without TLS
            more |= {
                "DAYPASS_MODE": "demo",
                "DAYPASS_ORIGIN": self.origin,
                "DAYPASS_STS_ENDPOINT": sts,
            }
        self.product = Product(
            folder,
            redis_url=self.valkey.url,
            DAYPASS_BIND=f"127.0.0.1:{self.port}",
            DAYPASS_WEB_PROCESSES=str(processes),
            DAYPASS_WEB_THREADS="8",
            DAYPASS_TRUSTED_PROXIES="1",
            DAYPASS_LOG_LEVEL="DEBUG",
            DAYPASS_STATIC_ROOT=str(folder / "static"),
            **more,
        )
        self.product.manage("collectstatic", "--noinput", "--skip-checks", "-v0")
        self.product.python(CAST.format(account=ACCOUNT, role=ROLE, people=people))
        self.session_name, self.csrf_name, self.sessions = "", "", {}
        self.sign_in()
        self._start()

    def _start(self) -> None:
        self.web = self.product.start([sys.executable, "-m", "gunicorn", "broker.wsgi"])
        wait_for_port(self.port, self.web, seconds=60)

    def sign_in(self) -> None:
        """Everybody signs in anew, just now."""
        self.signed_in = time.monotonic()
        said = self.product.python(SIGN_IN.format(people=self.people))
        self.session_name, self.csrf_name, self.sessions = json.loads(said.strip().splitlines()[-1])

    def sign_in_when_old(self) -> None:
        """So that device codes may be approved: that wants a sign-in of the last five minutes."""
        if time.monotonic() - self.signed_in > SIGN_IN_EVERY:
            self.sign_in()

    def restart(self) -> None:
        """As after a crash of the machine: no process, no cache, only the database."""
        kill(self.web)
        until(lambda: not port_answers(self.port))  # its workers are killed as well, a moment later
        with redis.Redis.from_url(self.valkey.url) as store:
            store.flushall()
        self._start()

    def cli(self, address: str = "198.51.100.23") -> Cli:
        return Cli(Wire(self.connections, self.origin, address).ask)

    def browser(self, handle: str = "ada", address: str = "198.51.100.7") -> Browser:
        wire = Wire(self.connections, self.origin, address)
        return Browser(wire, self.session_name, self.csrf_name, self.sessions[handle])

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask or change the database over nobody's connection."""
        if not self.database_url:
            return self.product.rows(statement)
        import psycopg

        with psycopg.connect(self.database_url, autocommit=True) as connection:
            found = connection.execute(statement)  # type: ignore[arg-type]
            return found.fetchall() if found.description else []

    def stop(self) -> None:
        self.connections.close()
        self.product.stop()
        self.valkey.stop()
