"""A run against an earlier one: what is better, worse, new and gone, and what cannot be compared."""

from __future__ import annotations

import pytest

from testbench.gating.decision import reach_verdict
from testbench.report.view import Labels, ReportView, build_view
from testbench.results.checks import Attempt, Check
from testbench.results.comparison import Comparison, classify_change, to_baseline
from testbench.results.summary import CheckVerdict
from testbench.results.verdict import Policy
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario
from tests.support.report_factory import experiment

LABELS = Labels("nightly", "exec-1", 1)


def checked(verdict: CheckVerdict, scores: dict[str, float]) -> Check:
    return Check("k", "k", "c", "s", "t", 1.0, (), False, {}, (Attempt(1, verdict, scores),))


def compared(now: EvaluatedExperiment, earlier: EvaluatedExperiment) -> tuple[ReportView, Comparison]:
    view = build_view(now, reach_verdict(now, Policy()), LABELS, to_baseline(earlier))
    assert view.comparison is not None
    return view, view.comparison


def test_a_run_against_itself_is_the_same_throughout() -> None:
    made = experiment(30)
    view, comparison = compared(made, made)
    assert comparison.counts == {"worse": 0, "better": 0, "changed": 0, "new": 0, "same": len(view.rows)}
    assert comparison.gone == ()
    assert {shift.delta for shift in comparison.shifts} == {0}


@pytest.mark.parametrize(
    ("before", "now", "kind"),
    [
        ("pass", "pass", "same"),
        ("fail", "pass", "better"),
        ("error", "pass", "better"),
        ("pass", "fail", "worse"),
        ("pass", "error", "worse"),
        ("pass", "unjudged", "worse"),
        ("fail", "error", "changed"),
        ("error", "fail", "changed"),
        ("error", "error", "same"),
    ],
)
def test_losing_a_pass_is_worse_whatever_comes_instead(before: CheckVerdict, now: CheckVerdict, kind: str) -> None:
    assert classify_change(checked(before, {}), now, {}).kind == kind


def test_the_difference_is_over_metrics_that_both_runs_scored() -> None:
    found = classify_change(checked("pass", {"a": 0.5, "gone": 0.1}), "pass", {"a": 0.75, "new": 1.0})
    assert found.delta == pytest.approx(0.25)


def test_without_a_score_in_common_there_is_no_difference() -> None:
    assert classify_change(checked("error", {}), "pass", {"a": 0.75}).delta is None


def test_steps_that_only_one_run_has_are_new_or_gone() -> None:
    made = experiment(30)
    fewer = made.model_copy(update={"scenarios": made.scenarios[1:]})
    _, comparison = compared(fewer, made)
    assert {before.scenario for before in comparison.gone} == {made.scenarios[0].name}
    _, comparison = compared(made, fewer)
    assert comparison.counts["new"] == len(made.scenarios[0].steps) + bool(made.scenarios[0].metrics)


def test_steps_are_paired_by_identity_and_not_by_place() -> None:
    made = experiment(30)
    turned = made.model_copy(update={"scenarios": made.scenarios[::-1]})
    view, comparison = compared(turned, made)
    assert comparison.counts["same"] == len(view.rows)


def test_a_file_without_ids_is_paired_by_scenario_and_question() -> None:
    made = experiment(30)
    bare = made.model_copy(update={"scenarios": tuple(_without_ids(scenario) for scenario in made.scenarios)})
    view, comparison = compared(bare, bare)
    assert comparison.counts["same"] == len(view.rows)
    assert comparison.gone == ()


def _without_ids(scenario: EvaluatedScenario) -> EvaluatedScenario:
    steps = tuple(step.model_copy(update={"id": ""}) for step in scenario.steps)
    return scenario.model_copy(update={"id": "", "steps": steps})


def test_another_judge_is_a_caution() -> None:
    made = experiment(10)
    assert made.evaluation is not None
    other = made.model_copy(update={"evaluation": made.evaluation.model_copy(update={"judge_model": "other-judge"})})
    _, comparison = compared(other, made)
    assert ["synthetic-judge-1" in caution and "other-judge" in caution for caution in comparison.cautions] == [True]
    assert compared(made, made)[1].cautions == ()
