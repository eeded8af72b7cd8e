"""Counts and means of an evaluated experiment: the same numbers for the table on the screen, the gauges and the report.

A score that is missing is counted, never averaged: every mean says of how many it is. What is in quarantine is counted
apart, and is part of no mean.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
class PlacedEvaluation:
    """One evaluation with where it stands; `step` is None for a metric over the whole scenario."""

    scenario: EvaluatedScenario
    step: EvaluatedStep | None
    position: int | None
    evaluation: Evaluation

    @property
    def status(self) -> ResultStatus:
        """The evaluation's result; `error` where the agent's own step failed and nothing could be judged."""
        step_failed = self.step is not None and self.step.status != "ok"
        return "error" if step_failed else status_of(self.evaluation)

    @property
    def quarantined(self) -> bool:
        """Whether it counts in no verdict and no mean."""
        return is_quarantined(self.scenario if self.step is None else self.step)


@dataclass(frozen=True)
class ResultCounts:
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
    """One metric over all steps: `scores` holds only what was judged, so n is `len(scores)` of `counts.total`.

    An evaluation that was asked for and that the file does not hold is an error.
    `clusters` names for each score the scenario that it comes from: scores of one scenario are not independent.
    """

    name: str
    counts: ResultCounts
    scores: tuple[float, ...]
    gating: bool
    clusters: tuple[str, ...] = ()

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.scores) if self.scores else None


@dataclass(frozen=True)
class Summary:
    """An evaluated experiment in numbers.

    `steps` counts the verdicts on steps and `conversations` those on whole scenarios; `skipped` there means that no
    gating metric judges it. Those in quarantine are in `quarantined` alone. `evaluations` is all that was judged.
    """

    scenarios: int
    steps: ResultCounts
    conversations: ResultCounts
    quarantined: ResultCounts
    evaluations: ResultCounts
    metrics: tuple[MetricSummary, ...]
    agent_usage: Usage
    judge_usage: Usage


def summarize(experiment: EvaluatedExperiment) -> Summary:
    """Return counts and means; metrics in the order of their first appearance."""
    found = tuple(walk_evaluations(experiment))
    steps = [step for scenario in experiment.scenarios for step in scenario.steps]
    scenarios = experiment.scenarios
    apart = [decide_step(step) for step in steps if step.quarantine]
    apart += [decide_scenario(scenario) for scenario in scenarios if is_quarantined(scenario)]
    return Summary(
        scenarios=len(scenarios),
        steps=_count_checks(decide_step(step) for step in steps if not step.quarantine),
        conversations=_count_checks(decide_scenario(one) for one in scenarios if not is_quarantined(one)),
        quarantined=_count_checks(apart),
        evaluations=count_results(item.status for item in found),
        metrics=_summarize_metrics(experiment, found),
        agent_usage=sum_usage(step.usage for step in steps),
        judge_usage=sum_usage(item.evaluation.result.usage for item in found),
    )


def walk_evaluations(experiment: EvaluatedExperiment) -> Iterator[PlacedEvaluation]:
    """Yield every evaluation in file order, those of a scenario's steps before those of the whole scenario."""
    for scenario in experiment.scenarios:
        for position, step in enumerate(scenario.steps):
            for evaluation in step.evaluations:
                yield PlacedEvaluation(scenario, step, position, evaluation)
        for evaluation in scenario.evaluations:
            yield PlacedEvaluation(scenario, None, None, evaluation)


def decide_step(step: EvaluatedStep) -> CheckVerdict:
    """Return the verdict on one step; a step that the agent did not answer is an error, whatever judges it."""
    return "error" if step.status != "ok" else _find_worst(step.metrics, step.evaluations)


def decide_scenario(scenario: EvaluatedScenario) -> CheckVerdict:
    """Return the verdict on a whole conversation by its own metrics; those of its steps are not part of it."""
    return _find_worst(scenario.metrics, scenario.evaluations)


def is_quarantined(owner: EvaluatedStep | EvaluatedScenario) -> bool:
    """Return whether a step, or a conversation all of whose steps are in quarantine, counts in no verdict."""
    if isinstance(owner, EvaluatedStep):
        return owner.quarantine
    return bool(owner.steps) and all(step.quarantine for step in owner.steps)


def status_of(evaluation: Evaluation) -> ResultStatus:
    """Return the evaluation's result.

    `error` where result and score contradict each other, which no metric of ours writes.
    """
    result, threshold = evaluation.result, evaluation.metric.threshold
    if result.score is None or threshold is None:
        return result.result
    return result.result if (result.result == "pass") == (result.score >= threshold) else "error"


def find_missing_metrics(owner: EvaluatedStep | EvaluatedScenario) -> list[Metric]:
    """Return the metrics that were asked for and of which the file holds no result."""
    return _find_missing(owner.metrics, owner.evaluations)


def _find_missing(metrics: Sequence[Metric], evaluations: Sequence[Evaluation]) -> list[Metric]:
    found = Counter(evaluation.metric.shown_name for evaluation in evaluations)
    missing = []
    for metric in metrics:
        if not found[metric.shown_name]:
            missing.append(metric)
        found[metric.shown_name] -= 1 if found[metric.shown_name] else 0
    return missing


def _find_worst(metrics: Sequence[Metric], found: Sequence[Evaluation]) -> CheckVerdict:
    """Return the worst result. One that is missing, skipped or in error is worse than a fail: it could hide one."""
    gating = [evaluation for evaluation in found if evaluation.metric.gating]
    results = {status_of(evaluation) for evaluation in gating}
    if _find_missing([metric for metric in metrics if metric.gating], gating) or results & {"error", "skipped"}:
        return "error"
    if not results:
        return "unjudged"
    return "fail" if "fail" in results else "pass"


def count_results(results: Iterable[ResultStatus]) -> ResultCounts:
    """Return how often each result occurs."""
    found = Counter(results)
    return ResultCounts(found["pass"], found["fail"], found["error"], found["skipped"])


def _count_checks(verdicts: Iterable[CheckVerdict]) -> ResultCounts:
    found = Counter(verdicts)
    return ResultCounts(found["pass"], found["fail"], found["error"], found["unjudged"])


def sum_usage(usages: Iterable[Usage | None]) -> Usage:
    """Return the sum of what was reported; a number that nobody reported stays absent."""
    found = [usage for usage in usages if usage is not None]
    tokens_in = [usage.input_tokens for usage in found if usage.input_tokens is not None]
    tokens_out = [usage.output_tokens for usage in found if usage.output_tokens is not None]
    costs = [usage.cost_usd for usage in found if usage.cost_usd is not None]
    return Usage(
        input_tokens=sum(tokens_in) if tokens_in else None,
        output_tokens=sum(tokens_out) if tokens_out else None,
        cost_usd=math.fsum(costs) if costs else None,
    )


def _summarize_metrics(experiment: EvaluatedExperiment, found: Iterable[PlacedEvaluation]) -> tuple[MetricSummary, ...]:
    groups: dict[str, list[PlacedEvaluation]] = {}
    for item in found:
        groups.setdefault(item.evaluation.metric.shown_name, []).append(item)
    missing: dict[str, list[Metric]] = {}
    for scenario in experiment.scenarios:
        owners: tuple[EvaluatedStep | EvaluatedScenario, ...] = (*scenario.steps, scenario)
        for metric in (lost for owner in owners if not is_quarantined(owner) for lost in find_missing_metrics(owner)):
            missing.setdefault(metric.shown_name, []).append(metric)
    names = dict.fromkeys([*groups, *missing])
    return tuple(_summarize_metric(name, groups.get(name, []), missing.get(name, [])) for name in names)


def _summarize_metric(name: str, items: Sequence[PlacedEvaluation], missing: Sequence[Metric]) -> MetricSummary:
    counted = [(item, item.status) for item in items if not item.quarantined]
    judged = [(item.scenario, item.evaluation.result.score) for item, status in counted if status in JUDGED]
    found = count_results(status for _, status in counted)
    scored = [(cluster_of(scenario), score) for scenario, score in judged if score is not None]
    return MetricSummary(
        name=name,
        counts=replace(found, errors=found.errors + len(missing)),
        scores=tuple(score for _, score in scored),
        gating=any(metric.gating for metric in (*(item.evaluation.metric for item in items), *missing)),
        clusters=tuple(cluster for cluster, _ in scored),
    )


def cluster_of(scenario: EvaluatedScenario) -> str:
    """Return what makes results one piece of evidence: the scenario, whichever repetition of it."""
    return f"{scenario.provider or ''}\0{scenario.id or scenario.name}"
