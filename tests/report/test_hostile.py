"""Hostile text in a real Chromium: everything is shown, nothing runs, and nobody is asked anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page

from testbench.report.page import split_hidden_characters
from testbench.results.comparison import to_baseline
from tests.support.hostile_report import LONG, PAYLOADS, hostile_experiment
from tests.support.report_files import report_file
from tests.support.servers.chromium import OpenedReport

TOLD = "window.canary ?? null"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = hostile_experiment()
    return report_file(tmp_path_factory.mktemp("report"), made, workflow=PAYLOADS[1], baseline=to_baseline(made))


@pytest.fixture(scope="module")
def window(browser: Browser, path: Path) -> OpenedReport:
    return OpenedReport(browser.new_context(viewport={"width": 1280, "height": 900}), path)


@pytest.fixture
def report(window: OpenedReport, path: Path) -> OpenedReport:
    return window.turn_to(path)


@pytest.fixture
def table(window: OpenedReport, path: Path) -> Iterator[OpenedReport]:
    """The report with every row closed; one loading serves many rows, as long as the page stays silent."""
    if not window.is_open or not silent(window):
        window.turn_to(path).open()
    yield window
    window.page.keyboard.press("Escape")


def as_shown(payload: str) -> str:
    return " ".join("".join(shown for _, shown in split_hidden_characters(payload)).split())


def current_row(page: Page) -> int:
    """The number of the row that the keyboard is at, from 0; -1 at none."""
    current = page.locator(".line--current")
    return int(current.get_attribute("aria-rowindex") or 0) - 2 if current.count() else -1


def silent(report: OpenedReport) -> bool:
    return report.page.evaluate(TOLD) is None and report.alone_and_silent


@pytest.mark.parametrize("number", range(len(PAYLOADS)))
def test_a_payload_in_every_field_is_shown_and_does_nothing(table: OpenedReport, number: int) -> None:
    page = table.page
    ahead = 2 * number - current_row(page)
    for _ in range(abs(ahead)):
        page.keyboard.press("j" if ahead > 0 else "k")
    page.keyboard.press("Enter")
    page.wait_for_selector(".opened")
    page.locator(".opened summary").evaluate_all("all => all.forEach(folded => folded.click())")
    page.locator(".opened >> text=Show differences").click()
    for element in page.locator(".opened .prose, .opened .line__open, .opened .tag").all():
        element.hover(force=True)
    shown = " ".join(page.locator(".opened").inner_text().split())
    expected = as_shown(PAYLOADS[number])
    assert shown.count(expected) >= 15
    assert expected in " ".join(page.locator(".line--current .line__open").inner_text().split())
    assert (
        page.locator(".opened script, .opened img, .opened iframe, .opened style, .opened form, .opened base").count()
        == 0
    )
    assert silent(table)


def test_a_payload_in_the_address_is_only_text(report: OpenedReport) -> None:
    for payload in PAYLOADS[:3]:
        address = quote(payload, safe="")
        settings = [f"{name}={address}" for name in ("step", "q", "metric", "sort", "verdict", "change")]
        page = report.open(f"#{'&'.join(settings)}")
        for setting in settings:
            page.evaluate("hash => { delete document.documentElement.dataset.found; location.hash = hash; }", setting)
            page.wait_for_selector("html[data-found]", state="attached")
        assert silent(report)


def test_hostile_metrics_can_be_chosen_and_sorted_by(report: OpenedReport) -> None:
    page = report.open()
    page.select_option("#metric", PAYLOADS[2])
    report.found(1)
    page.locator("[role=columnheader] button").nth(2).click()
    report.page.wait_for_selector("[aria-sort=ascending]")
    assert silent(report)


def test_without_script_hostile_text_is_text_too(browser: Browser, path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    report = OpenedReport(context, path)
    page = report.open(scripted=False)
    shown = " ".join(page.locator("body").inner_text().split())
    assert as_shown(PAYLOADS[1]) in shown
    assert page.locator("main img, main iframe, main script").count() == 0
    assert report.requests == []
    context.close()


def test_a_megabyte_is_cut_and_shown_on_demand(report: OpenedReport) -> None:
    page = report.open("#step=stp_long")
    page.wait_for_selector(".opened")
    answer = page.locator(".bubble--agent .prose")
    assert len(answer.inner_text()) < 5000
    page.locator(".bubble--agent .show-more").click()
    assert 5000 < len(answer.inner_text()) < 40_000
    page.locator("text=Show differences").click()
    assert silent(report)
    page.fill("#search", LONG[:19].strip())
    report.found(1)


def test_the_policy_stops_what_escaping_would_let_through(report: OpenedReport) -> None:
    """Were markup ever to get in, it still could not run or load anything."""
    page = report.open()
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.canary = 1";
          const image = document.createElement("img");
          image.setAttribute("onerror", "window.canary = 1");
          image.src = "http://127.0.0.1:9/canary.png";
          document.body.append(script, image);
          fetch("http://127.0.0.1:9/canary").catch(() => document.body.setAttribute("data-refused", "true"));
        }"""
    )
    page.wait_for_selector("[data-refused]")
    assert page.evaluate(TOLD) is None
    assert all("Content Security Policy" in complaint for complaint in report.complaints)
    assert len(report.complaints) >= 3
