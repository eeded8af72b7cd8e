"""Who did how well in which scenario: the table of a run in which several systems met the same scenarios.

    EvaluatedExperiment -> Matrix: scenarios down, systems across, in each cell how many conversations passed

Called by `testbench.report.view`. A conversation has passed if nothing in it that gates failed, was in error, or is
missing; one that could not be judged has neither passed nor failed. Without systems that have names there is no matrix.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from testbench.results.checks import find_gating_scores
from testbench.results.summary import CheckVerdict, decide_scenario, decide_step, is_quarantined, sum_usage
from testbench.schema.models import EvaluatedExperiment, EvaluatedScenario

WORST_FIRST: Final[tuple[CheckVerdict, ...]] = ("error", "fail", "pass")
MOST_ROWS: Final = 200
"""More make the page slow and nobody reads them; those that did not pass everywhere come first then."""


@dataclass(frozen=True)
class MatrixCell:
    """Conversations of one system in one scenario. `score` is the mean of what gates, None if nothing was scored."""

    verdict: CheckVerdict
    passed: int
    of: int
    score: float | None


@dataclass(frozen=True)
class MatrixRow:
    """A scenario; a system that did not meet it has None in its place."""

    scenario: str
    cells: tuple[MatrixCell | None, ...]

    @property
    def passed(self) -> bool:
        return all(cell is None or cell.verdict == "pass" for cell in self.cells)


@dataclass(frozen=True)
class MatrixTotal:
    """All conversations of one system. Latency in milliseconds, over answered steps; cost of the system alone."""

    provider: str
    cell: MatrixCell
    latency_median: float | None
    cost_usd: float | None


@dataclass(frozen=True)
class Matrix:
    """`left_out` rows are not shown."""

    totals: tuple[MatrixTotal, ...]
    rows: tuple[MatrixRow, ...]
    left_out: int = 0


def build_matrix(experiment: EvaluatedExperiment) -> Matrix | None:
    """Return the matrix; None where no conversation says which system it was with."""
    systems = list(dict.fromkeys(one.provider for one in experiment.scenarios if one.provider))
    if not systems:
        return None
    met: dict[str, dict[str, list[EvaluatedScenario]]] = {}
    for one in experiment.scenarios:
        met.setdefault(one.id or one.name, {}).setdefault(one.provider or "", []).append(one)
    rows = [
        MatrixRow(
            next(iter(by_system.values()))[0].name,
            tuple(_build_cell(by_system[system]) if system in by_system else None for system in systems),
        )
        for by_system in met.values()
    ]
    if len(rows) > MOST_ROWS:
        rows.sort(key=lambda row: row.passed)
    totals = tuple(
        _build_total(system, [one for one in experiment.scenarios if one.provider == system]) for system in systems
    )
    return Matrix(totals, tuple(rows[:MOST_ROWS]), max(0, len(rows) - MOST_ROWS))


def decide_conversation(scenario: EvaluatedScenario) -> CheckVerdict:
    """Return the worst verdict of all steps that count and of the conversation as a whole."""
    found = [decide_step(step) for step in scenario.steps if not step.quarantine]
    return _find_worst(found if is_quarantined(scenario) else [*found, decide_scenario(scenario)])


def _build_cell(conversations: Sequence[EvaluatedScenario]) -> MatrixCell:
    verdicts = [decide_conversation(one) for one in conversations]
    return MatrixCell(_find_worst(verdicts), verdicts.count("pass"), len(verdicts), _average_scores(conversations))


def _build_total(system: str, conversations: Sequence[EvaluatedScenario]) -> MatrixTotal:
    steps = [step for one in conversations for step in one.steps if step.status == "ok"]
    latencies = [step.latency_ms for step in steps if step.latency_ms is not None]
    return MatrixTotal(
        provider=system,
        cell=_build_cell(conversations),
        latency_median=statistics.median(latencies) if latencies else None,
        cost_usd=sum_usage(step.usage for step in steps).cost_usd,
    )


def _average_scores(conversations: Iterable[EvaluatedScenario]) -> float | None:
    scores = [score for one in conversations if not is_quarantined(one) for score in find_gating_scores(one).values()]
    steps = [step for one in conversations for step in one.steps if not step.quarantine]
    scores += [score for step in steps for score in find_gating_scores(step).values()]
    return statistics.fmean(scores) if scores else None


def _find_worst(verdicts: Iterable[CheckVerdict]) -> CheckVerdict:
    found = set(verdicts)
    return next((verdict for verdict in WORST_FIRST if verdict in found), "unjudged")
