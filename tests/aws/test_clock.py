"""A clock that is far from AWS's issues nothing, is told about early, and is forgiven as soon as it is right."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from django.core.cache import cache

from broker.aws import clock, sts
from broker.aws.clock import ClocksApart, Reading
from broker.errors import AwsError
from tests.aws.servers import Answer, sts_answer, sts_error
from tests.aws.test_sts import web


def date(seconds_behind_us: float) -> str:
    """A Date header of somebody whose clock is that much behind ours."""
    return format_datetime(datetime.now(UTC) - timedelta(seconds=seconds_behind_us), usegmt=True)


def answering(ahead: float):
    """STS as we see it with a clock that is so many seconds ahead."""

    def answer(request) -> Answer:
        made = sts_answer(request)
        made.headers["date"] = date(ahead)
        return made

    return answer


class Clock:
    """A clock of our own for the module: it can jump."""

    def __init__(self) -> None:
        self.jumped = 0.0

    def time(self) -> float:
        return time.time() + self.jumped

    def monotonic(self) -> float:
        return time.monotonic() + abs(self.jumped)


@pytest.fixture
def our_clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(clock, "time", made)
    monkeypatch.setattr(sts, "time", made, raising=True)
    made.sleep = time.sleep
    return made


@pytest.mark.parametrize("ahead", [a for a in range(-120, 121, 10) if abs(a) != 60])
def test_nothing_is_issued_exactly_from_a_minutes_difference_on(sts_stand_in, ahead):
    sts_stand_in.otherwise, before = answering(ahead), sts_stand_in.otherwise
    try:
        if abs(ahead) > 60:
            with pytest.raises(ClocksApart):
                web()
        else:
            assert web().credentials.access_key_id
    finally:
        sts_stand_in.otherwise = before

    assert clock.latest().ahead == pytest.approx(ahead, abs=1.5)


@pytest.mark.parametrize(
    ("ahead", "refused"), [(59.9, False), (60.0, True), (-59.9, False), (-60.0, True)]
)
def test_the_limit_itself(monkeypatch, ahead, refused):
    monkeypatch.setattr(clock._known, "reading", Reading(ahead, time.time(), "eu-west-1"))

    if refused:
        with pytest.raises(ClocksApart):
            clock.check()
    else:
        clock.check()


def test_the_employee_is_told_little_and_the_administrator_what_to_do(sts_stand_in):
    sts_stand_in.will(answering(90))

    with pytest.raises(AwsError) as caught:
        web()

    assert caught.value.code == "clocks_apart"
    assert not caught.value.retry
    assert "90" not in caught.value.message
    assert "ahead of AWS's" in caught.value.cause
    assert "Synchronise" in caught.value.remedy


def test_a_slow_answer_is_not_a_wrong_clock():
    sent = 1_700_000_000.0
    told = format_datetime(datetime.fromtimestamp(sent + 60, UTC), usegmt=True)

    found = clock.read({"date": told}, sent=sent, received=sent + 70, region="eu-west-1")

    assert abs(found.ahead) < clock.ALARM


@pytest.mark.parametrize("header", ["", "yesterday", "Thu, 99 Foo 2026 00:00:00 GMT"])
def test_an_answer_without_a_usable_date_changes_nothing(sts_stand_in, header):
    def answer(request) -> Answer:
        made = sts_answer(request)
        made.headers["date"] = header
        return made

    sts_stand_in.will(answer)

    assert web().credentials.access_key_id
    assert clock.latest() is None


def test_a_refusal_of_aws_tells_the_time_as_well(sts_stand_in):
    sts_stand_in.will(sts_error("AccessDenied", "no", 403, date=date(30)))

    with pytest.raises(AwsError):
        web()

    assert clock.latest().ahead == pytest.approx(30, abs=1.5)


def test_after_a_wrong_answer_aws_is_left_alone_for_a_minute_and_then_asked_again(
    sts_stand_in, our_clock
):
    sts_stand_in.will(answering(90))
    with pytest.raises(ClocksApart):
        web()
    with pytest.raises(ClocksApart):
        web()
    assert len(sts_stand_in.requests) == 1

    sts_stand_in.otherwise, before = answering(0), sts_stand_in.otherwise
    try:
        clock._known.reading = Reading(90, our_clock.time() - 61, "eu-west-1")
        assert web().credentials.access_key_id
        assert web().credentials.access_key_id
    finally:
        sts_stand_in.otherwise = before
    assert len(sts_stand_in.requests) == 3


@pytest.mark.parametrize("jump", [-3600, -120, 120, 3600])
def test_a_clock_that_is_set_right_is_believed_at_once(sts_stand_in, our_clock, jump):
    """Our clock was wrong by `-jump` and is set right by jumping."""
    sts_stand_in.will(answering(-jump))
    with pytest.raises(ClocksApart):
        web()

    our_clock.jumped = jump

    sts_stand_in.will(answering(-jump))  # AWS's own clock went on
    assert web().credentials.access_key_id


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_clock_that_jumps_away_is_noticed_with_the_next_answer(sts_stand_in, our_clock, jump):
    assert web().credentials.access_key_id

    our_clock.jumped = jump

    with pytest.raises(ClocksApart):
        web()


def test_what_one_process_read_stops_the_others(sts_stand_in):
    sts_stand_in.will(answering(90))
    with pytest.raises(ClocksApart):
        web()

    clock._known.reading, clock._known.looked = None, float("-inf")  # another process

    with pytest.raises(ClocksApart):
        web()
    assert len(sts_stand_in.requests) == 1


def test_a_right_answer_takes_the_alarm_back_for_all(sts_stand_in):
    sts_stand_in.will(answering(30))
    web()
    assert cache.get(clock._KEY)[0] == pytest.approx(30, abs=1.5)

    web()

    assert abs(cache.get(clock._KEY)[0]) < clock.ALARM


def test_without_the_cache_each_process_knows_its_own(sts_stand_in, settings):
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://127.0.0.1:1/0",
        }
    }
    assert web().credentials.access_key_id

    sts_stand_in.will(answering(90))

    with pytest.raises(ClocksApart):
        web()


def test_the_alarm_is_logged_once(sts_stand_in, caplog):
    caplog.set_level(logging.WARNING, "daypass.aws")

    for ahead in (0, 8, 9, 10, 0, 7):
        sts_stand_in.will(answering(ahead))
        web()

    alarms = [record for record in caplog.records if record.message == "clocks apart"]
    assert len(alarms) == 2
    assert alarms[0].seconds_ahead_of_aws == pytest.approx(8, abs=1.5)
