"""The whole demo, started as `make run` starts it, and a browser in front of it."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.servers import ROOT, Demo, chromium, start_demo

RESULTS = ROOT / "test-results"
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all journeys of a run. Journeys that break it start their own."""
    started = start_demo(tmp_path_factory.mktemp("demo") / "stage")
    yield started
    started.stop()


@pytest.fixture
def empty(tmp_path_factory) -> Iterator[Demo]:
    """A Daypass in which nothing is set up, as `make first-run` starts it."""
    started = start_demo(tmp_path_factory.mktemp("empty") / "stage", empty=True)
    yield started
    started.stop()


class Browser:
    """Chromium, started again when it is gone.

    Playwright waits without end for a Chromium that does not open or close a profile, which happens once in a long
    while. Here it has half a minute; then it is ended, and the next profile is opened in a new one.
    """

    PATIENCE = 30.0
    """Seconds."""

    def __init__(self, starter: Any, path: str) -> None:
        self.starter, self.path = starter, path
        self._running = self._start()

    def _start(self) -> Any:
        return self.starter.launch(executable_path=self.path, args=FLAGS)

    def new_context(self, **options: Any) -> Any:
        """A fresh profile, as Playwright's `Browser.new_context`."""
        if self._running.is_connected():
            opened = self._patiently(lambda: self._running.new_context(**options))
            if opened is not None:
                return opened
        self._running = self._start()
        return self._running.new_context(**options)

    def close(self, opened: Any = None) -> None:
        """Close a profile, or all of them."""
        if self._running.is_connected():
            self._patiently((opened or self._running).close)

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """What comes of it; None when Chromium had to be ended."""
        ended = threading.Event()

        def end() -> None:
            ended.set()
            for process in programs():
                with contextlib.suppress(psutil.Error):
                    process.kill()

        patience = threading.Timer(self.PATIENCE, end)
        patience.start()
        try:
            return ask()
        except Exception:
            if ended.is_set():
                return None
            raise
        finally:
            patience.cancel()


def programs() -> list[psutil.Process]:
    """The Chromiums of this process, without the children of their own."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if set(FLAGS) <= set(words) and not any(word.startswith("--type=") for word in words):
                found.append(process)
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    path = chromium()
    if path is None:
        pytest.fail("There is no Chromium. On Debian and Ubuntu: apt-get install chromium")
    expect.set_options(timeout=30_000)  # as long as Playwright gives every other step
    with sync_playwright() as playwright:
        launched = Browser(playwright.chromium, path)
        yield launched
        launched.close()


@pytest.fixture
def any_certificate() -> bool:
    """Whether the browser takes certificates that nobody vouches for; journeys over TLS of their own say yes."""
    return False


@pytest.fixture
def page(browser, any_certificate: bool, request: pytest.FixtureRequest):
    """A tab of a fresh browser profile. What goes wrong in it is kept as a picture in test-results/.

    A message on the console of the browser (a broken rule of the content security policy, a script error) fails the
    journey.
    """
    context = browser.new_context(
        viewport={"width": 1280, "height": 860},
        locale="en-GB",
        ignore_https_errors=any_certificate,
    )
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    yield tab
    failed = getattr(request.node, "failed", False)
    # Chromium reports answers of 4xx as errors; a page may be a refusal on purpose.
    complaints = [text for text in complaints if "the server responded with a status" not in text]
    if failed or complaints:
        picture(tab, request.node.name)
    browser.close(context)
    if not failed:
        assert not complaints


def picture(tab, name: str) -> Path:
    """A picture of the whole page, for people to look at."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{re.sub('[^a-z0-9_-]+', '-', name.lower())}.png"
    tab.screenshot(path=path, full_page=True)
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if report.failed:
        item.failed = True
    return report
