"""Small samples, steps and experiments for the tests of metrics and evaluation."""

from __future__ import annotations

from typing import Any

from testbench.metrics.protocol import Sample
from testbench.schema.models import (
    ExecutedExperiment,
    ExecutedScenario,
    ExecutedStep,
    Failure,
    Metric,
    Reference,
    ToolCall,
    Turn,
)

QUESTION = "What is the weather in Paris?"
ANSWER = "It is sunny in Paris, 18 degrees Celsius."


def calls(*specs: str | tuple[str, dict[str, Any]]) -> tuple[ToolCall, ...]:
    """Tool calls from names, or from (name, arguments)."""
    return tuple(ToolCall(name=s) if isinstance(s, str) else ToolCall(name=s[0], args=s[1]) for s in specs)


def step(
    answer: str | None = ANSWER,
    *,
    metrics: tuple[Metric, ...] = (),
    reference: Reference | None = None,
    made: tuple[ToolCall, ...] = (),
    tool_result: str | None = None,
    **fields: Any,
) -> ExecutedStep:
    """A step that was answered; with no answer, one that failed."""
    turns = [Turn(type="human", content=fields.get("input", QUESTION))]
    if made:
        turns.append(Turn(type="agent", tool_calls=made))
    if tool_result is not None:
        turns.append(Turn(type="tool", content=tool_result))
    if answer is not None:
        turns.append(Turn(type="agent", content=answer))
    failed: dict[str, Any] = {}
    if answer is None:
        failed = {"status": "error", "error": Failure(kind="timeout", message="no answer within 30 s")}
    base: dict[str, Any] = {
        "id": "stp_1",
        "input": QUESTION,
        "metrics": metrics,
        "reference": reference,
        "turns": turns,
    }
    return ExecutedStep(**(base | failed | fields))


def sample(answer: str | None = ANSWER, **fields: Any) -> Sample:
    """The sample of `step` with the same arguments."""
    return Sample.of_step(step(answer, **fields))


def scenario(*steps: ExecutedStep, name: str = "Paris", metrics: tuple[Metric, ...] = ()) -> ExecutedScenario:
    return ExecutedScenario(id=f"scn_{name}", name=name, steps=steps, metrics=metrics)


def experiment(*scenarios: ExecutedScenario, **fields: Any) -> ExecutedExperiment:
    return ExecutedExperiment(id="exp_1", scenarios=scenarios, **fields)


def metric(name: str, threshold: float | None = None, **parameters: Any) -> Metric:
    return Metric(metric_name=name, threshold=threshold, parameters=parameters)
