"""What becomes a data point: every score once, everything else counted, and nothing merged with anything."""

from __future__ import annotations

from hypothesis import given

from testbench.results.summary import summarize
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, Evaluation, Usage
from testbench.telemetry.points import Execution, Point, aggregate_points, samples, score_points
from tests.support.telemetry_samples import (
    TRACE_ID,
    experiment,
    experiments,
    failed_step,
    judged,
    paid,
    scenario,
    step,
    unjudged,
)

EXECUTION = Execution("weather-test", "exec-001", 7)


def scores_of(evaluated: EvaluatedExperiment, *, content: bool = True) -> list[Point]:
    return list(score_points(samples(evaluated), EXECUTION, content=content))


def aggregates_of(evaluated: EvaluatedExperiment) -> dict[tuple[str, str], float]:
    """Value by gauge and the labels that tell its points apart."""
    points = list(aggregate_points(summarize(evaluated), EXECUTION))
    for point in points:
        assert (point.attributes["workflow_name"], point.attributes["execution_number"]) == ("weather-test", 7)
    found = {
        (point.gauge, " ".join(str(point.attributes.get(key, "")) for key in ("name", "result", "type")).strip()): point
        for point in points
    }
    assert len(found) == len(points)
    return {key: point.value for key, point in found.items()}


def test_a_point_has_exactly_the_attributes_of_the_contract() -> None:
    [point] = scores_of(experiment(scenario(step(judged("Faithfulness", 1)), number=3)))
    assert point.gauge == "testbench_evaluation_metric"
    assert point.value == 1.0
    assert isinstance(point.value, float)
    assert point.attributes == {
        "name": "Faithfulness",
        "workflow_name": "weather-test",
        "execution_id": "exec-001",
        "execution_number": 7,
        "trace_id": TRACE_ID,
        "sample_hash": "stp_0000000000000001",
        "user_input_truncated": "What is the weather?",
        "scenario": "weather 3",
        "step": 1,
        "result": "pass",
    }


def test_steps_count_from_one_and_a_whole_scenario_is_zero() -> None:
    of_all = (judged("Topic", 0.2),)
    found = scores_of(
        experiment(scenario(step(judged("a", 1)), step(judged("a", 1), number=2), number=9, evaluations=of_all))
    )
    assert [point.attributes["step"] for point in found] == [1, 2, 0]
    assert found[2].attributes["sample_hash"] == "scn_0000000000000009"
    assert found[2].attributes["user_input_truncated"] == "What is the weather?"
    assert found[2].attributes["result"] == "fail"


def test_the_users_input_is_cut_and_made_printable_and_can_be_left_out() -> None:
    evaluated = experiment(scenario(step(judged("a", 1), text="\x1b[2J line\none " + "x" * 100)))
    [point] = scores_of(evaluated)
    said = str(point.attributes["user_input_truncated"])
    assert len(said) == 50
    assert said.isprintable()
    assert said.startswith("\\x1b[2J line one xxx")
    assert scores_of(evaluated, content=False)[0].attributes["user_input_truncated"] == ""


def test_what_is_no_unicode_costs_no_attribute() -> None:
    """An exporter leaves out what it cannot encode, and says so nowhere."""
    execution = Execution("a\udcffb", "c\ud800d", 7)
    [point] = score_points(samples(experiment(scenario(step(judged("a", 1))))), execution, content=True)
    assert (point.attributes["workflow_name"], point.attributes["execution_id"]) == ("a?b", "c?d")


def test_a_metric_that_judges_a_step_twice_is_two_points() -> None:
    found = scores_of(experiment(scenario(step(judged("AspectCritic", 0.1), judged("AspectCritic", 0.9)))))
    assert [(point.attributes["sample_hash"], point.value) for point in found] == [
        ("stp_0000000000000001", 0.1),
        ("stp_0000000000000001-2", 0.9),
    ]


def test_a_score_on_a_step_that_the_agent_failed_is_no_score() -> None:
    evaluated = experiment(scenario(failed_step(judged("a", 1.0)), step(unjudged("a"), unjudged("b", "skipped"))))
    assert scores_of(evaluated) == []
    found = aggregates_of(evaluated)
    assert found == {
        ("testbench_evaluation_errors", "a error"): 2,
        ("testbench_evaluation_errors", "a skipped"): 0,
        ("testbench_evaluation_errors", "b error"): 0,
        ("testbench_evaluation_errors", "b skipped"): 1,
    }


def test_aggregates() -> None:
    usage = Usage(input_tokens=100, output_tokens=10, cost_usd=0.25)
    evaluated = experiment(
        scenario(
            step(paid(judged("a", 0.75), usage), judged("b", 0.25)),
            step(paid(judged("a", 0.25), usage), unjudged("b"), number=2),
        )
    )
    assert aggregates_of(evaluated) == {
        ("testbench_evaluation_pass_rate", "a"): 0.5,
        ("testbench_evaluation_score_mean", "a"): 0.5,
        ("testbench_evaluation_errors", "a error"): 0,
        ("testbench_evaluation_errors", "a skipped"): 0,
        ("testbench_evaluation_pass_rate", "b"): 0,
        ("testbench_evaluation_score_mean", "b"): 0.25,
        ("testbench_evaluation_errors", "b error"): 1,
        ("testbench_evaluation_errors", "b skipped"): 0,
        ("testbench_evaluation_token_usage", "input"): 200,
        ("testbench_evaluation_token_usage", "output"): 20,
        ("testbench_evaluation_cost", ""): 0.5,
    }


@given(experiments())
def test_every_score_is_a_point_of_its_own(evaluated: EvaluatedExperiment) -> None:
    found = scores_of(evaluated)
    expected = [
        evaluation.result.score
        for each in evaluated.scenarios
        for evaluation in _worth_a_score(each)
        if evaluation.result.score is not None
    ]
    assert [point.value for point in found] == expected
    without_result = {tuple(value for key, value in point.attributes.items() if key != "result") for point in found}
    assert len(without_result) == len(found)


@given(experiments())
def test_scores_and_errors_together_are_all_evaluations(evaluated: EvaluatedExperiment) -> None:
    points = list(aggregate_points(summarize(evaluated), EXECUTION))
    lost = sum(point.value for point in points if point.gauge == "testbench_evaluation_errors")
    assert len(scores_of(evaluated)) + lost == len(list(samples(evaluated)))


@given(experiments())
def test_aggregates_name_no_step_and_no_trace(evaluated: EvaluatedExperiment) -> None:
    labels = {key for point in aggregate_points(summarize(evaluated), EXECUTION) for key in point.attributes}
    assert labels <= {"name", "workflow_name", "execution_number", "result", "type"}


def _worth_a_score(each: EvaluatedScenario) -> list[Evaluation]:
    of_steps = [evaluation for one in each.steps if one.status == "ok" for evaluation in one.evaluations]
    return [*of_steps, *each.evaluations]
