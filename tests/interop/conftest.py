"""One Daypass for all providers of a run, its administrator, and a browser for whoever signs in.

A part that is not there fails here with its remedy; `make test` asks before and leaves those tests out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.desk import Desk
from tests.interop.steps import Administrator
from tests.journeys.conftest import any_certificate, browser, page, pytest_runtest_makereport
from tests.servers import Demo, start_demo

__all__ = ["any_certificate", "browser", "page", "pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def daypass(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A Daypass in which nothing is set up, as `make first-run` starts it."""
    started = start_demo(tmp_path_factory.mktemp("interop") / "stage", empty=True)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def administrator(daypass: Demo, browser) -> Iterator[Administrator]:
    """Signed in with the local account, in a browser of their own."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, locale="en-GB")
    yield Administrator(context.new_page(), daypass)
    browser.close(context)


@pytest.fixture(scope="session")
def desk(daypass: Demo, administrator: Administrator) -> Iterator[Desk]:
    """Its services. Beside the provider that a test is about there is always another: people choose."""
    opened = Desk(daypass)
    elsewhere = f"{daypass.stage.idp}/saml/metadata"
    opened.do("connect_saml", slug="elsewhere", metadata_url=elsewhere, claims={})
    yield opened
    opened.stop()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the providers of this run keep their things."""
    return tmp_path_factory.mktemp("providers")
