"""What people at one identity provider notice while another one's doors are flooded: `python -m benchmarks flood`.

Starts Daypass as gunicorn serves it (two processes) with two pairs of providers. People come to the first pair
at random moments, so many a second, whether or not those before them are done, and sign in as a whole: the page, the
start, the answer, the finish; what the provider does in between is not counted. In every second block a process of its
own sends the doors of the other pair 200 hostile messages a second. Quiet and flooded blocks alternate in one run,
people come at the same moments in both, and only the ratio of the two says something about Daypass.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from benchmarks.load import Connection
from tests.servers import free_port, start_postgres, start_valkey, wait_for_port

ROOT = Path(__file__).resolve().parent.parent
FORM = "application/x-www-form-urlencoded"

MIX = {"junk": 40, "unknown request": 20, "badly signed": 15, "too large": 10, "made-up state": 15}
"""Parts of a hundred."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks flood", description=__doc__)
    parser.add_argument("--rate", type=int, default=200, help="hostile messages a second")
    parser.add_argument("--seconds", type=float, default=10, help="of one block")
    parser.add_argument("--blocks", type=int, default=6, help="of each kind")
    parser.add_argument(
        "--verified",
        type=int,
        default=3,
        help="of the badly signed, so many a second with a session",
    )
    parser.add_argument("--processes", type=int, default=2, help="of gunicorn")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--arrivals", type=float, default=4, help="sign-ins that begin a second")
    parser.add_argument("--generate", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.generate:
        generate(Path(arguments.generate))
        return
    data = Path(tempfile.mkdtemp(prefix="daypass-flood-"))
    port = free_port()
    valkey = start_valkey()
    database = start_postgres().url if arguments.database == "postgresql" else ""
    from tests.accounts.idp_oidc import OidcIdp

    oidc = [OidcIdp(), OidcIdp(client_id="other")]
    environment = {
        "DAYPASS_MODE": "demo",
        "DAYPASS_ORIGIN": f"http://127.0.0.1:{port}",
        "DAYPASS_SECRET_KEY": "for the benchmark only, and long enough to be taken for a key",
        "DAYPASS_SEALING_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "DAYPASS_DATA_DIR": str(data),
        "DAYPASS_BIND": f"127.0.0.1:{port}",
        "DAYPASS_WEB_PROCESSES": str(arguments.processes),
        "DAYPASS_TRUSTED_PROXIES": "1",
        "DAYPASS_PRIVATE_PROVIDERS": " ".join(each.authority for each in oidc),
        "REDIS_URL": valkey.url,
        "DATABASE_URL": database,
        "DJANGO_SETTINGS_MODULE": "broker.settings",
    }
    os.environ.update(environment)
    for command in (["migrate", "-v0"], ["collectstatic", "--noinput", "-v0"]):
        subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, check=True)
    import django

    django.setup()
    with (data / "web.log").open("wb") as log:
        web = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "broker.wsgi"], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        wait_for_port(port, web)
        Run(arguments, port, data, oidc).play()
    except BaseException:
        sys.stderr.write((data / "web.log").read_text()[-3000:])
        raise
    finally:
        web.send_signal(signal.SIGTERM)
        web.wait(timeout=30)
        for each in oidc:
            each.close()
        shutil.rmtree(data, ignore_errors=True)


# --- People


def request(
    method: str, path: str, *, address: str, cookies: dict[str, str], body: str = "", host: str
) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        f"X-Forwarded-For: {address}",
        "User-Agent: Mozilla/5.0",
        "Accept: text/html",
    ]
    if cookies:
        lines.append("Cookie: " + "; ".join(f"{name}={value}" for name, value in cookies.items()))
    if method == "POST":
        lines += [f"Content-Type: {FORM}", f"Content-Length: {len(body)}", f"Origin: http://{host}"]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@dataclass
class Browser:
    """A browser of one person: its cookies, and how long it has waited for Daypass."""

    port: int
    address: str
    connection: Connection
    person: int
    cookies: dict[str, str] = field(default_factory=dict)
    waited: float = 0.0

    def ask(self, method: str, path: str, body: str = "") -> tuple[int, bytes, bytes]:
        sent = request(
            method,
            path,
            address=self.address,
            cookies=self.cookies,
            body=body,
            host=f"127.0.0.1:{self.port}",
        )
        began = time.perf_counter()
        status, head, content = self.connection.ask(sent)
        self.waited += time.perf_counter() - began
        self.cookies |= cookies_of(head)
        return status, head, content

    def start(self, slug: str) -> str:
        """Where the page leads that begins a sign-in."""
        _, _, page = self.ask("GET", "/sign-in/?stay=1")
        token = re.search(rb'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token, page[:500]
        fields = urlencode({"csrfmiddlewaretoken": token[1].decode()})
        status, _, page = self.ask("POST", f"/sign-in/{slug}/", fields)
        found = re.search(r'content="0;url=([^"]+)"', page.decode())
        assert found, (status, page[:2000])
        return unescape(found[1])


def cookies_of(head: bytes) -> dict[str, str]:
    return {
        name.decode(): value.decode()
        for name, value in re.findall(rb"(?i)\r\nset-cookie: ([^=]+)=([^;\r]*)", head)
    }


def location_of(head: bytes) -> str:
    found = re.search(rb"(?i)\r\nlocation: ([^\r]+)", head)
    return found[1].decode() if found else ""


# --- The run


class Run:
    def __init__(
        self, arguments: argparse.Namespace, port: int, data: Path, oidc: list[Any]
    ) -> None:
        from accounts import services
        from accounts.rules import PRESETS
        from tests.accounts.idp_saml import SamlIdp

        self.arguments, self.port, self.data = arguments, port, data
        self.saml, self.forger = SamlIdp(), SamlIdp()
        self.oidc = oidc[0]
        self.oidc.bend_claims = self.tell_apart
        self.comes: dict[str, int] = {}
        """Who comes, by the nonce of the sign-in."""
        by = services.By(id="task:flood", name="flood")
        hostile = SamlIdp(
            entity_id="https://other.example/metadata", sso_url="https://other.example/sso"
        )
        for slug, idp in (("saml-a", self.saml), ("saml-b", hostile)):
            services.create_provider_from_metadata(
                slug=slug, name=slug, metadata_xml=idp.metadata, by=by, enabled=True
            )
        for slug, op in (("oidc-a", oidc[0]), ("oidc-b", oidc[1])):
            services.create_oidc_provider(
                slug=slug,
                name=slug,
                issuer=op.issuer,
                client_id=op.client_id,
                secret=op.client_secret,
                by=by,
                enabled=True,
                claim_map=PRESETS["oidc"],
            )
        self.forger.entity_id = hostile.entity_id
        self.people = itertools.count(1)

    def tell_apart(self, claims: dict[str, Any]) -> None:
        """Not all people at the OpenID Connect provider are one: a person signs in at one place at a time."""
        n = self.comes.pop(claims["nonce"]) % 20
        claims |= {"sub": f"u-{n}", "preferred_username": f"o-{n}", "email": f"o-{n}@example.com"}

    @contextmanager
    def browser(self) -> Iterator[Browser]:
        n = next(self.people)
        address = f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"
        with closing(Connection(self.port)) as connection:
            yield Browser(self.port, address, connection, n)

    def look(self) -> float:
        with self.browser() as browser:
            browser.ask("GET", "/sign-in/?stay=1")
            return browser.waited * 1000

    def saml_sign_in(self) -> float:
        with self.browser() as browser:
            return self._saml(browser)

    def oidc_sign_in(self) -> float:
        with self.browser() as browser:
            return self._oidc(browser)

    def _saml(self, browser: Browser) -> float:
        url = browser.start("saml-a")
        answer = self.saml.answer(url, name_id=f"u-{browser.person % 20}", attributes=ATTRIBUTES)
        body = urlencode({"SAMLResponse": answer})
        _, head, page = browser.ask("POST", "/saml/saml-a/acs/", body)
        assert location_of(head), page[:2000]
        status, head, page = browser.ask("GET", location_of(head))
        assert (status, location_of(head)) == (302, "/"), (status, page[-1500:])
        return browser.waited * 1000

    def _oidc(self, browser: Browser) -> float:
        url = browser.start("oidc-a")
        self.comes[parse_qs(urlsplit(url).query)["nonce"][0]] = browser.person
        callback = self.oidc.authorize(url)
        parts = urlsplit(callback)
        status, head, page = browser.ask("GET", f"{parts.path}?{parts.query}")
        assert (status, location_of(head)) == (302, "/"), (status, page[-1500:])
        return browser.waited * 1000

    def play(self) -> None:
        with ThreadPoolExecutor(16) as people:
            # Until every thread of both processes has everything at hand.
            for ways in [[self.saml_sign_in, self.oidc_sign_in]] * 15 + [[self.look] * 16] * 4:
                for each in [people.submit(way) for way in ways]:
                    each.result()
            found: dict[tuple[str, str], list[float]] = {}
            told: Counter[str] = Counter()
            recorded = self.recorded()
            for n in range(self.arguments.blocks * 2):
                state = ("quiet", "flood")[n % 2]
                generator = self.flood() if state == "flood" else None
                for protocol, times in self.block(people, random.Random(n // 2)).items():
                    found.setdefault((protocol, state), []).extend(times)
                if generator is not None:
                    output, _ = generator.communicate(timeout=60)
                    told.update(json.loads(output))
        self.report(found, told, self.recorded() - recorded)

    def block(self, people: ThreadPoolExecutor, dice: random.Random) -> dict[str, list[float]]:
        """The milliseconds of the sign-ins of one block, by protocol."""
        ways = {"SAML": self.saml_sign_in, "OpenID Connect": self.oidc_sign_in}
        begun: dict[str, list[Future[float]]] = {protocol: [] for protocol in ways}
        began, moment = time.monotonic(), 0.0
        while (
            moment := moment + dice.expovariate(self.arguments.arrivals)
        ) < self.arguments.seconds:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            protocol = dice.choice(list(ways))
            begun[protocol].append(people.submit(ways[protocol]))
        return {protocol: [each.result() for each in all_] for protocol, all_ in begun.items()}

    @staticmethod
    def recorded() -> int:
        from broker.audit.models import AuditEvent

        return AuditEvent.objects.filter(kind="sign_in.refused").count()

    def report(
        self, found: dict[tuple[str, str], list[float]], told: Counter[str], recorded: int
    ) -> None:
        print("| sign-in at the provider left alone | | sign-ins | p50 | p99 | p99 to quiet |")
        print("| --- | --- | --- | --- | --- | --- |")
        for protocol in ("SAML", "OpenID Connect"):
            quiet = percentile(found[protocol, "quiet"], 0.99)
            for state in ("quiet", "flood"):
                times = found[protocol, state]
                print(
                    f"| {protocol} | {state} | {len(times)} | {percentile(times, 0.5):.0f} ms "
                    f"| {percentile(times, 0.99):.0f} ms | {percentile(times, 0.99) / quiet:.2f} |"
                )
        seconds = self.arguments.blocks * self.arguments.seconds
        sent = told.pop("sent")
        print(f"\nHostile messages: {sent}, {sent / seconds:.0f} a second; answers: ", end="")
        print(", ".join(f"{n} with {status}" for status, n in sorted(told.items())) + ".")
        print(f"Audit events of them: {recorded}.")

    # -- the flood

    def flood(self) -> subprocess.Popen[bytes]:
        """Prepare the messages of a block, and start sending them once all is at hand."""
        messages = self.messages()
        path = self.data / "flood.json"
        path.write_text(
            json.dumps(
                {
                    "port": self.port,
                    "rate": self.arguments.rate,
                    "seconds": self.arguments.seconds,
                    "messages": messages,
                }
            )
        )
        sender = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.flood", "--generate", str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert sender.stdout is not None
        assert sender.stdin is not None
        assert sender.stdout.readline() == READY
        sender.stdin.write(b"go\n")
        sender.stdin.flush()
        return sender

    def messages(self) -> list[dict[str, str]]:
        """One second of them is a fair share of each kind; the order is that of the dice."""
        dice = random.Random(1)
        many = int(self.arguments.rate * self.arguments.seconds)
        kinds = [kind for kind, part in MIX.items() for _ in range(part * many // 100)]
        dice.shuffle(kinds)
        with_session = int(self.arguments.verified * self.arguments.seconds)
        bad = [self.badly_signed(own_session=n < with_session) for n in range(with_session + 3)]
        dice.shuffle(bad)
        made = []
        for n, kind in enumerate(kinds):
            address = (
                "203.0.113.9" if n % 2 else f"198.18.{dice.randrange(256)}.{dice.randrange(256)}"
            )
            if kind == "badly signed":
                made.append(bad[n % len(bad)] if n % 5 else bad.pop() if len(bad) > 3 else bad[0])
                continue
            made.append(self.message(kind, address, dice))
        return made

    def message(self, kind: str, address: str, dice: random.Random) -> dict[str, str]:
        host = f"127.0.0.1:{self.port}"
        path, body = "/saml/saml-b/acs/", ""
        if kind == "junk":
            body = "SAMLResponse=" + quote(base64.b64encode(dice.randbytes(3000)).decode())
        elif kind == "unknown request":
            made_up = f"_{'0' * 8}.{dice.randbytes(16).hex()}.{dice.randbytes(16).hex()}"
            xml = (
                '<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="_x" Version="2.0" '
                f'InResponseTo="{made_up}">{"<x/>" * 1500}</samlp:Response>'
            )
            body = "SAMLResponse=" + quote(base64.b64encode(xml.encode()).decode())
        elif kind == "too large":
            body = "SAMLResponse=" + "A" * 300_000
        else:
            path = f"/oidc/oidc-b/callback/?code=x&state={dice.randbytes(24).hex()}"
            sent = request("GET", path, address=address, cookies={}, host=host)
            return {"sent": sent.decode()}
        sent = request("POST", path, address=address, cookies={}, body=body, host=host)
        return {"sent": sent.decode()}

    def badly_signed(self, *, own_session: bool) -> dict[str, str]:
        """An answer to a request of ours under a stranger's signature; in the browser that asked, or in none."""
        with self.browser() as browser:
            url = browser.start("saml-b")
        body = urlencode({"SAMLResponse": self.forger.answer(url, attributes=ATTRIBUTES)})
        cookies = browser.cookies if own_session else {}
        sent = request(
            "POST",
            "/saml/saml-b/acs/",
            address=browser.address,
            cookies=cookies,
            body=body,
            host=f"127.0.0.1:{self.port}",
        )
        return {"sent": sent.decode(), "address": browser.address, "cookies": json.dumps(cookies)}


ATTRIBUTES = {
    "uid": ["ada"],
    "displayName": ["Ada Lovelace"],
    "mail": ["ada@example.com"],
    "groups": [f"group-{n}" for n in range(20)],
}


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


# --- The process that sends

READY = b"ready\n"


def generate(path: Path) -> None:
    """Send each message at its moment, on two dozen connections, whether or not earlier ones were answered.

    A redirect is followed, as one message more. Prints what the answers were.
    """
    os.nice(10)  # elsewhere it would be on machines of its own
    plan = json.loads(path.read_text())
    port, rate = plan["port"], plan["rate"]
    host = f"127.0.0.1:{port}"
    waiting = [(each["sent"].encode(), each) for each in plan["messages"]]
    waiting.reverse()
    free = deque(open_socket(port) for _ in range(24))
    busy: dict[socket.socket, tuple[bytearray, dict[str, str]]] = {}
    told: Counter[str] = Counter()
    print(READY.decode(), end="", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    until = began + plan["seconds"]
    while (now := time.monotonic()) < until + (5 if busy else 0):
        while free and waiting and now < until and told["sent"] < (now - began) * rate:
            sent, each = waiting.pop()
            connection = free.popleft()
            try:
                connection.setblocking(True)
                connection.sendall(sent)
            except OSError:
                free.append(open_socket(port))
                told["lost"] += 1
            else:
                busy[connection] = (bytearray(), each)
            told["sent"] += 1
        readable, _, _ = select.select(list(busy), [], [], 0.002)
        for connection in readable:
            answer, each = busy[connection]
            try:
                data = connection.recv(65536)
            except OSError:
                data = b""
            answer += data
            if data and not is_whole(answer):
                continue
            del busy[connection]
            head = bytes(answer.partition(b"\r\n\r\n")[0])
            told[head[9:12].decode() or "nothing"] += 1
            if data and b"connection: close" not in head.lower():
                free.append(connection)
            else:
                connection.close()
                free.append(open_socket(port))
            if location_of(head) and "cookies" in each:
                cookies = json.loads(each["cookies"]) | cookies_of(head)
                follow = request(
                    "GET", location_of(head), address=each["address"], cookies=cookies, host=host
                )
                waiting.append((follow, each))
    if busy:
        told["nothing"] += len(busy)
    print(json.dumps(told))


def open_socket(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def is_whole(answer: bytearray) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    if not found:
        return False
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")


if __name__ == "__main__":
    main()
