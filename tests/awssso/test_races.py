"""Eight at the same moment at the doors for AWS's clients. The thousand rounds are `python -m tests.awssso.races`."""

from __future__ import annotations

import os

import pytest

from tests.awssso.races import AT_ONCE, WANTED, Result, race
from tests.awssso.site import Site
from tests.races import drop_database, empty_database

ROUNDS = 12


@pytest.fixture
def site(tmp_path):
    """Daypass under gunicorn, on the kind of database that the tests run on."""
    server = os.environ.get("DATABASE_URL", "")
    database = empty_database(server) if server else ""
    made = Site(tmp_path, database_url=database)
    yield made
    made.stop()
    if database:
        drop_database(database, server)


def test_of_eight_at_once_as_many_win_as_may(site):
    result = race(site, ROUNDS)

    assert result.wrong == []
    assert result.winners == {kind: n * ROUNDS for kind, n in WANTED.items()}


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (Result(odd=[("code", 2, ["200 ", "200 "])]), "code: 2 winners"),
        (Result(odd=[("device code", 0, ["400"])]), "device code: 0 winners"),
        (Result(rounds=1), "0 of terminal.let_in, and not 4"),
        (Result(rounds=1, recorded={"terminal.let_in": 5}), "5 of terminal.let_in, and not 4"),
    ],
)
def test_a_round_with_another_number_of_winners_is_told(result, sentence):
    assert any(sentence in told for told in result.wrong)


def test_a_server_error_in_a_race_is_told():
    result = Result()
    result.losers["500 InternalServerException"] = 3

    assert result.wrong == ["3 were answered 500 InternalServerException, which is no refusal"]


def test_eight_are_eight():
    assert AT_ONCE == WANTED["refresh within the grace"] == 8
