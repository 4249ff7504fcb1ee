"""`make run`: one process tree that starts, mends itself, stops cleanly, and keeps what it knew."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import redis
import requests

from broker.demo.cast import CAST, PASSWORD
from broker.demo.stage import port_is_free
from tests.servers import ROOT, Demo, start_demo

PROGRAMS = {
    "valkey": "valkey-server",
    "aws": "broker.demo.aws",
    "idps": "broker.demo.idp",
    "web": "gunicorn",
    "worker": "worker",
    "beat": "beat",
}


@pytest.fixture
def own_demo(tmp_path):
    started = start_demo(tmp_path / "stage")
    yield started
    started.stop()


def program(demo: Demo, name: str) -> psutil.Process | None:
    """The process that the supervisor started for this program, None while there is none."""
    for child in psutil.Process(demo.process.pid).children():
        with contextlib.suppress(psutil.Error):
            if PROGRAMS[name] in child.cmdline() or child.name() == PROGRAMS[name]:
                return child
    return None


def until(condition, seconds: float, what: str):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} seconds: {what}")


def ready(demo: Demo) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"http://127.0.0.1:{demo.stage.port}/health/ready", timeout=5).ok
    return False


def test_it_greets_with_one_address_and_the_cast(demo):
    assert f"http://localhost:{demo.stage.port}/" in demo.greeting
    assert PASSWORD in demo.greeting
    assert all(person.name in demo.greeting for person in CAST)
    for secret in demo.stage.secrets.values():
        assert secret not in demo.greeting


def test_it_lets_the_header_of_aws_clients_through(demo):
    url = f"http://localhost:{demo.stage.port}/aws/header-test"

    with_it = requests.get(url, headers={"x-amz-sso_bearer_token": "something"}, timeout=30).json()
    without = requests.get(url, timeout=30).json()

    assert with_it["arrived"] != without["arrived"]


def test_everything_runs_as_a_process_of_its_own_and_answers_on_loopback_only(demo):
    assert all(program(demo, name) for name in PROGRAMS)

    listening = {
        connection.laddr.ip
        for process in psutil.Process(demo.process.pid).children(recursive=True)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_what_dies_is_started_again_and_what_stops_leaves_nobody_and_keeps_its_data(own_demo):
    with redis.Redis.from_url(own_demo.stage.redis_url) as memory:
        memory.set("kept", "across a crash and a restart")
        memory.execute_command("WAITAOF", 1, 0, 2000)
    before = {name: program(own_demo, name).pid for name in PROGRAMS}
    for pid in before.values():
        psutil.Process(pid).send_signal(signal.SIGKILL)

    for name, pid in before.items():
        until(
            lambda name=name, pid=pid: (found := program(own_demo, name)) and found.pid != pid,
            20,
            f"{name} was started again",
        )
    until(lambda: ready(own_demo), 60, "the web process is ready again")
    with redis.Redis.from_url(own_demo.stage.redis_url, decode_responses=True) as memory:
        until(lambda: memory.get("kept"), 10, "Valkey has its data again")

    family = psutil.Process(own_demo.process.pid).children(recursive=True)
    own_demo.stop()
    assert own_demo.process.returncode == 0
    until(lambda: not any(p.is_running() for p in family), 30, "all processes ended")
    stage = own_demo.stage
    for port in (stage.port, stage.idp_port, stage.aws_port, stage.signin_port, stage.valkey_port):
        assert port_is_free(port)

    again = start_demo(own_demo.folder, port=stage.port)
    try:
        assert again.stage == stage
        with redis.Redis.from_url(stage.redis_url, decode_responses=True) as memory:
            assert memory.get("kept") == "across a crash and a restart"

        # Not even a supervisor that was killed leaves anybody behind.
        family = psutil.Process(again.process.pid).children(recursive=True)
        again.process.kill()
        again.process.wait(timeout=10)
        until(lambda: not any(p.is_running() for p in family), 30, "all processes ended")
    finally:
        again.stop()


def test_a_second_demo_in_the_same_folder_is_turned_away(demo):
    done = subprocess.run(
        [sys.executable, "-m", "broker.demo", "--data-dir", str(demo.folder), "--port", "1"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 1
    assert "already running" in done.stderr and "Traceback" not in done.stderr
    assert ready(demo)


def test_the_demo_s_logs_hold_no_secret(demo):
    logs = "".join(path.read_text(errors="replace") for path in demo.stage.logs.glob("*.log*"))

    assert len(logs) > 1000
    for secret in demo.stage.secrets.values():
        assert secret not in logs
