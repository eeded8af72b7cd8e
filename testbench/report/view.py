"""From an evaluated experiment and its verdict to everything that the report says, as plain data without any markup.

    EvaluatedExperiment + Verdict + Labels (+ Baseline)  ->  ReportView      header, verdict, cards, metrics, rows

`testbench.report.render` makes a page of it, and of the opened rows, which are not part of it. The verdict is handed
in: the report repeats the gate's words and never judges for itself.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from testbench.errors import InputError, StoreError
from testbench.invocation import format_command
from testbench.report.matrix import Matrix, build_matrix
from testbench.report.report_rows import ReportRow, build_rows
from testbench.results.checks import repetitions_of
from testbench.results.comparison import Baseline, Comparison, compare_with_baseline, judge_of, to_baseline
from testbench.results.intervals import Interval, mean_interval
from testbench.results.percentiles import percentile
from testbench.results.summary import CheckVerdict, MetricSummary, Summary, summarize
from testbench.results.verdict import Verdict
from testbench.schema.files import describe
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, EvaluatedStep, Usage

HISTOGRAM_BINS: Final = 10


@dataclass(frozen=True)
class Labels:
    """What the workflow calls this run."""

    workflow_name: str
    execution_id: str
    execution_number: int


@dataclass(frozen=True)
class Origin:
    """Who was asked and judged, when, and for how long."""

    experiment_id: str
    agent: str | None
    agent_url: str | None
    judge_model: str | None
    started_at: datetime | None
    run_seconds: float | None
    evaluation_seconds: float | None
    testbench_version: str | None


@dataclass(frozen=True)
class Outcomes:
    """All rows of the table by verdict; those in quarantine are counted apart."""

    passed: int
    failed: int
    errors: int
    unjudged: int
    quarantined: int = 0

    @property
    def total(self) -> int:
        return self.passed + self.failed + self.errors + self.unjudged + self.quarantined


@dataclass(frozen=True)
class Cards:
    """The numbers at the top. What nobody reported is None and never 0. Latencies are in milliseconds."""

    steps: int
    scenarios: int
    metrics: int
    conversations: int
    outcomes: Outcomes
    agent_usage: Usage
    judge_usage: Usage
    latency_median: float | None
    latency_p95: float | None
    repetitions: int = 1


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


@dataclass(frozen=True)
class ReportView:
    """Everything that the page shows, but the opened rows."""

    labels: Labels
    origin: Origin
    verdict: Verdict
    cards: Cards
    metrics: tuple[MetricView, ...]
    scenarios: tuple[str, ...]
    rows: tuple[ReportRow, ...]
    comparison: Comparison | None
    default_threshold: float
    matrix: Matrix | None = None


def build_view(
    experiment: EvaluatedExperiment, verdict: Verdict, labels: Labels, baseline: Baseline | None = None
) -> ReportView:
    """Return everything that the report says about `experiment`; raises nothing, whatever the experiment lacks."""
    summary = summarize(experiment)
    found = tuple(build_rows(experiment, baseline))
    return ReportView(
        labels=labels,
        origin=_build_origin(experiment),
        verdict=verdict,
        cards=_build_cards(experiment, summary, found),
        metrics=view_metrics(experiment, summary.metrics),
        scenarios=tuple(map(_name_scenario, experiment.scenarios)),
        rows=found,
        comparison=compare_with_baseline(baseline, to_baseline(experiment)) if baseline else None,
        default_threshold=experiment.default_threshold,
        matrix=build_matrix(experiment),
    )


def _name_scenario(scenario: EvaluatedScenario) -> str:
    """Return the scenario's name, with the system that it was run with where there are several."""
    return f"{scenario.name} · {scenario.provider}" if scenario.provider else scenario.name


def _build_origin(experiment: EvaluatedExperiment) -> Origin:
    run, evaluation = experiment.run, experiment.evaluation
    named = " ".join(filter(None, (run.agent_name, run.agent_version))) if run else ""
    return Origin(
        experiment_id=experiment.id,
        agent=named or None,
        agent_url=run.agent_url if run else None,
        judge_model=judge_of(experiment),
        started_at=run.started_at if run else None,
        run_seconds=run.wall_seconds if run else None,
        evaluation_seconds=evaluation.wall_seconds if evaluation else None,
        testbench_version=run.testbench_version if run else None,
    )


def _build_cards(experiment: EvaluatedExperiment, summary: Summary, found: Sequence[ReportRow]) -> Cards:
    steps = [step for scenario in experiment.scenarios for step in scenario.steps]
    latencies = [step.latency_ms for step in steps if step.latency_ms is not None and step.status == "ok"]
    verdicts: Counter[CheckVerdict] = Counter(row.verdict for row in found if not row.quarantine)
    quarantined = sum(row.quarantine for row in found)
    return Cards(
        steps=len(steps),
        scenarios=_count_scenarios(experiment),
        metrics=len({name for row in found for name in row.cells}),
        conversations=sum(row.position is None for row in found),
        outcomes=Outcomes(verdicts["pass"], verdicts["fail"], verdicts["error"], verdicts["unjudged"], quarantined),
        agent_usage=summary.agent_usage,
        judge_usage=summary.judge_usage,
        latency_median=statistics.median(latencies) if latencies else None,
        latency_p95=percentile(sorted(latencies), 95),
        repetitions=repetitions_of(experiment),
    )


def _count_scenarios(experiment: EvaluatedExperiment) -> int:
    """Scenarios, however often and with however many systems they were run."""
    first = [scenario for scenario in experiment.scenarios if scenario.repetition == 1]
    with_system = {scenario.id or scenario.name for scenario in first if scenario.provider}
    return len(with_system) + sum(scenario.provider is None for scenario in first)


# --- scores ----------------------------------------------------------------------------------------------------------


def view_metrics(experiment: EvaluatedExperiment, summaries: Sequence[MetricSummary]) -> tuple[MetricView, ...]:
    """Return one view for each metric.

    A metric of which the file holds no evaluation at all comes last, all of it in error.
    """
    thresholds = _collect_thresholds(experiment)
    return tuple(_view_metric(summary, thresholds.get(summary.name, ())) for summary in summaries)


def measure_spread(scores: Sequence[float], clusters: Sequence[str] | None = None) -> Spread | None:
    """Return how `scores`, each in 0..1, spread; None where there are none. Those of one cluster belong together."""
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
        histogram=count_by_tenth(scores),
    )


def count_by_tenth(scores: Sequence[float]) -> tuple[int, ...]:
    """Return how many scores fall into each tenth of 0..1; a bin holds its lower end, the last one also 1."""
    found = Counter(min(HISTOGRAM_BINS - 1, int(round(score * HISTOGRAM_BINS, 9))) for score in scores)
    return tuple(found[bin] for bin in range(HISTOGRAM_BINS))


def _view_metric(summary: MetricSummary, thresholds: tuple[float, ...]) -> MetricView:
    return MetricView(
        name=summary.name,
        gating=summary.gating,
        thresholds=thresholds,
        passed=summary.counts.passed,
        failed=summary.counts.failed,
        errors=summary.counts.errors,
        skipped=summary.counts.skipped,
        spread=measure_spread(summary.scores, summary.clusters),
    )


def _walk_owners(experiment: EvaluatedExperiment) -> Iterator[EvaluatedStep | EvaluatedScenario]:
    for scenario in experiment.scenarios:
        yield from scenario.steps
        yield scenario


def _collect_thresholds(experiment: EvaluatedExperiment) -> dict[str, tuple[float, ...]]:
    found: dict[str, set[float]] = {}
    for owner in _walk_owners(experiment):
        for metric in (*owner.metrics, *(evaluation.metric for evaluation in owner.evaluations)):
            threshold = experiment.default_threshold if metric.threshold is None else metric.threshold
            found.setdefault(metric.shown_name, set()).add(threshold)
    return {name: tuple(sorted(values)) for name, values in found.items()}


# --- the verdict's file ----------------------------------------------------------------------------------------------


def read_verdict(path: Path, experiment: EvaluatedExperiment) -> Verdict:
    """Return the verdict that the gate wrote on this experiment.

    Raises:
        InputError: it is missing, of another shape, or about another experiment.
        StoreError: it exists and cannot be read.
    """
    hint = f"{format_command('gate')} writes this file: run it on the same experiment."
    try:
        verdict = Verdict.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file", hint=hint) from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}", hint="Check its permissions.") from error
    except ValidationError as error:
        raise InputError(f"{path}: {describe(error)}", hint=hint) from error
    if verdict.experiment_id != experiment.id:
        raise InputError(f"{path}: is about the experiment {verdict.experiment_id!r}, not {experiment.id!r}", hint=hint)
    return verdict
