"""Evaluation events: one for each evaluation, below the right span, with a score only where there is one."""

from __future__ import annotations

from hypothesis import given
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.trace import format_span_id, format_trace_id

from testbench.schema.models import EvaluatedExperiment
from testbench.telemetry.events import evaluation_events
from testbench.telemetry.points import Execution, samples
from tests.support.telemetry_samples import (
    SPAN_ID,
    TRACE_ID,
    experiment,
    experiments,
    failed_step,
    judged,
    scenario,
    step,
    unjudged,
)

EXECUTION = Execution("weather-test", "exec-001", 7)


def events_of(evaluated: EvaluatedExperiment, *, content: bool = True) -> list[LogRecord]:
    return list(evaluation_events(samples(evaluated), EXECUTION, 7, content=content))


def attributes_of(event: LogRecord) -> dict[str, object]:
    return dict(event.attributes or {})


def ids_of(event: LogRecord) -> tuple[str, str]:
    return format_trace_id(event.trace_id), format_span_id(event.span_id)


def test_a_score_below_the_span_of_its_step() -> None:
    [event] = events_of(experiment(scenario(step(judged("Faithfulness", 0.25, reason="It rained.")))))
    assert (event.event_name, event.body, event.timestamp) == ("gen_ai.evaluation.result", "Faithfulness: fail 0.25", 7)
    assert ids_of(event) == (TRACE_ID, SPAN_ID)
    assert event.attributes == {
        "gen_ai.evaluation.name": "Faithfulness",
        "gen_ai.evaluation.score.value": 0.25,
        "gen_ai.evaluation.score.label": "fail",
        "gen_ai.evaluation.explanation": "It rained.",
        "workflow_name": "weather-test",
        "execution_id": "exec-001",
        "execution_number": 7,
        "sample_hash": "stp_0000000000000001",
        "scenario": "weather 1",
        "step": 1,
    }


def test_an_evaluation_of_the_whole_scenario_belongs_to_its_trace() -> None:
    [event] = events_of(experiment(scenario(evaluations=(judged("Topic", 1),))))
    assert (ids_of(event)[0], event.span_id) == (TRACE_ID, 0)


def test_what_has_no_score_says_why() -> None:
    found = events_of(
        experiment(scenario(step(unjudged("a"), unjudged("b", "skipped")), failed_step(judged("c", 1.0), number=2)))
    )
    assert [attributes_of(event)["error.type"] for event in found] == ["timeout", "skipped", "unreachable"]
    assert [event.severity_number for event in found] == [SeverityNumber.WARN] * 3
    assert not any("gen_ai.evaluation.score.value" in attributes_of(event) for event in found)
    assert [attributes_of(event)["gen_ai.evaluation.explanation"] for event in found] == [
        "the judge said nothing",
        "no reference",
        "nobody answers",
    ]


def test_a_reason_is_content() -> None:
    [event] = events_of(experiment(scenario(step(judged("a", 1, reason="secret")))), content=False)
    assert "secret" not in str(vars(event))


def test_an_id_that_is_none_is_left_out() -> None:
    for broken in (None, "", "0" * 32, "xyz", "0AF7"):
        [event] = events_of(experiment(scenario(step(judged("a", 1), span_id=broken), trace_id=broken)))
        assert (event.trace_id, event.span_id) == (0, 0)


@given(experiments())
def test_one_event_for_each_evaluation(evaluated: EvaluatedExperiment) -> None:
    found = events_of(evaluated)
    assert len(found) == sum(
        len(each.evaluations) + sum(len(one.evaluations) for one in each.steps) for each in evaluated.scenarios
    )
    for event in found:
        has_score = "gen_ai.evaluation.score.value" in attributes_of(event)
        assert has_score != ("error.type" in attributes_of(event))
