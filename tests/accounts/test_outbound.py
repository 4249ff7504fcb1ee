"""Calls to the outside: bounded, without redirects, and never into the private network."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from accounts import outbound
from broker.errors import BadInput, ProviderUnavailable


@pytest.fixture
def server(settings):
    """A server on loopback that answers as it is told, and that the operator allows to be called."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.paths.append(self.path)
            self.server.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    made.paths = []
    made.address = f"127.0.0.1:{made.server_port}"
    made.url = f"http://{made.address}/"
    settings.DAYPASS_PRIVATE_PROVIDERS = [made.address]
    threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def say(body: bytes, *, status: int = 200, **headers: str) -> Callable:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def fetch(server, **options) -> bytes:
    return outbound.get(server.url, "It", **options)


def problem(call: Callable) -> str:
    with pytest.raises(ProviderUnavailable) as failure:
        call()
    return failure.value.cause


def test_an_answer_is_handed_on(server):
    server.answer = say(b"hello")

    assert fetch(server) == b"hello"


@pytest.mark.parametrize("status", [400, 404, 500])
def test_another_status_is_told(server, status):
    server.answer = say(b"", status=status)

    assert f"HTTP {status}" in problem(lambda: fetch(server))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server, status):
    server.answer = say(b"", status=status, Location="/elsewhere")

    assert "redirect" in problem(lambda: fetch(server))
    assert server.paths == ["/"]


def test_a_long_answer_is_cut_off(server):
    server.answer = say(b"x" * 5000)

    assert "longer than 1000 bytes" in problem(lambda: fetch(server, limit=1000))


def test_a_compressed_answer_is_refused(server):
    server.answer = say(b"x", Content_Encoding="gzip")

    assert "compressed" in problem(lambda: fetch(server))


def test_a_dripping_answer_ends_at_the_deadline(server, monkeypatch):
    monkeypatch.setattr(outbound, "DEADLINE", 0.6)

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        for _ in range(300):
            request.wfile.write(b"x")
            time.sleep(0.1)

    server.answer = _until_broken(drip)
    began = time.monotonic()

    problem(lambda: fetch(server))

    assert time.monotonic() - began < 15


def test_dripping_headers_end_at_the_deadline(server, monkeypatch):
    monkeypatch.setattr(outbound, "DEADLINE", 0.6)

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(300):
            request.wfile.write(b"X: y\r\n")
            time.sleep(0.1)

    server.answer = _until_broken(drip)
    began = time.monotonic()

    problem(lambda: fetch(server))

    assert time.monotonic() - began < 15


def _until_broken(answer: Callable) -> Callable:
    def guarded(request: BaseHTTPRequestHandler) -> None:
        try:
            answer(request)
        except OSError:
            request.close_connection = True

    return guarded


def test_nothing_stays_open_after_a_call(server):
    server.answer = say(b"x")
    before = threading.active_count()

    for _ in range(5):
        fetch(server)

    time.sleep(0.2)
    assert threading.active_count() <= before + 1


# --- Where it may go


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{port}/",
        "https://localhost:{port}/",
        "https://[::1]:{port}/",
        "https://0.0.0.0:{port}/",
        "https://10.0.0.1/",
        "https://192.168.1.1/",
        "https://172.16.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://100.64.0.1/",
        "https://[fd00:ec2::254]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1]/",
        "https://224.0.0.1/",
        "https://2130706433/",
        "https://0x7f000001/",
    ],
)
def test_private_addresses_are_not_called(server, settings, url):
    settings.DAYPASS_PRIVATE_PROVIDERS = []

    told = problem(lambda: outbound.get(url.format(port=server.server_port), "It"))

    assert "not a public address" in told or "has no address" in told
    assert server.paths == []


def test_the_name_of_a_private_address_is_not_called_either(server, settings, monkeypatch):
    """What counts is the address at the moment of connecting, not what the name looked like."""
    settings.DAYPASS_PRIVATE_PROVIDERS = []
    real = socket.getaddrinfo

    def rebound(host, port, *args, **kwargs):
        return real("127.0.0.1" if host == "login.example.com" else host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)

    told = problem(lambda: outbound.get(f"https://login.example.com:{server.server_port}/", "It"))

    assert "DAYPASS_PRIVATE_PROVIDERS" in told
    assert server.paths == []


def test_our_own_address_may_be_a_private_one(server, settings):
    """The operator alone says where that is. What listens here speaks no TLS, so the call fails, but later."""
    settings.DAYPASS_PRIVATE_PROVIDERS = []
    url = f"https://127.0.0.1:{server.server_port}/"

    told = problem(lambda: outbound.get_json(url, "It", ours=True))

    assert "not a public address" not in told
    assert "not a public address" in problem(lambda: outbound.get_json(url, "It"))


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "[fe80::1]", "224.0.0.1"])
def test_not_even_as_our_own_address_a_cloud_s_metadata_is_called(settings, host):
    settings.DAYPASS_PRIVATE_PROVIDERS = []

    assert "not a public address" in problem(
        lambda: outbound.get_json(f"https://{host}/", "It", ours=True)
    )


def test_only_the_listed_port_of_a_private_host_is_called(server, settings):
    settings.DAYPASS_PRIVATE_PROVIDERS = ["127.0.0.1:1"]

    with pytest.raises(BadInput, match="https"):
        fetch(server)


def test_a_certificate_that_nobody_vouches_for_is_refused(settings, tmp_path):
    import ssl

    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    from tests.accounts.idp_saml import certificate

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate(key).encode()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings.DAYPASS_PRIVATE_PROVIDERS = [f"127.0.0.1:{port}"]

    def serve() -> None:
        connection, _ = listener.accept()
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    told = problem(lambda: outbound.get(f"https://127.0.0.1:{port}/", "It"))

    thread.join(5)
    listener.close()
    assert "DAYPASS_CA_BUNDLE" in told


@pytest.mark.parametrize(
    "url",
    [
        "",
        "login.example.com",
        "http://login.example.com/",
        "http://127.0.0.1:1/",
        "ftp://login.example.com/",
        "file:///etc/passwd",
        "https://",
        "https://user:password@login.example.com/",
        "https://user@login.example.com/",
        "https://login.example.com/#x",
        "https://login.example.com/a b",
        "https://login.example.com/\n",
        "https://login.example.com:port/",
        "https://login.example.com/" + "x" * 1100,
        "javascript:alert(1)",
    ],
)
def test_only_https_addresses_are_taken(settings, url):
    settings.DAYPASS_PRIVATE_PROVIDERS = []

    with pytest.raises(BadInput):
        outbound.check_url(url)


def test_the_demo_may_call_its_own_stage(settings):
    settings.DEMO = True
    settings.DAYPASS_PRIVATE_PROVIDERS = []

    assert outbound.check_url("http://127.0.0.1:8000/metadata")
    with pytest.raises(BadInput):
        outbound.check_url("http://192.168.0.1/metadata")


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"1",
        b"",
        b"{",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 2}}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_json_is_read_strictly(text):
    with pytest.raises(ValueError):
        outbound.strict_json(text)


def test_json_of_the_usual_kind_is_read():
    assert outbound.strict_json(b'{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}


def test_an_answer_that_is_not_json_is_told(server):
    server.answer = say(b"<html>", Content_Type="application/json")

    assert "not a JSON object" in problem(lambda: outbound.get_json(server.url, "It"))
