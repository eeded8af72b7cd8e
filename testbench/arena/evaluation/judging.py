"""Who judges an arena job, and the evaluator that every finished conversation goes through.

    plan.judge (a Provider with its own address, key and model) | the environment -> judge -> MetricEvaluator

Called by `evaluation`, and by whoever judges conversations of a load test. One judge for all of a worker's items.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace

from testbench.arena.plan.text import metrics_of
from testbench.arena.runs.context import JobContext
from testbench.arena.targets.target import ChatTarget
from testbench.errors import InputError
from testbench.metrics.evaluation import EvaluationDependencies, EvaluationSettings, open_evaluator
from testbench.metrics.evaluator import MetricEvaluator
from testbench.metrics.judge.cost import Price, PriceList
from testbench.metrics.judge.judge import BASE_URLS
from testbench.metrics.registry import GenericMetricsRegistry
from testbench.net.pacing import CEILING
from testbench.schema.models import EvaluatedScenario, ExecutedScenario
from testbench.schema.runtime import ExperimentRuntime


@dataclass(frozen=True)
class Judging:
    """How conversations are judged; `environment` names the judge's gateway."""

    settings: EvaluationSettings
    environment: Mapping[str, str]


class ConversationJudge:
    """Judges one conversation after the other, or many at once."""

    def __init__(self, evaluator: MetricEvaluator) -> None:
        self._evaluator = evaluator

    async def evaluate(self, executed: ExecutedScenario) -> EvaluatedScenario:
        """The conversation with the verdicts of its metrics; what could not be judged is an error in it."""
        (evaluated,) = await ExperimentRuntime(self._evaluator, concurrency=1).run([executed])
        return evaluated


def judging_of(context: JobContext) -> Judging:
    """The judge of a job.

    Raises:
        InputError: its Provider has no usable address, or settings that a judge cannot be asked with.
    """
    plan = context.plan
    settings = EvaluationSettings(
        model=context.judge_model or plan.judge_model,
        concurrency=CEILING,
        adaptive=True,
        cache=context.judge_cache,
    )
    if plan.judge is None:
        return Judging(settings, context.environment)
    target = context.clients.target("provider", plan.judge)
    if not isinstance(target, ChatTarget) or target.headers:
        hint = "A judge is a Provider with baseURL, model and credential, and without headers of its own."
        raise InputError(f"Provider {plan.judge} cannot judge", hint=hint)
    prices = {}
    if target.prices is not None:
        million = Price(input=1000 * target.prices.input_per_1k, output=1000 * target.prices.output_per_1k)
        prices[target.model] = million
    own = replace(settings, model=target.model, prices=PriceList(prices))
    gateway = {BASE_URLS[0]: target.base_url, "OPENAI_API_KEY": target.api_key or ""}
    return Judging(own, {**context.environment, **gateway})


@asynccontextmanager
async def opened_judge(context: JobContext) -> AsyncIterator[ConversationJudge]:
    """The judge of all conversations of a worker; closed at the end.

    Raises:
        InputError: a metric, its parameters or the judge's settings cannot be used.
    """
    registry = GenericMetricsRegistry()
    specs = registry.check_all(
        (planned.path, metric) for planned in context.plan.scenarios for metric in metrics_of(planned)
    )
    judging = judging_of(context)
    dependencies = EvaluationDependencies(
        judging.environment,
        registry=registry,
        clock=context.clock,
        open_tracing=lambda: nullcontext(context.tracing),
    )
    async with open_evaluator(judging.settings, specs, dependencies) as evaluator:
        yield ConversationJudge(evaluator)
