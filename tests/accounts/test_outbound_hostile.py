"""Servers, name servers and proxies that answer slowly, endlessly or falsely: over real sockets, down to the bytes."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from accounts import outbound
from broker.errors import BadInput, ProviderUnavailable

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Sockets:
    """A server whose every connection is given to `answer`, which may write whatever it likes."""

    def __init__(self) -> None:
        self.answer: Callable[[socket.socket], None] = lambda connection: None
        self.requests: list[bytes] = []
        self.context: ssl.SSLContext | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._play, args=(connection,), daemon=True).start()

    def _play(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self.context is None:
                return self._hear(connection)
            with self.context.wrap_socket(connection, server_side=True) as secured:
                self._hear(secured)

    def _hear(self, connection: socket.socket) -> None:
        self.requests.append(read_head(connection))
        self.answer(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(4096)
        if not piece:
            break
        head += piece
    return head


@pytest.fixture
def server(settings) -> Iterator[Sockets]:
    made = Sockets()
    settings.DAYPASS_PRIVATE_PROVIDERS = [f"127.0.0.1:{made.port}", f"localhost:{made.port}"]
    yield made
    made.close()


def problem(call: Callable[[], object]) -> str:
    with pytest.raises(ProviderUnavailable) as failure:
        call()
    return failure.value.cause


def send(*pieces: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: [connection.sendall(piece) for piece in pieces] and None


def for_ever(piece: bytes, *, first: bytes = b"", pause: float = 0) -> Callable:
    def answer(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(piece)
            time.sleep(pause)

    return answer


def fetch(server: Sockets) -> dict:
    return outbound.get_json(server.url, "It")


def test_what_is_sent_is_one_plain_request(server):
    server.answer = send(OK + b"Content-Length: 2\r\n\r\n{}")

    assert fetch(server) == {}

    (head,) = server.requests
    assert head.split(b"\r\n") == [
        b"GET / HTTP/1.1",
        b"Host: 127.0.0.1:%d" % server.port,
        b"User-Agent: Daypass",
        b"Accept-Encoding: identity",
        b"Connection: close",
        b"Accept: application/json",
        b"",
        b"",
    ]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (send(b""), "does not answer as a web server"),
        (send(b"SSH-2.0-OpenSSH_9.2\r\n"), "does not answer as a web server"),
        (send(b"\x00" * 1000), "does not answer as a web server"),
        (send(b"HTTP/1.1 200"), "its type is nothing"),
        (send(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n"), ""),
        (send(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), "HTTPException"),
        (for_ever(b"X: " + b"y" * 60_000 + b"\r\n", first=b"HTTP/1.1 200 OK\r\n"), ""),
        (for_ever(b"HTTP/1.1 100 Continue\r\n\r\n"), "longer than is read"),
        (for_ever(b"x" * 4096, first=OK + b"\r\n"), "longer than"),
        (
            for_ever(b"1\r\nx\r\n" * 1000, first=OK + b"Transfer-Encoding: chunked\r\n\r\n"),
            "longer than",
        ),
        (send(OK + b"Content-Length: 99999999999999\r\n\r\n{}"), "longer than"),
        (send(OK + b"Content-Length: 10\r\n\r\n{}"), "ends before its end"),
        (send(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), "two headers"),
        (send(OK + b"Content-Type: text/html\r\n\r\n{}"), "two headers"),
        (send(OK + b"Transfer-Encoding: chunked\r\n\r\nnot a number\r\n"), "web server"),
        (send(OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n0\r\n\r\n"), "web server"),
        (send(OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n{}"), "web server"),
        (
            for_ever(
                b"X: y\r\n" * 1000, first=OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
            ),
            "longer than is read",
        ),
        (
            send(OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b" " * 10_000_000)),
            "compressed",
        ),
        (send(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n"), "redirect"),
        (send(b"HTTP/1.1 204 No Content\r\n\r\n"), "HTTP 204"),
        (send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{}"), "its type is text/html"),
        (send(b"HTTP/1.1 200 OK\r\n\r\n{}"), "its type is nothing"),
        (send(OK + b"\r\n[]"), "not a JSON object"),
        (send(OK + b"\r\n\xef\xbb\xbf{}"), "not a JSON object"),
        (send(OK + b"\r\n" + '{"a": "é"}'.encode("utf-16")), "not UTF-8"),
        (send(OK + b'\r\n{"a": 1, "\\u0061": 2}'), "stands twice"),
    ],
)
def test_an_answer_that_is_none_is_told_and_ends(server, answer, why):
    server.answer = answer

    assert why in problem(lambda: fetch(server))


@pytest.mark.parametrize(
    "answer",
    [
        for_ever(b"", pause=0.05),
        for_ever(b"H", pause=0.05),
        for_ever(b"X: y\r\n", first=b"HTTP/1.1 200 OK\r\n", pause=0.05),
        for_ever(b" ", first=OK + b"Content-Length: 1000\r\n\r\n", pause=0.05),
        for_ever(b"1\r\n \r\n", first=OK + b"Transfer-Encoding: chunked\r\n\r\n", pause=0.05),
    ],
    ids=["silence", "one letter", "headers", "body", "chunks"],
)
def test_whatever_drips_ends_when_the_time_is_over(server, monkeypatch, answer):
    monkeypatch.setattr(outbound, "DEADLINE", 0.5)
    server.answer = answer
    began = time.monotonic()

    assert "no answer within" in problem(lambda: fetch(server))

    assert time.monotonic() - began < 15


def test_a_server_that_never_greets_over_tls_ends_too(server, monkeypatch):
    monkeypatch.setattr(outbound, "DEADLINE", 0.5)
    server.answer = lambda connection: time.sleep(3)

    url = server.url.replace("http:", "https:")

    assert "no answer within" in problem(lambda: outbound.get_json(url, "It"))


# --- Names


@pytest.fixture
def hanging(monkeypatch):
    """A name server that answers nothing until it is let go, but for localhost."""
    go = threading.Event()
    real = socket.getaddrinfo
    asked: list[str] = []

    def getaddrinfo(host, port, *args, **kwargs):
        asked.append(host)
        if host.endswith(".example"):
            go.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "nobody answers")
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(outbound, "DEADLINE", 0.3)
    monkeypatch.setattr(outbound, "_resolver", outbound.Resolver(most=4, most_for_one=2))
    getaddrinfo.asked = asked
    yield getaddrinfo
    go.set()


def test_a_name_server_that_hangs_costs_the_time_of_a_call_and_no_more(hanging):
    began = time.monotonic()

    told = problem(lambda: outbound.get("https://login.example/", "It"))

    assert "no name server answered" in told
    assert time.monotonic() - began < 15


def test_hanging_names_do_not_pile_up_threads_nor_hold_up_others(hanging, server):
    server.answer = send(OK + b"Content-Length: 2\r\n\r\n{}")
    before = threading.active_count()

    for _ in range(5):
        problem(lambda: outbound.get("https://login.example/", "It"))
    assert hanging.asked.count("login.example") == 2  # the others did not even ask
    assert threading.active_count() <= before + 2

    assert fetch(server) == {}

    for name in ("a.example", "b.example", "c.example", "d.example"):
        problem(lambda name=name: outbound.get(f"https://{name}/", "It"))
    assert threading.active_count() <= before + 4


def answers(*addresses: str) -> Callable:
    def getaddrinfo(host, port, *args, **kwargs):
        return [
            (
                socket.AF_INET6 if ":" in one else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (one, port, 0, 0) if ":" in one else (one, port),
            )
            for one in addresses
        ]

    return getaddrinfo


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.1.2.3",
        "100.64.1.1",
        "169.254.169.254",
        "172.31.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "168.63.129.16",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:10.0.0.1",
        "::ffff:0:a00:1",
        "64:ff9b::a00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1",
        "100::1",
        "2001::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:a00:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_no_address_of_another_network_is_called(settings, monkeypatch, address):
    settings.DAYPASS_PRIVATE_PROVIDERS = []
    monkeypatch.setattr(socket, "getaddrinfo", answers(address))

    told = problem(lambda: outbound.get("https://login.example/", "It"))

    assert "not a public address" in told


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_public_addresses_are(address):
    assert outbound.is_public(ipaddress.ip_address(address))


def test_one_private_address_among_public_ones_is_enough(settings, monkeypatch):
    settings.DAYPASS_PRIVATE_PROVIDERS = []
    monkeypatch.setattr(socket, "getaddrinfo", answers("8.8.8.8", "10.0.0.1"))

    assert "10.0.0.1" in problem(lambda: outbound.get("https://login.example/", "It"))


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "224.0.0.1", "0.0.0.0"])
def test_a_listed_name_does_not_lead_to_a_clouds_metadata(settings, monkeypatch, address):
    settings.DAYPASS_PRIVATE_PROVIDERS = ["login.example"]
    monkeypatch.setattr(socket, "getaddrinfo", answers(address))

    assert "not a public" in problem(lambda: outbound.get("https://login.example/", "It"))


def test_the_address_that_was_checked_is_the_one_that_is_called(settings, monkeypatch, server):
    """A name that means something else the second time is asked once."""
    server.answer = send(OK + b"Content-Length: 2\r\n\r\n{}")
    settings.DAYPASS_PRIVATE_PROVIDERS = [f"localhost:{server.port}"]
    asked: list[str] = []
    first = answers("127.0.0.1")

    def rebinding(host, port, *args, **kwargs):
        asked.append(host)
        return first(host, port) if len(asked) == 1 else answers("127.0.0.2")(host, port)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)

    assert outbound.get_json(f"http://localhost:{server.port}/", "It") == {}
    assert asked == ["localhost"]


def test_a_call_goes_only_where_the_provider_was_saved(server):
    server.answer = send(OK + b"Content-Length: 2\r\n\r\n{}")
    here = frozenset({outbound.origin(server.url)})

    assert outbound.get_json(server.url, "It", origins=here) == {}
    with pytest.raises(BadInput, match="not an origin of this provider"):
        outbound.get_json(server.url, "It", origins=frozenset({"https://login.example"}))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Login.Example/x?y", "https://login.example"),
        ("https://login.example:443/", "https://login.example"),
        ("https://login.example:8443/", "https://login.example:8443"),
        ("http://127.0.0.1:80/", "http://127.0.0.1"),
        ("https://[2606:4700::1]/", "https://[2606:4700::1]"),
    ],
)
def test_an_origin_has_one_spelling(url, expected):
    assert outbound.origin(url) == expected


# --- TLS, and the proxy


class Authority:
    """A certificate authority of the test's own, and certificates from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self.bundle = folder / "authority.pem"
        self.bundle.write_bytes(
            self._sign(self.name, self.key, authority=True).public_bytes(serialization.Encoding.PEM)
        )

    def _sign(self, subject, key, *, names=(), authority=False, days=10):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=20))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if authority:
            builder = builder.add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    key_cert_sign=True,
                    crl_sign=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
            )
        return builder.sign(self.key, hashes.SHA256())

    def context(self, *names: str, days: int = 10) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(subject, key, names=names, days=days)
        pem = self.folder / f"{names[0]}{days}.pem"
        pem.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        context.asked_for = []
        context.sni_callback = lambda connection, name, _: context.asked_for.append(name)
        return context


@pytest.fixture
def authority(tmp_path, settings) -> Authority:
    made = Authority(tmp_path)
    settings.DAYPASS_CA_BUNDLE = str(made.bundle)
    return made


def test_tls_is_verified_for_the_name_that_was_asked_for(server, authority):
    server.context = authority.context("localhost")
    server.answer = send(OK + b"Content-Length: 2\r\n\r\n{}")

    assert outbound.get_json(f"https://localhost:{server.port}/", "It") == {}

    assert server.context.asked_for == ["localhost"]


def test_a_certificate_for_another_name_is_refused(server, authority):
    server.context = authority.context("another.example")

    told = problem(lambda: outbound.get_json(f"https://localhost:{server.port}/", "It"))

    assert "Hostname mismatch" in told
    assert server.requests == []


def test_a_certificate_that_expired_is_refused(server, authority):
    server.context = authority.context("localhost", days=-1)

    told = problem(lambda: outbound.get_json(f"https://localhost:{server.port}/", "It"))

    assert "expired" in told


class Proxy(Sockets):
    """A small CONNECT proxy that resolves every name to one place on loopback. `says`: instead of a tunnel."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.says = b""
        super().__init__()
        self.answer = self._tunnel
        self.url = f"http://127.0.0.1:{self.port}"

    def _tunnel(self, connection: socket.socket) -> None:
        if self.says:
            connection.sendall(self.says)
            return
        with socket.create_connection(("127.0.0.1", self.to)) as onward:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            back = threading.Thread(target=self._pump, args=(onward, connection), daemon=True)
            back.start()
            self._pump(connection, onward)
            back.join(5)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(server, settings) -> Iterator[Proxy]:
    made = Proxy(server.port)
    settings.DAYPASS_EGRESS_PROXY = made.url
    settings.DAYPASS_PRIVATE_PROVIDERS = []
    yield made
    made.close()


def test_calls_leave_through_the_proxy_and_tls_goes_through_it(server, proxy, authority):
    server.context = authority.context("login.example")
    server.answer = send(OK + b"Content-Length: 2\r\n\r\n{}")

    assert outbound.get_json("https://login.example/keys?x=1", "It") == {}

    (asked,) = proxy.requests
    assert asked.split(b"\r\n")[:2] == [
        b"CONNECT login.example:443 HTTP/1.1",
        b"Host: login.example:443",
    ]
    assert server.context.asked_for == ["login.example"]
    assert server.requests[0].startswith(b"GET /keys?x=1 HTTP/1.1\r\nHost: login.example\r\n")


def test_the_proxys_password_is_for_the_proxy_alone(server, proxy, authority, settings):
    settings.DAYPASS_EGRESS_PROXY = proxy.url.replace("http://", "http://out:p%40ss@")
    server.context = authority.context("login.example")
    server.answer = send(OK + b"Content-Length: 2\r\n\r\n{}")

    outbound.get_json("https://login.example/", "It")

    assert b"Proxy-Authorization: Basic b3V0OnBAc3M=\r\n" in proxy.requests[0]
    assert b"Authorization" not in server.requests[0]


def test_a_proxy_is_not_believed_to_be_the_provider(server, proxy, authority):
    server.context = authority.context("another.example")

    told = problem(lambda: outbound.get_json("https://login.example/", "It"))

    assert "Hostname mismatch" in told


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "it says 403"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "it says 407"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\n\r\n", "it says 302"),
        (b"hello\r\n\r\n", "does not let Daypass reach"),
        (b"X" * 20_000, "gave no answer that can be read"),
        (b"HTTP/1.1 200 OK\r\n", "gave no answer that can be read"),
    ],
)
def test_a_proxy_that_does_not_open_a_tunnel_is_told(proxy, says, why):
    proxy.says = says

    assert why in problem(lambda: outbound.get_json("https://login.example/", "It"))


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/",
        "https://169.254.169.254/",
        "https://[::1]/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://127.1/",
        "https://localhost/",
        "https://x.localhost/",
    ],
)
def test_what_is_private_by_its_spelling_is_not_even_asked_for(proxy, url):
    problem(lambda: outbound.get_json(url, "It"))

    assert proxy.requests == []


def test_the_operators_own_hosts_are_called_past_the_proxy(server, proxy, authority, settings):
    settings.DAYPASS_PRIVATE_PROVIDERS = [f"localhost:{server.port}"]
    server.context = authority.context("localhost")
    server.answer = send(OK + b"Content-Length: 2\r\n\r\n{}")

    outbound.get_json(f"https://localhost:{server.port}/", "It")

    assert proxy.requests == []


def test_proxies_of_the_environment_are_not_looked_at(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.answer = send(OK + b"Content-Length: 2\r\n\r\n{}")

    assert fetch(server) == {}


@pytest.mark.parametrize(
    "value", ["proxy.example:3128", "https://proxy.example:3128", "http://proxy.example", "http://"]
)
def test_a_proxy_that_cannot_be_understood_is_told(settings, value):
    settings.DAYPASS_EGRESS_PROXY = value

    with pytest.raises(BadInput, match="DAYPASS_EGRESS_PROXY"):
        outbound.get_json("https://login.example/", "It")


def test_the_setting_is_checked_at_the_start(settings):
    from accounts import checks

    settings.DAYPASS_EGRESS_PROXY = "proxy.example:3128"

    assert [found.id for found in checks.egress_proxy(None)] == ["accounts.E019"]


# --- JSON


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1e999}', "beyond what can be kept"),
        ('{"a": -1e999}', "beyond what can be kept"),
        ('{"a": 9223372036854775808}', "beyond 64 bits"),
        ('{"a": ' + "9" * 5000 + "}", "beyond 64 bits"),
        ('{"a": 0.' + "1" * 5000 + "}", "beyond what can be kept"),
        ('{"a": "\\ud800"}', "half a character"),
        ('{"\\udfff": 1}', "half a character"),
        ('{"a": ["\\u0000"]}', "NUL"),
        ('{"a": ' + "[" * 40 + "]" * 40 + "}", "nested too deeply"),
        ('{"a": ' * 40 + "1" + "}" * 40, "nested too deeply"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ('{"a": {"b": [{"c": 1, "c": 1}]}}', "stands twice"),
        ('{"a": -Infinity}', "not JSON"),
        ('{"a": 01}', ""),
        ("{'a': 1}", ""),
        ('{"a": 1,}', ""),
        ('{"a": 1} {}', ""),
        ('{"a": "\n"}', ""),
        ("\ufeff{}", ""),
    ],
)
def test_json_that_two_readers_could_take_for_two_things_is_refused(text, why):
    with pytest.raises(ValueError) as failure:
        outbound.strict_json(text)

    assert why in str(failure.value)


def test_ordinary_json_is_read():
    text = '{"a": [1, -2, 0.5, true, null, "\\ud83d\\ude00 é"], "b": {"a": {}}}'

    found = outbound.strict_json(text)

    assert found == {"a": [1, -2, 0.5, True, None, "😀 é"], "b": {"a": {}}}
