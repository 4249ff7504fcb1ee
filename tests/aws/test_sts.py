"""STS over real HTTP: what is sent, what is never sent, and what happens when it does not go well."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from broker.aws import sts
from broker.aws.sts import RoleCall
from broker.errors import AwsError, AwsUnavailable
from tests.aws.servers import SECRET, TOKEN, Answer, StandIn, sts_answer, sts_error

ARN = "arn:aws:iam::111122223333:role/team/Developer"
ISSUER = "https://daypass.test"
KEYS_MISSING = (
    "InvalidIdentityToken",
    "Couldn't retrieve verification key from your identity provider",
)


def call(**changes) -> RoleCall:
    values = {
        "role_arn": ARN,
        "partition": "aws",
        "region": "eu-west-1",
        "session_name": "alice.9f3k2c7d",
        "seconds": 3600,
    }
    return RoleCall(**{**values, **changes})


def web(token=lambda: "signed.token", **changes):
    return sts.with_web_identity(call(**changes), token, issuer=ISSUER)


@pytest.fixture
def ambient(monkeypatch):
    """AWS credentials in the environment of the process, expired or not."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "ambient-session-token")
    sts._clients.clear()
    yield
    sts._clients.clear()


def test_web_identity_sends_exactly_what_was_planned(sts_stand_in):
    web(session_policy='{"Version":"2012-10-17"}', policy_arns=("arn:aws:iam::aws:policy/X",))

    (request,) = sts_stand_in.requests
    assert request.form == {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": ARN,
        "RoleSessionName": "alice.9f3k2c7d",
        "WebIdentityToken": "signed.token",
        "DurationSeconds": "3600",
        "Policy": '{"Version":"2012-10-17"}',
        "PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/X",
    }


def test_saml_sends_the_response_and_the_provider(sts_stand_in):
    sts.with_saml(
        call(), lambda: "c2lnbmVk", provider_arn="arn:aws:iam::111122223333:saml-provider/D"
    )

    (request,) = sts_stand_in.requests
    assert request.form == {
        "Action": "AssumeRoleWithSAML",
        "Version": "2011-06-15",
        "RoleArn": ARN,
        "PrincipalArn": "arn:aws:iam::111122223333:saml-provider/D",
        "SAMLAssertion": "c2lnbmVk",
        "DurationSeconds": "3600",
    }


def test_the_answer_is_credentials_role_and_packed_size(sts_stand_in):
    answer = web()

    assert answer.credentials.reveal().secret_access_key == SECRET
    assert answer.credentials.reveal().session_token == TOKEN
    assert answer.credentials.expires_at.tzinfo is UTC
    assert answer.assumed_role_arn.endswith(":assumed-role/Developer/alice.9f3k2c7d")
    assert answer.packed_policy_size == 6


def test_unsigned_calls_carry_no_aws_credential_even_if_there_are_some(sts_stand_in, ambient):
    web()
    sts.with_saml(
        call(), lambda: "c2lnbmVk", provider_arn="arn:aws:iam::111122223333:saml-provider/D"
    )

    for request in sts_stand_in.requests:
        assert "authorization" not in request.headers
        assert "x-amz-security-token" not in request.headers
        assert "AMBIENT" not in str(request).upper()


def test_unsigned_calls_need_no_working_aws_configuration(sts_stand_in, monkeypatch, tmp_path):
    broken = tmp_path / "config"
    broken.write_text("this is [not an ini file")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(broken))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    sts._clients.clear()

    assert web().credentials.access_key_id


def test_assume_role_is_signed_and_names_the_person(sts_stand_in, ambient):
    sts.assume_role(
        call(),
        source_identity="alice",
        external_id="customer-7",
        session_tags={"team": "blue"},
        transitive_tag_keys=("team",),
    )

    (request,) = sts_stand_in.requests
    assert "Credential=AKIAAMBIENT/" in request.headers["authorization"]
    assert "/eu-west-1/sts/aws4_request" in request.headers["authorization"]
    assert request.form == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": ARN,
        "RoleSessionName": "alice.9f3k2c7d",
        "DurationSeconds": "3600",
        "SourceIdentity": "alice",
        "ExternalId": "customer-7",
        "Tags.member.1.Key": "team",
        "Tags.member.1.Value": "blue",
        "TransitiveTagKeys.member.1": "team",
    }


def test_assume_role_without_own_credentials_says_so_and_looks_again_next_time(
    sts_stand_in, monkeypatch, tmp_path
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    sts._clients.clear()

    with pytest.raises(AwsError) as refused:
        sts.assume_role(call(), source_identity="alice")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient-secret")
    answer = sts.assume_role(call(), source_identity="alice")
    sts._clients.clear()

    assert refused.value.code == "aws_no_own_credentials"
    assert not refused.value.retry
    assert answer.credentials.access_key_id


@pytest.mark.parametrize(
    ("region", "partition", "host"),
    [
        ("eu-west-1", "aws", "https://sts.eu-west-1.amazonaws.com"),
        ("", "aws", "https://sts.us-east-1.amazonaws.com"),
        ("us-gov-east-1", "aws-us-gov", "https://sts.us-gov-east-1.amazonaws.com"),
        ("", "aws-us-gov", "https://sts.us-gov-west-1.amazonaws.com"),
        ("cn-northwest-1", "aws-cn", "https://sts.cn-northwest-1.amazonaws.com.cn"),
        ("", "aws-cn", "https://sts.cn-north-1.amazonaws.com.cn"),
        ("", "aws-eusc", "https://sts.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_the_endpoint_is_regional_and_of_the_right_partition(
    settings, monkeypatch, region, partition, host
):
    monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "legacy")
    settings.DAYPASS_STS_ENDPOINT = ""

    first = sts._regions(call(region=region, partition=partition))[0]

    assert sts._client("unsigned", first).meta.endpoint_url == host


def test_when_a_region_does_not_answer_another_of_the_same_partition_is_next():
    assert sts._regions(call(region="eu-west-1")) == ("eu-west-1", "eu-central-1")
    assert sts._regions(call(region="us-east-1")) == ("us-east-1", "us-west-2")
    assert sts._regions(call(region="eu-west-1", second_region="eu-north-1")) == (
        "eu-west-1",
        "eu-north-1",
    )
    assert sts._regions(call(region="", partition="aws-cn")) == ("cn-north-1", "cn-northwest-1")
    assert sts._regions(call(region="", partition="aws-eusc")) == ("eusc-de-east-1",)


# --- When it does not go well


@pytest.mark.parametrize(
    "trouble",
    [
        sts_error("Throttling", "Rate exceeded"),
        sts_error("ServiceUnavailable", status=503),
        sts_error("InternalFailure", status=500),
        sts_error("IDPCommunicationError"),
        sts_error(*KEYS_MISSING),
        Answer(500, b"<html><h1>oops</h1><p>a proxy", "text/html"),
        Answer(502, b"", "text/html"),
        Answer(200, b"this is not xml <"),
        Answer(drop=True),
        Answer(429, b"slow down", "text/plain"),
    ],
    ids=lambda a: f"{a.status} {a.body[:0]}{'drop' if a.drop else ''}",
)
def test_what_may_pass_is_tried_again_with_a_freshly_signed_token(sts_stand_in, trouble):
    signed = []

    def token() -> str:
        signed.append(f"token-{len(signed)}")
        return signed[-1]

    sts_stand_in.will(trouble, trouble)
    answer = web(token)

    sent = [request.form["WebIdentityToken"] for request in sts_stand_in.requests]
    assert answer.credentials.reveal().secret_access_key == SECRET
    assert sent == ["token-0", "token-1", "token-2"]


def test_it_is_tried_three_times_and_then_the_employee_is_told_to_try_later(sts_stand_in):
    sts_stand_in.will(*[sts_error("Throttling", "Rate exceeded")] * 5)

    with pytest.raises(AwsUnavailable) as told:
        web()

    assert len(sts_stand_in.requests) == 3
    assert told.value.retry
    assert told.value.aws_code == "Throttling"


@pytest.mark.parametrize(
    ("code", "message", "status", "ours"),
    [
        (
            "AccessDenied",
            "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            403,
            "aws_access_denied",
        ),
        (
            "AccessDenied",
            "User: x is not authorized to perform: sts:TagSession",
            403,
            "aws_tag_session_denied",
        ),
        (
            "AccessDenied",
            "x is not authorized to perform: sts:SetSourceIdentity on y",
            403,
            "aws_source_identity_denied",
        ),
        ("ExpiredTokenException", "Token expired", 400, "aws_clock"),
        (
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://x",
            400,
            "aws_provider_missing",
        ),
        ("InvalidIdentityToken", "Incorrect token audience", 400, "aws_audience_wrong"),
        (
            "InvalidIdentityToken",
            "The target role ARN is not present in the roles claim of the identity token",
            400,
            "aws_role_not_in_token",
        ),
        ("InvalidIdentityToken", "Token signature invalid", 400, "aws_signature_refused"),
        ("InvalidIdentityToken", "Something new", 400, "aws_token_refused"),
        ("IDPRejectedClaim", "", 403, "aws_claim_rejected"),
        (
            "PackedPolicyTooLarge",
            "Packed size of session tags consumes 142% of allotted space.",
            400,
            "aws_policy_too_large",
        ),
        ("MalformedPolicyDocument", "Syntax errors in policy.", 400, "aws_policy_malformed"),
        (
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            400,
            "aws_duration_too_long",
        ),
        (
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
            400,
            "aws_chained_too_long",
        ),
        ("ValidationError", "1 validation error detected", 400, "aws_invalid_request"),
        (
            "RegionDisabledException",
            "STS is not activated in this region",
            403,
            "aws_region_disabled",
        ),
        ("OptInRequired", "", 403, "aws_account_not_ready"),
        ("SomethingNobodyHasSeen", "odd", 400, "aws_failed"),
    ],
)
def test_a_refusal_is_explained_and_not_repeated(sts_stand_in, code, message, status, ours):
    sts_stand_in.will(sts_error(code, message, status))

    with pytest.raises(AwsError) as told:
        web()

    assert len(sts_stand_in.requests) == 1
    assert (told.value.code, told.value.aws_code, told.value.retry) == (ours, code, False)
    assert told.value.cause and told.value.remedy


def test_a_denied_call_names_every_action_that_the_trust_policy_must_allow(sts_stand_in):
    sts_stand_in.will(sts_error("AccessDenied", "Not authorized", 403))

    with pytest.raises(AwsError) as told:
        sts.with_web_identity(call(), lambda: "token", issuer=ISSUER, tag_keys=("team",))

    for expected in (
        "sts:AssumeRoleWithWebIdentity",
        "sts:TagSession",
        "sts:SetSourceIdentity",
        ISSUER,
    ):
        assert expected in told.value.remedy
    assert ARN in told.value.cause
    assert ARN not in told.value.message


def test_a_wrong_clock_is_named_with_its_difference(sts_stand_in):
    late = datetime.now(UTC) - timedelta(minutes=9)
    sts_stand_in.will(
        sts_error(
            "ExpiredTokenException",
            "Token expired",
            date=late.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        )
    )

    with pytest.raises(AwsError) as told:
        web()

    assert "clock is 5" in told.value.cause
    assert "seconds ahead" in told.value.cause


def test_an_answer_for_another_role_is_not_taken(sts_stand_in):
    other = "arn:aws:sts::111122223333:assumed-role/Administrator/alice.9f3k2c7d"
    sts_stand_in.will(lambda request: sts_answer(request, arn=other))

    with pytest.raises(AwsError) as told:
        web()

    assert told.value.code == "aws_unreadable"


@pytest.mark.parametrize(
    ("whole", "changed"),
    [
        ("AccessKeyId>", "AccessKey>"),
        ("SecretAccessKey>", "Secret>"),
        ("Expiration>", "Expires>"),
        ("AssumedRoleUser>", "User>"),
        (SECRET, "two words"),
        (SECRET, "line\nbreak"),
        (SECRET, "n\u00f6t-ascii"),
        (TOKEN, ""),
    ],
)
def test_an_answer_that_lacks_something_or_holds_nonsense_is_not_taken(
    sts_stand_in, whole, changed
):
    def damaged(request):
        body = sts_answer(request).body.decode()
        assert whole in body
        return Answer(200, body.replace(whole, changed).encode())

    sts_stand_in.will(damaged)

    with pytest.raises(AwsUnavailable) as told:
        web()

    assert told.value.code == "aws_unreadable"
    assert SECRET not in told.value.cause


def test_what_aws_says_never_carries_a_token_into_our_records(sts_stand_in):
    token = "eyJ" + "x" * 600
    sts_stand_in.will(sts_error("ValidationError", f"Value '{token}' at 'webIdentityToken' failed"))

    with pytest.raises(AwsError) as told:
        web(lambda: token)

    assert token not in f"{told.value.cause}{told.value.remedy}{told.value.message}"
    assert "webIdentityToken" in told.value.cause


def test_nothing_of_the_request_hangs_on_the_error(sts_stand_in):
    sts_stand_in.will(*[Answer(drop=True)] * 3)

    with pytest.raises(AwsUnavailable) as told:
        web()

    assert told.value.__cause__ is None
    assert told.value.__context__ is None


def test_nobody_listening_is_told_as_unreachable(settings):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        settings.DAYPASS_STS_ENDPOINT = f"http://127.0.0.1:{probe.getsockname()[1]}"

        with pytest.raises(AwsUnavailable) as told:
            web()

    assert told.value.code == "aws_unreachable"


def test_a_mistake_of_our_own_is_not_called_aws_failure(sts_stand_in):
    def token() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        web(token)

    assert sts_stand_in.requests == []


def test_an_sts_that_never_answers_is_left_in_time(sts_stand_in):
    """The slow one of this file: it waits for the read timeout as it is in production."""
    sts_stand_in.will(Answer(hang=60))
    began = time.monotonic()

    answer = web()

    took = time.monotonic() - began
    sts_stand_in.released.set()
    assert answer.credentials.reveal().secret_access_key == SECRET
    assert sts.READ_TIMEOUT <= took < sts.LONGEST


def asked_regions(stand_in: StandIn) -> list[str]:
    return [request.path.strip("/") for request in stand_in.requests]


@pytest.fixture
def regions_stand_in(sts_stand_in, settings):
    """One server for every region: the path says which one was asked."""
    settings.DAYPASS_STS_ENDPOINT = f"{sts_stand_in.url}/{{region}}"
    return sts_stand_in


def test_a_region_that_fails_is_left_for_another_one(regions_stand_in):
    regions_stand_in.will(Answer(503), Answer(drop=True))

    answer = web(region="eu-west-1")

    assert asked_regions(regions_stand_in) == ["eu-west-1", "eu-central-1", "eu-west-1"]
    assert answer.credentials.reveal().secret_access_key == SECRET


def test_a_region_that_throttles_is_left_for_this_call_only(regions_stand_in):
    regions_stand_in.will(sts_error("Throttling"))

    web(region="eu-west-1")
    web(region="eu-west-1")

    assert asked_regions(regions_stand_in) == ["eu-west-1", "eu-central-1", "eu-west-1"]


def test_when_the_other_region_only_refuses_the_first_ones_trouble_is_told(regions_stand_in):
    """A trust policy may pin the region: its refusal there would send the administrator the wrong way."""
    regions_stand_in.will(Answer(503), sts_error("AccessDenied", "no", 403))

    with pytest.raises(AwsUnavailable) as told:
        web(region="eu-west-1")

    assert told.value.code == "aws_internal"
    assert "eu-west-1" in told.value.remedy


def test_a_refusal_after_trouble_in_the_same_region_is_the_answer(sts_stand_in):
    sts_stand_in.will(sts_error("Throttling"), sts_error("AccessDenied", "no", 403))

    with pytest.raises(AwsError) as told:
        web()

    assert told.value.code == "aws_access_denied"


# --- Clients


def test_one_client_serves_all_threads_however_many_ask_at_once(sts_stand_in):
    sts._clients.clear()
    barrier = threading.Barrier(16)

    def ask(number: int) -> tuple[int, str]:
        barrier.wait()
        answer = web(session_name=f"person{number}.00000000")
        return number, answer.assumed_role_arn

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))

    assert len(sts._clients) == 1
    assert all(arn.endswith(f"/person{number}.00000000") for number, arn in answers)


def test_each_region_and_kind_has_a_client_of_its_own(sts_stand_in, ambient):
    web(region="eu-west-1")
    web(region="us-east-1")
    sts.assume_role(call(), source_identity="alice")

    assert len(sts._clients) == 3


def test_connections_are_reused(sts_stand_in):
    for _ in range(5):
        web()

    assert len({request.client_port for request in sts_stand_in.requests}) == 1


def test_the_stand_in_itself_refuses_nothing_it_was_not_told_to(sts_stand_in: StandIn):
    """A control: what the negative tests rely on."""
    assert web().credentials.access_key_id == "ASIAEXAMPLEEXAMPLE00"
