"""Writers of one SQLite file take turns: none waits long, none is lost, and a dead one holds up nobody."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from broker.sqlite.turns import Turns

ROOT = Path(__file__).resolve().parent.parent

SETUP = """
import json, os, sys, threading, time
sys.path.insert(0, {root!r})
from django.conf import settings
settings.configure(DATABASES={{"default": {{
    "ENGINE": "broker.sqlite", "NAME": {name!r},
    "OPTIONS": {{"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL"}},
}}}})
import django
django.setup()
from django.db import connection, connections, transaction
"""


def program(name: Path, body: str) -> list[str]:
    return [
        sys.executable,
        "-c",
        SETUP.format(root=str(ROOT), name=str(name)) + textwrap.dedent(body),
    ]


COUNT = """
waits = []
def write():
    for _ in range(40):
        began = time.monotonic()
        with transaction.atomic():
            waits.append(time.monotonic() - began)
            with connection.cursor() as cursor:
                cursor.execute("SELECT n FROM counter")
                n = cursor.fetchone()[0]
                time.sleep(0.002)
                cursor.execute("UPDATE counter SET n = %s", [n + 1])
    connections.close_all()
threads = [threading.Thread(target=write) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(max(waits)))
"""


def make_counter(name: Path) -> None:
    body = """
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE counter (n integer)")
        cursor.execute("INSERT INTO counter VALUES (0)")
    """
    subprocess.run(program(name, body), check=True)


def count(name: Path) -> int:
    body = """
    with connection.cursor() as cursor:
        cursor.execute("SELECT n FROM counter")
        print(cursor.fetchone()[0])
    """
    said = subprocess.run(program(name, body), check=True, capture_output=True, text=True)
    return int(said.stdout)


def test_eight_writers_in_two_processes_lose_nothing_and_none_starves(tmp_path):
    name = tmp_path / "daypass.sqlite3"
    make_counter(name)

    writers = [
        subprocess.Popen(program(name, COUNT), stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    waits = [float(writer.communicate(timeout=60)[0]) for writer in writers]

    assert count(name) == 2 * 4 * 40
    assert max(waits) < 2.5


def test_a_writer_that_is_killed_gives_its_turn_back(tmp_path):
    name = tmp_path / "daypass.sqlite3"
    make_counter(name)
    body = """
    with transaction.atomic():
        print("holding", flush=True)
        time.sleep(60)
    """
    holder = subprocess.Popen(program(name, body), stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "holding\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()

    began = time.monotonic()
    subprocess.run(program(name, COUNT), check=True, stdout=subprocess.DEVNULL)

    assert count(name) == 160
    assert time.monotonic() - began < 20


def test_a_failed_transaction_gives_its_turn_back(tmp_path):
    name = tmp_path / "daypass.sqlite3"
    make_counter(name)
    body = """
    from broker.sqlite import turns
    turns.PATIENCE = 20
    for _ in range(3):
        try:
            with transaction.atomic():
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
    def write():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("UPDATE counter SET n = n + 1")
        connections.close_all()
    thread = threading.Thread(target=write)
    began = time.monotonic()
    thread.start()
    thread.join()
    assert time.monotonic() - began < 15
    """
    subprocess.run(program(name, body), check=True)

    assert count(name) == 1


WRITE_ALONE = """
from broker.sqlite import turns
turns.PATIENCE = 60
print("asks", flush=True)
with connection.cursor() as cursor:
    cursor.execute({statement!r})
print("has it", flush=True)
"""


@pytest.mark.parametrize(
    ("statement", "waits"),
    [
        ("INSERT INTO counter VALUES (1)", True),
        ("UPDATE counter SET n = n + 1", True),
        ("DELETE FROM counter", True),
        ("SELECT n FROM counter", False),
    ],
)
def test_a_statement_that_is_a_transaction_by_itself_takes_a_turn_where_it_writes(
    tmp_path, statement, waits
):
    name = tmp_path / "daypass.sqlite3"
    make_counter(name)
    held = Turns(f"{name}-turn")
    assert held.take()

    body = WRITE_ALONE.format(statement=statement)
    asking = subprocess.Popen(program(name, body), stdout=subprocess.PIPE)
    assert asking.stdout.readline() == b"asks\n"
    answered, _, _ = select.select([asking.stdout], [], [], 0.5 if waits else 30)
    held.end()

    assert bool(answered) is not waits
    assert asking.stdout.readline() == b"has it\n"
    asking.communicate()


def test_who_comes_back_at_once_does_not_overtake_another_process(tmp_path):
    name = tmp_path / "daypass.sqlite3"
    make_counter(name)
    held = Turns(f"{name}-turn")
    assert held.take()
    asking = subprocess.Popen(
        program(name, WRITE_ALONE.format(statement="DELETE FROM counter")), stdout=subprocess.PIPE
    )
    assert asking.stdout.readline() == b"asks\n"
    time.sleep(0.5)

    held.end()
    again = held.take()  # comes after whoever has the place of the next one
    answered, _, _ = select.select([asking.stdout], [], [], 10)
    held.end()
    asking.communicate()

    assert again
    assert answered


def test_a_turn_may_be_ended_by_another_thread(tmp_path):
    turns = Turns(str(tmp_path / "turn"))
    assert turns.take()

    threading.Thread(target=turns.end).start()

    assert turns.take()
    turns.end()


def test_nobody_waits_for_a_turn_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("broker.sqlite.turns.PATIENCE", 0.2)
    here, there = Turns(str(tmp_path / "turn")), Turns(str(tmp_path / "turn"))
    assert here.take()

    assert not here.take()

    here.end()
    assert there.take()
    there.end()


def test_a_process_that_keeps_its_turn_stops_no_other(tmp_path):
    name = tmp_path / "daypass.sqlite3"
    make_counter(name)
    held = Turns(f"{name}-turn")
    assert held.take()

    body = WRITE_ALONE.format(statement="UPDATE counter SET n = 7").replace("= 60", "= 0.2")
    asking = subprocess.Popen(program(name, body), stdout=subprocess.PIPE)
    assert asking.stdout.readline() == b"asks\n"
    answered, _, _ = select.select([asking.stdout], [], [], 30)
    held.end()
    asking.communicate()

    assert answered
    assert count(name) == 7


def test_the_file_beside_the_database_is_the_owners_alone(tmp_path):
    name = tmp_path / "daypass.sqlite3"
    make_counter(name)
    subprocess.run(program(name, COUNT), check=True, stdout=subprocess.DEVNULL)

    assert (tmp_path / "daypass.sqlite3-turn").stat().st_mode & 0o777 == 0o600
