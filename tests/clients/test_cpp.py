"""The SDK for C++, inside pyarrow, which is large: `python -m tests.clients` runs these."""

from __future__ import annotations

from tests.clients.lineup import PYARROW
from tests.clients.notes import Notes
from tests.clients.test_machines import by_container, by_process, is_developer


def test_a_process_brings_credentials(home, maya, notes: Notes):
    ran = PYARROW.who_am_i(home, by_process(home, maya))

    assert is_developer(ran), ran
    notes.passed(PYARROW, "credential_process")


def test_a_container_finds_credentials(home, maya, notes: Notes):
    ran = PYARROW.who_am_i(home, **by_container(home, maya))

    assert is_developer(ran), ran
    notes.passed(PYARROW, "container")
