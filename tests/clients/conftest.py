"""The whole demo, a browser for whoever signs in, and a home folder for every client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.homes import Home
from tests.clients.notes import Notes
from tests.clients.people import Person
from tests.interop.desk import Desk
from tests.journeys.conftest import browser, demo, picture, pytest_runtest_makereport
from tests.servers import Demo

__all__ = ["browser", "demo", "pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def desk(demo: Demo) -> Iterator[Desk]:
    opened = Desk(demo, "tests.clients.desk")
    yield opened
    opened.stop()


@pytest.fixture(scope="session")
def notes() -> Iterator[Notes]:
    taken = Notes()
    yield taken
    taken.keep()


@pytest.fixture(scope="session")
def tab(browser, demo: Demo) -> Iterator[Any]:
    """A tab of somebody who stays signed in: signing in is not what these tests are about."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, locale="en-GB")
    yield context.new_page()
    browser.close(context)


@pytest.fixture
def maya(tab, demo: Demo, request: pytest.FixtureRequest) -> Iterator[Person]:
    """An engineer with a browser, who may do little in production and more elsewhere.

    What goes wrong on a page of Daypass fails the test; clients' own pages are their business.
    """
    complaints: list[str] = []

    def complain(message) -> None:
        ours = message.location["url"].startswith(demo.stage.origin)
        # Chromium reports answers of 4xx as errors; a page may be a refusal on purpose.
        if message.type == "error" and ours and "responded with a status" not in message.text:
            complaints.append(message.text)

    tab.on("console", complain)
    yield Person(tab, demo, "maya")
    tab.remove_listener("console", complain)
    failed = getattr(request.node, "failed", False)
    if failed or complaints:
        picture(tab, request.node.name)
    if not failed:
        assert not complaints


@pytest.fixture
def home(demo: Demo, tmp_path: Path) -> Home:
    return Home(tmp_path / "home", demo)


@pytest.fixture
def building_is_over(desk: Desk):
    """Call it, and the mapping that lets engineers build outside production is off for the rest of the test."""
    note = "Engineers build outside production"
    yield lambda: desk.do("switch_mapping", note=note, enabled=False)
    desk.do("switch_mapping", note=note, enabled=True)
