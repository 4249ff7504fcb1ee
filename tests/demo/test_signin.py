"""The stand-in for AWS's sign-in service judges as AWS does."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import boto3
import pytest
import requests
from botocore import UNSIGNED
from botocore.config import Config

from broker.demo.cast import ACCOUNTS

ROLE = "arn:aws:iam::999900001111:role/teams/Auditor"
CONSOLE = "https://eu-west-1.console.aws.amazon.com/s3/home"


@pytest.fixture
def credentials(aws) -> dict[str, str]:
    sts = boto3.client(
        "sts",
        region_name="eu-west-1",
        endpoint_url=aws.url,
        config=Config(signature_version=UNSIGNED),
    )
    answer = sts.assume_role_with_web_identity(
        RoleArn=ROLE, RoleSessionName="maya-1", WebIdentityToken="a.b.c"
    )["Credentials"]
    return {
        "sessionId": answer["AccessKeyId"],
        "sessionKey": answer["SecretAccessKey"],
        "sessionToken": answer["SessionToken"],
    }


def ask(aws, session: dict[str, str], **more: str) -> requests.Response:
    form = {"Action": "getSigninToken", "Session": json.dumps(session), **more}
    return requests.post(f"{aws.signin}/federation", data=form, timeout=10)


def login(aws, token: str, *, destination: str = CONSOLE) -> requests.Response:
    query = {
        "Action": "login",
        "Issuer": "https://daypass.test/",
        "Destination": destination,
        "SigninToken": token,
    }
    return requests.get(f"{aws.signin}/federation", params=query, timeout=10)


def test_live_credentials_open_a_page_that_names_role_and_session(aws, credentials):
    token = ask(aws, credentials, SessionDuration="3600").json()["SigninToken"]

    page = login(aws, token)

    assert page.status_code == 200
    assert "arn:aws:sts::999900001111:assumed-role/Auditor/maya-1" in page.text
    assert CONSOLE in page.text
    assert "This is not AWS" in page.text


def test_neither_token_nor_keys_stay_in_the_address_or_on_the_page(aws, credentials):
    token = ask(aws, credentials).json()["SigninToken"]

    page = login(aws, token)

    for secret in (token, *credentials.values()):
        assert secret not in page.url
        assert secret not in page.text
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("part", ["sessionId", "sessionKey", "sessionToken"])
def test_credentials_that_are_not_whole_get_a_bare_400(aws, credentials, part):
    answer = ask(aws, credentials | {part: "x" * 20})

    assert (answer.status_code, answer.text) == (400, "")


@pytest.mark.parametrize("seconds", ["899", "43201", "an hour", ""])
def test_a_session_duration_out_of_range_gets_a_bare_400(aws, credentials, seconds):
    assert ask(aws, credentials, SessionDuration=seconds).status_code == 400


@pytest.mark.parametrize("session", ["", "not json", "{}", "[]", '"text"'])
def test_a_session_that_is_not_one_gets_a_bare_400(aws, session):
    form = {"Action": "getSigninToken", "Session": session}

    assert requests.post(f"{aws.signin}/federation", data=form, timeout=10).status_code == 400


@pytest.mark.parametrize(
    "destination",
    [
        "https://evil.example/",
        "http://console.aws.amazon.com/",
        "https://console.aws.amazon.com.evil.example/",
        "https://evilconsole.aws.amazon.com@evil.example/",
        "//console.aws.amazon.com/",
    ],
)
def test_it_sends_nobody_to_a_page_outside_the_console(aws, credentials, destination):
    token = ask(aws, credentials).json()["SigninToken"]

    assert login(aws, token, destination=destination).status_code == 400


def test_an_unknown_token_gets_a_bare_400(aws):
    assert login(aws, "made-up").status_code == 400


def test_an_assertion_that_nobody_signed_gets_a_bare_400(aws):
    for posted in ("", "not base64", "PGE+PC9hPg=="):
        answer = requests.post(f"{aws.signin}/saml", data={"SAMLResponse": posted}, timeout=10)
        assert answer.status_code == 400


def test_a_console_session_that_is_unknown_says_so(aws):
    page = requests.get(f"{aws.signin}/console/unknown", timeout=10)

    assert page.status_code == 410
    assert "has ended" in page.text


def test_it_answers_on_loopback_only(aws):
    assert urlsplit(aws.signin).hostname == urlsplit(aws.url).hostname == "127.0.0.1"


def test_the_cast_of_accounts_is_one_that_aws_could_have():
    ids = [account.account_id for account in ACCOUNTS]

    assert len(set(ids)) == len(ids)
    assert all(len(number) == 12 and number.isdigit() for number in ids)
