"""What changed since an earlier run, step by step: better, worse, new, gone.

Called by `testbench.report.view` with `--baseline`. Only what the comparison needs of the earlier run is kept. Steps
are paired by their ids, which are content hashes; a file without ids is paired by scenario, place and question.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, EvaluatedStep, Evaluation
from testbench.schema.summary import CheckVerdict, scenario_verdict, step_verdict

Kind = Literal["better", "worse", "changed", "same", "new"]
KINDS: tuple[Kind, ...] = ("worse", "better", "changed", "new", "same")

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Before:
    """A step, or a whole conversation, as the earlier run left it."""

    scenario: str
    title: str
    verdict: CheckVerdict
    scores: Scores


@dataclass(frozen=True)
class Baseline:
    """The earlier run, reduced to what can be compared."""

    experiment_id: str
    judge_model: str | None
    agent_version: str | None
    checks: Mapping[str, Before]


@dataclass(frozen=True)
class Change:
    """How one step differs. `delta` is the mean change over the gating metrics that both runs scored."""

    kind: Kind
    before: Before | None = None
    delta: float | None = None


@dataclass(frozen=True)
class MetricShift:
    """A metric over the steps that both runs scored: their number and both means."""

    name: str
    paired: int
    before: float
    after: float

    @property
    def delta(self) -> float:
        return self.after - self.before


@dataclass(frozen=True)
class Comparison:
    """Both runs side by side. `cautions` say why scores may not be comparable."""

    baseline_id: str
    counts: Mapping[Kind, int]
    gone: tuple[Before, ...]
    shifts: tuple[MetricShift, ...]
    cautions: tuple[str, ...]


def check_key(scenario: EvaluatedScenario, position: int | None) -> str:
    """What pairs a step (or, without position, the whole conversation) with the same one of another run."""
    identity = (scenario.id if position is None else scenario.steps[position].id) or ""
    if identity:
        return identity
    title = "" if position is None else scenario.steps[position].input
    return f"{scenario.name}\0{position}\0{title}"


def remember(experiment: EvaluatedExperiment) -> Baseline:
    """Keep of an evaluated experiment what a later one is compared with."""
    checks: dict[str, Before] = {}
    for scenario in experiment.scenarios:
        for position, step in enumerate(scenario.steps):
            before = Before(scenario.name, step.input, step_verdict(step), gating_scores(step))
            checks[check_key(scenario, position)] = before
        if scenario.evaluations or scenario.metrics:
            before = Before(scenario.name, "whole conversation", scenario_verdict(scenario), gating_scores(scenario))
            checks[check_key(scenario, None)] = before
    return Baseline(
        experiment_id=experiment.id,
        judge_model=judge_of(experiment),
        agent_version=experiment.run.agent_version if experiment.run else None,
        checks=checks,
    )


def judge_of(experiment: EvaluatedExperiment) -> str | None:
    """The judge that was asked, None where no metric asked one; a file without a record is taken by its experiment."""
    record = experiment.evaluation
    return record.judge_model if record else experiment.llm_as_a_judge_model


def gating_scores(owner: EvaluatedStep | EvaluatedScenario) -> dict[str, float]:
    """The scores that decide over a step or conversation, by metric. A step that failed has none."""
    if isinstance(owner, EvaluatedStep) and owner.status != "ok":
        return {}
    return {name: score for name, score in map(_named_score, owner.evaluations) if score is not None}


def _named_score(evaluation: Evaluation) -> tuple[str, float | None]:
    return evaluation.metric.metric_name, evaluation.result.score if evaluation.metric.gating else None


def change(before: Before | None, verdict: CheckVerdict, scores: Scores) -> Change:
    """How a check differs from the earlier run.

    Reaching a pass is better and losing it is worse, whether it became a fail or could not be judged any more. A move
    between fail, error and unjudged says nothing about the agent's quality: it is a change.
    """
    if before is None:
        return Change("new")
    common = [name for name in scores if name in before.scores]
    delta = statistics.fmean(scores[name] - before.scores[name] for name in common) if common else None
    if verdict == before.verdict:
        return Change("same", before, delta)
    if verdict == "pass":
        return Change("better", before, delta)
    return Change("worse" if before.verdict == "pass" else "changed", before, delta)


def compare(
    baseline: Baseline, after: Mapping[str, tuple[Change, Scores]], experiment: EvaluatedExperiment
) -> Comparison:
    """Both runs side by side; `after` holds each check of the later run by its key."""
    kinds = [found.kind for found, _ in after.values()]
    return Comparison(
        baseline_id=baseline.experiment_id,
        counts={kind: kinds.count(kind) for kind in KINDS},
        gone=tuple(before for key, before in baseline.checks.items() if key not in after),
        shifts=_shifts(after.values()),
        cautions=tuple(_cautions(baseline, experiment)),
    )


def _shifts(after: Iterable[tuple[Change, Scores]]) -> tuple[MetricShift, ...]:
    pairs: dict[str, list[tuple[float, float]]] = {}
    for found, scores in after:
        for name, score in scores.items():
            if found.before is not None and name in found.before.scores:
                pairs.setdefault(name, []).append((found.before.scores[name], score))
    return tuple(
        MetricShift(
            name=name,
            paired=len(scored),
            before=statistics.fmean(old for old, _ in scored),
            after=statistics.fmean(new for _, new in scored),
        )
        for name, scored in pairs.items()
    )


def _cautions(baseline: Baseline, experiment: EvaluatedExperiment) -> Iterable[str]:
    judge = judge_of(experiment)
    if judge != baseline.judge_model:
        before, now = baseline.judge_model or "none", judge or "none"
        yield f"The judge differs ({before} before, {now} now): scores of both runs may not be comparable."
