"""Plans and results for tests of the arena, made without a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from testbench.arena.evaluation.results import ItemResult
from testbench.arena.plan.model import Item, Plan, PlannedScenarioFile, SystemUnderTest
from testbench.schema.ids import assign_ids, content_id
from testbench.schema.models import (
    EvaluatedScenario,
    EvaluatedStep,
    Evaluation,
    Failure,
    Metric,
    Result,
    Scenario,
    Step,
    Turn,
    Usage,
)

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ACCURACY = Metric(metric_name="builtin.contains", threshold=0.5)


def scenario(name: str, *inputs: str) -> Scenario:
    steps = tuple(Step(input=text, metrics=(ACCURACY,)) for text in inputs or ("hello",))
    return Scenario(name=name, steps=steps)


def plan_of(scenarios: Sequence[Scenario], names: Sequence[str] = ("gpt", "claude"), repetitions: int = 1) -> Plan:
    """Every scenario with a provider of each name, so many times."""
    planned = assign_ids(scenarios)
    systems = tuple(SystemUnderTest(group="default", name=name, kind="provider") for name in names)
    combinations = [
        (one, system, repetition) for one in planned for system in systems for repetition in range(1, repetitions + 1)
    ]
    items = tuple(
        Item(
            key=content_id("itm", one.id, system.label, repetition),
            position=position,
            scenario_path=f"scenarios/{one.name}.yaml",
            scenario_id=one.id,
            scenario_name=one.name,
            system=system,
            repetition=repetition,
        )
        for position, (one, system, repetition) in enumerate(combinations)
    )
    return Plan(
        job="nightly",
        namespace="arena",
        type="evaluation",
        source_revision="sha256:1",
        digest=content_id("pln", [item.key for item in items]),
        scenarios=tuple(
            PlannedScenarioFile(path=f"scenarios/{one.name}.yaml", id=one.id, scenario=given)
            for one, given in zip(planned, scenarios, strict=True)
        ),
        systems=systems,
        items=items,
    )


def evaluated(plan_: Plan, item: Item, score: float | None = 1.0, answer: str = "fine") -> EvaluatedScenario:
    """An item's outcome with this score for each step; None: the agent was down."""
    (given,) = (file.scenario for file in plan_.scenarios if file.id == item.scenario_id)
    (planned,) = assign_ids([given])
    down = Failure(kind="unreachable", message="nobody answers", attempts=3, retryable=True)
    steps = []
    for step in planned.steps:
        if score is None:
            outcome: dict[str, object] = {"status": "error", "error": down}
        else:
            result = Result(result="pass" if score >= 0.5 else "fail", score=score)
            outcome = {
                "turns": (Turn(type="human", content=step.input), Turn(type="agent", content=answer)),
                "latency_ms": 120.0,
                "time_to_first_token_ms": 30.0,
                "started_at": NOON,
                "usage": Usage(input_tokens=10, output_tokens=5, cost_usd=0.01),
                "evaluations": (Evaluation(metric=ACCURACY, result=result),),
            }
        steps.append(EvaluatedStep.model_validate(dict(step) | outcome))
    return EvaluatedScenario.model_validate(
        dict(planned)
        | {
            "id": item.scenario_id,
            "steps": tuple(steps),
            "trace_id": "ab" * 16,
            "provider": item.system.label,
            "repetition": item.repetition,
        }
    )


def result_of(
    plan_: Plan, item: Item, *, worker: str = "w0", after_s: int = 0, score: float | None = 1.0
) -> ItemResult:
    return ItemResult(
        key=item.key,
        plan_digest=plan_.digest,
        shard=0,
        worker=worker,
        finished_at=NOON + timedelta(seconds=after_s),
        scenario=evaluated(plan_, item, score),
    )


def line_of(result: ItemResult) -> bytes:
    return result.model_dump_json(exclude_none=True).encode() + b"\n"
