"""From an evaluated experiment and its verdict to everything that the report says, as plain data without any markup.

    EvaluatedExperiment + Verdict + Labels (+ Baseline)  ->  ReportView      header, verdict, cards, metrics, rows
                                                          ->  details()       one dictionary per row, made while writing

Called by `visualize.py`; `testbench.report.render` turns it into a page. The verdict is handed in: the report repeats
the gate's words and never judges for itself.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from testbench.errors import InputError, StoreError
from testbench.report.matrix import Matrix, matrix_of
from testbench.report.rows import Row, rows
from testbench.report.scores import MetricView, metric_views
from testbench.results.checks import repetitions_of
from testbench.results.comparison import Baseline, Comparison, compare, judge_of, remember
from testbench.results.percentiles import percentile
from testbench.results.summary import CheckVerdict, Summary, summarize
from testbench.results.verdict import Verdict
from testbench.schema.files import describe
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario, Usage


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
class ReportView:
    """Everything that the page shows, but the opened rows."""

    labels: Labels
    origin: Origin
    verdict: Verdict
    cards: Cards
    metrics: tuple[MetricView, ...]
    scenarios: tuple[str, ...]
    rows: tuple[Row, ...]
    comparison: Comparison | None
    default_threshold: float
    matrix: Matrix | None = None


def build_view(
    experiment: EvaluatedExperiment, verdict: Verdict, labels: Labels, baseline: Baseline | None = None
) -> ReportView:
    """Everything that the report says about `experiment`; raises nothing, whatever the experiment lacks."""
    summary = summarize(experiment)
    found = tuple(rows(experiment, baseline))
    return ReportView(
        labels=labels,
        origin=_origin(experiment),
        verdict=verdict,
        cards=_cards(experiment, summary, found),
        metrics=metric_views(experiment, summary.metrics),
        scenarios=tuple(map(_shown_name, experiment.scenarios)),
        rows=found,
        comparison=compare(baseline, remember(experiment)) if baseline else None,
        default_threshold=experiment.default_threshold,
        matrix=matrix_of(experiment),
    )


def _shown_name(scenario: EvaluatedScenario) -> str:
    """The scenario's name, with the system that it was run with where there are several."""
    return f"{scenario.name} · {scenario.provider}" if scenario.provider else scenario.name


def _origin(experiment: EvaluatedExperiment) -> Origin:
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


def _cards(experiment: EvaluatedExperiment, summary: Summary, found: Sequence[Row]) -> Cards:
    steps = [step for scenario in experiment.scenarios for step in scenario.steps]
    latencies = [step.latency_ms for step in steps if step.latency_ms is not None and step.status == "ok"]
    verdicts: Counter[CheckVerdict] = Counter(row.verdict for row in found if not row.quarantine)
    quarantined = sum(row.quarantine for row in found)
    return Cards(
        steps=len(steps),
        scenarios=_scenario_count(experiment),
        metrics=len({name for row in found for name in row.cells}),
        conversations=sum(row.position is None for row in found),
        outcomes=Outcomes(verdicts["pass"], verdicts["fail"], verdicts["error"], verdicts["unjudged"], quarantined),
        agent_usage=summary.agent_usage,
        judge_usage=summary.judge_usage,
        latency_median=statistics.median(latencies) if latencies else None,
        latency_p95=percentile(sorted(latencies), 95),
        repetitions=repetitions_of(experiment),
    )


def _scenario_count(experiment: EvaluatedExperiment) -> int:
    """Scenarios, however often and with however many systems they were run."""
    first = [scenario for scenario in experiment.scenarios if scenario.repetition == 1]
    with_system = {scenario.id or scenario.name for scenario in first if scenario.provider}
    return len(with_system) + sum(scenario.provider is None for scenario in first)


def read_verdict(path: Path, experiment: EvaluatedExperiment) -> Verdict:
    """The verdict that the gate wrote on this experiment.

    Raises:
        InputError: it is missing, of another shape, or about another experiment.
        StoreError: it exists and cannot be read.
    """
    hint = "testbench/gate.py writes this file: run it on the same experiment."
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
