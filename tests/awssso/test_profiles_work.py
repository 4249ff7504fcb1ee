"""The generated file, as it is, in the hands of unmodified clients: keys by sign-in, by curl and by the environment."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from broker.awssso import profiles, services
from broker.awssso.models import Terminal
from broker.awssso.profiles import MERGE_SCRIPT, Place, ProfileRole
from tests import factories as make
from tests.awssso.conftest import let_in, signed_in_terminal

pytestmark = pytest.mark.usefixtures("signing_keys")


@pytest.fixture
def developer(ada):
    account = make.account(
        "Payments", account_id="123456789012", alias="payments", region="eu-west-1"
    )
    role = make.role("Developer", of=account)
    make.mapping(ada.memberships.get().group, role)
    return role


@pytest.fixture
def home(tmp_path, aws, settings):
    """A person's computer without anything of AWS on it; Daypass asks the same moto as its programs."""
    settings.DAYPASS_STS_ENDPOINT = aws.url
    (tmp_path / ".aws" / "sso" / "cache").mkdir(parents=True)
    return tmp_path


def signed_in(home, daypass, ada) -> None:
    """What aws sso login leaves on the computer: the token, kept by the name of the session."""
    _, tokens, registration, secret = signed_in_terminal(ada)
    name = Place(daypass.url).session
    until = datetime.now(UTC) + timedelta(minutes=50)
    (home / ".aws/sso/cache" / f"{hashlib.sha1(name.encode()).hexdigest()}.json").write_text(
        json.dumps(
            {
                "startUrl": Place(daypass.url).start_url,
                "region": profiles.SSO_REGION,
                "accessToken": tokens.access,
                "refreshToken": tokens.refresh,
                "expiresAt": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "clientId": registration.id,
                "clientSecret": secret,
                "registrationExpiresAt": registration.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )
    )


def script_token(ada) -> str:
    terminal = let_in(ada, kind=Terminal.Kind.SCRIPT, flow=Terminal.Flow.PORTAL)
    return services.give_script_token(terminal, seconds=3600, now=timezone.now())


PROGRAM = """
import socket, sys
import boto3
from botocore.exceptions import BotoCoreError, ClientError
real = socket.getaddrinfo
def only_here(host, *more, **named):
    if host not in ("127.0.0.1", "localhost"):
        print("asked for", host)
        raise OSError("no such host")
    return real(host, *more, **named)
socket.getaddrinfo = only_here
try:
    sts = boto3.client("sts", region_name="eu-west-1", endpoint_url=sys.argv[1])
    print(sts.get_caller_identity()["Arn"])
except (BotoCoreError, ClientError) as problem:
    print(type(problem).__name__, problem)
print("default:", getattr(boto3.Session(profile_name="default").get_credentials(), "access_key", None)
      if "default" in boto3.Session(profile_name=None).available_profiles else None)
"""
"""A program of somebody: it knows boto3 and nothing of Daypass."""


def who_am_i(aws, home, profile: str = "", **more: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if profile:
        environment["AWS_PROFILE"] = profile
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, aws.url],
        env=environment | more,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_file_beside_ones_own_gives_keys_to_whoever_signed_in(
    daypass, ada, developer, aws, home
):
    (home / ".aws/daypass.config").write_bytes(daypass.sign_in(ada).get("/terminal/config").content)
    signed_in(home, daypass, ada)

    said = who_am_i(
        aws, home, "payments.Developer", AWS_CONFIG_FILE=str(home / ".aws/daypass.config")
    )

    assert "arn:aws:sts::123456789012:assumed-role/Developer/" in said


def test_merged_into_ones_own_file_both_go_on_working(daypass, ada, developer, aws, home):
    own = (
        "[default]\nregion = eu-central-1\naws_access_key_id = AKIAOWN\naws_secret_access_key = x\n"
    )
    (home / ".aws/config").write_text(own)
    (home / "generated").write_bytes(daypass.sign_in(ada).get("/terminal/config").content)
    (home / "merge.sh").write_text(MERGE_SCRIPT)
    subprocess.run(
        ["sh", home / "merge.sh", home / "generated", "--write"],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        check=True,
        capture_output=True,
        timeout=30,
    )
    signed_in(home, daypass, ada)

    said = who_am_i(aws, home, "payments.Developer")

    assert "assumed-role/Developer/" in said
    assert "default: AKIAOWN" in said


def test_a_profile_without_its_line_services_brings_the_token_to_nobody(
    daypass, ada, developer, aws, home
):
    text = daypass.sign_in(ada).get("/terminal/config").content.decode()
    (home / ".aws/config").write_text(text.replace("services = ", "# services = "))
    signed_in(home, daypass, ada)

    said = who_am_i(aws, home, "payments.Developer")

    assert "Could not connect to the endpoint URL" in said
    assert {line.split()[-1] for line in said.splitlines() if line.startswith("asked for")} == {
        "portal.sso.daypass.amazonaws.com"
    }


def test_the_file_for_scripts_gives_keys_through_curl(daypass, ada, developer, aws, home):
    curlrc = home / "my files" / "curlrc"
    curlrc.parent.mkdir()
    curlrc.write_text(
        f'header = "Authorization: Bearer {script_token(ada)}"\nsilent\nshow-error\nfail\nmax-time = 20\n'
    )
    config = daypass.sign_in(ada).get("/terminal/config", {"curlrc": str(curlrc)})
    (home / ".aws/config").write_bytes(config.content)

    assert "assumed-role/Developer/" in who_am_i(aws, home, "payments.Developer")


def test_the_lines_for_containers_give_keys(daypass, ada, developer, aws, home):
    role = ProfileRole("123456789012", "Payments", "payments", "Developer", "eu-west-1")
    lines = next(g for g in profiles.guides(Place(daypass.url), "x", role) if g.id == "containers")
    words = shlex.split(lines.text.replace("THE-TOKEN", script_token(ada)))
    variables = dict(word.split("=", 1) for word in words if word != "export")

    assert "assumed-role/Developer/" in who_am_i(aws, home, **variables)


def test_a_borrowed_file_gives_nobody_the_roles_of_its_owner(daypass, ada, developer, aws, home):
    grace = make.person("grace", groups=[make.group("others")])
    (home / ".aws/config").write_bytes(daypass.sign_in(ada).get("/terminal/config").content)
    signed_in(home, daypass, grace)

    said = who_am_i(aws, home, "payments.Developer")

    assert "ClientError" in said or "ForbiddenException" in said or "ResourceNotFound" in said
    assert "assumed-role" not in said
