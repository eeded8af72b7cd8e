"""From the parts that workers left to one evaluated experiment, complete or said to be incomplete.

    parts -> results by item -> missing, doubled and foreign ones named -> experiment in the plan's order

Called by the reduce command on this machine and in the cluster. Whoever ran how often, and in whatever order the parts
are read, the outcome is the same. An item without a result is in the outcome as a conversation whose every step is an
error: what is missing counts, and never as a pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import Field, ValidationError

from testbench.arena.plan.model import Item, Plan, PlanModel
from testbench.schema.ids import assign_ids, content_id
from testbench.schema.models import (
    EvaluatedExperiment,
    EvaluatedScenario,
    EvaluatedStep,
    EvaluationRecord,
    Failure,
    PlannedScenario,
    Scenario,
)


class ItemResult(PlanModel):
    """An item and what came of it: a conversation, judged. A failed item is a scenario with failed steps."""

    key: str
    plan_digest: str
    shard: int = Field(ge=0)
    worker: str
    finished_at: datetime
    scenario: EvaluatedScenario


LOST: Final = "lost"
"""Kind of the failure of every step of an item that no worker has finished."""


@dataclass(frozen=True)
class Reduction:
    """What the parts of a run hold.

    `doubled` counts results beyond the first of an item, `foreign` those of another plan or of no item of this one, and
    `unreadable` lines that are no result at all.
    """

    results: Mapping[str, ItemResult]
    missing: tuple[Item, ...]
    doubled: int = 0
    foreign: int = 0
    unreadable: int = 0

    @property
    def complete(self) -> bool:
        """Whether every item has its result and nothing was left over that this plan does not explain."""
        return not (self.missing or self.foreign or self.unreadable)

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong, one sentence each; empty when complete."""
        found = []
        if self.missing:
            keys = ", ".join(item.key for item in self.missing[:3])
            more = ", …" if len(self.missing) > 3 else ""
            found.append(f"{len(self.missing)} items have no result ({keys}{more})")
        if self.foreign:
            found.append(f"{self.foreign} results are not of this plan")
        if self.unreadable:
            found.append(f"{self.unreadable} lines of the parts cannot be read")
        return tuple(found)


@dataclass
class _ReductionCounts:
    doubled: int = 0
    foreign: int = 0
    unreadable: int = 0
    best: dict[str, ItemResult] = field(default_factory=dict)


def reduce_parts(plan: Plan, parts: Iterable[bytes]) -> Reduction:
    """Return the results of all parts. `parts` are the files' contents, in any order, each read once."""
    known = {item.key for item in plan.items}
    counts = _ReductionCounts()
    for part in parts:
        for line in part.splitlines():
            if line.strip():
                _take_line(line, plan, known, counts)
    missing = tuple(item for item in plan.items if item.key not in counts.best)
    return Reduction(counts.best, missing, counts.doubled, counts.foreign, counts.unreadable)


def _take_line(line: bytes, plan: Plan, known: set[str], counts: _ReductionCounts) -> None:
    try:
        result = ItemResult.model_validate_json(line)
    except ValidationError:
        counts.unreadable += 1
        return
    if result.key not in known or result.plan_digest != plan.digest:
        counts.foreign += 1
        return
    other = counts.best.get(result.key)
    if other is not None:
        counts.doubled += 1
        result = min(other, result, key=_rank_result)
    counts.best[result.key] = result


def _rank_result(result: ItemResult) -> tuple[bool, str, str, str]:
    """Of two results the one that was answered, then the first: never the better score."""
    broken = any(step.status != "ok" for step in result.scenario.steps)
    return broken, result.finished_at.isoformat(), result.worker, result.scenario.trace_id or ""


def build_experiment(plan: Plan, reduction: Reduction, record: EvaluationRecord) -> EvaluatedExperiment:
    """Return all items in the plan's order as one experiment, which report, gate and publish read as any other."""
    scenarios = {file.id: file.scenario for file in plan.scenarios}
    found = reduction.results
    return EvaluatedExperiment(
        id=content_id("exp", plan.digest),
        llm_as_a_judge_model=record.judge_model,
        evaluation=record,
        scenarios=tuple(
            found[item.key].scenario if item.key in found else _make_lost(item, scenarios[item.scenario_id])
            for item in plan.items
        ),
    )


def _make_lost(item: Item, scenario: Scenario) -> EvaluatedScenario:
    (planned,) = assign_ids([scenario])
    failure = Failure(kind=LOST, message="No worker has finished this item.", attempts=0, retryable=True)
    return _make_failed(item, planned, failure)


def _make_failed(item: Item, planned: PlannedScenario, failure: Failure) -> EvaluatedScenario:
    steps = tuple(
        EvaluatedStep.model_validate(dict(step) | {"status": "error", "error": failure}) for step in planned.steps
    )
    return EvaluatedScenario.model_validate(
        dict(planned)
        | {"id": item.scenario_id, "steps": steps, "provider": item.system.label, "repetition": item.repetition}
    )
