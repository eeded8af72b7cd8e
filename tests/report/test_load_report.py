"""The page of a load test in a real Chromium: readable in light and dark, silent, and deaf to hostile text."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from testbench.report.load_report import LoadNumbers, LoadView, format_milliseconds, format_rate, render_load_report
from testbench.report.page import format_percent, split_hidden_characters
from tests.support.hostile_report import PAYLOADS
from tests.support.load_pages import load_view
from tests.support.servers.chromium import OpenedReport


@pytest.fixture(scope="module")
def shared(browser: Browser) -> OpenedReport:
    """One page for all tests that ask for nothing special."""
    return OpenedReport(browser.new_context(viewport={"width": 1280, "height": 900}), Path())


def written(folder: Path, view: LoadView) -> Path:
    path = folder / "load.html"
    path.write_bytes(render_load_report(view))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_charts_are_drawn_and_nobody_is_asked(
    shared: OpenedReport, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    report = shared.turn_to(written(tmp_path, load_view()))
    report.page.emulate_media(color_scheme=scheme)
    page = report.open()
    for canvas in ("rates", "latencies"):
        # a chart that is drawn has pixels that are not transparent
        drawn = "(c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((value) => value)"
        assert page.locator(f"#{canvas}").evaluate(drawn)
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == {"light": "dark", "dark": "light"}[scheme]
    assert report.alone_and_silent


def test_the_numbers_are_there_without_a_script(browser: Browser, tmp_path: Path) -> None:
    report = OpenedReport(browser.new_context(java_script_enabled=False), written(tmp_path, load_view()))
    shown = report.open(scripted=False).locator("body").inner_text()
    for word in (
        "FAIL: a limit was missed",
        "499.8/s",
        "12.40 s",
        "not measured",
        "rate_limited",
        "< 0.1",
        "ramp, quarter 4",
    ):
        assert word in shown


def test_a_limit_that_was_not_measured_is_no_measured_miss(shared: OpenedReport, tmp_path: Path) -> None:
    page = shared.turn_to(written(tmp_path, load_view())).open()
    rows = page.locator("section", has_text="Limits").locator("tbody tr").all_inner_texts()
    assert [row.split()[1] for row in rows] == ["Missed", "Kept", "Kept", "Unknown"]


def test_nothing_sticks_out_of_a_small_screen(browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 380, "height": 800})
    page = OpenedReport(context, written(tmp_path, load_view())).open()
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


@pytest.mark.parametrize("number", range(len(PAYLOADS)))
def test_hostile_text_is_shown_and_does_nothing(shared: OpenedReport, tmp_path: Path, number: int) -> None:
    payload = PAYLOADS[number]
    report = shared.turn_to(written(tmp_path, load_view(payload, seconds=5)))
    page = report.open()
    shown = " ".join(page.locator("h1").inner_text().split())
    expected = " ".join("".join(text for _, text in split_hidden_characters(f"checkout assistant {payload}")).split())
    assert shown == expected
    assert page.evaluate("window.canary ?? null") is None
    assert report.alone_and_silent


def test_a_test_without_any_turn_has_a_page(shared: OpenedReport, tmp_path: Path) -> None:
    view = load_view()
    nothing = LoadNumbers(0, 0, None, None, None, None, None, None, None, False, None, None, None, None)
    empty = replace(view, verdict="error", numbers=nothing, times=(), by_system=(), errors=(), levels=(), seconds=())
    report = shared.turn_to(written(tmp_path, empty))
    assert "Nothing was sent" in report.open().locator("body").inner_text()
    assert report.complaints == []


def test_how_numbers_read() -> None:
    assert [format_milliseconds(value) for value in (3.21, 840.4, 1520)] == ["3.2 ms", "840 ms", "1.52 s"]
    assert [format_rate(value) for value in (500, 12.5, 1200)] == ["500", "12.5", "1,200"]
    assert format_percent(1e-6) == "< 0.1\u202f%"
    assert re.fullmatch(r"0\s%", format_percent(0))
