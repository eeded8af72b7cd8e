"""The report of a run with quarantine, tags, repetitions and a baseline says of them what the gate says."""

from __future__ import annotations

import re

from testbench.report.render import build_index
from testbench.report.view import Labels, ReportView, build_view
from testbench.results.comparison import to_baseline
from testbench.results.verdict import Policy
from testbench.schema.models import EvaluatedExperiment
from tests.support.gate_samples import attempts, quarantined, recorded, run_of, verdict_against
from tests.support.report_files import report

POLICY = Policy(min_pass_rate=0.5)


def run(*results: str, day: int = 1) -> EvaluatedExperiment:
    return run_of(
        *attempts("booking", *results, tags=["<smoke>"]),
        *[quarantined(one) for one in attempts("known", "fail", "fail", "fail")],
        **recorded(day=day),
    )


def view_of(now: EvaluatedExperiment, before: EvaluatedExperiment) -> ReportView:
    verdict = verdict_against(before, now, **POLICY.model_dump())
    return build_view(now, verdict, Labels("nightly", "exec", 1), to_baseline(before))


def text_of(html: bytes) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>", "", html.decode(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_rows_say_what_sets_them_apart() -> None:
    view = view_of(run("pass", "fail", "pass", day=2), run("pass", "pass", "pass"))
    found = build_index(view)
    assert found["quarantine"] == "---qqq"
    assert found["repetition"] == [1, 2, 3, 1, 2, 3]
    assert found["label"] == ["2/3"] * 3 + ["0/3"] * 3


def test_a_step_changed_once_however_often_it_ran() -> None:
    view = view_of(run("pass", "fail", "pass", day=2), run("pass", "pass", "pass"))
    assert [row.change.kind for row in view.rows if row.change] == ["worse"] * 3 + ["same"] * 3
    assert view.comparison is not None
    assert (view.comparison.counts["worse"], view.comparison.counts["same"]) == (1, 0), "quarantine is not counted"


def test_cards_count_quarantine_apart_and_a_scenario_once() -> None:
    cards = view_of(run("pass", "fail", "pass", day=2), run("pass", "pass", "pass")).cards
    assert (cards.outcomes.passed, cards.outcomes.failed, cards.outcomes.quarantined) == (2, 1, 3)
    assert (cards.scenarios, cards.steps, cards.repetitions) == (2, 6, 3)


def test_the_page_says_it_without_any_script() -> None:
    shown = text_of(report(run("pass", "fail", "pass"), policy=POLICY))
    for words in (
        "3 in quarantine, not counted",
        "quarantine, not counted run 1 · 0/3 passed",
        "run 2 · 2/3 passed",
        "&lt;smoke&gt; 2 of 3",
        "1 step is flaky",
        "steps sent to the agent, in all 3 repetitions",
    ):
        assert words in shown, words
