"""`python -m tests.races`: eight at the same moment, a thousand times, against Daypass as operators run it.

gunicorn with two processes of eight threads, a real provider of each protocol, SQLite and then PostgreSQL. A round is
one SAML answer, one OpenID Connect callback and one logout message, each brought by eight clients at once. Of the
eight exactly one may win: two would be a replay, none would lock somebody out.

The answers are counted by what clients saw, and again by what the audit log says.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import secrets
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.accounts.idp_oidc import OidcIdp
from tests.accounts.idp_saml import SamlIdp
from tests.product import Product
from tests.servers import Server, free_port, start_postgres, start_valkey, wait_for_port

AT_ONCE = 8
ORIGIN = "https://daypass.test"
SESSION = "__Host-daypass_session"
ANSWER = "__Secure-daypass_answer"
KINDS = ("SAML answer", "OpenID Connect callback", "logout message")


class Forgiving(OidcIdp):
    """A provider that takes a code as often as it comes: who wins is for Daypass to decide."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.codes = _Kept()


class _Kept(dict[str, Any]):
    def pop(self, key: str, default: Any = None) -> Any:
        return self.get(key, default)


@dataclass
class Answer:
    status: int
    location: str
    cookies: dict[str, str]
    body: str

    @property
    def signed_in(self) -> bool:
        return self.status == 302 and self.location == "/" and bool(self.cookies.get(SESSION))


class Client:
    """A connection that stays open, without a cookie jar: what is sent is said each time."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(
        self,
        method: str,
        path: str,
        *,
        address: str,
        form: dict[str, str] | None = None,
        **cookies: str,
    ) -> Answer:
        headers = {"Host": "daypass.test", "X-Forwarded-For": address, "Origin": ORIGIN}
        if cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        body = None
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(form)
        try:
            self.connection.request(method, path, body, headers)
            response = self.connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self.connection.close()  # kept open for longer than the server keeps it
            self.connection.request(method, path, body, headers)
            response = self.connection.getresponse()
        text = response.read().decode()
        jar: SimpleCookie = SimpleCookie()
        for header in response.headers.get_all("Set-Cookie", []):
            jar.load(header)
        return Answer(
            response.status,
            response.headers.get("Location", ""),
            {name: morsel.value for name, morsel in jar.items()},
            text,
        )

    def close(self) -> None:
        self.connection.close()


@dataclass
class Site:
    """Daypass under gunicorn, with one provider of each protocol, on one database."""

    folder: Path
    database_url: str = ""
    processes: int = 2
    saml: SamlIdp = field(default_factory=SamlIdp)

    def __post_init__(self) -> None:
        self.valkey = start_valkey()
        self.oidc = Forgiving()
        self.port = free_port()
        more = {"DATABASE_URL": self.database_url} if self.database_url else {}
        self.product = Product(
            self.folder,
            redis_url=self.valkey.url,
            DAYPASS_BIND=f"127.0.0.1:{self.port}",
            DAYPASS_WEB_PROCESSES=str(self.processes),
            DAYPASS_WEB_THREADS="8",
            DAYPASS_TRUSTED_PROXIES="1",
            DAYPASS_PRIVATE_PROVIDERS=self.oidc.authority,
            DAYPASS_ANSWERS_PER_PROVIDER="100000",
            DAYPASS_STATIC_ROOT=str(self.folder / "static"),
            **more,
        )
        self.product.manage("collectstatic", "--noinput", "--skip-checks", "-v0")
        (self.folder / "metadata.xml").write_text(self.saml.metadata)
        self.product.python(
            f"""
            from accounts import services
            from accounts.rules import PRESETS
            by = services.By(id="task:races", name="races")
            services.create_provider_from_metadata(
                slug="acme", name="Acme", by=by, enabled=True,
                metadata_xml=open({str(self.folder / "metadata.xml")!r}).read(),
            )
            services.create_oidc_provider(
                slug="globex", name="Globex", issuer={self.oidc.issuer!r}, by=by, enabled=True,
                client_id={self.oidc.client_id!r}, secret={self.oidc.client_secret!r},
                claim_map=PRESETS["oidc"],
            )
            """
        )
        web = self.product.start([sys.executable, "-m", "gunicorn", "broker.wsgi"])
        wait_for_port(self.port, web, seconds=60)

    def recorded(self) -> dict[str, int]:
        """What the audit log says has happened."""
        found: dict[str, int] = json.loads(
            self.product.python(
                """
                import json
                from django.db.models import Count
                from broker.audit.models import AuditEvent
                kinds = AuditEvent.objects.values_list("kind").annotate(n=Count("pk"))
                print(json.dumps(dict(kinds)))
                """
            )
        )
        return found

    def stop(self) -> None:
        self.product.stop()
        self.oidc.close()
        self.valkey.stop()


@dataclass
class Result:
    """What the rounds of one database came to. odd: rounds with another number of winners than one."""

    rounds: int = 0
    seconds: float = 0.0
    winners: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    odd: list[tuple[str, int, list[str]]] = field(default_factory=list)
    losers: Counter[str] = field(default_factory=Counter)
    spread: list[float] = field(default_factory=list)
    recorded: dict[str, int] = field(default_factory=dict)

    @property
    def wrong(self) -> list[str]:
        """What is not as it has to be, in sentences."""
        found = [f"{kind}: {n} winners in a round: {how}" for kind, n, how in self.odd]
        found += [
            f"{n} were answered {status}, which is no refusal"
            for status, n in self.losers.items()
            if status not in ("302", "403", "429", "503")
        ]
        expected = {"sign_in.accepted": 2 * self.rounds, "sign_in.ended": self.rounds}
        found += [
            f"the audit log has {self.recorded.get(kind, 0)} of {kind}, and not {n}"
            for kind, n in expected.items()
            if self.recorded.get(kind, 0) != n
        ]
        return found


class Runners:
    """Eight clients that begin at the same moment."""

    def __init__(self, port: int) -> None:
        self.clients = [Client(port) for _ in range(AT_ONCE)]
        self.pool = ThreadPoolExecutor(AT_ONCE)

    def run(
        self, work: Callable[[Client, int], Answer], spread: list[float] | None = None
    ) -> list[Answer]:
        barrier = threading.Barrier(AT_ONCE)
        begun: list[float] = []

        def one(number: int) -> Answer:
            barrier.wait(timeout=30)
            begun.append(time.perf_counter())
            return work(self.clients[number], number)

        answers = list(self.pool.map(one, range(AT_ONCE)))
        if spread is not None:
            spread.append(max(begun) - min(begun))
        return answers

    def close(self) -> None:
        self.pool.shutdown()
        for client in self.clients:
            client.close()


def race(site: Site, rounds: int, *, say: Callable[[str], None] = lambda text: None) -> Result:
    """So many rounds, one after the other."""
    result = Result(rounds=rounds)
    runners = Runners(site.port)
    alone = Client(site.port)
    began = time.monotonic()
    try:
        for number in range(rounds):
            _round(site, runners, alone, number, result)
            if (number + 1) % 50 == 0:
                say(f"  {number + 1} rounds, {time.monotonic() - began:.0f} s")
    finally:
        runners.close()
        alone.close()
    result.seconds = time.monotonic() - began
    result.recorded = site.recorded()
    return result


def _round(site: Site, runners: Runners, alone: Client, number: int, result: Result) -> None:
    def address(place: int) -> str:
        return f"10.{number // 250}.{number % 250}.{place + 1}"

    def note(kind: str, answers: list[Answer], won: Callable[[Answer], bool]) -> list[Answer]:
        winners = [answer for answer in answers if won(answer)]
        result.winners[kind] += len(winners)
        result.losers.update(str(a.status) for a in answers if not won(a))
        if len(winners) != 1:
            how = [
                f"{a.status} {a.location.partition('?')[0]} {_reference(a.body)}".strip()
                for a in answers
            ]
            result.odd.append((kind, len(winners), how))
        return winners

    # One SAML answer. In every second round the answers are kept first, so that the reading is what is raced for.
    session, url = _start(alone, "acme", address(20))
    form = {
        "SAMLResponse": site.saml.answer(
            url, name_id=f"u-{number}", session_index=f"s-{number}", attributes={"uid": ["ada"]}
        )
    }
    posted = []
    for _ in range(3 if number % 2 else 0):
        kept = alone.ask("POST", "/saml/acme/acs/", address=address(20), form=form)
        assert ANSWER in kept.cookies, f"round {number}: {kept.status} {_reference(kept.body)}"
        posted.append(kept.cookies[ANSWER])

    def bring(client: Client, place: int) -> Answer:
        kept = posted[place % 3] if posted else ""
        if not kept:
            first = client.ask("POST", "/saml/acme/acs/", address=address(place), form=form)
            kept = first.cookies.get(ANSWER, "")
            if first.status != 302:
                return first
        cookies = {SESSION: session, **({ANSWER: kept} if kept else {})}
        return client.ask("GET", "/saml/acme/acs/finish/", address=address(place), **cookies)

    winners = note("SAML answer", runners.run(bring, result.spread), lambda a: a.signed_in)

    # One logout message, about the session that was just won.
    sls = f"{ORIGIN}/saml/acme/sls/"
    message = site.saml.logout_request(sls, name_id=f"u-{number}", session_index=f"s-{number}")
    path = site.saml.redirect(sls, "SAMLRequest", message).removeprefix(ORIGIN)
    note(
        "logout message",
        runners.run(lambda client, place: client.ask("GET", path, address=address(place))),
        lambda a: a.status == 302 and a.location.startswith(site.saml.slo_url),
    )
    for winner in winners:
        home = alone.ask("GET", "/", address=address(20), **{SESSION: winner.cookies[SESSION]})
        if not home.location.startswith("/sign-in/"):
            result.odd.append(("logout message", 0, [f"the session lives on: {home.status}"]))

    # One callback with one code.
    session, url = _start(alone, "globex", address(21))
    path = site.oidc.authorize(url).removeprefix(ORIGIN)
    note(
        "OpenID Connect callback",
        runners.run(
            lambda client, place: client.ask(
                "GET", path, address=address(place), **{SESSION: session}
            )
        ),
        lambda a: a.signed_in,
    )


def _start(client: Client, slug: str, address: str) -> tuple[str, str]:
    """Begin a sign-in: the session's cookie, and where the provider is asked."""
    token = secrets.token_hex(16)
    answer = client.ask(
        "POST",
        f"/sign-in/{slug}/",
        address=address,
        form={"csrfmiddlewaretoken": token},
        **{"__Host-daypass_csrf": token},
    )
    found = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', answer.body)
    assert found, f"{answer.status}: {answer.body[:2000]}"
    return answer.cookies[SESSION], unescape(found[1])


def _reference(body: str) -> str:
    found = re.search(r'<strong class="mono">([0-9A-Z]{8})</strong>', body)
    return found[1] if found else ""


# --- The databases


def empty_database(server_url: str) -> str:
    """A new database of its own on a PostgreSQL server."""
    import psycopg
    from psycopg import sql

    name = f"races_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return urlsplit(server_url)._replace(path=f"/{name}").geturl()


def drop_database(url: str, server_url: str) -> None:
    import psycopg
    from psycopg import sql

    name = urlsplit(url).path.lstrip("/")
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


def main(words: list[str]) -> int:
    return on_each_database(
        words, program="python -m tests.races", about=__doc__, site_on=Site, race=race
    )


def on_each_database(
    words: list[str],
    *,
    program: str,
    about: str | None,
    site_on: Callable[[Path, str], Any],
    race: Callable[..., Any],
) -> int:
    """A command that races on SQLite and on PostgreSQL, and says what came of it. 1 when something was wrong.

    site_on: starts what is raced at in a folder, on a database (an address, "" for SQLite). race: (site, rounds, say=)
    to a result.
    """
    import tests.environment  # noqa: F401  (the keys that every process of the product is given)

    parser = argparse.ArgumentParser(prog=program, description=about)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument(
        "--database", choices=["sqlite", "postgresql"], action="append", help="both if not given"
    )
    arguments = parser.parse_args(words)
    failed = False
    for database in arguments.database or ["sqlite", "postgresql"]:
        say(f"{database}: {arguments.rounds} rounds of {AT_ONCE} at once")
        server: Server | None = start_postgres() if database == "postgresql" else None
        url = empty_database(server.url) if server else ""
        folder = Path(tempfile.mkdtemp(prefix="daypass-races-"))
        site = site_on(folder, url)
        try:
            result = race(site, arguments.rounds, say=say)
        finally:
            site.stop()
            if server:
                drop_database(url, server.url)
                server.stop()
        say(f"  {result.seconds:.0f} s; winners by kind: {json.dumps(result.winners)}")
        say(f"  others were answered: {json.dumps(dict(sorted(result.losers.items())))}")
        say(f"  audit log: {json.dumps(dict(sorted(result.recorded.items())))}")
        say(
            f"  begun within {statistics.median(result.spread) * 1000:.2f} ms of each other (median)"
        )
        for sentence in result.wrong[:20]:
            say(f"  WRONG: {sentence}")
        if result.wrong:
            say(f"  what was logged: {site.product.logs}")
            failed = True
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
