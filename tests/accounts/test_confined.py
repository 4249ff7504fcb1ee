"""The room where XML is read: what its processes cannot do, and what happens when one is lost, slow or missing."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from accounts import room, saml
from accounts.confined import wire
from accounts.confined.values import Us
from accounts.models import Person
from broker.errors import BadInput, SignInRefused
from tests.accounts import web
from tests.accounts.idp_saml import Request

ROOT = Path(__file__).resolve().parents[2]
SP = saml.ServiceProvider(slug="acme", origin="https://daypass.test")


def hostile(*more: str) -> list[str]:
    script = str(Path(__file__).with_name("hostile_room.py"))
    return [sys.executable, "-s", "-P", script, str(os.getpid()), *more]


@pytest.fixture(scope="module")
def rooms():
    """Make rooms; they are closed at the end."""
    made = []

    def make(size=1, *, arguments=None) -> room.Room:
        made.append(room.Room(size, arguments=arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def taken_over(rooms):
    """A room whose one process does what it is told, within its walls."""
    one = rooms(arguments=hostile())
    one.ask("nothing", {}, provider="a")
    return one


@pytest.fixture(scope="module")
def limited(rooms):
    """The same without the list of system calls: what stands on every platform."""
    one = rooms(arguments=hostile("limits only"))
    one.ask("nothing", {}, provider="a")
    assert "system calls" not in one.walls
    return one


def test_a_missing_wall_is_told_to_whoever_reads_the_log(rooms, caplog):
    if sys.platform != "linux":
        pytest.skip("Linux")

    rooms(arguments=hostile("limits only")).ask("nothing", {}, provider="a")

    assert "XML is read without a list of system calls" in caplog.text


def code_of(call) -> str:
    with pytest.raises(SignInRefused) as refusal:
        call()
    return refusal.value.code


def _until(true) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it never became true")


def message(idp, name_id="u-1", **more) -> dict:
    request = Request("_r", SP.entity_id, SP.acs, None, False, b"", "")
    signed = idp.sign(idp.build(request, name_id=name_id, **more))
    provider = saml.Provider(idp.entity_id, idp.sso_url, idp.slo_url, (idp.certificate,))
    return {
        "message": base64.b64encode(signed).decode(),
        "us": wire.write_us(Us(SP.entity_id, SP.acs, SP.sls)),
        "provider": wire.write_provider(provider),
        "expected_request": "_r",
        "now": datetime.now(UTC).isoformat(),
    }


# --- What a process has and can do


def test_a_process_knows_neither_django_nor_anything_secret():
    process = room._Process(room.command())
    try:
        ready = process.hear(time.monotonic() + 20)["ready"]
        try:
            environ = Path(f"/proc/{process.popen.pid}/environ").read_text()
        except OSError:  # not ours to read any more, as it should be
            environ = ""
    finally:
        process.end()

    loaded = {name.partition(".")[0] for name in ready["modules"]}
    assert loaded & {"django", "celery", "requests", "redis", "boto3", "psycopg"} == set()
    assert "accounts.saml" not in ready["modules"]
    assert {name for name in ready["names"] if "PYTHON" not in name} <= {
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
    }
    for secret in ("SECRET", "SEALING", "REDIS", "DATABASE", os.environ["DAYPASS_SECRET_KEY"]):
        assert secret not in environ


@pytest.mark.parametrize("attempt", ["open", "list", "write", "socket", "pipe", "spawn"])
def test_a_process_can_open_neither_a_file_nor_a_connection(taken_over, limited, attempt):
    assert taken_over.ask(attempt, {}, provider="a") in ("OSError", "PermissionError")
    assert limited.ask(attempt, {}, provider="a") == "OSError"


def test_a_process_cannot_take_memory_without_end(taken_over, limited):
    if "memory" not in limited.walls:
        pytest.skip("this platform has no limit of memory")

    assert taken_over.ask("memory", {}, provider="a") == "MemoryError"
    assert limited.ask("memory", {}, provider="a") == "MemoryError"


@pytest.mark.parametrize(
    ("attempt", "told"),
    [
        ("fork", "PermissionError"),
        ("thread", "RuntimeError"),
        ("execute", "PermissionError"),
        ("remove", "PermissionError"),
        ("signal", "PermissionError"),
        ("read-parent", "PermissionError"),
        ("more-descriptors", "ValueError"),
        ("more-memory", "ValueError"),
        ("limit-of-parent", "PermissionError"),
        ("executable-memory", "PermissionError"),
    ],
)
def test_the_kernel_refuses_whatever_is_not_needed_to_compute(taken_over, attempt, told):
    if "system calls" not in taken_over.walls:
        pytest.skip("the list of system calls is for Linux on x86-64 and arm64")

    assert taken_over.ask(attempt, {}, provider="a") in (told, "OSError")


def test_every_wall_stands_on_linux(taken_over):
    if sys.platform != "linux":
        pytest.skip("Linux")

    assert set(taken_over.walls) >= {
        "no new privileges",
        "not dumpable",
        "ends with its parent",
        "core",
        "file size",
        "memory",
        "processes",
        "descriptors",
        "processor time",
    }


def test_the_kernel_ends_a_process_that_computes_for_too_long(rooms):
    one = rooms(arguments=hostile())
    one.ask("nothing", {}, provider="a")
    began = time.monotonic()

    assert code_of(lambda: one.ask("loop", {}, provider="a", seconds=60)) == "xml_room_ended"
    assert time.monotonic() - began < 55  # not the clock on the wall, which would have waited


# --- When one is lost


@pytest.mark.parametrize("attempt", ["loop", "crash"])
def test_a_message_that_takes_a_process_with_it_is_refused_and_the_next_is_read(rooms, attempt):
    one = rooms(arguments=hostile())
    assert one.ask("nothing", {}, provider="a") == "'here'"
    before = one.processes()

    refusal = code_of(lambda: one.ask(attempt, {}, provider="a", seconds=1))

    assert refusal == "xml_room_ended"
    assert one.ask("nothing", {}, provider="a") == "'here'"
    assert one.processes() != before


def test_a_process_that_is_killed_at_work_is_replaced(rooms, idp):
    one = rooms(arguments=hostile())
    one.ask("nothing", {}, provider="a")
    (pid,) = one.processes()
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()

    assert code_of(lambda: one.ask("loop", {}, provider="a", seconds=30)) == "xml_room_ended"
    assert one.ask("response", message(idp), provider="a")["subject"] == "u-1"


def test_an_error_is_a_refusal_that_tells_nothing_of_the_message_and_the_last_one(rooms, caplog):
    one = rooms(arguments=hostile())
    one.ask("nothing", {}, provider="a")
    before = one.processes()

    with pytest.raises(SignInRefused) as refusal:
        one.ask("error", {"secret": "s3cret-of-a-person"}, provider="a")

    assert refusal.value.cause == "The message could not be checked (KeyError)."
    assert "s3cret" not in caplog.text
    one.ask("nothing", {}, provider="a")
    assert one.processes() != before


def test_a_process_serves_only_for_so_long(rooms, monkeypatch):
    monkeypatch.setattr(room, "RECYCLED_AFTER", 3)
    one = rooms(arguments=hostile())
    seen = set()
    for _ in range(6):
        one.ask("nothing", {}, provider="a")
        seen.update(one.processes())

    assert len(seen) >= 2


def test_a_process_that_cannot_tell_good_from_bad_serves_nobody(rooms, caplog):
    one = rooms(arguments=hostile("believes everything"))

    assert code_of(lambda: one.ask("nothing", {}, provider="a")) == "xml_room_unavailable"
    assert "SignInRefused" in str([record.__dict__ for record in caplog.records])


# --- When there is none


def test_without_a_process_nobody_signs_in_and_nothing_is_read_elsewhere(
    saml_row, idp, refusals, monkeypatch, rooms
):
    browser = web.browser()
    answer = idp.answer(web.start(browser, "acme"))
    monkeypatch.setattr(room, "_room", rooms(arguments=["/nowhere/python"]))

    page = web.post_answer(browser, "acme", answer)

    assert page.status_code in (403, 503)
    assert not web.is_signed_in(browser)
    assert not Person.objects.exists()
    assert refusals()[-1][0] == "xml_room_unavailable"


def test_a_command_that_ends_at_once_is_no_process(rooms):
    one = rooms(arguments=[sys.executable, "-c", "pass"])

    assert code_of(lambda: one.ask("nothing", {}, provider="a")) == "xml_room_unavailable"


def test_without_a_process_no_metadata_is_read(idp, monkeypatch, rooms):
    monkeypatch.setattr(room, "_room", rooms(arguments=["/nowhere/python"]))

    with pytest.raises(BadInput, match="no process to read XML in"):
        saml.read_metadata(idp.metadata, now=datetime.now(UTC))


# --- Shared


def test_sixteen_threads_get_each_its_own_answer(rooms, idp):
    one = rooms(2)
    one.warm()
    people = [f"person-{number}" for number in range(32)]
    messages = {person: message(idp, person) for person in people}

    def ask(person: str) -> str:
        provider = f"provider-{int(person[7:]) % 6}"
        return one.ask("response", messages[person], provider=provider, seconds=30)["subject"]

    def patiently(person: str) -> str:
        for _ in range(200):
            try:
                return ask(person)
            except SignInRefused as refusal:
                assert refusal.code == "busy"
                time.sleep(0.05)
        return "never"

    with ThreadPoolExecutor(16) as threads:
        subjects = list(threads.map(patiently, people))

    assert subjects == people
    assert len(one.processes()) <= 2


def test_one_provider_never_takes_every_process(rooms):
    one = rooms(2, arguments=hostile())
    one.warm()
    _until(lambda: len(one.processes()) == 2)
    held = threading.Thread(
        target=lambda: code_of(lambda: one.ask("loop", {}, provider="a", seconds=60))
    )
    held.start()
    _until(lambda: one._working)

    assert code_of(lambda: one.ask("nothing", {}, provider="a")) == "busy"
    assert one.ask("nothing", {}, provider="b") == "'here'"
    one.close()
    held.join()


def test_who_would_wait_behind_many_for_a_slow_message_is_sent_away_at_once(rooms, monkeypatch):
    monkeypatch.setattr(room, "BUSY_SECONDS", 60)  # so that nobody is sent away for waiting long
    one = rooms(arguments=hostile())
    one.ask("nothing", {}, provider="a")

    def ask(job: str) -> str:
        try:
            return one.ask(job, {}, provider="a", seconds=4)
        except SignInRefused as refusal:
            return refusal.code

    with ThreadPoolExecutor(12) as threads:
        slow = threads.submit(ask, "loop")
        time.sleep(2 * room.SLOW_SECONDS)
        others = [threads.submit(ask, "nothing") for _ in range(11)]
        answers = [other.result() for other in others]

    assert slow.result() == "xml_room_ended"
    assert answers.count("'here'") == room.MOST_WAITING
    assert answers.count("busy") == 11 - room.MOST_WAITING


# --- Parents and forks


def _run(script: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "broker.settings"},
    )


def _gone(pid: int) -> bool:
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_processes_end_with_the_one_that_started_them():
    parent = _run(
        """
        import sys, time
        from accounts import room
        one = room.Room(2)
        one.warm()
        while len(one.processes()) < 2:
            time.sleep(0.05)
        print(*one.processes(), flush=True)
        time.sleep(600)
        """
    )
    pids = [int(part) for part in parent.stdout.readline().split()]

    parent.kill()
    parent.communicate()

    assert len(pids) == 2
    assert all(_gone(pid) for pid in pids)


def test_a_fork_has_a_room_of_its_own():
    forked = _run(
        """
        import os, django
        django.setup()
        from accounts import room, saml
        from datetime import datetime, UTC
        def ask():
            try:
                saml.read_metadata("<a/>", now=datetime.now(UTC))
            except saml.BadInput as problem:
                return str(problem), room.room().processes()[0]
        before = ask()
        child = os.fork()
        if child == 0:
            mine = ask()
            os._exit(0 if mine[0] == before[0] and mine[1] != before[1] else 1)
        status = os.waitpid(child, 0)[1]
        print(status, ask() == before)
        """
    )

    assert forked.communicate(timeout=60)[0].split() == ["0", "True"]
