"""The report for people who do not see it, or not its colours: axe finds no serious fault, light and dark."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal, TypeAlias

import pytest
from playwright.sync_api import Browser, Page

from testbench.results.comparison import to_baseline
from tests.support.report_factory import experiment
from tests.support.report_files import report_file
from tests.support.servers.chromium import OpenedReport

Scheme: TypeAlias = Literal["light", "dark"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    earlier = to_baseline(experiment(60, seed=8))
    return report_file(tmp_path_factory.mktemp("report"), experiment(60), baseline=earlier)


@pytest.fixture(scope="module")
def window(browser: Browser, path: Path) -> OpenedReport:
    return OpenedReport(browser.new_context(viewport={"width": 1280, "height": 900}), path)


def opened(window: OpenedReport, address: str = "", *, scheme: Scheme = "light", width: int = 1280) -> Page:
    window.page.emulate_media(color_scheme=scheme)
    window.page.set_viewport_size({"width": width, "height": 900})
    return window.open(address)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_no_serious_fault(window: OpenedReport, scheme: Scheme, width: int) -> None:
    page = opened(window, "#verdict=fail,error", scheme=scheme, width=width)
    page.locator(".line__open").nth(1).click()
    page.wait_for_selector(".opened")
    page.locator("text=Show differences").click()
    page.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")  # of what passes, the rule and not every element
    assert len(found["passes"]) > 20
    serious = [
        (fault["id"], node["html"][:160], node["failureSummary"][:200])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:3]
    ]
    assert serious == []


def test_every_verdict_is_a_word_and_a_sign_and_not_only_a_colour(window: OpenedReport) -> None:
    page = opened(window)
    words = {" ".join(badge.split()) for badge in page.locator(".grid__body .badge").all_inner_texts()}
    assert words <= {"✓ Passed", "✕ Failed", "! Error", "\u2013 Not judged"}
    assert "✕ Failed" in words


def test_charts_have_the_same_numbers_as_text(window: OpenedReport) -> None:
    page = opened(window)
    for canvas in page.locator("canvas").all():
        assert canvas.get_attribute("role") == "img"
        assert canvas.get_attribute("aria-label")
    assert page.locator("#metrics-table tbody tr").count() == 5
