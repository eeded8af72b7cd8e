"""One flat row for each item: what the CSV holds, and what matrix and status are counted from.

    item, evaluated scenario -> row -> status, scores, times, tokens

Written by `testbench.arena.formats`, counted by `testbench.arena.matrix`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from testbench.arena.plan import Item, Plan
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, Evaluation, Failure, Usage
from testbench.schema.summary import CheckVerdict, scenario_verdict, step_verdict, total_usage

RowStatus = Literal["passed", "failed", "error", "skipped"]
"""`error`: not all of it could be judged; `skipped`: nothing that gates judges it."""

WORST_FIRST: tuple[CheckVerdict, ...] = ("error", "fail", "pass")
STATUS: dict[CheckVerdict, RowStatus] = {"error": "error", "fail": "failed", "pass": "passed", "unjudged": "skipped"}


@dataclass(frozen=True)
class ItemRow:
    """An item in numbers. Latency and time to first token are means over its answered steps, in milliseconds."""

    item: Item
    status: RowStatus
    scores: Mapping[str, float]
    """Mean score of each metric over what it judged."""
    latency_ms: float | None
    ttft_ms: float | None
    agent_usage: Usage
    judge_usage: Usage
    attempts: int
    failure: Failure | None
    trace_id: str | None
    started_at: datetime | None

    @property
    def cost_usd(self) -> float | None:
        """What the item cost, agent and judge together, as far as it was reported."""
        return total_usage([self.agent_usage, self.judge_usage]).cost_usd


def rows(plan: Plan, experiment: EvaluatedExperiment) -> Iterator[ItemRow]:
    """A row for each item, in the plan's order; `experiment` is the one that `testbench.arena.reduce` makes of it."""
    for item, scenario in zip(plan.items, experiment.scenarios, strict=True):
        yield row_of(item, scenario)


def row_of(item: Item, scenario: EvaluatedScenario) -> ItemRow:
    """One item as a row."""
    steps = scenario.steps
    found = [*(evaluation for step in steps for evaluation in step.evaluations), *scenario.evaluations]
    return ItemRow(
        item=item,
        status=_status(scenario),
        scores=_scores(found),
        latency_ms=_mean([step.latency_ms for step in steps if step.status == "ok"]),
        ttft_ms=_mean([step.time_to_first_token_ms for step in steps if step.status == "ok"]),
        agent_usage=total_usage(step.usage for step in steps),
        judge_usage=total_usage(evaluation.result.usage for evaluation in found),
        attempts=sum(step.error.attempts if step.error else step.status == "ok" for step in steps),
        failure=_first_failure(scenario, found),
        trace_id=scenario.trace_id,
        started_at=min((step.started_at for step in steps if step.started_at is not None), default=None),
    )


def _status(scenario: EvaluatedScenario) -> RowStatus:
    verdicts = {step_verdict(step) for step in scenario.steps if not step.quarantine} | {scenario_verdict(scenario)}
    return STATUS[next((verdict for verdict in WORST_FIRST if verdict in verdicts), "unjudged")]


def _scores(found: list[Evaluation]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for evaluation in found:
        if evaluation.result.score is not None:
            groups.setdefault(evaluation.metric.shown_name, []).append(evaluation.result.score)
    return {name: statistics.fmean(scores) for name, scores in groups.items()}


def _first_failure(scenario: EvaluatedScenario, found: list[Evaluation]) -> Failure | None:
    failures = [step.error for step in scenario.steps] + [evaluation.result.error for evaluation in found]
    return next((failure for failure in failures if failure is not None), None)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
