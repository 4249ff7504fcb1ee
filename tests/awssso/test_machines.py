"""Keys by one request with a script token, as credential_process and container providers fetch them."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from urllib.parse import urlencode

import boto3
import pytest
from botocore.credentials import ContainerProvider
from django.utils import timezone

from accounts.models import Person
from broker.audit.models import AuditEvent
from broker.awssso import services
from broker.awssso.models import Terminal
from broker.sessions.models import Session
from tests import factories as make
from tests.aws.servers import SECRET, TOKEN, sts_error
from tests.awssso.conftest import let_in, signed_in_terminal

pytestmark = pytest.mark.usefixtures("signing_keys")

MOTO = "123456789012"
DOORS = ["/api/process", "/api/container"]


@pytest.fixture
def group(ada):
    return ada.memberships.get().group


@pytest.fixture
def developer(group):
    role = make.role("Developer", of=make.account("Payments", account_id=MOTO, region="eu-west-1"))
    make.mapping(group, role)
    return role


def script_token(person, **more) -> str:
    terminal = let_in(
        person, kind=Terminal.Kind.SCRIPT, flow=Terminal.Flow.PORTAL, label="nightly build", **more
    )
    return services.give_script_token(terminal, seconds=3600, now=timezone.now())


@pytest.fixture
def token(ada):
    return script_token(ada)


def fetch(daypass, path, authorization, *, method="GET", **parameters):
    """(status, headers, JSON) of one request."""
    connection = http.client.HTTPConnection(daypass.url.removeprefix("http://"), timeout=30)
    headers = {} if authorization is None else {"Authorization": authorization}
    connection.request(method, f"{path}?{urlencode(parameters)}", headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    found = {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    assert found["content-type"] == "application/json"
    assert found["cache-control"] == "no-store"
    assert "location" not in found
    return answer.status, found, json.loads(body) if body else None


HERE = {"account": MOTO, "role": "Developer"}


def test_a_process_gets_what_sdks_read_from_its_output(daypass, developer, token, sts_stand_in):
    status, _, answer = fetch(daypass, "/api/process", f"Bearer {token}", **HERE)

    until = datetime.strptime(answer.pop("Expiration"), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert status == 200
    assert answer == {
        "Version": 1,
        "AccessKeyId": "ASIAEXAMPLEEXAMPLE00",
        "SecretAccessKey": SECRET,
        "SessionToken": TOKEN,
        "AccountId": MOTO,
    }
    assert until == Session.objects.get().expires_at


def test_a_container_gets_what_sdks_read_there(daypass, developer, token, sts_stand_in):
    status, _, answer = fetch(daypass, "/api/container", f"Bearer {token}", **HERE)

    assert status == 200
    assert answer.pop("Expiration").endswith("Z")
    assert answer == {
        "AccessKeyId": "ASIAEXAMPLEEXAMPLE00",
        "SecretAccessKey": SECRET,
        "Token": TOKEN,
        "AccountId": MOTO,
    }


def test_botocore_s_own_container_provider_gets_keys_that_work(
    daypass, ada, developer, token, aws, settings
):
    settings.DAYPASS_STS_ENDPOINT = aws.url
    environment = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{daypass.url}/api/container?{urlencode(HERE)}",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": f"Bearer {token}",
    }

    keys = ContainerProvider(environ=environment).load().get_frozen_credentials()

    caller = boto3.client(
        "sts",
        region_name="eu-west-1",
        endpoint_url=aws.url,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        aws_session_token=keys.token,
    ).get_caller_identity()
    session = Session.objects.get()
    assert caller["Arn"].endswith(f":assumed-role/Developer/{session.session_name}")
    assert session.person_id == ada.pk


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="there is no curl. On Debian: apt-get install curl"
)
def test_one_line_of_curl_in_a_profile_is_enough_for_boto3(
    daypass, developer, token, sts_stand_in, tmp_path
):
    secret = tmp_path / "curlrc"
    secret.write_text(f'header = "Authorization: Bearer {token}"\nsilent\nfail\n')
    (tmp_path / "config").write_text(
        f'[profile dev]\ncredential_process = curl -K {secret} "{daypass.url}/api/process?{urlencode(HERE)}"\n'
    )
    program = (
        "import boto3; c = boto3.Session(profile_name='dev').get_credentials();"
        "k = c.get_frozen_credentials(); print(k.secret_key, k.token, k.account_id)"
    )

    said = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "HOME": str(tmp_path),
            "PATH": os.environ["PATH"],
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
        },
        capture_output=True,
        text=True,
    )

    assert said.stdout.split() == [SECRET, TOKEN, MOTO], said.stderr
    assert Session.objects.get().client.startswith("curl/")


def test_the_session_is_recorded_with_the_token_s_terminal(daypass, developer, token, sts_stand_in):
    _, headers, _ = fetch(daypass, "/api/process", f"bearer {token}", **HERE)

    handed = AuditEvent.objects.get(kind="hand_over.keys")
    assert handed.reference == headers["x-amzn-requestid"]
    assert handed.data["terminal"] == str(Terminal.objects.get().pk)
    kept = " ".join(str(one.data) for one in AuditEvent.objects.all())
    assert SECRET not in kept and TOKEN not in kept and token not in kept


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer nobody's", "Basic {token}", "{token}"]
)
def test_without_a_script_token_nobody_gets_anything(
    daypass, developer, token, sts_stand_in, door, authorization
):
    sent = authorization and authorization.format(token=token)

    status, headers, answer = fetch(daypass, door, sent, **HERE)

    assert (status, answer["code"]) == (401, "UnauthorizedException")
    assert set(answer) == {"code", "message"}
    assert headers["www-authenticate"] == "Bearer"
    assert sts_stand_in.requests == []


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "unknown"])
def test_whoever_comes_with_a_dead_token_is_told_where_to_make_another(
    daypass, developer, token, ended
):
    if ended:
        Terminal.objects.update(ended_at=timezone.now(), ended_because="person")

    status, _, answer = fetch(
        daypass, "/api/process", f"Bearer {token if ended else 'nobodys'}", **HERE
    )

    assert (status, answer["code"]) == (401, "UnauthorizedException")
    assert "new token on the page Terminal" in answer["message"]
    assert "aws sso login" not in answer["message"]


@pytest.mark.parametrize("door", DOORS)
def test_the_token_of_a_signed_in_cli_is_no_script_token(
    daypass, ada, developer, sts_stand_in, door
):
    _, tokens, _, _ = signed_in_terminal(ada)

    for one in (tokens.access, tokens.refresh):
        assert fetch(daypass, door, f"Bearer {one}", **HERE)[0] == 401
    assert sts_stand_in.requests == []


@pytest.mark.parametrize("door", DOORS)
def test_a_browser_s_session_gives_a_machine_nothing(daypass, ada, developer, door):
    answer = daypass.sign_in(ada).get(door, HERE)

    assert answer.status_code == 401


@pytest.mark.parametrize("door", DOORS)
def test_a_token_for_one_role_gives_that_role_alone(
    daypass, ada, group, developer, sts_stand_in, door
):
    make.mapping(group, make.role("Reader", of=developer.account))
    token = script_token(ada, role_id=developer.pk)

    own = fetch(daypass, door, f"Bearer {token}", **HERE)
    other = fetch(daypass, door, f"Bearer {token}", account=MOTO, role="Reader")
    nothing = fetch(daypass, door, f"Bearer {token}", account=MOTO, role="Nothing")

    assert (own[0], other[0]) == (200, 404)
    assert other[2] == nothing[2]
    assert other[2]["code"] == "ResourceNotFoundException"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"role": "Developer"}, "account is missing"),
        ({"account": MOTO}, "role is missing"),
        ({"account": "payments", "role": "Developer"}, "twelve digits"),
    ],
)
def test_what_is_missing_is_named(daypass, developer, token, door, parameters, word):
    status, _, answer = fetch(daypass, door, f"Bearer {token}", **parameters)

    assert (status, answer["code"]) == (400, "InvalidRequestException")
    assert word in answer["message"]


def test_a_refusal_says_why_and_what_to_do(daypass, group, developer, token, sts_stand_in):
    role = make.role("Admin", of=developer.account)
    make.mapping(group, role, require_mfa=True)

    status, _, answer = fetch(
        daypass, "/api/container", f"Bearer {token}", account=MOTO, role="Admin"
    )

    assert (status, answer["code"]) == (403, "ForbiddenException")
    assert "second factor" in answer["message"]
    assert f"{daypass.url}/terminal/" in answer["message"]


def test_what_aws_refuses_is_told_in_json(daypass, developer, token, sts_stand_in):
    sts_stand_in.will(sts_error("AccessDenied", "no", 403))

    status, headers, answer = fetch(daypass, "/api/process", f"Bearer {token}", **HERE)

    assert (status, answer["code"]) == (403, "ForbiddenException")
    assert headers["x-amzn-requestid"] in answer["message"]


@pytest.mark.parametrize("door", DOORS)
def test_somebody_who_was_switched_off_gets_nothing(
    daypass, ada, developer, token, sts_stand_in, door
):
    Person.objects.filter(pk=ada.pk).update(is_active=False)

    assert fetch(daypass, door, f"Bearer {token}", **HERE)[0] == 401
    assert sts_stand_in.requests == []


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE"])
def test_keys_are_fetched_by_get_alone(daypass, developer, token, sts_stand_in, door, method):
    status, _, told = fetch(daypass, door, f"Bearer {token}", method=method, **HERE)

    assert status == 405
    assert method == "HEAD" or told["code"] == "InvalidRequestException"
    assert sts_stand_in.requests == []


@pytest.mark.parametrize("door", DOORS)
def test_a_token_made_in_the_portal_gives_sensitive_roles_as_well(
    daypass, ada, group, developer, sts_stand_in, door
):
    make.mapping(group, make.role("Root", of=developer.account, sensitive=True))

    status, _, _ = fetch(daypass, door, f"Bearer {script_token(ada)}", account=MOTO, role="Root")

    assert status == 200
    assert AuditEvent.objects.get(kind="role.authorised").data["door"] == "terminal"
