"""aws-sso-util, which signs in by device code with code of its own: no botocore, no CLI."""

from __future__ import annotations

import pytest

from tests.clients import parts
from tests.clients.homes import Home
from tests.clients.notes import Notes

STAGING = "210000000102"
NAME = "aws-sso-util 4.33"
START = "https://identitycenter.amazonaws.com/ssoins-daypass"
DEVICE = r"(http://localhost:\d+/device\S*)"
CODE = r"(?m)\b([A-Z0-9]{4}-[A-Z0-9]{4})\b"


@pytest.fixture
def ask(home: Home):
    """Start it, told by the environment where Daypass is, as it reads that nowhere else."""
    portal = f"{home.demo.stage.origin}/aws"
    addresses = {"AWS_ENDPOINT_URL_SSO": portal, "AWS_ENDPOINT_URL_SSO_OIDC": portal}

    def start(*words: str, **more: str):
        return home.start([parts.tools() / "aws-sso-util", *words], **addresses, **more)

    return start


def sign_in(ask, maya) -> str:
    running = ask("login", START, "daypass", "--headless")
    shown = maya.type_code(running.wait_for(DEVICE), running.wait_for(CODE))
    ran = running.finish()
    assert ran.code == 0, ran
    return shown


def test_signs_in_by_code_lists_and_runs_commands(ask, home, maya, notes: Notes):
    shown = sign_in(ask, maya)
    assert "127.0.0.1" in shown and "unverified" in shown
    notes.passed(NAME, "signs in", "device code")

    which = ("--sso-start-url", START, "--sso-region", "daypass")
    listed = ask("roles", *which).finish()
    assert listed.code == 0 and STAGING in listed.said and "Developer" in listed.said, listed
    notes.passed(NAME, "lists")

    ran = ask(
        "run-as",
        *which,
        "--account-id",
        STAGING,
        "--role-name",
        "Developer",
        "--region",
        "eu-west-1",
        "--",
        "env",
    ).finish()
    assert ran.code == 0 and "AWS_SESSION_TOKEN=" in ran.said, ran
    notes.passed(NAME, "credentials")
