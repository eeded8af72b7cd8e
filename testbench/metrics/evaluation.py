"""Evaluate a whole experiment: what `evaluate.py` and `pipeline.py` call, and the evaluator that the arena opens too.

    executed experiment -> metrics checked -> evaluator, with a judge if any metric needs one -> evaluated experiment

Everything that can be wrong with metrics, parameters, packages and the judge's settings is found before the judge is
asked for the first time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from testbench import __version__, defaults
from testbench.errors import InputError, NothingToDo
from testbench.metrics.evaluator import EvaluationLimits, MetricEvaluator
from testbench.metrics.judge.cache import AnswerStore, CachedJudge, DiskAnswerStore
from testbench.metrics.judge.cost import OVER_BUDGET, PriceList
from testbench.metrics.judge.echo_guard import EchoGuard
from testbench.metrics.judge.judge import Judge, JudgeSettings, read_gateway
from testbench.metrics.protocol import MetricSpec
from testbench.metrics.registry import GenericMetricsRegistry, place_metrics
from testbench.net.clock import Clock, SystemClock
from testbench.results.summary import sum_usage
from testbench.schema.ids import ScenarioKey, key_of
from testbench.schema.models import (
    EvaluatedExperiment,
    EvaluatedScenario,
    Evaluation,
    EvaluationRecord,
    ExecutedExperiment,
    MadeOf,
)
from testbench.schema.runtime import ExperimentRuntime
from testbench.schema.tracing import Tracing, Untraced


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate. `timeout_s` is for one request to the judge; `cache` is a folder, or None for no cache.

    `adaptive` makes `concurrency` a ceiling. `judge_samples` is how often a metric with an LLM judges each sample,
    `max_cost` in US dollars what the judge may cost at most, which needs its price in `prices`.
    """

    model: str | None = None
    embedding_model: str = defaults.EMBEDDING_MODEL
    concurrency: int = defaults.JUDGE_CONCURRENCY
    adaptive: bool = False
    timeout_s: float = defaults.JUDGE_TIMEOUT_S
    cache: Path | None = defaults.JUDGE_CACHE
    temperature: float = defaults.JUDGE_TEMPERATURE
    judge_samples: int = defaults.JUDGE_SAMPLES
    prices: PriceList = field(default_factory=PriceList)
    max_cost: float | None = None
    made_of: tuple[MadeOf, ...] = ()
    """The file with the answers, as the output will name it."""

    @property
    def limits(self) -> EvaluationLimits:
        """Return twice as many evaluations as requests, so that the judge never waits for us between two of them."""
        timeout_s = max(defaults.METRIC_TIMEOUT_S, 5 * self.timeout_s)
        return EvaluationLimits(2 * self.concurrency, timeout_s, self.judge_samples)


def _no_tracing() -> AbstractContextManager[Tracing]:
    return nullcontext(Untraced())


JudgeMaker = Callable[[JudgeSettings, Clock, Tracing], Judge]


def _openai_judge(settings: JudgeSettings, clock: Clock, tracing: Tracing) -> Judge:
    from testbench.metrics.judge.client import OpenAIJudge

    return OpenAIJudge(settings, clock, tracing.instrument)


@dataclass(frozen=True)
class EvaluationDependencies:
    """What an evaluation takes from the outside; tests bring their own.

    `open_tracing` is only opened where a judge is asked.
    """

    environment: Mapping[str, str]
    registry: GenericMetricsRegistry = field(default_factory=GenericMetricsRegistry)
    clock: Clock = field(default_factory=SystemClock)
    make_judge: JudgeMaker = _openai_judge
    make_store: Callable[[Path], AnswerStore] = DiskAnswerStore
    open_tracing: Callable[[], AbstractContextManager[Tracing]] = _no_tracing


async def evaluate(
    experiment: ExecutedExperiment,
    settings: EvaluationSettings,
    dependencies: EvaluationDependencies,
    *,
    on_scenario_done: Callable[[EvaluatedScenario], None] = lambda _: None,
    done: Mapping[ScenarioKey, EvaluatedScenario] | None = None,
    identity: str | None = None,
) -> EvaluatedExperiment:
    """Judge every step and scenario; what fails is an `error` in the result, not an exception.

    `done` are scenarios by key that were judged already, `identity` names this evaluation in its output.

    Raises:
        NothingToDo: no scenario, or no metric.
        InputError: a metric or the judge's settings cannot be used.
    """
    settings = replace(settings, model=settings.model or experiment.llm_as_a_judge_model)
    specs = check_metrics(experiment, dependencies.registry)
    found = dict(done or {})
    left = [scenario for scenario in experiment.scenarios if key_of(scenario) not in found]
    started, begun = dependencies.clock.now(), dependencies.clock.monotonic()
    threshold = experiment.default_threshold
    async with open_evaluator(settings, specs, dependencies, default_threshold=threshold) as evaluator:
        runtime = ExperimentRuntime(evaluator, concurrency=2 * settings.concurrency, on_scenario_done=on_scenario_done)
        judged = iter(await runtime.run(left))
    keys = map(key_of, experiment.scenarios)
    scenarios = tuple(found[key] if key in found else next(judged) for key in keys)
    results = (one.result for scenario in scenarios for one in evaluations_of(scenario))
    used = sum_usage(result.usage for result in results)
    record = EvaluationRecord.model_validate(
        {
            "judge_model": settings.model if _need_judge(specs) else None,
            "testbench_version": __version__,
            "started_at": started,
            "wall_seconds": max(0.0, dependencies.clock.monotonic() - begun),
            "judge_usage": used.model_dump(exclude_none=True),
            "made_of": settings.made_of,
        }
        | ({"identity": identity} if identity else {})
    )
    return EvaluatedExperiment.model_validate(dict(experiment) | {"scenarios": scenarios, "evaluation": record})


def check_metrics(experiment: ExecutedExperiment, registry: GenericMetricsRegistry) -> list[MetricSpec]:
    """Return the specs of all metrics of an experiment.

    Raises:
        NothingToDo: no scenario, or no metric.
        InputError: a metric cannot be used; says where it stands.
    """
    if not experiment.scenarios:
        raise NothingToDo("the experiment has no scenarios", hint="Run setup and run on a dataset with rows.")
    specs = registry.check_all(place_metrics(experiment))
    if not specs:
        hint = "Name metrics in the experiment, or give setup --metric, e.g. --metric builtin.tool_calls."
        raise NothingToDo("no step and no scenario has a metric", hint=hint)
    return specs


@asynccontextmanager
async def open_evaluator(
    settings: EvaluationSettings,
    specs: Sequence[MetricSpec],
    dependencies: EvaluationDependencies,
    *,
    default_threshold: float = defaults.THRESHOLD,
) -> AsyncIterator[MetricEvaluator]:
    """Yield what judges scenarios with the metrics of these specs; its judge, if one is needed, is closed at the end.

    Raises:
        InputError: a judge is needed and has no endpoint, no model, or no price where the cost is limited.
    """
    asking = _need_judge(specs)
    with dependencies.open_tracing() if asking else _no_tracing() as tracing:
        judge = _open_judge(settings, specs, dependencies, tracing) if asking else None
        try:
            yield MetricEvaluator(
                dependencies.registry,
                judge,
                default_threshold=default_threshold,
                limits=settings.limits,
                judge_model_of=lambda spec: settings.model if spec.needs_llm else settings.embedding_model,
                tracer=tracing,
            )
        finally:
            if judge is not None:
                await judge.close()


def evaluations_of(scenario: EvaluatedScenario) -> list[Evaluation]:
    """Return all evaluations of a scenario: its own, and those of its steps."""
    return [*scenario.evaluations, *(one for step in scenario.steps for one in step.evaluations)]


def has_scores(evaluated: EvaluatedExperiment) -> bool:
    """Return whether any metric has judged anything."""
    results = (one.result for scenario in evaluated.scenarios for one in evaluations_of(scenario))
    return any(result.score is not None for result in results)


def has_errors(scenario: EvaluatedScenario) -> bool:
    """Return whether anything in a scenario could not be judged."""
    return any(evaluation.result.result == "error" for evaluation in evaluations_of(scenario))


def count_left_out_for_cost(scenario: EvaluatedScenario) -> int:
    """Return how many evaluations were not made because of --max-cost."""
    return sum(one.result.details.get("skipped_by") == OVER_BUDGET for one in evaluations_of(scenario))


def _need_judge(specs: Iterable[MetricSpec]) -> bool:
    return any(spec.needs_judge for spec in specs)


def _open_judge(
    settings: EvaluationSettings,
    specs: Sequence[MetricSpec],
    dependencies: EvaluationDependencies,
    tracing: Tracing,
) -> Judge:
    """Return the judge of a run: cached, and guarded against answers that repeat what is judged."""
    asking = next((spec.full_name for spec in specs if spec.needs_llm), None)
    if asking and not settings.model:
        raise InputError(
            f"{asking} needs a judge, and no model is named",
            hint="Give --model, or llm_as_a_judge_model in the experiment; OPENAI_API_BASE names the endpoint.",
        )
    base_url, key = read_gateway(dependencies.environment)
    if settings.max_cost is not None:
        _check_prices(settings, specs)
    judge_settings = JudgeSettings(
        base_url=base_url,
        api_key=key,
        model=settings.model,
        embedding_model=settings.embedding_model,
        concurrency=settings.concurrency,
        adaptive=settings.adaptive,
        timeout_s=settings.timeout_s,
        temperature=settings.temperature,
        prices=settings.prices,
        max_cost=settings.max_cost,
    )
    judge = dependencies.make_judge(judge_settings, dependencies.clock, tracing)
    if settings.cache is not None:
        judge = CachedJudge(judge, dependencies.make_store(settings.cache), identity=judge_settings.identity)
    return EchoGuard(judge)


def _check_prices(settings: EvaluationSettings, specs: Sequence[MetricSpec]) -> None:
    """Check that a limit has the price of everything that will be asked: an unknown cost cannot be kept below it."""
    asked = [settings.model] if any(spec.needs_llm for spec in specs) else []
    asked += [settings.embedding_model] if any(spec.needs_embeddings for spec in specs) else []
    for name in asked:
        if settings.prices.of(name) is None:
            raise InputError(
                f"--max-cost needs the price of {name!r}",
                hint=f"Give --prices FILE with a line such as {name}: {{input: 2.50, output: 10.00}}",
            )
