"""A request to AWS ends in time as a whole: also where each single byte of the answer comes in time."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from botocore.httpsession import URLLib3Session
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.arns import PARTITIONS
from broker.aws import bounded, clients, signin, sts
from broker.aws.bounded import Bounded
from broker.errors import AwsUnavailable
from tests.aws.servers import SECRET, Answer, StandIn, signin_answer, sts_answer
from tests.aws.test_fail_over import SECOND, World, web
from tests.aws.test_signin import ask
from tests.servers import free_port

PAUSE = 0.1
"""Seconds between two pieces: four seconds for an answer, and every read in time."""


@pytest.fixture(autouse=True)
def _one_second(monkeypatch) -> None:
    """For a whole request; the order of things is as in production."""
    for module in (sts, signin):
        monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.5)
        monkeypatch.setattr(module, "READ_TIMEOUT", 0.5)
        monkeypatch.setattr(module, "WHOLE", 1.0)
    sts._clients.clear()
    signin._sessions.clear()


@pytest.mark.parametrize("module", [sts, signin])
def test_a_late_answer_of_the_first_region_leaves_time_for_the_second(monkeypatch, module):
    """In production's numbers, of which the last request that was begun in time is a part."""
    monkeypatch.undo()

    assert module.READ_TIMEOUT < module.WHOLE < module.PATIENCE


@pytest.fixture
def aws(settings) -> Iterator[World]:
    world = World(settings, "DAYPASS_STS_ENDPOINT", sts_answer)
    yield world
    world.well()
    world.stop()


@pytest.fixture
def signing_in(settings) -> Iterator[World]:
    world = World(settings, "DAYPASS_SIGNIN_ENDPOINT", signin_answer)
    yield world
    world.well()
    world.stop()


def dripping(part: str, answers: Callable) -> Callable:
    return lambda request: replace(answers(request), drip=(part, PAUSE))


@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_of_sts_that_comes_byte_by_byte_is_left_for_the_second_region(aws, part):
    aws.first.otherwise = dripping(part, sts_answer)

    answer = web()

    assert answer.credentials.reveal().secret_access_key == SECRET
    assert aws.asked() == (1, 1)


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_sign_in_host_that_answers_byte_by_byte_is_left_for_the_second(signing_in, part):
    signing_in.first.otherwise = dripping(part, signin_answer)

    token = ask(second_region=SECOND)

    assert token.origin == signing_in.second.url
    assert signing_in.asked() == (1, 1)


def test_where_every_region_drips_the_call_ends_as_unavailable(aws):
    aws.first.otherwise = aws.second.otherwise = dripping("body", sts_answer)

    with pytest.raises(AwsUnavailable):
        web()


def test_a_host_that_only_drips_is_not_one_to_send_a_browser_to(signing_in, settings):
    page = Answer(200, b"<EntityDescriptor/>" * 10)
    signing_in.first.otherwise = lambda _: replace(page, drip=("body", PAUSE * 4))
    signing_in.second.otherwise = lambda _: page
    signin._seen_well.clear()

    door = signin.saml_door(PARTITIONS["aws"], "eu-west-1", SECOND)

    assert door.action.startswith(signing_in.second.url)


def test_after_an_answer_that_was_late_the_next_request_has_its_whole_time(aws):
    """The connection of the late one is not used again, and nothing of its end is left over."""
    aws.first.otherwise = aws.second.otherwise = dripping("body", sts_answer)
    with pytest.raises(AwsUnavailable):
        web()
    aws.well()

    assert web().credentials.reveal().secret_access_key == SECRET
    assert bounded._ends.get() is None


def test_connections_are_still_kept_open_for_the_next_call(aws):
    for _ in range(3):
        web()

    ports = {request.client_port for request in aws.first.requests}
    assert len(aws.first.requests) == 3
    assert len(ports) == 1


def test_every_other_client_is_bounded_likewise(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    region = StandIn(lambda _: Answer(200, b"{}" * 100, drip=("body", PAUSE)))
    config = clients.bounds(connect=0.5, read=0.5, tries=1)
    kms = clients.own("kms", "eu-west-1", endpoint=region.url, config=config)

    with pytest.raises(ReadTimeoutError):
        kms.list_keys()

    region.released.set()
    region.stop()
    clients.forget_own("kms")


# --- TLS, names with several addresses


@pytest.fixture(scope="module")
def pem(tmp_path_factory) -> str:
    """A key and a certificate for 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    return str(file)


@pytest.mark.parametrize("late", [True, False])
def test_behind_tls_it_is_the_same(pem, late):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    body = json.dumps({"SigninToken": "x" * 100}).encode()
    server = StandIn(lambda _: Answer(200, body, drip=("body", PAUSE) if late else None))
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    session = Bounded(URLLib3Session(verify=pem, timeout=(0.5, 0.5)), seconds=1.0)
    request = AWSRequest(method="GET", url=server.url.replace("http:", "https:")).prepare()

    try:
        if late:
            with pytest.raises(ReadTimeoutError):
                session.send(request)
        else:
            assert session.send(request).content == body
    finally:
        session.close()
        server.released.set()
        server.stop()


@pytest.fixture
def name(monkeypatch) -> Callable[[list[str]], None]:
    """Say which addresses a name has."""

    def has(addresses: list[str]) -> None:
        monkeypatch.setattr(
            bounded.socket,
            "getaddrinfo",
            lambda host, port, *_, **__: [
                (_family(one), socket.SOCK_STREAM, 6, "", (one, port))
                for one in (addresses if host == "aws.test" else [host])
            ],
        )

    return has


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def test_an_address_where_nobody_listens_is_passed_over(name):
    server = StandIn(lambda _: Answer(200, b"here"))
    port = server.url.rpartition(":")[2]
    name(["::1", "127.0.0.1"])
    session = Bounded(URLLib3Session(timeout=(0.5, 0.5)), seconds=1.0)

    answer = session.send(AWSRequest(method="GET", url=f"http://aws.test:{port}/").prepare())

    assert answer.content == b"here"
    assert server.requests[0].headers["host"] == f"aws.test:{port}"
    session.close()
    server.stop()


def test_a_name_whose_addresses_all_refuse_is_unreachable(name):
    name(["::1", "127.0.0.1"])
    session = Bounded(URLLib3Session(timeout=(0.5, 0.5)), seconds=1.0)

    with pytest.raises(EndpointConnectionError):
        session.send(
            AWSRequest(method="GET", url=f"http://aws.test:{free_port()}/").prepare(),
        )


LOOPBACK = [f"127.0.0.{n}" for n in range(1, 31)]


@pytest.mark.allow_hosts(LOOPBACK)
def test_silent_addresses_share_the_time_of_one_request(name):
    """A full queue of connections is how a host that drops what it gets looks on loopback."""
    name(LOOPBACK)
    session = Bounded(URLLib3Session(timeout=(0.5, 0.5)), seconds=1.0)
    with ExitStack() as opened:
        silent = opened.enter_context(socket.create_server(("", 0), backlog=0))
        port = silent.getsockname()[1]
        for _ in range(3):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        began = time.monotonic()

        with pytest.raises(ConnectTimeoutError):
            session.send(AWSRequest(method="GET", url=f"http://aws.test:{port}/").prepare())

        assert time.monotonic() - began < 10  # thirty connect time-outs are fifteen seconds
