"""The federation endpoint over real HTTP: by POST, with the right duration, and nothing secret in a URL we ask for."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from broker.arns import PARTITIONS
from broker.aws import signin
from broker.aws.credentials import Credentials
from broker.errors import AwsError, AwsUnavailable
from tests.aws.servers import SECRET, TOKEN, Answer

ARN = "arn:aws:iam::111122223333:role/Developer"


def ask(seconds=3600, **changes):
    credentials = Credentials("ASIAEXAMPLE", SECRET, TOKEN, datetime(2030, 1, 1, tzinfo=UTC))
    return signin.signin_token(
        credentials.reveal(),
        **{
            "partition": PARTITIONS["aws"],
            "region": "eu-west-1",
            "role_arn": ARN,
            "seconds": seconds,
            **changes,
        },
    )


def test_the_credentials_travel_in_the_body_of_a_post(signin_stand_in):
    ask()

    (request,) = signin_stand_in.requests
    assert (request.method, request.path, request.query) == ("POST", "/federation", {})
    assert request.form["Action"] == "getSigninToken"
    assert request.form["SessionDuration"] == "3600"
    assert json.loads(request.form["Session"]) == {
        "sessionId": "ASIAEXAMPLE",
        "sessionKey": SECRET,
        "sessionToken": TOKEN,
    }


def test_without_a_duration_the_parameter_is_not_sent(signin_stand_in):
    ask(seconds=None)

    assert "SessionDuration" not in signin_stand_in.requests[0].form


def test_the_link_signs_in_at_the_origin_that_gave_the_token(signin_stand_in):
    destination = "https://eu-west-1.console.aws.amazon.com/s3/buckets?region=eu-west-1&tab=a b"
    url = signin.login_url(ask(), destination=destination)

    parts = urlsplit(url)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    assert f"{parts.scheme}://{parts.netloc}" == signin_stand_in.url
    assert parts.path == "/federation"
    assert query["Action"] == "login"
    assert query["Issuer"] == "https://daypass.test"
    assert query["Destination"] == destination
    assert query["SigninToken"].startswith("canarySigninToken")
    assert SECRET not in url and TOKEN not in url


def test_a_sign_in_token_does_not_show_itself(signin_stand_in):
    assert "canary" not in repr(ask())


@pytest.mark.parametrize(
    ("partition", "region", "origins"),
    [
        ("aws", "eu-west-1", ["https://eu-west-1.signin.aws.amazon.com", "https://eu-central-1.signin.aws.amazon.com"]),
        ("aws", "", ["https://signin.aws.amazon.com", "https://us-west-2.signin.aws.amazon.com"]),
        ("aws", "us-east-1", ["https://signin.aws.amazon.com", "https://us-west-2.signin.aws.amazon.com"]),
        ("aws-us-gov", "", ["https://signin.amazonaws-us-gov.com", "https://us-gov-east-1.signin.amazonaws-us-gov.com"]),
        ("aws-us-gov", "us-gov-east-1", ["https://us-gov-east-1.signin.amazonaws-us-gov.com", "https://signin.amazonaws-us-gov.com"]),
        ("aws-cn", "cn-northwest-1", ["https://cn-northwest-1.signin.amazonaws.cn", "https://cn-north-1.signin.amazonaws.cn"]),
        ("aws-eusc", "eusc-de-east-1", ["https://eusc-de-east-1.signin.amazonaws-eusc.eu"]),
    ],
)  # fmt: skip
def test_each_partition_has_its_own_hosts(settings, partition, region, origins):
    settings.DAYPASS_SIGNIN_ENDPOINT = ""

    found = PARTITIONS[partition]

    assert list(signin._origins(found, region, found.second_region(region)).values()) == origins


@pytest.mark.parametrize(
    ("seconds", "role_max", "chained", "sent"),
    [
        (3600, 43200, False, 3600),
        (900, 3600, False, 900),
        (42300, 43200, False, 42300),
        (3600, 3600, False, None),  # not less than the role's maximum
        (43200, 43200, False, None),
        (3600, 43200, True, None),  # chained: present is refused
        (7273, 43200, False, None),  # not a multiple of 900
        (600, 43200, False, None),
    ],
)
def test_session_duration_is_sent_only_where_aws_takes_it_as_it_is(
    seconds, role_max, chained, sent
):
    assert signin.console_seconds(seconds, role_max=role_max, chained=chained) == sent


def test_a_400_is_tried_once_more_without_the_duration(signin_stand_in):
    signin_stand_in.will(Answer(400))

    token = ask(seconds=3600)

    first, second = signin_stand_in.requests
    assert "SessionDuration" in first.form
    assert "SessionDuration" not in second.form
    assert token.origin == signin_stand_in.url


def test_a_second_400_is_told_with_its_usual_causes(signin_stand_in):
    signin_stand_in.will(Answer(400), Answer(400))

    with pytest.raises(AwsError) as told:
        ask()

    assert len(signin_stand_in.requests) == 2
    assert (told.value.code, told.value.retry) == ("aws_signin_refused", False)
    assert "partition" in told.value.remedy


def test_a_400_without_duration_is_not_repeated(signin_stand_in):
    signin_stand_in.will(Answer(400))

    with pytest.raises(AwsError):
        ask(seconds=None)

    assert len(signin_stand_in.requests) == 1


@pytest.mark.parametrize(
    "trouble", [Answer(503), Answer(500, b"<html>"), Answer(drop=True), Answer(429)]
)
def test_what_may_pass_is_tried_again(signin_stand_in, trouble):
    signin_stand_in.will(trouble, trouble)

    assert ask().origin == signin_stand_in.url
    assert len(signin_stand_in.requests) == 3


def test_a_host_that_does_not_answer_is_left_for_another_regions(
    settings, sts_stand_in, monkeypatch
):
    """A proxy that is told to let nobody through sees which hosts are asked for."""
    settings.DAYPASS_SIGNIN_ENDPOINT = ""
    monkeypatch.setenv("HTTPS_PROXY", sts_stand_in.url)
    sts_stand_in.will(*[Answer(403)] * 9)
    signin._sessions.clear()

    with pytest.raises(AwsUnavailable) as told:
        ask()
    signin._sessions.clear()

    assert told.value.code == "aws_proxy"
    assert [(request.method, request.path) for request in sts_stand_in.requests] == [
        ("CONNECT", "eu-west-1.signin.aws.amazon.com:443"),
        ("CONNECT", "eu-central-1.signin.aws.amazon.com:443"),
        ("CONNECT", "eu-west-1.signin.aws.amazon.com:443"),
    ]


def test_it_is_tried_three_times_at_most(signin_stand_in):
    signin_stand_in.will(*[Answer(503)] * 9)

    with pytest.raises(AwsUnavailable) as told:
        ask()

    assert len(signin_stand_in.requests) == 3
    assert told.value.__cause__ is None and told.value.__context__ is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"SigninToken": 7}',
        b'{"SigninToken": ""}',
        b"null",
        b" " * 70000,
    ],
)
def test_an_answer_that_is_no_token_is_not_taken(signin_stand_in, body):
    signin_stand_in.will(Answer(200, body))

    with pytest.raises(AwsError) as told:
        ask()

    assert told.value.code == "aws_unreadable"


def test_a_redirect_is_not_followed_with_the_credentials(signin_stand_in, sts_stand_in):
    signin_stand_in.will(Answer(302, headers={"Location": f"{sts_stand_in.url}/elsewhere"}))

    with pytest.raises(AwsError):
        ask(seconds=None)

    assert sts_stand_in.requests == []


def test_connections_are_reused(signin_stand_in):
    for _ in range(4):
        ask()

    assert len({request.client_port for request in signin_stand_in.requests}) == 1
