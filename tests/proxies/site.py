"""Daypass behind a proxy as operators run it, and visitors who come through that proxy from addresses of their own."""

from __future__ import annotations

import http.client
import re
import secrets
import socket
import ssl
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.accounts.idp_saml import SamlIdp
from tests.awssso.site import port_answers
from tests.product import Product, kill, until
from tests.proxies.page import BEHIND, HOST
from tests.servers import start_valkey, wait_for_port

ORIGIN = f"https://{HOST}"
SESSION = "__Host-daypass_session"
CSRF = "__Host-daypass_csrf"
ANSWER = "__Secure-daypass_answer"
ACCOUNT = "123456789012"
ACS = "/saml/acme/acs/"
DOORS = 20

CAST = """
from accounts import services
from accounts.models import IdentityProvider
from django.utils import timezone
from broker.minting.keys import ensure_keys
from tests import factories as make

ensure_keys(timezone.now())
services.create_provider_from_metadata(
    slug="acme", name="Acme", by=services.By(id="task:proxies", name="proxies"), enabled=True,
    metadata_xml=open({metadata!r}).read(),
)
at = IdentityProvider.objects.get(slug="acme")
account = make.account("Payments", account_id={account!r}, region="eu-west-1")
make.mapping(make.group("developers", at=at), make.role("Developer", of=account))
for number in range({doors}):
    make.provider(f"strange-{{number}}", protocol="saml")
"""


@dataclass(frozen=True)
class Answer:
    """What came back. cookies: as they were set, with all that was said about them."""

    status: int
    headers: http.client.HTTPMessage
    body: str

    @property
    def location(self) -> str:
        return str(self.headers.get("Location", ""))

    @property
    def cookies(self) -> SimpleCookie:
        jar: SimpleCookie = SimpleCookie()
        for header in self.headers.get_all("Set-Cookie", []):
            jar.load(header)
        return jar

    @property
    def reference(self) -> str:
        """The number on a page that refuses, "" when there is none."""
        found = re.search(r'<strong class="mono">([0-9A-Z]{8})</strong>', self.body)
        return found[1] if found else ""


@dataclass
class Site:
    """Daypass under gunicorn where the page's files expect it, with a SAML provider and a role for developers."""

    folder: Path
    authority: Path
    idp: SamlIdp = field(default_factory=SamlIdp)
    secrets: list[str] = field(default_factory=list)
    """What went through the proxy and is nobody else's."""

    def __post_init__(self) -> None:
        self.valkey = start_valkey()
        self.product = Product(
            self.folder,
            redis_url=self.valkey.url,
            DAYPASS_ORIGIN=ORIGIN,
            DAYPASS_BIND=BEHIND,
            DAYPASS_WEB_PROCESSES="2",
            DAYPASS_WEB_THREADS="8",
            DAYPASS_TRUSTED_PROXIES="1",
            DAYPASS_CA_BUNDLE=str(self.authority),
            DAYPASS_STATIC_ROOT=str(self.folder / "static"),
        )
        self.product.manage("collectstatic", "--noinput", "--skip-checks", "-v0")
        metadata = self.folder / "metadata.xml"
        metadata.write_text(self.idp.metadata)
        self.product.python(CAST.format(metadata=str(metadata), account=ACCOUNT, doors=DOORS))
        self.start()
        self._doors = iter(range(DOORS))
        self.trust = ssl.create_default_context(cafile=str(self.authority))

    def start(self) -> None:
        self.web = self.product.start([sys.executable, "-m", "gunicorn", "broker.wsgi"])
        wait_for_port(int(BEHIND.rpartition(":")[2]), self.web, seconds=60)
        with urlopen(f"http://{BEHIND}/health/live", timeout=60):
            pass  # the port is there before the application

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nothing answers where Daypass was."""
        kill(self.web)
        until(lambda: not port_answers(int(BEHIND.rpartition(":")[2])))
        try:
            yield
        finally:
            self.start()

    def visitor(self, address: str = "127.0.0.1") -> Visitor:
        return Visitor(self, address)

    def strange_door(self) -> str:
        """Where nobody knocked yet: thirty strangers a minute are recorded alone at each provider, and no more."""
        return f"/saml/strange-{next(self._doors)}/acs/"

    def self_test(self) -> str:
        """What `manage.py check_terminal` says."""
        try:
            return self.product.manage("check_terminal")
        except AssertionError as refused:
            return str(refused)

    def address_of(self, reference: str) -> str:
        """The address that Daypass recorded for a refusal."""
        rows = self.product.rows(
            "SELECT address FROM broker_auditevent WHERE reference = ?", reference
        )
        assert len(rows) == 1, f"{len(rows)} events have the number {reference}"
        return str(rows[0][0])

    def addresses(self) -> set[str]:
        """All that were ever recorded."""
        return {
            str(row[0])
            for row in self.product.rows("SELECT DISTINCT address FROM broker_auditevent")
        }

    def stop(self) -> None:
        self.product.stop()
        self.valkey.stop()


@dataclass
class Visitor:
    """A browser at an address of its own; it keeps no cookies by itself."""

    site: Site
    address: str

    def connect(self) -> ssl.SSLSocket:
        opened = socket.create_connection(
            ("::1" if ":" in self.address else "127.0.0.1", 443),
            timeout=30,
            source_address=(self.address, 0),
        )
        return self.site.trust.wrap_socket(opened, server_hostname=HOST)

    def ask(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        *,
        form: dict[str, str] | None = None,
        plain: bool = False,
        **cookies: str,
    ) -> Answer:
        """One request on a connection of its own. headers: in this order, also the same one twice."""
        connection = http.client.HTTPConnection(HOST, 443, timeout=30)
        if plain:
            connection.sock = socket.create_connection(
                ("127.0.0.1", 80), timeout=30, source_address=(self.address, 0)
            )
        else:
            connection.sock = self.connect()
        body = urlencode(form).encode() if form is not None else None
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            given = list(headers)
            if not any(name.lower() == "host" for name, _ in given):
                connection.putheader("Host", HOST)
            if cookies:
                said = "; ".join(f"{name}={value}" for name, value in cookies.items())
                connection.putheader("Cookie", said)
            if body is not None:
                connection.putheader("Content-Type", "application/x-www-form-urlencoded")
                connection.putheader("Content-Length", str(len(body)))
            for name, value in given:
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(
                response.status, response.headers, response.read().decode(errors="replace")
            )
        finally:
            connection.close()

    def begin(self, *headers: tuple[str, str]) -> tuple[str, str]:
        """Begin a sign-in: the cookie of its session, and where the provider is asked."""
        token = secrets.token_hex(16)
        answer = self.ask(
            "POST",
            "/sign-in/acme/",
            [("Origin", ORIGIN), ("Sec-Fetch-Site", "same-origin"), *headers],
            form={"csrfmiddlewaretoken": token},
            **{CSRF: token},
        )
        found = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', answer.body)
        assert answer.status == 200 and found, f"{answer.status}: {answer.body[:1500]}"
        return answer.cookies[SESSION].value, unescape(found[1])

    def sign_in(self, *, size: int = 0, name_id: str = "u-0001") -> tuple[str, list[Answer]]:
        """Sign in with SAML, with an answer whose form has at least so many bytes: the session, and what came back."""
        session, url = self.begin()
        form = self.filled(url, size, name_id)
        posted = self.ask("POST", ACS, [("Origin", "https://idp.example")], form=form)
        assert posted.status == 302, f"{posted.status}: {posted.body[:1500]}"
        kept = posted.cookies[ANSWER].value
        finished = self.ask("GET", f"{ACS}finish/", **{SESSION: session, ANSWER: kept})
        assert finished.status == 302 and finished.location == "/", finished.body[:1500]
        session = finished.cookies[SESSION].value
        self.site.secrets += [session, kept, form["SAMLResponse"][:64]]
        return session, [posted, finished]

    def filled(self, url: str, size: int, name_id: str = "u-0001") -> dict[str, str]:
        """The form that the provider has the browser post, filled up with an attribute that nobody reads."""
        claims = {"uid": ["ada"], "groups": ["developers"]}
        form = self._form(url, name_id, claims, 0)
        for _ in range(8):
            missing = size - len(urlencode(form))
            if missing <= 0:
                break
            # Base64 makes four bytes of three, and percent signs a few more.
            form = self._form(url, name_id, claims, self._padding + max(1, missing * 65 // 100))
        return form

    def _form(
        self, url: str, name_id: str, claims: dict[str, list[str]], padding: int
    ) -> dict[str, str]:
        self._padding = padding
        more = secrets.token_hex(padding // 2 + 1)[:padding]
        values = [more[at : at + 1000] for at in range(0, len(more), 1000)]
        told = {**claims, **({"memberOf": values} if values else {})}
        answer = self.site.idp.answer(
            url, name_id=name_id, session_index=f"s-{name_id}", attributes=told
        )
        return {"SAMLResponse": answer, "RelayState": "/"}
