"""The report for people who do not see it, or not its colours: axe finds no serious fault, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from testbench.schema.comparison import remember
from tests.parts.chromium import OpenedReport, chromium
from tests.report_factory import experiment
from tests.report_files import report_file


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    earlier = remember(experiment(60, seed=8))
    return report_file(tmp_path_factory.mktemp("report"), experiment(60), baseline=earlier)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_no_serious_fault(browser: Browser, path: Path, scheme: str, width: int) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})  # type: ignore[arg-type]  # one of its words
    report = OpenedReport(context, path)
    page = report.open("#verdict=fail,error")
    page.locator(".line__open").nth(1).click()
    page.wait_for_selector(".opened")
    page.locator("text=Show differences").click()
    page.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 20
    serious = [
        (fault["id"], node["html"][:160], node["failureSummary"][:200])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:3]
    ]
    assert serious == []
    context.close()


def test_every_verdict_is_a_word_and_a_sign_and_not_only_a_colour(browser: Browser, path: Path) -> None:
    context = browser.new_context()
    page = OpenedReport(context, path).open()
    words = {" ".join(badge.split()) for badge in page.locator(".grid__body .badge").all_inner_texts()}
    assert words <= {"✓ Passed", "✕ Failed", "! Error", "\u2013 Not judged"}
    assert "✕ Failed" in words
    context.close()


def test_charts_have_the_same_numbers_as_text(browser: Browser, path: Path) -> None:
    context = browser.new_context()
    page = OpenedReport(context, path).open()
    for canvas in page.locator("canvas").all():
        assert canvas.get_attribute("role") == "img"
        assert canvas.get_attribute("aria-label")
    assert page.locator("#metrics-table tbody tr").count() == 5
    context.close()
