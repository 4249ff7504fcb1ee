"""Which issuers look as if AWS could read them, and what trust is offered first where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker.reach import looks_public

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "url",
    [
        "https://daypass.example.com",
        "https://d111111abcdef8.cloudfront.net/issuer",
        "https://my-issuer.s3.eu-west-1.amazonaws.com/daypass",
        "https://8.8.8.8",
        "https://internal.example.com",
    ],
)
def test_a_public_looking_address(url):
    assert looks_public(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://daypass.example.com",
        "https://daypass",
        "https://localhost:8443",
        "https://daypass.corp",
        "https://daypass.prod.internal",
        "https://daypass.home.arpa.",
        "https://10.1.2.3",
        "https://192.168.0.1/issuer",
        "https://[fd00::1]",
        "https://127.0.0.1",
        "https://[",
        "",
    ],
)
def test_an_address_that_only_the_company_reaches(url):
    assert not looks_public(url)


@pytest.mark.parametrize(
    ("changed", "trust"),
    [
        ({}, "web_identity"),
        ({"DAYPASS_ORIGIN": "https://daypass.corp.internal"}, "saml"),
        (
            {
                "DAYPASS_ORIGIN": "https://daypass.corp.internal",
                "DAYPASS_ISSUER": "https://issuer.example.com",
            },
            "web_identity",
        ),
        ({"DAYPASS_NOTHING_PUBLIC": "true"}, "saml"),
        (
            {"DAYPASS_ORIGIN": "https://daypass.internal", "DAYPASS_NOTHING_PUBLIC": "false"},
            "web_identity",
        ),
    ],
)
def test_new_roles_get_the_trust_that_works_without_being_reached(changed, trust):
    program = (
        "import django; django.setup()\n"
        "from broker.entitlements.admin import RoleFields\n"
        "print(RoleFields()['trust'].value())\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "broker.settings", **changed},
        capture_output=True,
        text=True,
    )

    assert done.stdout.strip() == trust, done.stderr
