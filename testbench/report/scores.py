"""What the report says of each metric: of how many scores its mean is, how sure that is, and how the scores spread.

Called by `testbench.report.view`. An evaluation without a score is counted and never drawn or averaged as 0.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from testbench.results.intervals import Interval, mean_interval
from testbench.results.summary import MetricSummary
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, EvaluatedStep

BINS = 10


@dataclass(frozen=True)
class Spread:
    """Minimum, maximum, mean, median and deviation of at least one score; `deviation` needs two."""

    minimum: float
    maximum: float
    mean: float
    median: float
    deviation: float | None
    interval: Interval
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class MetricView:
    """One metric over the whole run. `errors` includes evaluations that should be in the file and are not."""

    name: str
    gating: bool
    thresholds: tuple[float, ...]
    passed: int
    failed: int
    errors: int
    skipped: int
    spread: Spread | None

    @property
    def scored(self) -> int:
        return self.passed + self.failed

    @property
    def total(self) -> int:
        return self.scored + self.errors + self.skipped


def metric_views(experiment: EvaluatedExperiment, summaries: Sequence[MetricSummary]) -> tuple[MetricView, ...]:
    """One view per metric; a metric of which the file holds no evaluation at all comes last, all of it in error."""
    thresholds = _thresholds(experiment)
    return tuple(_view(summary, thresholds.get(summary.name, ())) for summary in summaries)


def spread(scores: Sequence[float], clusters: Sequence[str] | None = None) -> Spread | None:
    """How `scores`, each in 0..1, spread; None where there are none. Those of one cluster belong together."""
    interval = mean_interval(scores, clusters)
    if interval is None:
        return None
    return Spread(
        minimum=min(scores),
        maximum=max(scores),
        mean=statistics.fmean(scores),
        median=statistics.median(scores),
        deviation=statistics.stdev(scores) if len(scores) > 1 else None,
        interval=interval,
        histogram=histogram(scores),
    )


def histogram(scores: Sequence[float]) -> tuple[int, ...]:
    """How many scores fall into each tenth of 0..1; a bin holds its lower end, the last one also 1."""
    found = Counter(min(BINS - 1, int(round(score * BINS, 9))) for score in scores)
    return tuple(found[bin] for bin in range(BINS))


def _view(summary: MetricSummary, thresholds: tuple[float, ...]) -> MetricView:
    return MetricView(
        name=summary.name,
        gating=summary.gating,
        thresholds=thresholds,
        passed=summary.counts.passed,
        failed=summary.counts.failed,
        errors=summary.counts.errors,
        skipped=summary.counts.skipped,
        spread=spread(summary.scores, summary.clusters),
    )


def _owners(experiment: EvaluatedExperiment) -> Iterator[EvaluatedStep | EvaluatedScenario]:
    for scenario in experiment.scenarios:
        yield from scenario.steps
        yield scenario


def _thresholds(experiment: EvaluatedExperiment) -> dict[str, tuple[float, ...]]:
    found: dict[str, set[float]] = {}
    for owner in _owners(experiment):
        for metric in (*owner.metrics, *(evaluation.metric for evaluation in owner.evaluations)):
            threshold = experiment.default_threshold if metric.threshold is None else metric.threshold
            found.setdefault(metric.shown_name, set()).add(threshold)
    return {name: tuple(sorted(values)) for name, values in found.items()}
