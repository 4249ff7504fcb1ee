"""gunicorn as Daypass runs it, under peers that are slow on purpose: whoever is quick is served all the same."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from broker.serving import LEAVE_SECONDS
from tests.servers import ROOT, free_port, wait_for_port

APPLICATION = """
import os
import time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/last":
        environ["daypass.last_answer"] = True
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]
    if path == "/slow":
        time.sleep(1.5)
    if path == "/until-told":
        until = time.monotonic() + 60
        while not os.path.exists("told") and time.monotonic() < until:
            time.sleep(0.01)
    if path == "/all-files":
        held = []
        try:
            while True:
                held.append(open("/dev/null"))
        except OSError:
            time.sleep(1)
        finally:
            for one in held:
                one.close()
    if path == "/unread":
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]
    if path == "/large":
        start_response("200 OK", [("Content-Length", str(8_000_000))])
        return [b"x" * 1_000_000] * 8
    body = environ["wsgi.input"].read()
    if path == "/who":
        who = str(os.getpid()).encode()
        start_response("200 OK", [("Content-Length", str(len(who)))])
        return [who]
    if path == "/fails":
        raise RuntimeError
    answer = f"{environ['REQUEST_METHOD']} {path} {len(body)}\\n".encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]

def early_answer(head, body, peer):
    line = head.partition(b"\\r\\n")[0]
    if b" /early-fails " in line:
        raise RuntimeError
    if b" /early-large " in line:
        return b"HTTP/1.1 200 OK\\r\\nContent-Length: 8000000\\r\\n\\r\\n" + b"x" * 8_000_000
    if b" /early " not in line:
        return None
    said = head.rpartition(b"\\r\\n")[0] + b"|" + bytes(body) + b"|" + peer.encode()
    return b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(said) + said

application.early_answer = early_answer
"""

# The real worker, less patient, so that the tests need not be more.
WORKER = """
from broker import serving
from broker.serving import PatientWorker

class Quick(PatientWorker):
    HEAD_SECONDS = 6
    BODY_SECONDS = 6
    ANSWER_SECONDS = 6
    GOODBYE_SECONDS = 0.5
"""

THREADS = 2

FOR_SURE = 2.0
"""Seconds that a connection is left to another process, so that it comes in time however busy the machine is."""


@contextmanager
def serving(
    folder: Path, *, processes: int, files: int = 0, leaving: float = LEAVE_SECONDS
) -> Iterator[int]:
    """files: how many each process may open, where that is not left as it is. leaving: see `LEAVE_SECONDS`."""
    limited = ["/bin/sh", "-c", f'ulimit -n {files} && exec "$@"', "sh"] if files else []
    (folder / "slow_or_not.py").write_text(APPLICATION)
    (folder / "quick.py").write_text(WORKER + f"\nserving.LEAVE_SECONDS = {leaving}\n")
    port = free_port()
    process = subprocess.Popen(
        [
            *limited,
            *(sys.executable, "-m", "gunicorn", "-c", ROOT / "gunicorn.conf.py"),
            *("--worker-class", "quick.Quick", "--worker-connections", "60"),
            *("--chdir", folder, "slow_or_not"),
        ],
        env=os.environ
        | {
            "DAYPASS_BIND": f"127.0.0.1:{port}",
            "DAYPASS_WEB_PROCESSES": str(processes),
            "DAYPASS_WEB_THREADS": str(THREADS),
            "PYTHONPATH": f"{ROOT}:{folder}",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[int]:
    with serving(tmp_path_factory.mktemp("serving"), processes=1) as port:
        yield port


def connect(port: int, sent: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=10)
    made.sendall(sent)
    return made


def answer_of(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def ask(port: int, path: str = "/", *, body: bytes = b"", more: str = "") -> bytes:
    """A whole request on a connection of its own; the whole answer."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    with connect(port, head.encode() + body) as connection:
        return answer_of(connection)


def is_served(port: int) -> bool:
    began = time.monotonic()
    return ask(port).endswith(b"POST / 0\n") and time.monotonic() - began < 5


def is_closed(connection: socket.socket, *, within: float) -> bool:
    connection.settimeout(within)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost:",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this",
    ],
    ids=["nothing", "half a head", "half a body"],
)
def test_connections_that_dawdle_hold_no_thread_and_have_an_end(server, beginning):
    slow = [connect(server, beginning) for _ in range(25)]

    assert all(is_served(server) for _ in range(5))
    assert all(is_closed(connection, within=15) for connection in slow)
    for connection in slow:
        connection.close()


def test_a_byte_now_and_then_buys_no_time(server):
    began = time.monotonic()
    with connect(server, b"GET / HTTP/1.1\r\nX: ") as connection:
        connection.settimeout(0.1)
        while time.monotonic() - began < 25:
            try:
                connection.sendall(b"y")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("it is still open")

    assert time.monotonic() - began < 15


def test_readers_that_dawdle_hold_no_thread_and_have_an_end(server):
    slow = []
    for _ in range(20):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", server))
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        slow.append(connection)

    served = [is_served(server) for _ in range(5)]
    time.sleep(7)
    received = []
    for connection in slow:
        try:
            received.append(len(answer_of(connection)))
        except ConnectionError:
            received.append(0)
        connection.close()

    assert all(served)
    assert max(received) < 8_000_000


def test_who_reads_gets_the_whole_of_a_large_answer(server):
    answer = ask(server, "/large")

    assert len(answer.partition(b"\r\n\r\n")[2]) == 8_000_000


def test_who_does_not_hang_up_holds_up_nobody(server):
    """gunicorn waits two seconds, in its main loop, for each peer to close what it was told is closed."""
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    stubborn = [connect(server, request) for _ in range(20)]

    assert all(is_served(server) for _ in range(5))
    for connection in stubborn:
        connection.close()


def test_when_there_are_too_many_the_one_that_takes_longest_goes(server):
    slow = [connect(server) for _ in range(100)]

    assert all(is_served(server) for _ in range(5))
    assert is_closed(slow[0], within=1)
    for connection in slow:
        connection.close()


def test_a_connection_is_used_again_and_again(server):
    with connect(server) as connection:
        for n in range(5):
            connection.sendall(f"GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            received = b""
            while not received.endswith(b"0\n"):
                received += connection.recv(65536)
            assert received.endswith(f"GET /{n} 0\n".encode())


def test_a_body_that_nobody_wanted_ends_no_connection(server):
    head = "POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n"
    with connect(server) as connection:
        for _ in range(3):
            connection.sendall(head.encode() + b"x" * 400_000)
            received = b""
            while not received.endswith(b"ok"):
                more = connection.recv(65536)
                assert more
                received += more


def test_requests_may_follow_each_other_closely(server):
    """Two and a half in one packet."""
    one = "POST /{} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    with connect(server, (one.format(1) + one.format(2)).encode() + b"GET /3 HT") as connection:
        received = b""
        while received.count(b"POST /") < 2:
            received += connection.recv(65536)
        connection.sendall(b"TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received += answer_of(connection)

    assert [line for line in received.splitlines() if line.endswith((b" 3", b" 0"))] == [
        b"POST /1 3",
        b"POST /2 3",
        b"GET /3 0",
    ]


def test_a_request_may_arrive_in_small_pieces(server):
    request = b"\r\nPOST /pieces HTTP/1.1\r\nHost: x\r\nConnection: close\r\ncontent-length:  5\r\n\r\nhello"
    with connect(server) as connection:
        for n in range(0, len(request), 7):
            connection.sendall(request[n : n + 7])
            time.sleep(0.005)
        assert answer_of(connection).endswith(b"POST /pieces 5\n")


def test_who_waits_to_be_told_to_go_on_is_told(server):
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    with connect(server, head) as connection:
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        answer = answer_of(connection)

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"POST / 5\n")


def test_the_largest_message_that_is_read_arrives_whole(server):
    assert ask(server, body=b"x" * 500_000).endswith(b"POST / 500000\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"y" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n", b"400"),
    ],
    ids=["body", "chunked", "headers", "header", "line", "junk", "lengths", "space", "sign"],
)
def test_what_is_too_much_or_ambiguous_is_refused_at_once(server, request_, status):
    with connect(server, request_) as connection:
        answer = answer_of(connection)

    assert answer.startswith(b"HTTP/1.1 " + status), answer[:100]
    assert is_served(server)


def who(port: int) -> bytes:
    """The process that answers, where there is one."""
    return ask(port, "/who").rpartition(b"\r\n")[2]


def leave(connection: socket.socket) -> None:
    """Without a goodbye: what is sent to this peer from now on is an error."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
        b"GET /early HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["told to go on", "refused", "answered early", "answered", "a large answer"],
)
def test_who_leaves_before_the_answer_ends_nobody_elses(server, request_):
    """A process that ended for it would take the requests of everybody else with it."""
    before = who(server)

    for _ in range(100):
        leave(connect(server, request_))

    assert who(server) == before


@pytest.mark.parametrize("files", [64, 100])
def test_connections_leave_files_to_what_answers_them(tmp_path, files):
    """Many systems let a process open no more files than we let it have connections."""
    with serving(tmp_path, processes=1, files=files) as port:
        before = who(port)
        slow = [connect(port) for _ in range(150)]

        assert all(who(port) == before for _ in range(5))
        for connection in slow:
            connection.close()


def test_a_process_without_a_file_left_accepts_who_comes_in_a_moment(tmp_path):
    with serving(tmp_path, processes=1, files=130) as port:
        before = who(port)
        hungry = connect(port, b"GET /all-files HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        time.sleep(0.2)

        assert who(port) == before
        assert answer_of(hungry).endswith(b"GET /all-files 0\n")
        hungry.close()


def test_an_application_that_fails_harms_no_other_request(server):
    assert ask(server, "/fails").startswith(b"HTTP/1.1 500")
    assert is_served(server)


def test_no_process_ends_up_with_everybody(tmp_path):
    """Connections that stay open are spread over the processes, though the kernel would wake the same one each time."""
    with serving(tmp_path, processes=2, leaving=FOR_SURE) as port, ExitStack() as stack:

        def who(*, stay: bool) -> str:
            made = stack.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=10)))
            made.request("GET", "/who", headers={} if stay else {"Connection": "close"})
            return made.getresponse().read().decode()

        until = time.monotonic() + 20
        first = who(stay=True)
        while who(stay=False) == first and time.monotonic() < until:
            time.sleep(0.05)  # the other has not started yet
        held = Counter(who(stay=True) for _ in range(40))

    assert len(held) == 2
    assert min(held.values()) >= 17


def test_what_comes_on_new_connections_goes_where_nothing_is_being_answered(tmp_path):
    with serving(tmp_path, processes=2, leaving=FOR_SURE) as port, ExitStack() as stack:

        def who() -> str:
            with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as made:
                made.request("GET", "/who", headers={"Connection": "close"})
                return made.getresponse().read().decode()

        until = time.monotonic() + 20
        held = stack.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=10)))
        held.request("GET", "/who")
        first = held.getresponse().read().decode()
        while who() == first and time.monotonic() < until:
            time.sleep(0.05)  # the other has not started yet
        time.sleep(0.2)  # so that nothing but the held connection is left
        idle = stack.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=10)))
        idle.request("GET", "/who")
        second = idle.getresponse().read().decode()
        held.request("GET", "/until-told")
        time.sleep(0.5)  # until it is being answered
        answered = Counter(who() for _ in range(10))
        (tmp_path / "told").touch()
        held.getresponse().read()

    assert first != second
    assert answered == {second: 10}


def test_an_application_may_have_its_answer_be_the_last(server):
    with connect(server, b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        answer = answer_of(connection)

    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"ok")


def test_what_can_be_answered_at_once_needs_no_thread(server):
    slow = [connect(server, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(THREADS * 3)]

    said = ask(server, "/early", body=b"hello")

    assert said.startswith(b"HTTP/1.1 200 OK")
    assert said.endswith(b"|hello|127.0.0.1")
    assert b"POST /early HTTP/1.1\r\nHost: x\r\n" in said
    unanswered, _, _ = select.select(slow[THREADS:], [], [], 0)
    assert not unanswered
    for connection in slow:
        connection.close()


def test_a_large_answer_that_is_given_at_once_arrives_whole(server):
    assert len(ask(server, "/early-large").partition(b"\r\n\r\n")[2]) == 8_000_000
    assert is_served(server)


def test_where_an_early_answer_fails_the_usual_one_is_given(server):
    assert ask(server, "/early-fails").endswith(b"POST /early-fails 0\n")


def test_a_large_body_that_nobody_wanted_is_passed_over(server):
    with closing(HTTPConnection("127.0.0.1", server, timeout=10)) as connection:
        connection.request("POST", "/unread", body=b"x" * 300_000)
        first = connection.getresponse().read()
        connection.request("GET", "/next")
        second = connection.getresponse().read()

    assert (first, second) == (b"ok", b"GET /next 0\n")


def test_tls_is_not_ended_here():
    from types import SimpleNamespace

    from broker.serving import PatientWorker

    with pytest.raises(RuntimeError, match="proxy"):
        PatientWorker.check_config(SimpleNamespace(is_ssl=True), None)
