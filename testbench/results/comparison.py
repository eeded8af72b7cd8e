"""What changed since an earlier run, check by check: better, worse, new, gone, and what else is not as it was.

Gate and report share it: `testbench.gating.regression` asks whether the change is more than chance, and the report
shows it row by row. Only what the comparison needs of a run is kept. Checks are paired by their ids, which are content
hashes; a file without ids is paired by scenario, place and question.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from testbench.results.checks import Check, collect_checks
from testbench.results.summary import CheckVerdict, walk_evaluations
from testbench.schema.models import EvaluatedExperiment

ChangeKind = Literal["better", "worse", "changed", "same", "new"]
CHANGE_KINDS: tuple[ChangeKind, ...] = ("worse", "better", "changed", "new", "same")
MOST_NAMED_METRICS = 5
"""Changed metrics that are named one by one."""

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Baseline:
    """A run reduced to what can be compared. `judges` are the models that decided over a gating metric.

    `part` says that it is a shard of a run.
    """

    experiment_id: str
    judge_model: str | None
    judges: frozenset[str]
    about: Mapping[str, str | None]
    began: tuple[datetime | None, datetime | None]
    checks: Mapping[str, Check]
    source: str = ""
    part: bool = False

    @property
    def counted(self) -> dict[str, Check]:
        """The checks that something gates and that are not in quarantine."""
        return {
            key: check for key, check in self.checks.items() if not check.quarantine and check.verdict != "unjudged"
        }


@dataclass(frozen=True)
class CheckChange:
    """How one check differs. `delta` is the mean change over the gating metrics that both runs scored."""

    kind: ChangeKind
    before: Check | None = None
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
class Differences:
    """What beside the answers is not as it was: `obstacles` make results incomparable, `changes` are only named."""

    obstacles: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Both runs side by side. `cautions` say why scores may not be comparable."""

    baseline_id: str
    counts: Mapping[ChangeKind, int]
    gone: tuple[Check, ...]
    shifts: tuple[MetricShift, ...]
    cautions: tuple[str, ...] = field(default=())
    changes: tuple[str, ...] = field(default=())


def to_baseline(experiment: EvaluatedExperiment, source: str = "") -> Baseline:
    """Return what an evaluated experiment is compared by."""
    run, evaluation = experiment.run, experiment.evaluation
    gating = (item for item in walk_evaluations(experiment) if item.evaluation.metric.gating and not item.quarantined)
    asked = (item.evaluation.result.judge_model for item in gating)
    return Baseline(
        experiment_id=experiment.id,
        judge_model=judge_of(experiment),
        judges=frozenset(model for model in asked if model),
        about={
            "agent's name": run.agent_name if run else None,
            "agent's version": run.agent_version if run else None,
            "agent's address": run.agent_url if run else None,
            "judge": judge_of(experiment),
            "version of Testbench": evaluation.testbench_version if evaluation else None,
        },
        began=(run.started_at if run else None, evaluation.started_at if evaluation else None),
        checks={check.key: check for check in collect_checks(experiment)},
        source=source,
        part=part_of_a_run(experiment) is not None,
    )


def part_of_a_run(experiment: EvaluatedExperiment) -> str | None:
    """Return which shard of a run it is, e.g. `2/4`; None where it is the whole."""
    shard = experiment.run.shard if experiment.run else None
    return None if shard in (None, "1/1") else shard


def judge_of(experiment: EvaluatedExperiment) -> str | None:
    """Return the judge that was asked; None where no metric asked one.

    A file without a record is taken by its experiment.
    """
    record = experiment.evaluation
    return record.judge_model if record else experiment.llm_as_a_judge_model


def classify_change(before: Check | None, verdict: CheckVerdict, scores: Scores) -> CheckChange:
    """Return how a check differs from the earlier run.

    Reaching a pass is better and losing it is worse, whether it became a fail or could not be judged any more. A move
    between fail, error and unjudged says nothing about the agent's quality: it is a change.
    """
    if before is None:
        return CheckChange("new")
    old = before.scores
    common = [name for name in scores if name in old]
    delta = statistics.fmean(scores[name] - old[name] for name in common) if common else None
    if verdict == before.verdict:
        return CheckChange("same", before, delta)
    if verdict == "pass":
        return CheckChange("better", before, delta)
    return CheckChange("worse" if before.verdict == "pass" else "changed", before, delta)


def compare_with_baseline(baseline: Baseline, now: Baseline) -> Comparison:
    """Return both runs side by side."""
    counted = {key: check for key, check in now.checks.items() if not check.quarantine}
    kinds = [classify_change(baseline.checks.get(key), check.verdict, {}).kind for key, check in counted.items()]
    found = find_differences(baseline, now)
    return Comparison(
        baseline_id=baseline.experiment_id,
        counts={kind: kinds.count(kind) for kind in CHANGE_KINDS},
        gone=tuple(check for key, check in baseline.checks.items() if key not in now.checks),
        shifts=_measure_shifts(baseline, now),
        cautions=found.obstacles,
        changes=found.changes,
    )


def find_differences(baseline: Baseline, now: Baseline) -> Differences:
    """Return what of agent, judge, metrics and dataset differs between the runs."""
    return Differences(
        obstacles=(
            *_judge_obstacles(baseline, now),
            *_metric_obstacles(baseline, now),
            *_dataset_obstacles(baseline, now),
        ),
        changes=tuple(
            f"The {name} differs: {baseline.about.get(name) or 'unknown'} before, {value or 'unknown'} now."
            for name, value in now.about.items()
            if value != baseline.about.get(name)
        ),
    )


def _judge_obstacles(baseline: Baseline, now: Baseline) -> Iterator[str]:
    """Yield an obstacle if another judge decided; one that only informs may change."""
    decided = baseline.judges or now.judges
    if decided and (baseline.judges, baseline.judge_model) != (now.judges, now.judge_model):
        old, new = (_name_judge(run) for run in (baseline, now))
        yield f"The judge differs ({old} before, {new} now): scores of both runs are not comparable."


def _name_judge(run: Baseline) -> str:
    return ", ".join(sorted({*run.judges, *filter(None, [run.judge_model])})) or "none"


def _metric_obstacles(baseline: Baseline, now: Baseline) -> Iterator[str]:
    """Yield each changed definition of a metric once: a pass by another threshold is another pass."""
    found: dict[str, None] = {}
    old = baseline.counted
    for key, check in now.counted.items():
        if key in old and check.metrics != old[key].metrics:
            for name in sorted({*check.metrics, *old[key].metrics}):
                before, after = old[key].metrics.get(name, "not asked for"), check.metrics.get(name, "not asked for")
                if before != after:
                    found[f"{name} differs: {before} before, {after} now."] = None
    named = list(found)
    yield from named[:MOST_NAMED_METRICS]
    if len(named) > MOST_NAMED_METRICS:
        yield f"{len(named) - MOST_NAMED_METRICS} further definitions of metrics differ."


def _dataset_obstacles(baseline: Baseline, now: Baseline) -> Iterator[str]:
    old, new = baseline.counted, now.counted
    common = len(old.keys() & new.keys())
    if old and new and 2 * common < max(len(old), len(new)):
        yield f"The dataset differs: only {common} of {len(old)} checks before and {len(new)} now are the same."


def _measure_shifts(baseline: Baseline, now: Baseline) -> tuple[MetricShift, ...]:
    pairs: dict[str, list[tuple[float, float]]] = {}
    for key, check in now.checks.items():
        old = baseline.checks[key].scores if key in baseline.checks and not check.quarantine else {}
        for name, score in check.scores.items():
            if name in old:
                pairs.setdefault(name, []).append((old[name], score))
    return tuple(
        MetricShift(
            name=name,
            paired=len(scored),
            before=statistics.fmean(old for old, _ in scored),
            after=statistics.fmean(new for _, new in scored),
        )
        for name, scored in pairs.items()
    )
