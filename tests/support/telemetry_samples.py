"""Evaluated experiments for the tests of telemetry: built from a table, or drawn by hypothesis."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from testbench.schema.files import write_model
from testbench.schema.models import (
    EvaluatedExperiment,
    EvaluatedScenario,
    EvaluatedStep,
    Evaluation,
    Failure,
    Metric,
    Result,
    Turn,
    Usage,
)

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"


def judged(name: str, score: float, *, threshold: float = 0.5, reason: str | None = None) -> Evaluation:
    word = "pass" if score >= threshold else "fail"
    return Evaluation(metric=Metric(metric_name=name), result=Result(result=word, score=score, reason=reason))


def unjudged(name: str, result: str = "error") -> Evaluation:
    failure = Failure(kind="timeout", message="the judge said nothing")
    if result == "error":
        return Evaluation(metric=Metric(metric_name=name), result=Result(result="error", error=failure))
    return Evaluation(metric=Metric(metric_name=name), result=Result(result="skipped", reason="no reference"))


def paid(evaluation: Evaluation, usage: Usage) -> Evaluation:
    return evaluation.model_copy(update={"result": evaluation.result.model_copy(update={"usage": usage})})


def step(
    *evaluations: Evaluation, number: int = 1, text: str = "What is the weather?", span_id: str | None = SPAN_ID
) -> EvaluatedStep:
    turns = (Turn(type="human", content=text), Turn(type="agent", content="Sunny."))
    return EvaluatedStep(
        id=f"stp_{number:016x}", input=text, turns=turns, span_id=span_id, evaluations=tuple(evaluations)
    )


def failed_step(*evaluations: Evaluation, number: int = 1) -> EvaluatedStep:
    return EvaluatedStep(
        id=f"stp_{number:016x}",
        input="Are you there?",
        status="error",
        error=Failure(kind="unreachable", message="nobody answers"),
        turns=(Turn(type="human", content="Are you there?"),),
        evaluations=tuple(evaluations),
    )


def scenario(
    *steps: EvaluatedStep, number: int = 1, evaluations: tuple[Evaluation, ...] = (), trace_id: str | None = TRACE_ID
) -> EvaluatedScenario:
    return EvaluatedScenario(
        id=f"scn_{number:016x}", name=f"weather {number}", trace_id=trace_id, steps=steps, evaluations=evaluations
    )


def experiment(*scenarios: EvaluatedScenario) -> EvaluatedExperiment:
    return EvaluatedExperiment(id="exp_0000000000000001", scenarios=scenarios)


def large(scores: int) -> EvaluatedExperiment:
    """One scenario with as many steps, each with one score of its own."""
    return experiment(scenario(*(step(judged("m", number / scores), number=number) for number in range(scores))))


def written(path: Path, evaluated: EvaluatedExperiment) -> Path:
    write_model(path, evaluated)
    return path


METRICS = st.sampled_from(("Faithfulness", "builtin.tool_calls", "AspectCritic"))
EVALUATIONS = st.one_of(
    st.builds(judged, METRICS, st.floats(0, 1)),
    st.builds(unjudged, METRICS, st.sampled_from(("error", "skipped"))),
)
TEXT = st.text(min_size=1, max_size=80)


@st.composite
def experiments(draw: st.DrawFn) -> EvaluatedExperiment:
    """Any mixture of scores, errors and skips, on steps that may have failed, with ids that may be missing."""
    scenarios = []
    for number in range(draw(st.integers(1, 3))):
        steps = []
        for position in range(draw(st.integers(0, 3))):
            found = draw(st.lists(EVALUATIONS, max_size=4))
            identity = number * 10 + position
            if draw(st.booleans()):
                steps.append(failed_step(*found, number=identity))
            else:
                steps.append(step(*found, number=identity, text=draw(TEXT)))
        of_all = tuple(draw(st.lists(EVALUATIONS, max_size=2)))
        scenarios.append(scenario(*steps, number=number, evaluations=of_all))
    if draw(st.booleans()):
        return _without_ids(experiment(*scenarios))
    return experiment(*scenarios)


def _without_ids(evaluated: EvaluatedExperiment) -> EvaluatedExperiment:
    stripped = [
        each.model_copy(update={"id": "", "steps": tuple(one.model_copy(update={"id": ""}) for one in each.steps)})
        for each in evaluated.scenarios
    ]
    return evaluated.model_copy(update={"scenarios": tuple(stripped)})
