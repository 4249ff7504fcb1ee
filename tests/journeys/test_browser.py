"""The browser of the journeys itself: no journey waits without end for it."""

from __future__ import annotations

import pytest

from tests.journeys.conftest import Browser, programs


@pytest.fixture
def own(browser, monkeypatch):
    """A Chromium beside that of the other journeys, which is not waited for for long."""
    others = {process.pid for process in programs()}
    started = Browser(browser.starter, browser.path)
    (program,) = (process for process in programs() if process.pid not in others)
    monkeypatch.setattr("tests.journeys.conftest.programs", lambda: [program])
    monkeypatch.setattr(Browser, "PATIENCE", 1.0)
    yield started, program
    started.close()


def test_a_browser_that_does_not_close_a_profile_is_ended_and_started_again(own):
    started, program = own
    profile = started.new_context()
    profile.new_page().goto("data:text/html,<h1>here</h1>")
    program.suspend()

    started.close(profile)

    program.wait(timeout=30)
    again = started.new_context().new_page()
    again.goto("data:text/html,<h1>again</h1>")
    assert again.inner_text("h1") == "again"


def test_a_browser_that_opens_no_profile_is_ended_and_started_again(own):
    started, program = own
    program.suspend()

    tab = started.new_context().new_page()

    program.wait(timeout=30)
    tab.goto("data:text/html,<h1>again</h1>")
    assert tab.inner_text("h1") == "again"
