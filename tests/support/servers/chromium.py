"""A real Chromium from this machine, driven over its debugging protocol, that may not reach any network.

Nothing is downloaded: the browser is the system's own package. Tests that need it are skipped with a clear word where
there is none.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NOWHERE = "about:blank"


class OpenedReport:
    """A report in a browser's page, with everything that it complained of and asked the network for.

    A page costs more than what most tests do in it, so that tests with the same settings share one, one after the
    other: `turn_to` begins anew.
    """

    def __init__(self, context: BrowserContext, path: Path) -> None:
        self.path = path
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", self._error)
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        self.complaints.append(f"{message.type}: {message.text}")

    def _error(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _request(self, request: Request) -> None:
        if request.url != NOWHERE and not request.url.startswith(("data:", self.path.as_uri())):
            self.requests.append(request.url)

    @property
    def is_open(self) -> bool:
        return self.page.url.startswith(self.path.as_uri())

    @property
    def alone_and_silent(self) -> bool:
        """Whether the report asked nobody for anything and complained of nothing."""
        return (self.requests, self.complaints) == ([], [])

    def turn_to(self, path: Path) -> Self:
        """Leave what was opened, forget what was noted of it, and take another report, which may be the same."""
        self._leave()
        self.requests.clear()
        self.complaints.clear()
        self.path = path
        return self

    def open(self, address: str = "", *, scripted: bool = True) -> Page:
        """Load the page anew, with `address` after its path, and wait until it is ready."""
        self._leave()
        self.page.goto(self.path.as_uri() + address)
        if scripted:
            self.page.wait_for_selector("html[data-ready]", state="attached")
        return self.page

    def _leave(self) -> None:
        """For an empty page: an address that differs only after its `#` would load nothing."""
        if self.page.url != NOWHERE:
            self.page.goto(NOWHERE)

    def found(self, count: int) -> None:
        """Wait until the table says that `count` rows fit."""
        self.page.wait_for_selector(f'html[data-found="{count}"]', state="attached")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; skips the test where none is installed."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
