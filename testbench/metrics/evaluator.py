"""The hooks that turn an executed scenario into an evaluated one: every metric of every step, and of the scenario.

    step -> the work that its metrics mean (or why there is none) -> evaluations, all of a scenario concurrently

Used with `ExperimentRuntime` by `testbench.metrics.evaluation`. Whatever goes wrong with one evaluation becomes its
result: `error` with a kind, or `skipped` with the reason; never a score.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from testbench.metrics.judge.cost import track_usage
from testbench.metrics.judge.echo_guard import refuse_echo_of
from testbench.metrics.judge.judge import Judge
from testbench.metrics.outcome import check_result, make_writable, result_of_error
from testbench.metrics.protocol import MetricResult, MetricSpec, Sample, missing_fields
from testbench.metrics.registry import GenericMetricsRegistry, ReadyMetric
from testbench.net.time_limit import limit_time
from testbench.schema.models import (
    EvaluatedScenario,
    EvaluatedStep,
    Evaluation,
    ExecutedScenario,
    ExecutedStep,
    Failure,
    Metric,
    Result,
    Turn,
)
from testbench.schema.runtime import ExperimentHooks
from testbench.schema.tracing import EVALUATION_LABEL, EVALUATION_NAME, EVALUATION_SCORE, Tracer, Untraced

COMPUTING: Final = 8
"""Evaluations without a judge that are in flight at once: so few that none is out of time because others compute."""


@dataclass(frozen=True)
class Limits:
    """`evaluations` that use a judge are in flight at once; each may take `timeout_s` seconds for each of `samples`."""

    evaluations: int
    timeout_s: float
    samples: int = 1


@dataclass
class Walk:
    """What a scenario in flight has to remember: its trace, and the turns of the steps before."""

    trace_id: str | None = None
    before: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class Work:
    """What is to be judged by one metric, and the span that recorded it; or, without a sample, why nothing is."""

    metric: Metric
    sample: Sample | None
    skipped: str = ""
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(frozen=True)
class StepWork:
    """A step with the work of its metrics."""

    step: ExecutedStep
    works: tuple[Work, ...] = field(default=())


class MetricEvaluator(ExperimentHooks[ExecutedScenario, ExecutedStep, Walk, StepWork, EvaluatedScenario]):
    """Judges with the metrics of a registry and one judge (None where no metric needs it)."""

    def __init__(
        self,
        registry: GenericMetricsRegistry,
        judge: Judge | None,
        *,
        default_threshold: float,
        limits: Limits,
        judge_model_of: Callable[[MetricSpec], str | None] = lambda _: None,
        tracer: Tracer | None = None,
    ) -> None:
        """`default_threshold` is for metrics that name none; `judge_model_of` names the model that a metric asks."""
        self._tracer = tracer or Untraced()
        self._registry = registry
        self._judge = judge
        self._threshold = default_threshold
        self._limits = limits
        self._judge_model_of = judge_model_of
        self._judging = asyncio.Semaphore(limits.evaluations)
        self._computing = asyncio.Semaphore(COMPUTING)

    async def before_run(self, scenarios: Sequence[ExecutedScenario]) -> None:
        """Make every metric ready, so that none is found out to be unusable after others were paid for.

        Raises:
            InputError: a metric cannot be used as it is written.
        """
        for scenario in scenarios:
            for metric in (*(metric for step in scenario.steps for metric in step.metrics), *scenario.metrics):
                self._prepare(metric)

    async def before_scenario(self, scenario: ExecutedScenario) -> Walk:
        return Walk(scenario.trace_id)

    async def on_step(self, step: ExecutedStep, state: Walk) -> StepWork:
        """Say what is to be judged; the judging waits for `after_scenario`, where it all goes on at once."""
        before, state.before = state.before, state.before + step.turns
        reason = why_not_judged(step)
        sample = None if reason else Sample.of_step(step, before)
        return StepWork(
            step, tuple(Work(metric, sample, reason or "", state.trace_id, step.span_id) for metric in step.metrics)
        )

    async def after_scenario(
        self, scenario: ExecutedScenario, steps: Sequence[StepWork], state: Walk
    ) -> EvaluatedScenario:
        """Judge the steps and the scenario."""
        works = [*(work for step in steps for work in step.works), *scenario_works(scenario)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._evaluate(work)) for work in works]
        done = iter([task.result() for task in tasks])
        evaluated = tuple(self._evaluated(step.step, [next(done) for _ in step.works]) for step in steps)
        named = tuple(map(self._named, scenario.metrics))
        fields = dict(scenario) | {"steps": evaluated, "metrics": named, "evaluations": tuple(done)}
        return EvaluatedScenario.model_validate(fields)

    def _evaluated(self, step: ExecutedStep, evaluations: Sequence[Evaluation]) -> EvaluatedStep:
        named = tuple(map(self._named, step.metrics))
        fields: Mapping[str, object] = dict(step) | {"metrics": named, "evaluations": tuple(evaluations)}
        return EvaluatedStep.model_validate(fields)

    def _prepare(self, metric: Metric) -> ReadyMetric:
        return self._registry.prepare(metric, self._judge, samples=self._limits.samples)

    def _named(self, metric: Metric) -> Metric:
        """The metric under its one name: `faithfulness` and `ragas.Faithfulness` are one row everywhere."""
        return metric.model_copy(update={"metric_name": self._registry.first_name(metric)})

    async def _evaluate(self, work: Work) -> Evaluation:
        return Evaluation(metric=self._named(work.metric), result=make_writable(await self._result(work)))

    async def _result(self, work: Work) -> Result:
        ready = self._prepare(work.metric)
        if work.sample is None:
            return Result(result="skipped", reason=work.skipped)
        if missing := missing_fields(work.sample, ready.spec.required):
            return Result(result="skipped", reason=f"the sample has no {', no '.join(missing)}")
        if not ready.spec.needs_judge:
            async with self._computing:
                return self._with_verdict(work.metric, await self._outcome(ready, work.sample))
        async with self._judging:
            return await self._judged(ready, work, work.sample)

    async def _judged(self, ready: ReadyMetric, work: Work, sample: Sample) -> Result:
        """The result of a metric that asks a judge: traced below the step, with what it cost."""
        name = ready.spec.full_name
        about = {EVALUATION_NAME: name}
        with self._tracer.resume(work.trace_id, work.span_id, f"evaluate {name}", about) as span:
            with track_usage() as used, refuse_echo_of(sample):
                outcome = await self._outcome(ready, sample)
            result = self._with_verdict(work.metric, outcome)
            span.set({EVALUATION_LABEL: result.result})
            if result.score is not None:
                span.set({EVALUATION_SCORE: result.score})
            if result.error is not None:
                span.fail(result.error.kind, result.error.message)
        asked = {"judge_model": self._judge_model_of(ready.spec), "usage": used.total, "cached": used.all_cached}
        return result.model_copy(update=asked)

    async def _outcome(self, ready: ReadyMetric, sample: Sample) -> MetricResult:
        patience = self._limits.timeout_s * (ready.spec.samples or self._limits.samples)
        try:
            async with limit_time(patience):
                return check_result(await ready.call(sample))
        except TimeoutError:
            message = f"not judged within {patience:g} s"
            return MetricResult(error=Failure(kind="timeout", message=message, retryable=True))
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            return result_of_error(ready.spec.full_name, error)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # frameworks raise anything, and one sample is not the run
            return result_of_error(ready.spec.full_name, error)

    def _with_verdict(self, metric: Metric, outcome: MetricResult) -> Result:
        if outcome.error is not None:
            return Result(result="error", error=outcome.error, reason=outcome.error.message, details=outcome.details)
        if outcome.skipped is not None:
            return Result(result="skipped", reason=outcome.skipped, details=outcome.details)
        threshold = self._threshold if metric.threshold is None else metric.threshold
        return Result(
            result="pass" if (outcome.score or 0.0) >= threshold else "fail",
            score=outcome.score,
            reason=outcome.reason,
            details={**outcome.details, "threshold": threshold},
        )


def why_not_judged(step: ExecutedStep) -> str | None:
    """Why there is nothing to judge in a step, or None where there is."""
    if step.status == "ok":
        return None
    if step.error is None:
        return f"the step was {step.status}"
    return f"the step has no answer: {step.error.kind}: {step.error.message}"


def scenario_works(scenario: ExecutedScenario) -> list[Work]:
    """The work of a scenario's own metrics: over the whole conversation, or none if a part of it is missing."""
    reasons = [
        f"step {n}: {reason}" for n, step in enumerate(scenario.steps, start=1) if (reason := why_not_judged(step))
    ]
    if not scenario.steps:
        reasons = ["the scenario has no steps"]
    sample = None if reasons else Sample.of_scenario(scenario)
    span_id = next((step.span_id for step in reversed(scenario.steps) if step.span_id), None)
    return [Work(metric, sample, "; ".join(reasons), scenario.trace_id, span_id) for metric in scenario.metrics]


def _is_being_cancelled() -> bool:
    """Whether somebody stops this task; otherwise a framework has let out a cancellation of its own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
