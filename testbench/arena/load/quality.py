"""Whether answers were good under load: which conversations are kept, and how many passed at each level of the load.

    profile -> levels (quarters of the ramp, then the plateau) -> kept arrivals
    kept conversations -> their builtin metrics without a judge -> passed or not -> pass rate of each level

Workers keep the same conversations on every machine: what decides is the arrival's number. The reducer judges after
the test: judging takes time that belongs to the sending.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import Field

from testbench.arena.load.recording import KeptScenario
from testbench.arena.load.traffic import RateProfile, list_draws, make_profile
from testbench.arena.plan.model import PlanModel
from testbench.arena.runs.context import JobContext
from testbench.metrics.evaluation import EvaluationDependencies, EvaluationSettings, open_evaluator
from testbench.metrics.registry import GenericMetricsRegistry
from testbench.results.summary import decide_scenario, decide_step
from testbench.schema.models import EvaluatedScenario, ExecutedScenario, ExecutedStep, Metric, Model
from testbench.schema.runtime import ExperimentRuntime

KEPT_OF_A_LEVEL: Final = 100
"""Conversations of a level that are judged, about: enough to tell 80 % from 95 %, and little beside what is sent."""
RAMP_LEVELS: Final = 4
BUILTIN: Final = "builtin."
AT_ONCE: Final = 16
"""Conversations that are judged at once."""

ModelT = TypeVar("ModelT", bound=Model)


@dataclass(frozen=True)
class Level:
    """A part of the test: arrivals from `first` to before `end` (None: all that follow)."""

    name: str
    rate: float | None
    """Conversations a second at its end."""
    first: int
    end: int | None

    def has(self, arrival: int) -> bool:
        return arrival >= self.first and (self.end is None or arrival < self.end)


class LevelQuality(PlanModel):
    """How good the answers were at one level. A conversation that failed, or could not be judged, did not pass."""

    name: str
    rate: float | None = Field(description="Conversations a second at its end; absent without a rate.")
    judged: int
    passed: int

    @property
    def pass_rate(self) -> float | None:
        return self.passed / self.judged if self.judged else None


def divide_levels(profile: RateProfile | None) -> tuple[Level, ...]:
    """Return every level that has an arrival, in the order of time. Without a rate there is one."""
    if profile is None:
        return (Level("one after the other", None, 0, None),)
    borders = [profile.ramp_s * part / RAMP_LEVELS for part in range(RAMP_LEVELS + 1)] + [profile.duration_s]
    names = [f"ramp, quarter {part}" for part in range(1, RAMP_LEVELS + 1)] + ["plateau"]
    found = []
    for name, begin, end in zip(names, borders, borders[1:], strict=False):
        first, last = _count_arrivals_before(profile, begin), _count_arrivals_before(profile, end)
        if last > first:
            found.append(
                Level(
                    name, profile.rate * min(1.0, end / profile.ramp_s) if profile.ramp_s else profile.rate, first, last
                )
            )
    return tuple(found)


def _count_arrivals_before(profile: RateProfile, at_s: float) -> int:
    """Arrivals that are due before a time."""
    number = min(int(profile.expected(at_s)) + 1, profile.count)
    while number > 0 and profile.time_of(number - 1) >= at_s:
        number -= 1
    return number


def choose_kept(levels: Sequence[Level], most: int = KEPT_OF_A_LEVEL) -> Callable[[int], bool]:
    """Return which arrivals are kept: about `most` of each level, all over it; without a rate the first `most`."""
    shares = [(level, 1.0 if level.end is None else most / (level.end - level.first)) for level in levels]

    def kept(arrival: int) -> bool:
        for level, share in shares:
            if level.has(arrival):
                return arrival < most if level.end is None else share >= 1 or _draw_number(arrival) < share
        return False

    return kept


def _draw_number(arrival: int) -> float:
    """Evenly between 0 and 1, whatever the pattern of scenarios and workers in the numbers."""
    digest = hashlib.blake2b(arrival.to_bytes(8, "big"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def measure_quality(levels: Sequence[Level], verdicts: Sequence[tuple[int, bool]]) -> tuple[LevelQuality, ...]:
    """Return the levels with what was judged of them; `verdicts` are arrivals and whether each passed."""
    found = []
    for level in levels:
        passed = [good for arrival, good in verdicts if level.has(arrival)]
        found.append(LevelQuality(name=level.name, rate=level.rate, judged=len(passed), passed=sum(passed)))
    return tuple(found)


def compute_pass_rate(found: Sequence[LevelQuality]) -> float | None:
    """Over all levels; None where nothing was judged."""
    judged = sum(level.judged for level in found)
    return sum(level.passed for level in found) / judged if judged else None


async def judge_kept(context: JobContext, kept: Sequence[KeptScenario]) -> tuple[LevelQuality, ...]:
    """Return the quality at each level; conversations of scenarios without such a metric are not judged.

    Raises:
        InputError: the parameters of a metric are not as they should be.
    """
    registry = GenericMetricsRegistry()
    reduced = [(one.arrival, _drop_judged_metrics(one.scenario, registry)) for one in kept]
    judged = [(arrival, scenario) for arrival, scenario in reduced if _has_metrics(scenario)]
    asking_nobody = EvaluationSettings(), (), EvaluationDependencies({}, registry=registry)
    async with open_evaluator(*asking_nobody) as evaluator:
        runtime = ExperimentRuntime(evaluator, concurrency=AT_ONCE)
        found = await runtime.run([scenario for _, scenario in judged])
    verdicts = [(arrival, _has_passed(scenario)) for (arrival, _), scenario in zip(judged, found, strict=True)]
    levels = divide_levels(make_profile(context.job, list_draws(context.plan)))
    return measure_quality(levels, verdicts)


def _drop_judged_metrics(scenario: ExecutedScenario, registry: GenericMetricsRegistry) -> ExecutedScenario:
    """Return the conversation with those of its metrics that gate and ask nobody."""
    steps = tuple(_set_metrics(step, _select_deterministic(step.metrics, registry)) for step in scenario.steps)
    return _set_metrics(scenario.model_copy(update={"steps": steps}), _select_deterministic(scenario.metrics, registry))


def _select_deterministic(metrics: Iterable[Metric], registry: GenericMetricsRegistry) -> tuple[Metric, ...]:
    return tuple(
        metric
        for metric in metrics
        if metric.gating and metric.metric_name.startswith(BUILTIN) and not registry.check(metric).needs_judge
    )


def _set_metrics(model: ModelT, metrics: tuple[Metric, ...]) -> ModelT:
    return model.model_copy(update={"metrics": metrics})


def _has_metrics(scenario: ExecutedScenario) -> bool:
    return bool(scenario.metrics) or any(_counts(step) for step in scenario.steps)


def _counts(step: ExecutedStep) -> bool:
    return bool(step.metrics) and not step.quarantine


def _has_passed(scenario: EvaluatedScenario) -> bool:
    """Return whether everything that was judged passed; what was not answered, or could not be judged, did not."""
    verdicts = [decide_step(step) for step in scenario.steps if _counts(step)]
    if scenario.metrics:
        verdicts.append(decide_scenario(scenario))
    return all(verdict == "pass" for verdict in verdicts)
