"""Half a configuration does not start: every system check, by id."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

GOOD = {
    "DAYPASS_ORIGIN": "https://daypass.example.com",
    "DAYPASS_SECRET_KEY": "correct horse battery staple, as they say, and fifty letters",
    "DAYPASS_SEALING_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
}


def check(tmp_path: Path, **changes: str | None) -> subprocess.CompletedProcess[str]:
    """`manage.py check --deploy` as an operator would run it, with nothing but these variables."""
    environment = {"PATH": os.environ["PATH"], "DAYPASS_DATA_DIR": str(tmp_path), **GOOD}
    for name, value in changes.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_whole_configuration_passes_without_a_warning(tmp_path):
    done = check(tmp_path)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("changes", "identifier"),
    [
        ({"DAYPASS_MODE": "debug"}, "daypass.E001"),
        ({"DAYPASS_ORIGIN": None}, "daypass.E002"),
        ({"DAYPASS_ORIGIN": "https://daypass.example.com/path"}, "daypass.E002"),
        ({"DAYPASS_MODE": "demo"}, "daypass.E003"),
        ({"DAYPASS_ORIGIN": "http://daypass.example.com"}, "daypass.E004"),
        ({"DAYPASS_SECRET_KEY": None}, "daypass.E010"),
        ({"DAYPASS_SECRET_KEY": "short"}, "daypass.E010"),
        ({"DAYPASS_SEALING_KEYS": None}, "daypass.E011"),
        ({"DAYPASS_SEALING_KEYS": "c2hvcnQ="}, "daypass.E012"),
        ({"REDIS_URL": None}, "daypass.E013"),
        ({"DAYPASS_STS_ENDPOINT": "http://sts.example.com"}, "daypass.E020"),
        ({"DAYPASS_SIGNIN_ENDPOINT": "http://signin.example.com"}, "daypass.E020"),
        ({"DAYPASS_ISSUER": "https://daypass.example.com:8443"}, "daypass.E021"),
        ({"DAYPASS_ISSUER": "http://issuer.example.com"}, "daypass.E021"),
    ],
)
def test_half_a_configuration_is_refused_with_an_id_and_a_hint(tmp_path, changes, identifier):
    done = check(tmp_path, **changes)

    assert done.returncode != 0
    assert identifier in done.stderr
    assert "HINT" in done.stderr


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"DAYPASS_SESSION_IDLE": "soon"}, "DAYPASS_SESSION_IDLE"),
        ({"DAYPASS_SESSION_IDLE": "-5"}, "DAYPASS_SESSION_IDLE"),
        ({"DAYPASS_SECRET_KEY_FILE": "/nowhere"}, "DAYPASS_SECRET_KEY"),
    ],
)
def test_a_value_that_cannot_be_understood_names_its_variable(tmp_path, changes, named):
    done = check(tmp_path, **changes)

    assert done.returncode != 0
    assert named in done.stderr


def test_a_secret_can_come_from_a_file(tmp_path):
    (tmp_path / "key").write_text("from a file, and quite long enough for production use\n")

    done = check(tmp_path, DAYPASS_SECRET_KEY=None, DAYPASS_SECRET_KEY_FILE=str(tmp_path / "key"))

    assert done.returncode == 0, done.stderr
