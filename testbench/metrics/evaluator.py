"""The hooks that turn an executed scenario into an evaluated one: every metric of every step, and of the scenario.

    step -> a task for each of its metrics (or why there is none) -> evaluations, all of a scenario concurrently

Used with `ExperimentRuntime` by `testbench.metrics.evaluation`. Whatever goes wrong with one evaluation becomes its
result: `error` with a kind, or `skipped` with the reason; never a score.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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

MAX_COMPUTING: Final = 8
"""Evaluations without a judge that are in flight at once: so few that none is out of time because others compute."""


@dataclass(frozen=True)
class EvaluationLimits:
    """`evaluations` that use a judge are in flight at once; each may take `timeout_s` seconds for each of `samples`."""

    evaluations: int
    timeout_s: float
    samples: int = 1


@dataclass
class ScenarioState:
    """What is remembered of a scenario in flight: its trace, and the turns of the steps before."""

    trace_id: str | None = None
    before: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class EvaluationTask:
    """A sample to judge by one metric, and the span that recorded it; or, without a sample, why it is skipped."""

    metric: Metric
    sample: Sample | None
    skipped: str = ""
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(frozen=True)
class StepTasks:
    """A step with the tasks of its metrics."""

    step: ExecutedStep
    tasks: tuple[EvaluationTask, ...]


class MetricEvaluator(ExperimentHooks[ExecutedScenario, ExecutedStep, ScenarioState, StepTasks, EvaluatedScenario]):
    """Judges with the metrics of a registry and one judge (None where no metric needs it)."""

    def __init__(
        self,
        registry: GenericMetricsRegistry,
        judge: Judge | None,
        *,
        default_threshold: float,
        limits: EvaluationLimits,
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
        self._judging_slots = asyncio.Semaphore(limits.evaluations)
        self._computing_slots = asyncio.Semaphore(MAX_COMPUTING)

    async def before_run(self, scenarios: Sequence[ExecutedScenario]) -> None:
        """Make every metric ready, so that none is found out to be unusable after others were paid for.

        Raises:
            InputError: a metric cannot be used as it is written.
        """
        for scenario in scenarios:
            for metric in (*(metric for step in scenario.steps for metric in step.metrics), *scenario.metrics):
                self._prepare(metric)

    async def before_scenario(self, scenario: ExecutedScenario) -> ScenarioState:
        return ScenarioState(scenario.trace_id)

    async def on_step(self, step: ExecutedStep, state: ScenarioState) -> StepTasks:
        """Return what is to be judged; the judging waits for `after_scenario`, where it all goes on at once."""
        before, state.before = state.before, state.before + step.turns
        reason = find_reason_not_to_judge(step)
        sample = None if reason else Sample.of_step(step, before)
        return StepTasks(
            step,
            tuple(
                EvaluationTask(metric, sample, reason or "", state.trace_id, step.span_id) for metric in step.metrics
            ),
        )

    async def after_scenario(
        self, scenario: ExecutedScenario, steps: Sequence[StepTasks], state: ScenarioState
    ) -> EvaluatedScenario:
        """Judge the steps and the scenario."""
        tasks = [*(task for step in steps for task in step.tasks), *make_scenario_tasks(scenario)]
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(self._evaluate(task)) for task in tasks]
        done = iter([one.result() for one in running])
        evaluated = tuple(self._finish_step(step.step, [next(done) for _ in step.tasks]) for step in steps)
        named = tuple(map(self._under_first_name, scenario.metrics))
        fields = dict(scenario) | {"steps": evaluated, "metrics": named, "evaluations": tuple(done)}
        return EvaluatedScenario.model_validate(fields)

    def _finish_step(self, step: ExecutedStep, evaluations: Sequence[Evaluation]) -> EvaluatedStep:
        named = tuple(map(self._under_first_name, step.metrics))
        fields: Mapping[str, object] = dict(step) | {"metrics": named, "evaluations": tuple(evaluations)}
        return EvaluatedStep.model_validate(fields)

    def _prepare(self, metric: Metric) -> ReadyMetric:
        return self._registry.prepare(metric, self._judge, samples=self._limits.samples)

    def _under_first_name(self, metric: Metric) -> Metric:
        """Return the metric under its one name: `faithfulness` and `ragas.Faithfulness` are one row everywhere."""
        return metric.model_copy(update={"metric_name": self._registry.first_name(metric)})

    async def _evaluate(self, task: EvaluationTask) -> Evaluation:
        return Evaluation(
            metric=self._under_first_name(task.metric), result=make_writable(await self._find_result(task))
        )

    async def _find_result(self, task: EvaluationTask) -> Result:
        ready = self._prepare(task.metric)
        if task.sample is None:
            return Result(result="skipped", reason=task.skipped)
        if missing := missing_fields(task.sample, ready.spec.required):
            return Result(result="skipped", reason=f"the sample has no {', no '.join(missing)}")
        if not ready.spec.needs_judge:
            async with self._computing_slots:
                return self._compare_with_threshold(task.metric, await self._call(ready, task.sample))
        async with self._judging_slots:
            return await self._ask_judge(ready, task, task.sample)

    async def _ask_judge(self, ready: ReadyMetric, task: EvaluationTask, sample: Sample) -> Result:
        """Return the result of a metric that asks a judge: traced below the step, with what it cost."""
        name = ready.spec.full_name
        about = {EVALUATION_NAME: name}
        with self._tracer.resume(task.trace_id, task.span_id, f"evaluate {name}", about) as span:
            with track_usage() as used, refuse_echo_of(sample):
                outcome = await self._call(ready, sample)
            result = self._compare_with_threshold(task.metric, outcome)
            span.set({EVALUATION_LABEL: result.result})
            if result.score is not None:
                span.set({EVALUATION_SCORE: result.score})
            if result.error is not None:
                span.fail(result.error.kind, result.error.message)
        judge_fields = {"judge_model": self._judge_model_of(ready.spec), "usage": used.total, "cached": used.all_cached}
        return result.model_copy(update=judge_fields)

    async def _call(self, ready: ReadyMetric, sample: Sample) -> MetricResult:
        timeout_s = self._limits.timeout_s * (ready.spec.samples or self._limits.samples)
        try:
            async with limit_time(timeout_s):
                return check_result(await ready.call(sample))
        except TimeoutError:
            message = f"not judged within {timeout_s:g} s"
            return MetricResult(error=Failure(kind="timeout", message=message, retryable=True))
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            return result_of_error(ready.spec.full_name, error)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # frameworks raise anything, and one sample is not the run
            return result_of_error(ready.spec.full_name, error)

    def _compare_with_threshold(self, metric: Metric, outcome: MetricResult) -> Result:
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


def find_reason_not_to_judge(step: ExecutedStep) -> str | None:
    """Return why there is nothing to judge in a step, or None where there is."""
    if step.status == "ok":
        return None
    if step.error is None:
        return f"the step was {step.status}"
    return f"the step has no answer: {step.error.kind}: {step.error.message}"


def make_scenario_tasks(scenario: ExecutedScenario) -> list[EvaluationTask]:
    """Return the tasks of a scenario's own metrics: over the whole conversation, or none if a part is missing."""
    reasons = [
        f"step {n}: {reason}"
        for n, step in enumerate(scenario.steps, start=1)
        if (reason := find_reason_not_to_judge(step))
    ]
    if not scenario.steps:
        reasons = ["the scenario has no steps"]
    sample = None if reasons else Sample.of_scenario(scenario)
    span_id = next((step.span_id for step in reversed(scenario.steps) if step.span_id), None)
    return [
        EvaluationTask(metric, sample, "; ".join(reasons), scenario.trace_id, span_id) for metric in scenario.metrics
    ]


def _is_being_cancelled() -> bool:
    """Return whether somebody stops this task; otherwise a framework has let out a cancellation of its own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
