"""A region that does not answer: the second one is asked, everybody keeps away for a while, and then comes back.

Every region is a real server on loopback of its own. That nobody waits too long is seen from how often each was asked;
limits of time are generous.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from django.core.cache import cache

from broker.arns import PARTITIONS
from broker.aws import regions, signin, sts
from broker.aws.credentials import Credentials
from broker.aws.sts import RoleCall
from broker.errors import AwsError, AwsUnavailable
from tests.aws.servers import (
    SECRET,
    TOKEN,
    Answer,
    StandIn,
    signin_answer,
    sts_answer,
    sts_error,
)

ARN = "arn:aws:iam::111122223333:role/Developer"
FIRST, SECOND = "eu-west-1", "eu-north-1"


def web(token=lambda: "signed.token", **changes):
    values = {
        "role_arn": ARN,
        "partition": "aws",
        "region": FIRST,
        "session_name": "alice.9f3k2c7d",
        "seconds": 3600,
        "second_region": SECOND,
    }
    return sts.with_web_identity(
        RoleCall(**{**values, **changes}), token, issuer="https://daypass.test"
    )


class World:
    """Two regions. A region's place is told to Daypass in the setting, as an operator would."""

    def __init__(self, settings, setting: str, otherwise) -> None:
        self.first, self.second = StandIn(otherwise), StandIn(otherwise)
        self._settings, self._setting, self._otherwise = settings, setting, otherwise
        self.at(self.first.url, self.second.url)

    def at(self, first: str, second: str) -> None:
        setattr(self._settings, self._setting, f"{FIRST}={first},{SECOND}={second}")

    def asked(self) -> tuple[int, int]:
        """How often each region was asked since the last look."""
        counts = len(self.first.requests), len(self.second.requests)
        self.first.requests.clear()
        self.second.requests.clear()
        return counts

    def well(self) -> None:
        for region in (self.first, self.second):
            region.otherwise = self._otherwise
            region.released.set()
        self.at(self.first.url, self.second.url)

    def stop(self) -> None:
        self.first.stop()
        self.second.stop()


@pytest.fixture
def aws(settings) -> Iterator[World]:
    world = World(settings, "DAYPASS_STS_ENDPOINT", sts_answer)
    yield world
    world.stop()


@pytest.fixture
def signing_in(settings) -> Iterator[World]:
    world = World(settings, "DAYPASS_SIGNIN_ENDPOINT", signin_answer)
    yield world
    world.stop()


class Clock:
    """Our clock for the module that remembers: it can be moved on."""

    def __init__(self) -> None:
        self.on = 0.0

    def time(self) -> float:
        return time.time() + self.on

    def monotonic(self) -> float:
        return time.monotonic() + self.on


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(regions, "time", made)
    return made


@pytest.fixture
def closed_port() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def quickly(monkeypatch) -> None:
    """Waiting for an answer is shorter than in production; the order of things is the same."""
    monkeypatch.setattr(sts, "READ_TIMEOUT", 0.5)
    monkeypatch.setattr(signin, "READ_TIMEOUT", 0.5)
    monkeypatch.setattr(signin, "_LOOK_TIMEOUT", 0.5)
    sts._clients.clear()
    signin._sessions.clear()


def always(answer: Answer):
    return lambda request: answer


SILENCE = {
    "hangs": Answer(hang=30),
    "answers 500": Answer(500, b"<html>"),
    "answers 503 in STS's words": sts_error("ServiceUnavailable", "later", 503),
    "cuts it off": Answer(drop=True),
    "answers something else": Answer(200, b"<html>a proxy's page</html>"),
}
BUSY = {
    "throttles": sts_error("Throttling", "Rate exceeded"),
    "throttles with 429": sts_error("TooManyRequestsException", "", 429),
    "cannot reach our keys": sts_error("IDPCommunicationError", "no"),
    "cannot fetch our keys": sts_error(
        "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider"
    ),
}


@pytest.mark.parametrize("trouble", SILENCE)
def test_when_the_first_region_says_nothing_the_second_is_asked(aws, quickly, trouble):
    aws.first.otherwise = always(SILENCE[trouble])
    began = time.monotonic()

    answer = web()

    assert answer.credentials.reveal().secret_access_key == SECRET
    assert aws.asked() == (1, 1)
    assert time.monotonic() - began < sts.LONGEST


def test_a_first_region_where_nobody_listens_is_left_for_the_second(aws, closed_port):
    aws.at(closed_port, aws.second.url)

    answer = web()

    assert answer.credentials.reveal().secret_access_key == SECRET
    assert aws.asked() == (0, 1)


def test_a_first_region_that_hangs_is_left_in_time_with_the_timeouts_of_production(aws):
    """The slow one of this file."""
    aws.first.otherwise = always(Answer(hang=60))
    began = time.monotonic()

    web()
    web()

    assert aws.asked() == (1, 2)
    assert time.monotonic() - began < sts.LONGEST


@pytest.mark.parametrize("trouble", BUSY)
def test_a_busy_first_region_is_left_for_this_call_but_not_avoided(aws, trouble):
    aws.first.will(BUSY[trouble])

    web()
    assert aws.asked() == (1, 1)

    web()
    assert aws.asked() == (1, 0)


def test_every_try_carries_a_token_of_its_own(aws):
    made: list[str] = []

    def token() -> str:
        made.append(f"token.{len(made)}")
        return made[-1]

    aws.first.otherwise = always(Answer(500))

    web(token)

    assert aws.first.requests[0].form["WebIdentityToken"] == "token.0"
    assert aws.second.requests[0].form["WebIdentityToken"] == "token.1"


@pytest.mark.parametrize("trouble", SILENCE)
def test_the_next_calls_go_straight_to_the_second(aws, quickly, trouble):
    aws.first.otherwise = always(SILENCE[trouble])
    web()
    aws.asked()

    for _ in range(3):
        web()

    assert aws.asked() == (0, 3)


def test_after_a_while_one_call_looks_again_and_finds_it_dead(aws, clock):
    aws.first.otherwise = always(Answer(500))
    web()
    aws.asked()

    clock.on += regions.AVOIDED + 1
    web()
    assert aws.asked() == (1, 1)

    web()
    assert aws.asked() == (0, 1)


def test_after_a_while_it_comes_back_to_the_first(aws, clock):
    aws.first.otherwise = always(Answer(500))
    web()
    aws.well()
    web()
    assert aws.asked() == (1, 2)

    clock.on += regions.AVOIDED + 1
    web()
    web()

    assert aws.asked() == (2, 0)
    assert regions.avoided("sts", [FIRST, SECOND]) == []


def test_while_one_looks_again_the_others_keep_away(aws, clock):
    aws.first.otherwise = always(Answer(500))
    web()
    aws.asked()
    clock.on += regions.AVOIDED + 1
    looking = threading.Event()

    def slowly(request):
        looking.set()
        aws.first.released.wait(10)
        return sts_answer(request)

    aws.first.otherwise = slowly
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(web)
        assert looking.wait(10)
        for _ in range(3):
            web()
        assert aws.asked() == (1, 3)
        aws.first.released.set()
        assert first.result(10).credentials.access_key_id

    web()
    assert aws.asked() == (1, 0)


def another_process() -> None:
    """What this process knows is forgotten; what it told the others is not."""
    regions._known.clear()
    regions._looked.clear()


def test_other_processes_are_spared_the_wait(aws):
    aws.first.otherwise = always(Answer(500))
    web()
    aws.asked()

    another_process()
    web()

    assert aws.asked() == (0, 1)


def test_other_processes_hear_that_it_answers_again(aws, clock):
    aws.first.otherwise = always(Answer(500))
    web()
    known = dict(regions._known)
    aws.well()
    clock.on += regions.AVOIDED + 1
    web()  # looks, and finds it well
    aws.asked()

    another_process()
    regions._known.update(known)
    clock.on -= regions.AVOIDED + 1
    web()

    assert aws.asked() == (1, 0)


def test_without_the_cache_each_process_remembers_by_itself(aws, monkeypatch):
    def away(*args, **kwargs):
        raise ConnectionError

    for name in ("get_many", "set", "add", "delete", "delete_many"):
        monkeypatch.setattr(cache, name, away)
    aws.first.otherwise = always(Answer(500))

    web()
    web()

    assert aws.asked() == (1, 2)


def test_a_clock_that_is_set_back_does_not_avoid_for_longer(aws, clock):
    clock.on = 86400.0
    aws.first.otherwise = always(Answer(500))
    web()
    aws.well()
    clock.on = 0.0
    aws.asked()

    web()

    assert aws.asked() == (1, 0)


REFUSALS = [
    sts_error("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403),
    sts_error("RegionDisabledException", "STS is not activated in this region", 403),
    sts_error("InvalidIdentityToken", "No OpenIDConnect provider found in your account", 400),
    sts_error("ExpiredTokenException", "Token expired", 400),
    sts_error("IDPRejectedClaim", "", 403),
    sts_error("PackedPolicyTooLarge", "142%", 400),
    sts_error("ValidationError", "exceeds the MaxSessionDuration", 400),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=range(len(REFUSALS)))
def test_a_refusal_is_final_and_never_taken_elsewhere(aws, refusal):
    aws.first.will(refusal)

    with pytest.raises(AwsError):
        web()
    assert aws.asked() == (1, 0)

    web()
    assert aws.asked() == (1, 0)


def test_a_disabled_region_is_explained_with_what_to_do(aws):
    aws.at(aws.first.url, aws.second.url)
    aws.first.will(sts_error("RegionDisabledException", "STS is not activated in this region", 403))

    with pytest.raises(AwsError) as told:
        web()

    assert told.value.code == "aws_region_disabled"
    assert FIRST in told.value.cause
    assert "AWS Regions" in told.value.remedy and "always on" in told.value.remedy


def test_when_neither_answers_one_error_names_both(aws, quickly):
    aws.first.otherwise = always(Answer(500))
    aws.second.otherwise = always(Answer(hang=30))
    began = time.monotonic()

    with pytest.raises(AwsUnavailable) as told:
        web()

    assert aws.asked() == (2, 1)
    assert told.value.code == "aws_internal"
    assert FIRST in told.value.cause and SECOND in told.value.cause
    assert "HTTP500" in told.value.cause and "ReadTimeoutError" in told.value.cause
    assert len(told.value.cause) <= 500
    assert told.value.__context__ is None
    assert time.monotonic() - began < sts.LONGEST


def test_when_both_are_avoided_the_first_is_asked_first_all_the_same(aws):
    aws.first.otherwise = aws.second.otherwise = always(Answer(500))
    with pytest.raises(AwsUnavailable):
        web()
    aws.well()
    aws.asked()

    web()

    assert aws.asked() == (1, 0)


def test_when_both_hang_it_ends_in_time(aws, monkeypatch, quickly):
    monkeypatch.setattr(sts, "PATIENCE", 2)
    aws.first.otherwise = aws.second.otherwise = always(Answer(hang=30))

    with pytest.raises(AwsUnavailable):
        web()

    assert aws.asked() in ((1, 1), (2, 1))  # a third try only while there is time left for it


def test_a_second_region_that_nobody_needs_any_more_is_forgotten(aws, clock):
    """Only who asks looks again: it must not count as avoided for ever because nobody asked."""
    aws.first.otherwise = aws.second.otherwise = always(Answer(500))
    with pytest.raises(AwsUnavailable):
        web()
    aws.well()

    for _ in range(3):
        clock.on += regions.AVOIDED + 1
        web()

    assert regions.avoided("sts", [FIRST, SECOND]) == []


def test_a_refusal_of_the_stand_in_is_checked_with_the_region_itself(aws):
    """A trust policy may pin aws:RequestedRegion: what another region says about it is not the answer."""
    aws.first.otherwise = always(Answer(500))
    web()
    aws.well()
    aws.second.otherwise = always(sts_error("AccessDenied", "no", 403))
    aws.asked()

    answer = web()

    assert answer.credentials.reveal().secret_access_key == SECRET
    assert aws.asked() == (1, 1)
    assert regions.avoided("sts", [FIRST]) == []


def test_a_refusal_of_both_is_the_regions_own(aws):
    aws.first.otherwise = always(Answer(500))
    web()
    aws.first.otherwise = always(sts_error("AccessDenied", "the first says no", 403))
    aws.second.otherwise = always(sts_error("AccessDenied", "the second says no", 403))
    aws.asked()

    with pytest.raises(AwsError) as told:
        web()

    assert "the first says no" in told.value.cause
    assert aws.asked() == (1, 1)


def test_silence_of_the_one_and_refusal_of_the_other_are_both_told(aws):
    aws.first.otherwise = always(Answer(500))
    aws.second.otherwise = always(sts_error("RegionDisabledException", "not activated", 403))

    with pytest.raises(AwsUnavailable) as told:
        web()

    assert told.value.code == "aws_internal"
    assert "RegionDisabledException" in told.value.cause
    assert aws.asked() == (1, 1)


def test_with_one_endpoint_for_all_regions_nothing_is_avoided(aws, settings):
    settings.DAYPASS_STS_ENDPOINT = aws.first.url
    aws.first.will(Answer(500))

    web()

    assert len(aws.first.requests) == 2
    assert regions.avoided("sts", [FIRST, SECOND]) == []


def test_a_partition_of_one_region_tries_that_one_again(aws, settings):
    settings.DAYPASS_STS_ENDPOINT = f"eusc-de-east-1={aws.first.url}"
    aws.first.will(Answer(500))
    arn = ARN.replace("arn:aws:", "arn:aws-eusc:")
    aws.first.otherwise = lambda request: sts_answer(
        request, arn="arn:aws-eusc:sts::111122223333:assumed-role/Developer/alice.9f3k2c7d"
    )

    answer = web(role_arn=arn, partition="aws-eusc", region="", second_region="")

    assert answer.assumed_role_arn.startswith("arn:aws-eusc:")
    assert len(aws.first.requests) == 2


def test_assume_role_is_signed_for_the_region_that_is_asked(aws, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient-secret")
    sts._clients.clear()
    aws.first.otherwise = always(Answer(500))

    call = RoleCall(ARN, "aws", FIRST, "alice.9f3k2c7d", 3600, second_region=SECOND)
    sts.assume_role(call, source_identity="alice")
    sts._clients.clear()

    assert f"/{FIRST}/sts/aws4_request" in aws.first.requests[0].headers["authorization"]
    assert f"/{SECOND}/sts/aws4_request" in aws.second.requests[0].headers["authorization"]


def test_a_crowd_waits_for_a_dead_region_once_and_not_for_ever(aws, quickly):
    aws.first.otherwise = always(Answer(hang=30))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: web(), range(8)))
        again = list(pool.map(lambda _: web(), range(8)))

    assert all(answer.credentials.access_key_id for answer in answers + again)
    first, second = aws.asked()
    assert first <= 8  # the first eight, at most; none of the second eight
    assert second == 16


# --- The sign-in service


def console(seconds: int | None = 3600, second: str = SECOND):
    credentials = Credentials("ASIAEXAMPLE", SECRET, TOKEN, datetime(2030, 1, 1, tzinfo=UTC))
    return signin.signin_token(
        credentials.reveal(),
        partition=PARTITIONS["aws"],
        region=FIRST,
        second_region=second,
        role_arn=ARN,
        seconds=seconds,
    )


SIGNIN_SILENCE = {
    "hangs": Answer(hang=30),
    "answers 500": Answer(500, b"<html>"),
    "answers 503": Answer(503),
    "cuts it off": Answer(drop=True),
}


@pytest.mark.parametrize("trouble", SIGNIN_SILENCE)
def test_a_sign_in_host_that_says_nothing_is_left_and_avoided(signing_in, quickly, trouble):
    signing_in.first.otherwise = always(SIGNIN_SILENCE[trouble])
    began = time.monotonic()

    token = console()
    assert signing_in.asked() == (1, 1)
    assert token.origin == signing_in.second.url
    assert signin.login_url(token, destination="https://console.aws.amazon.com/").startswith(
        f"{signing_in.second.url}/federation?"
    )

    assert console().origin == signing_in.second.url
    assert signing_in.asked() == (0, 1)
    assert time.monotonic() - began < signin.PATIENCE


def test_a_sign_in_host_where_nobody_listens_is_left_for_the_second(signing_in, closed_port):
    signing_in.at(closed_port, signing_in.second.url)

    assert console().origin == signing_in.second.url
    assert signing_in.asked() == (0, 1)


def test_the_first_sign_in_host_is_asked_again_after_a_while(signing_in, clock):
    signing_in.first.otherwise = always(Answer(500))
    console()
    signing_in.well()
    signing_in.asked()
    clock.on += regions.AVOIDED + 1

    assert console().origin == signing_in.first.url


def test_a_400_is_never_taken_to_another_host(signing_in):
    signing_in.first.otherwise = always(Answer(400))

    with pytest.raises(AwsError) as told:
        console()

    assert told.value.code == "aws_signin_refused"
    assert signing_in.asked() == (2, 0)  # with a duration, and without
    assert regions.avoided("signin", [urlsplit(signing_in.first.url).netloc]) == []


def test_the_duration_is_dropped_at_the_second_host_as_at_the_first(signing_in):
    signing_in.first.otherwise = always(Answer(503))
    signing_in.second.will(Answer(400))

    assert console().origin == signing_in.second.url
    assert ["SessionDuration" in r.form for r in signing_in.second.requests] == [True, False]


def test_when_no_sign_in_host_answers_one_error_names_both(signing_in):
    signing_in.first.otherwise = signing_in.second.otherwise = always(Answer(503))

    with pytest.raises(AwsUnavailable) as told:
        console()

    for region in (signing_in.first, signing_in.second):
        assert urlsplit(region.url).netloc in told.value.cause
    assert SECRET not in told.value.cause and TOKEN not in told.value.cause
    assert signing_in.asked() == (2, 1)


# --- The SAML form, where the browser asks


def well(request) -> Answer:
    return Answer(200, b"<EntityDescriptor/>")


def door(second: str = SECOND) -> signin.SamlDoor:
    return signin.saml_door(PARTITIONS["aws"], FIRST, second)


FIRST_RECIPIENT = f"https://{FIRST}.signin.aws.amazon.com/saml"
SECOND_RECIPIENT = f"https://{SECOND}.signin.aws.amazon.com/saml"


def test_the_form_goes_to_the_first_region_and_is_looked_at_once_a_minute(signing_in):
    signing_in.first.otherwise = well

    assert door() == signin.SamlDoor(f"{signing_in.first.url}/saml", FIRST_RECIPIENT)
    assert door() == signin.SamlDoor(f"{signing_in.first.url}/saml", FIRST_RECIPIENT)

    (looked,) = signing_in.first.requests
    assert (looked.method, looked.path) == ("GET", "/static/saml-metadata.xml")
    assert signing_in.second.requests == []


@pytest.mark.parametrize("trouble", SIGNIN_SILENCE)
def test_the_form_goes_to_the_second_region_when_the_first_says_nothing(
    signing_in, quickly, trouble
):
    signing_in.first.otherwise = always(SIGNIN_SILENCE[trouble])
    signing_in.second.otherwise = well

    assert door() == signin.SamlDoor(f"{signing_in.second.url}/saml", SECOND_RECIPIENT)
    assert door() == signin.SamlDoor(f"{signing_in.second.url}/saml", SECOND_RECIPIENT)
    assert signing_in.asked() == (1, 1)


def test_when_nobody_answers_us_the_browser_tries_the_first(signing_in):
    signing_in.first.otherwise = signing_in.second.otherwise = always(Answer(503))

    assert door().recipient == FIRST_RECIPIENT
    signing_in.asked()
    assert door().recipient == FIRST_RECIPIENT
    assert signing_in.asked() == (0, 0)


def test_what_the_console_link_learnt_the_form_knows(signing_in):
    signing_in.first.otherwise = always(Answer(503))
    console()
    signing_in.second.otherwise = well
    signing_in.asked()

    assert door().recipient == SECOND_RECIPIENT
    assert signing_in.asked() == (0, 1)


def test_without_a_second_region_the_form_falls_back_on_the_address_every_policy_lists(
    settings, monkeypatch, sts_stand_in
):
    """A proxy that lets nobody through sees which hosts are looked at."""
    settings.DAYPASS_SIGNIN_ENDPOINT = ""
    monkeypatch.setenv("HTTPS_PROXY", sts_stand_in.url)
    sts_stand_in.will(*[Answer(403)] * 9)
    signin._sessions.clear()

    found = door(second="")
    signin._sessions.clear()

    assert found == signin.SamlDoor(FIRST_RECIPIENT, FIRST_RECIPIENT)
    assert [request.path for request in sts_stand_in.requests] == [
        f"{FIRST}.signin.aws.amazon.com:443",
        "signin.aws.amazon.com:443",
    ]


# --- What people can read of it


def test_what_is_avoided_can_be_read_with_its_time_and_reason(aws):
    aws.first.otherwise = always(Answer(500))
    before = time.time()
    web()

    (seen,) = regions.avoided("sts", [FIRST, SECOND])

    assert (seen.place, seen.why) == (FIRST, "aws_internal")
    assert before <= seen.since <= time.time() < seen.until


def test_nothing_secret_is_remembered(aws):
    aws.first.otherwise = always(Answer(500))
    web(lambda: "canary.token")

    kept = json.dumps(cache.get_many([regions._name("sts", FIRST)]))

    assert FIRST in kept and "canary" not in kept
