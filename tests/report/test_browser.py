"""The report as people use it, in a real Chromium: search, sort, filter, open, link, print, and no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ViewportSize

from testbench.gating.decision import reach_verdict
from testbench.report.report_rows import build_rows
from testbench.report.view import Labels, build_view
from testbench.results.comparison import to_baseline
from testbench.results.verdict import Policy
from testbench.schema.models import EvaluatedExperiment
from tests.support.report_factory import experiment
from tests.support.report_files import report_file
from tests.support.servers.chromium import OpenedReport

SAMPLE = experiment(60)
ROWS = list(build_rows(SAMPLE, None))
DESK: ViewportSize = {"width": 1280, "height": 900}

Open = Callable[..., OpenedReport]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_file(tmp_path_factory.mktemp("report"), SAMPLE)


@pytest.fixture(scope="module")
def usual(browser: Browser, sample: Path) -> OpenedReport:
    """What most tests open, one after the other."""
    return OpenedReport(browser.new_context(viewport=DESK), sample)


@pytest.fixture
def opened(browser: Browser, usual: OpenedReport, sample: Path) -> Iterator[Open]:
    """Opens reports in the usual window, or with settings in one of their own; all must stay silent and alone."""
    reports: list[OpenedReport] = []

    def window(path: Path = sample, viewport: ViewportSize = DESK, **settings: object) -> OpenedReport:
        if settings or reports:
            context = browser.new_context(viewport=viewport, **settings)  # type: ignore[arg-type]  # handed through
            reports.append(OpenedReport(context, path))
        else:
            usual.page.set_viewport_size(viewport)
            reports.append(usual.turn_to(path))
        return reports[-1]

    yield window
    for report in reports:
        assert report.requests == []
        assert report.complaints == []
        if report is not usual:
            report.page.context.close()


def titles(report: OpenedReport) -> list[str]:
    return report.page.locator(".line__title").all_inner_texts()


def chosen(**wanted: str) -> list[int]:
    return [i for i, row in enumerate(ROWS) if all(getattr(row, name) == value for name, value in wanted.items())]


def test_the_page_shows_its_rows_and_its_charts(opened: Open) -> None:
    report = opened()
    page = report.open()
    assert page.locator("#found").inner_text() == f"{len(ROWS)} of {len(ROWS)} rows"
    assert titles(report)[:3] == [row.title for row in ROWS[:3]]
    inked = """canvas => {
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return pixels.some(value => value > 0);
    }"""
    assert [canvas.evaluate(inked) for canvas in page.locator("canvas").all()] == [True] * 6


def test_search_finds_words_of_the_list_and_of_what_is_folded_away(opened: Open) -> None:
    report = opened()
    page = report.open()
    page.fill("#search", "QUIET coach")
    report.found(sum("quiet coach" in row.title for row in ROWS))
    assert set(titles(report)) == {"Is there a quiet coach?"}
    page.fill("#search", "the judge's answer is no JSON")
    broken = sum("no JSON" in step.model_dump_json() for scenario in SAMPLE.scenarios for step in scenario.steps)
    report.found(broken)
    page.fill("#search", "xyzzy")
    report.found(0)
    assert page.locator("#empty").is_visible()


def test_filters_by_verdict_and_metric_work_together(opened: Open) -> None:
    report = opened()
    page = report.open()
    page.click("#verdicts >> text=Failed")
    report.found(len(chosen(verdict="fail")))
    page.click("#verdicts >> text=Error")
    report.found(len(chosen(verdict="fail")) + len(chosen(verdict="error")))
    page.select_option("#metric", "builtin.tool_calls")
    report.found(sum("builtin.tool_calls" in row.cells for row in ROWS))
    page.click("#verdicts >> text=Failed")
    report.found(
        sum(row.cells["builtin.tool_calls"].result == "fail" for row in ROWS if "builtin.tool_calls" in row.cells)
    )
    page.click("#clear")
    report.found(len(ROWS))


def test_sorting_by_a_metric_puts_missing_scores_last_both_ways(opened: Open) -> None:
    report = opened()
    page = report.open()
    cells = [row.cells.get("ragas.Faithfulness") for row in ROWS]
    scores = sorted(cell.score for cell in cells if cell is not None and cell.score is not None)
    page.click("[role=columnheader] >> text=Faithfulness")
    assert page.locator(".grid__body .line__score").first.inner_text().endswith(f"{scores[0]:.2f}")
    page.click("[role=columnheader] >> text=Faithfulness")
    assert page.locator("[aria-sort=descending]").count() == 1
    assert page.locator(".grid__body .line__score").first.inner_text().endswith(f"{scores[-1]:.2f}")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_selector(f'.line[aria-rowindex="{len(ROWS) + 1}"]')
    assert page.locator(".grid__body .line").last.locator(".line__score").first.inner_text() == ""


def test_an_opened_row_shows_the_conversation_and_every_verdict(opened: Open) -> None:
    report = opened()
    row = next(i for i, row in enumerate(ROWS) if row.position == 1 and row.verdict == "fail")
    page = report.open(f"#step={ROWS[row].id}")
    detail = page.locator(".detail")
    assert detail.locator(".bubble__who").all_inner_texts() == ["User", "Agent", "Tool result", "Agent"]
    assert '"passengers": 2' in detail.locator(".bubble--agent .call").inner_text()
    assert '"connections": [' in detail.locator(".bubble--tool").inner_text()
    assert detail.locator(".evaluation").count() == 4
    assert detail.locator(".evaluation--fail").count() >= 1
    link = detail.locator("a >> text=Open the trace").get_attribute("href")
    assert link is not None
    assert link.startswith("https://traces.example/")
    detail.locator("text=earlier messages").click()
    assert detail.locator(".bubble").count() > 4
    detail.locator("text=Show differences").click()
    assert detail.locator(".differences del, .differences ins").count() > 2


def test_a_failed_step_shows_the_error_and_no_score(opened: Open) -> None:
    failed = next(step for scenario in SAMPLE.scenarios for step in scenario.steps if step.status == "error")
    page = opened().open(f"#step={failed.id}")
    page.wait_for_selector(".opened")
    shown = " ".join(page.locator(".conversation .failure").inner_text().split())
    assert shown == "!The agent did not answer: timeout no answer within 30 s 4 attempts · may succeed when tried again"
    assert page.locator(".evaluation--error").count() == len(failed.metrics)
    assert page.locator(".evaluation__value, .score-bar").count() == 0


def test_a_link_leads_to_a_row_even_where_a_filter_hides_it(opened: Open) -> None:
    report = opened()
    passed = ROWS[chosen(verdict="pass")[-1]]
    page = report.open(f"#step={passed.id}&verdict=fail")
    page.wait_for_selector(".opened")
    assert page.locator(".line--current .line__title").inner_text() == passed.title
    assert page.locator(".line--current").bounding_box()["y"] < 900  # type: ignore[index]  # it is visible


def test_the_address_follows_what_is_done_and_leads_back_to_it(opened: Open) -> None:
    report = opened()
    page = report.open()
    page.fill("#search", "bicycle")
    report.found(sum("bicycle" in row.title for row in ROWS))
    page.click("#verdicts >> text=Passed")
    page.select_option("#sort", "-latency")
    found = int(page.locator("html").get_attribute("data-found") or -1)
    address = page.evaluate("location.hash")
    assert address == "#q=bicycle&verdict=pass&sort=-latency"
    again = opened()
    again.open(address)
    again.found(found)
    assert titles(again) == titles(report)
    assert again.page.input_value("#search") == "bicycle"


def test_the_keyboard_is_enough(opened: Open) -> None:
    report = opened()
    page = report.open()
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.locator(".line--current .line__title").inner_text() == ROWS[1].title
    page.keyboard.press("Enter")
    page.wait_for_selector(".opened")
    page.keyboard.press("Escape")
    page.wait_for_selector(".opened", state="detached")
    page.keyboard.press("k")
    assert page.locator(".line--current .line__title").inner_text() == ROWS[0].title
    page.keyboard.press("/")
    page.keyboard.type("jk")
    assert page.input_value("#search") == "jk"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.body")


def test_paper_gets_every_row_opened(opened: Open) -> None:
    report = opened()
    page = report.open("#verdict=fail")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    failed = len(chosen(verdict="fail"))
    assert (page.locator(".opened").count(), page.locator(".line--fail").count()) == (failed, failed)
    assert page.locator(".opened details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".opened").count() == 0
    assert len(page.pdf()) > 100_000
    assert page.locator(".opened").count() == 0


def test_dark_and_light_follow_the_system_until_somebody_chooses(opened: Open) -> None:
    shade = "getComputedStyle(document.body).backgroundColor"
    page = opened(color_scheme="dark").open()
    dark = page.evaluate(shade)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(shade)
    assert dark != light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(shade) == dark
    page.click("#theme")
    assert page.evaluate(shade) == light


@pytest.mark.parametrize("width", [360, 600, 900, 1600])
def test_no_width_scrolls_sideways(opened: Open, width: int) -> None:
    report = opened(viewport={"width": width, "height": 800})
    page = report.open(f"#step={ROWS[2].id}")
    page.wait_for_selector(".opened")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_script_the_first_rows_can_be_read(opened: Open) -> None:
    report = opened(java_script_enabled=False)
    page = report.open(scripted=False)
    assert page.locator("#verdict-sentence").is_visible()
    assert page.locator("details.static").count() == 50
    page.locator("details.static summary").first.click()
    assert page.locator("details.static .bubble").first.is_visible()


def test_a_browser_without_its_own_decompression_reads_the_same(opened: Open) -> None:
    report = opened(color_scheme="light")  # a window of its own: the script cannot be taken back
    report.page.add_init_script("delete window.DecompressionStream")
    page = report.open("#q=passengers")
    report.found(
        sum("passengers" in step.model_dump_json() for scenario in SAMPLE.scenarios for step in scenario.steps)
    )
    page.locator(".line__open").first.click()
    page.wait_for_selector(".opened .bubble")


def test_the_baseline_says_what_became_better_and_worse(opened: Open, tmp_path: Path) -> None:
    earlier = experiment(60, seed=8)
    view = build_view(SAMPLE, reach_verdict(SAMPLE, Policy()), Labels("w", "e", 1), to_baseline(earlier))
    assert view.comparison is not None
    report = opened(report_file(tmp_path, SAMPLE, baseline=to_baseline(earlier)))
    page = report.open("#change=worse")
    report.found(view.comparison.counts["worse"])
    page.locator(".line__open").first.click()
    page.wait_for_selector(".before")
    assert "before: ✓ Passed" in " ".join(page.locator(".before").inner_text().split())
    assert f"{view.comparison.counts['worse']} worse" in page.locator(".changes").inner_text()


def test_an_empty_experiment_still_opens(opened: Open, tmp_path: Path) -> None:
    report = opened(report_file(tmp_path, EvaluatedExperiment(scenarios=())))
    page = report.open()
    report.found(0)
    assert "NO VERDICT" in page.locator("#verdict-sentence").inner_text()


def test_two_thousand_rows_are_a_few_elements(opened: Open, tmp_path: Path) -> None:
    many = experiment(2000)
    report = opened(report_file(tmp_path, many))
    page = report.open()
    count = sum(1 for _ in build_rows(many, None))
    report.found(count)
    assert page.locator(".grid__body .line").count() < 60
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_selector(f'.line[aria-rowindex="{count + 1}"]')
    assert page.locator(".grid__body .line").count() < 60
    page.locator(".line__open").last.click()
    page.wait_for_selector(".opened")
