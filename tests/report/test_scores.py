"""What the report says of a metric: a mean of the scores that exist, and everything else counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.report.view import MetricView, count_by_tenth, view_metrics
from testbench.results.summary import find_missing_metrics, summarize
from testbench.schema.models import (
    EvaluatedExperiment,
    EvaluatedScenario,
    EvaluatedStep,
    Evaluation,
    Failure,
    Metric,
    Result,
    Turn,
)

METRIC = Metric(metric_name="builtin.contains", threshold=0.5)
BROKEN = Result(result="error", error=Failure(kind="timeout", message="too late"))


def step(*results: Result, asked: int | None = None, status: str = "ok") -> EvaluatedStep:
    evaluations = tuple(Evaluation(metric=METRIC, result=result) for result in results)
    answered = (Turn(type="agent", content="yes"),) if status == "ok" else ()
    error = Failure(kind="timeout", message="too late") if status == "error" else None
    metrics = (METRIC,) * (len(results) if asked is None else asked)
    return EvaluatedStep.model_validate(
        {
            "input": "?",
            "status": status,
            "turns": answered,
            "error": error,
            "metrics": metrics,
            "evaluations": evaluations,
        }
    )


def only_metric(*steps: EvaluatedStep) -> MetricView:
    scenario = EvaluatedScenario(name="s", steps=steps)
    experiment = EvaluatedExperiment(scenarios=(scenario,))
    (view,) = view_metrics(experiment, summarize(experiment).metrics)
    return view


def scored(score: float) -> Result:
    return Result(result="pass" if score >= 0.5 else "fail", score=score)


def test_a_mean_is_of_the_scores_that_exist() -> None:
    view = only_metric(step(scored(0.8)), step(scored(0.6)), step(BROKEN), step(Result(result="skipped")))
    assert view.spread is not None
    assert view.spread.mean == pytest.approx(0.7)
    assert (view.scored, view.total, view.errors, view.skipped) == (2, 4, 1, 1)


def test_errors_alone_have_no_mean_at_all() -> None:
    view = only_metric(step(BROKEN), step(BROKEN))
    assert view.spread is None
    assert (view.scored, view.errors) == (0, 2)


def test_an_evaluation_that_is_not_in_the_file_is_an_error() -> None:
    view = only_metric(step(scored(1.0)), step(asked=1))
    assert (view.passed, view.errors, view.total) == (1, 1, 2)


def test_a_metric_of_which_the_file_holds_nothing_is_shown_as_errors() -> None:
    view = only_metric(step(asked=1), step(asked=1))
    assert (view.name, view.spread, view.errors, view.gating) == ("builtin.contains", None, 2, True)


def test_a_score_on_a_step_that_the_agent_did_not_answer_does_not_count() -> None:
    view = only_metric(step(scored(1.0)), step(scored(1.0), status="error"))
    assert (view.passed, view.errors) == (1, 1)


def test_a_metric_that_was_asked_for_twice_must_answer_twice() -> None:
    assert find_missing_metrics(step(scored(1.0), asked=2)) == [METRIC]
    assert find_missing_metrics(step(scored(1.0), scored(1.0), asked=2)) == []


@pytest.mark.parametrize(
    ("score", "bin_"), [(0.0, 0), (0.1, 1), (0.3, 3), (0.29999, 2), (0.7, 7), (0.999, 9), (1.0, 9)]
)
def test_a_bin_holds_its_lower_end(score: float, bin_: int) -> None:
    assert count_by_tenth([score])[bin_] == 1


@given(st.lists(st.floats(0, 1)))
def test_a_histogram_loses_no_score(found: list[float]) -> None:
    assert sum(count_by_tenth(found)) == len(found)
