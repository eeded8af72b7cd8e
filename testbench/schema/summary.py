"""Counts and means of an evaluated experiment: the same numbers for the table on the screen, the gauges and the report.

A score that is missing is counted, never averaged: every mean says of how many it is.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from testbench.schema.models import (
    EvaluatedExperiment,
    EvaluatedScenario,
    EvaluatedStep,
    Evaluation,
    Metric,
    ResultStatus,
    Usage,
)

CheckVerdict = Literal["pass", "fail", "error", "unjudged"]
"""What all gating metrics of a step, or of a whole scenario, say together; `unjudged` where there are none."""

JUDGED: tuple[ResultStatus, ...] = ("pass", "fail")


@dataclass(frozen=True)
class Evaluated:
    """One evaluation with where it stands; `step` is None for a metric over the whole scenario."""

    scenario: EvaluatedScenario
    step: EvaluatedStep | None
    position: int | None
    evaluation: Evaluation

    @property
    def status(self) -> ResultStatus:
        """The evaluation's result; `error` where the agent's own step failed and nothing could be judged."""
        step_failed = self.step is not None and self.step.status != "ok"
        return "error" if step_failed else self.evaluation.result.result


@dataclass(frozen=True)
class Counts:
    """How many evaluations or steps ended in each way."""

    passed: int = 0
    failed: int = 0
    errors: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        return self.passed + self.failed + self.errors + self.skipped

    @property
    def judged(self) -> int:
        return self.passed + self.failed

    @property
    def pass_rate(self) -> float | None:
        """Passed of judged, or None where nothing was judged."""
        return self.passed / self.judged if self.judged else None


@dataclass(frozen=True)
class MetricSummary:
    """One metric over all steps: `scores` holds only what was judged, so n is `len(scores)` of `counts.total`."""

    name: str
    counts: Counts
    scores: tuple[float, ...]
    gating: bool

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.scores) if self.scores else None


@dataclass(frozen=True)
class Summary:
    """An evaluated experiment in numbers.

    `steps` counts the verdicts on steps and `conversations` those on whole scenarios; `skipped` there means that no
    gating metric judges it.
    """

    scenarios: int
    steps: Counts
    conversations: Counts
    evaluations: Counts
    metrics: tuple[MetricSummary, ...]
    agent_usage: Usage
    judge_usage: Usage


def summarize(experiment: EvaluatedExperiment) -> Summary:
    """Count and average; metrics in the order of their first appearance."""
    found = tuple(evaluations(experiment))
    steps = [step for scenario in experiment.scenarios for step in scenario.steps]
    return Summary(
        scenarios=len(experiment.scenarios),
        steps=_count_checks(step_verdict(step) for step in steps),
        conversations=_count_checks(scenario_verdict(scenario) for scenario in experiment.scenarios),
        evaluations=count(item.status for item in found),
        metrics=tuple(_summarize_metric(name, items) for name, items in _by_metric(found).items()),
        agent_usage=total_usage(step.usage for step in steps),
        judge_usage=total_usage(item.evaluation.result.usage for item in found),
    )


def evaluations(experiment: EvaluatedExperiment) -> Iterator[Evaluated]:
    """Every evaluation in file order, those of a scenario's steps before those of the whole scenario."""
    for scenario in experiment.scenarios:
        for position, step in enumerate(scenario.steps):
            for evaluation in step.evaluations:
                yield Evaluated(scenario, step, position, evaluation)
        for evaluation in scenario.evaluations:
            yield Evaluated(scenario, None, None, evaluation)


def step_verdict(step: EvaluatedStep) -> CheckVerdict:
    """The verdict on one step; a step that the agent did not answer is an error, whatever judges it."""
    return "error" if step.status != "ok" else _worst(step.metrics, step.evaluations)


def scenario_verdict(scenario: EvaluatedScenario) -> CheckVerdict:
    """The verdict on a whole conversation by its own metrics; those of its steps are not part of it."""
    return _worst(scenario.metrics, scenario.evaluations)


def _worst(metrics: Sequence[Metric], found: Sequence[Evaluation]) -> CheckVerdict:
    """An evaluation that is missing, skipped or in error is worse than a fail: it could hide one."""
    results = {evaluation.result.result for evaluation in found if evaluation.metric.gating}
    expected = sum(metric.gating for metric in metrics)
    if sum(evaluation.metric.gating for evaluation in found) < expected or results & {"error", "skipped"}:
        return "error"
    if not results:
        return "unjudged"
    return "fail" if "fail" in results else "pass"


def count(results: Iterable[ResultStatus]) -> Counts:
    """How often each result occurs."""
    found = Counter(results)
    return Counts(found["pass"], found["fail"], found["error"], found["skipped"])


def _count_checks(verdicts: Iterable[CheckVerdict]) -> Counts:
    found = Counter(verdicts)
    return Counts(found["pass"], found["fail"], found["error"], found["unjudged"])


def total_usage(usages: Iterable[Usage | None]) -> Usage:
    """The sum of what was reported; a number that nobody reported stays absent."""
    found = [usage for usage in usages if usage is not None]
    tokens_in = [usage.input_tokens for usage in found if usage.input_tokens is not None]
    tokens_out = [usage.output_tokens for usage in found if usage.output_tokens is not None]
    costs = [usage.cost_usd for usage in found if usage.cost_usd is not None]
    return Usage(
        input_tokens=sum(tokens_in) if tokens_in else None,
        output_tokens=sum(tokens_out) if tokens_out else None,
        cost_usd=math.fsum(costs) if costs else None,
    )


def _by_metric(found: Iterable[Evaluated]) -> dict[str, list[Evaluated]]:
    groups: dict[str, list[Evaluated]] = {}
    for item in found:
        groups.setdefault(item.evaluation.metric.metric_name, []).append(item)
    return groups


def _summarize_metric(name: str, items: list[Evaluated]) -> MetricSummary:
    statuses = [item.status for item in items]
    judged = (item.evaluation.result.score for item, status in zip(items, statuses, strict=True) if status in JUDGED)
    return MetricSummary(
        name=name,
        counts=count(statuses),
        scores=tuple(score for score in judged if score is not None),
        gating=any(item.evaluation.metric.gating for item in items),
    )
