"""Setting the stage: what the demo refuses, makes once, and keeps."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys

import pytest

from broker.demo.stage import (
    CannotStart,
    load_stage,
    port_is_free,
    refuse_beside_production,
    set_stage,
)
from tests.servers import ROOT, free_port


@pytest.mark.parametrize(
    "name",
    [
        "DAYPASS_ORIGIN",
        "DAYPASS_SECRET_KEY",
        "DAYPASS_SEALING_KEYS_FILE",
        "DAYPASS_MODE",
        "DATABASE_URL",
        "REDIS_URL_FILE",
    ],
)
def test_the_demo_does_not_start_beside_settings_of_a_real_installation(name):
    with pytest.raises(CannotStart, match=f"real installation .*{name}.*fresh shell"):
        refuse_beside_production({"PATH": "/bin", name: "something"})


def test_a_shell_without_them_is_fine():
    refuse_beside_production(
        {"PATH": "/bin", "DAYPASS_PORT": "8010", "AWS_PROFILE": "work", "DATABASE_URL": ""}
    )


def test_the_refusal_is_one_sentence_on_the_terminal_and_nothing_was_made(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "broker.demo", "--data-dir", str(tmp_path / "stage")],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": "postgresql://db.example.com/daypass"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 1
    assert "DATABASE_URL" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "stage").exists()


def test_secrets_are_made_once_readable_by_their_owner_only(tmp_path):
    first = set_stage(tmp_path / "stage", port=free_port())
    second = set_stage(tmp_path / "stage", port=first.port)

    assert second == first == load_stage(tmp_path / "stage", port=first.port)
    assert all(len(secret) >= 32 for secret in first.secrets.values())
    for name in ("env", "idp/key.pem"):
        assert stat.S_IMODE((tmp_path / "stage" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "stage").stat().st_mode) == 0o700


def test_nothing_of_the_shell_reaches_the_demo_but_what_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREALREALREALREAL")
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com")

    environment = set_stage(tmp_path / "stage", port=free_port()).environment()

    assert not {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "HTTPS_PROXY"} & set(environment)
    assert environment["AWS_CONFIG_FILE"] == os.devnull
    assert environment["DAYPASS_MODE"] == "demo"


def test_a_taken_port_is_told_with_the_remedy(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(CannotStart, match=f"Port {port} is taken.*make run DAYPASS_PORT="):
            set_stage(tmp_path / "stage", port=port)


def test_a_port_is_taken_when_somebody_listens_on_the_other_localhost():
    if not socket.has_ipv6:
        pytest.fail("this machine has no IPv6 loopback")
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        other.listen()

        assert not port_is_free(other.getsockname()[1])


def test_a_helper_whose_port_is_taken_moves_but_an_identity_provider_does_not(tmp_path):
    stage = set_stage(tmp_path / "stage", port=free_port())
    with socket.socket() as other:
        other.bind(("127.0.0.1", stage.aws_port))
        other.listen()
        moved = set_stage(tmp_path / "stage", port=stage.port)
    with socket.socket() as other:
        other.bind(("127.0.0.1", stage.idp_port))
        other.listen()
        with pytest.raises(CannotStart, match=f"Port {stage.idp_port} .*make clean"):
            set_stage(tmp_path / "stage", port=stage.port)

    assert moved.aws_port != stage.aws_port
    assert moved.idp_port == stage.idp_port


def test_another_public_port_keeps_everything_else(tmp_path):
    stage = set_stage(tmp_path / "stage", port=free_port())

    moved = set_stage(tmp_path / "stage", port=free_port())

    assert moved.origin != stage.origin
    assert (moved.idp, moved.secrets) == (stage.idp, stage.secrets)
