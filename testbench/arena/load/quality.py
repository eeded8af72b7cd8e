"""Whether answers were good under load: the conversations that were kept, judged by metrics that ask nobody.

    kept conversations -> their builtin metrics without a judge -> passed or not -> pass rate of each level of the load

Called by `load_reduction`, after the test: judging takes time that belongs to the sending.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from testbench import defaults
from testbench.arena.load.conversations import draws_of, profile
from testbench.arena.load.levels import LevelQuality, levels_of, quality
from testbench.arena.load.outcome import KeptScenario
from testbench.arena.runs.context import JobContext
from testbench.metrics.evaluator import Limits, MetricEvaluator
from testbench.metrics.registry import GenericMetricsRegistry
from testbench.results.summary import decide_scenario, decide_step
from testbench.schema.models import EvaluatedScenario, ExecutedScenario, ExecutedStep, Metric, Model
from testbench.schema.runtime import ExperimentRuntime

BUILTIN: Final = "builtin."
AT_ONCE: Final = 16

ModelT = TypeVar("ModelT", bound=Model)


async def judge_kept(context: JobContext, kept: Sequence[KeptScenario]) -> tuple[LevelQuality, ...]:
    """The quality at each level; conversations of scenarios without such a metric are not judged.

    Raises:
        InputError: the parameters of a metric are not as they should be.
    """
    registry = GenericMetricsRegistry()
    reduced = [(one.arrival, _without_judge(one.scenario, registry)) for one in kept]
    judged = [(arrival, scenario) for arrival, scenario in reduced if _has_metrics(scenario)]
    evaluator = MetricEvaluator(
        registry,
        None,
        default_threshold=defaults.THRESHOLD,
        limits=Limits(AT_ONCE, defaults.METRIC_TIMEOUT_S, 1),
    )
    runtime = ExperimentRuntime(evaluator, concurrency=AT_ONCE)
    found = await runtime.run([scenario for _, scenario in judged])
    verdicts = [(arrival, _passed(scenario)) for (arrival, _), scenario in zip(judged, found, strict=True)]
    levels = levels_of(profile(context.job, draws_of(context.plan)))
    return quality(levels, verdicts)


def _without_judge(scenario: ExecutedScenario, registry: GenericMetricsRegistry) -> ExecutedScenario:
    """The conversation with those of its metrics that gate and ask nobody."""
    steps = tuple(_with(step, _deterministic(step.metrics, registry)) for step in scenario.steps)
    return _with(scenario.model_copy(update={"steps": steps}), _deterministic(scenario.metrics, registry))


def _deterministic(metrics: Iterable[Metric], registry: GenericMetricsRegistry) -> tuple[Metric, ...]:
    return tuple(
        metric
        for metric in metrics
        if metric.gating and metric.metric_name.startswith(BUILTIN) and not registry.check(metric).needs_judge
    )


def _with(model: ModelT, metrics: tuple[Metric, ...]) -> ModelT:
    return model.model_copy(update={"metrics": metrics})


def _has_metrics(scenario: ExecutedScenario) -> bool:
    return bool(scenario.metrics) or any(_counts(step) for step in scenario.steps)


def _counts(step: ExecutedStep) -> bool:
    return bool(step.metrics) and not step.quarantine


def _passed(scenario: EvaluatedScenario) -> bool:
    """Whether everything that was judged passed; what was not answered, or could not be judged, did not."""
    verdicts = [decide_step(step) for step in scenario.steps if _counts(step)]
    if scenario.metrics:
        verdicts.append(decide_scenario(scenario))
    return all(verdict == "pass" for verdict in verdicts)
