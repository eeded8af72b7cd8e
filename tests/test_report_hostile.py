"""Hostile text in a real Chromium: everything is shown, nothing runs, and nobody is asked anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from testbench.report.visible import segments
from testbench.schema.comparison import remember
from tests.hostile_report import LONG, PAYLOADS, hostile_experiment
from tests.parts.chromium import OpenedReport, chromium
from tests.report_files import report_file

TOLD = "window.canary ?? null"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = hostile_experiment()
    return report_file(tmp_path_factory.mktemp("report"), made, workflow=PAYLOADS[1], baseline=remember(made))


@pytest.fixture
def report(browser: Browser, path: Path) -> Iterator[OpenedReport]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield OpenedReport(context, path)
    context.close()


def as_shown(payload: str) -> str:
    return " ".join("".join(shown for _, shown in segments(payload)).split())


def silent(report: OpenedReport) -> bool:
    return (report.page.evaluate(TOLD), report.requests, report.complaints) == (None, [], [])


@pytest.mark.parametrize("number", range(len(PAYLOADS)))
def test_a_payload_in_every_field_is_shown_and_does_nothing(report: OpenedReport, number: int) -> None:
    page = report.open()
    row = 2 * number
    for _ in range(row + 1):
        page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector(".opened")
    for folded in page.locator(".opened summary").all():
        folded.click()
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
    assert silent(report)


def test_a_payload_in_the_address_is_only_text(report: OpenedReport) -> None:
    for payload in PAYLOADS[:3]:
        address = report.page.evaluate("text => encodeURIComponent(text)", payload)
        for name in ("step", "q", "metric", "sort", "verdict", "change"):
            report.page.goto("about:blank")
            report.open(f"#{name}={address}")
    report.requests.clear()  # about:blank
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
