"""Evaluating an experiment: verdicts and thresholds; what is skipped and what is an error, and never a score for it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from testbench.cli.options import ErrorBudget
from testbench.errors import ExitCode, InputError, JudgeError, NothingToDo
from testbench.metrics.adapter import FrameworkAdapter
from testbench.metrics.builtin.adapter import BuiltinAdapter
from testbench.metrics.console import conclude, format_table
from testbench.metrics.evaluation import EvaluationDependencies, EvaluationSettings, evaluate
from testbench.metrics.evaluator import EvaluationLimits, MetricEvaluator
from testbench.metrics.judge.judge import FakeJudge, Judge, JudgeSettings, Question
from testbench.metrics.protocol import MetricCallable, MetricResult, MetricSpec, Sample
from testbench.metrics.registry import GenericMetricsRegistry
from testbench.net.clock import Clock, FakeClock
from testbench.results.summary import walk_evaluations
from testbench.schema.ids import key_of
from testbench.schema.models import (
    EvaluatedExperiment,
    ExecutedExperiment,
    Failure,
    Metric,
    Reference,
    Result,
    Usage,
)
from testbench.schema.runtime import ExperimentRuntime
from testbench.schema.tracing import Tracing
from tests.support.metric_samples import calls, experiment, metric, sample, scenario, step

Behaviour = Callable[[Sample], MetricResult]


class Verdict(BaseModel):
    score: float


class ScriptedAdapter(FrameworkAdapter):
    """Metrics that do what a test wants: `Value` asks the judge, `Own` calls a function."""

    framework = "ragas"

    def __init__(self, behave: Behaviour) -> None:
        self._behave = behave

    def specs(self) -> Mapping[str, MetricSpec]:
        return {
            "Value": MetricSpec("ragas", "Value", "Asks the judge.", required=("response",), needs_llm=True),
            "Own": MetricSpec("ragas", "Own", "Asks nobody."),
        }

    def create(self, name: str, parameters: Mapping[str, Any], judge: Judge | None) -> MetricCallable:
        async def ask(sample: Sample, **overrides: Any) -> MetricResult:
            assert judge is not None
            return MetricResult(score=(await judge.ask(Question(sample.response or "", Verdict))).score)

        async def own(sample: Sample, **overrides: Any) -> MetricResult:
            return self._behave(sample)

        return ask if name == "Value" else own


def nothing(sample: Sample) -> MetricResult:
    return MetricResult(score=1.0)


async def evaluated(
    executed: ExecutedExperiment,
    judge: FakeJudge | None = None,
    behave: Behaviour = nothing,
    **settings: Any,
) -> EvaluatedExperiment:
    def make(judge_settings: JudgeSettings, clock: Clock, tracing: Tracing) -> Judge:
        assert judge is not None, "no metric should have needed a judge"
        return judge

    dependencies = EvaluationDependencies(
        environment={"OPENAI_API_BASE": "http://127.0.0.1:1/v1"},
        registry=GenericMetricsRegistry({"builtin": BuiltinAdapter, "ragas": lambda: ScriptedAdapter(behave)}),
        clock=FakeClock(),
        make_judge=make,
    )
    base: dict[str, Any] = {"model": "judge-a", "cache": None}
    return await evaluate(executed, EvaluationSettings(**(base | settings)), dependencies)


def results(experiment: EvaluatedExperiment) -> list[Result]:
    return [item.evaluation.result for item in walk_evaluations(experiment)]


CONTAINS = metric("builtin.contains", text="sunny")


@pytest.mark.parametrize(
    ("own", "default", "result"),
    [(None, 0.5, "pass"), (None, 0.51, "fail"), (0.4, 1.0, "pass"), (0.5, 1.0, "pass"), (0.6, 0.0, "fail")],
)
async def test_the_threshold_is_the_metrics_own_or_the_default(own: float | None, default: float, result: str) -> None:
    executed = experiment(scenario(step(metrics=(metric("Own", own),))), default_threshold=default)
    [found] = results(await evaluated(executed, behave=lambda sample: MetricResult(score=0.5)))
    assert (found.result, found.score, found.details["threshold"]) == (result, 0.5, default if own is None else own)


async def test_everything_of_the_executed_file_is_kept() -> None:
    executed = ExecutedExperiment.model_validate(
        experiment(scenario(step(metrics=(CONTAINS,)), name="a"), scenario(step(), name="b")).model_dump()
        | {"note": "of the user"}
    )
    found = await evaluated(executed)
    assert [one.name for one in found.scenarios] == ["a", "b"]
    assert found.scenarios[0].steps[0].turns == executed.scenarios[0].steps[0].turns
    assert found.model_extra == {"note": "of the user"}
    assert found.evaluation is not None
    assert found.evaluation.judge_model is None
    assert EvaluatedExperiment.model_validate_json(found.model_dump_json(exclude_none=True)) == found


async def test_a_metric_has_one_name_whatever_it_was_called() -> None:
    called = (metric("builtin.contains", text="sunny"), metric("Own"), metric("ragas.Own"))
    found = await evaluated(experiment(scenario(step(metrics=called), metrics=(metric("ragas.Own"),))))
    names = ["builtin.contains", "Own", "Own"]
    assert [one.metric_name for one in found.scenarios[0].steps[0].metrics] == names
    assert [item.evaluation.metric.metric_name for item in walk_evaluations(found)] == [*names, "Own"]
    assert [one.metric_name for one in found.scenarios[0].metrics] == ["Own"]
    summary = conclude(found, lambda errors, of: True).summary
    assert [(one.name, one.counts.total) for one in summary.metrics] == [("builtin.contains", 1), ("Own", 3)]


async def test_judge_samples_are_for_metrics_with_a_judge() -> None:
    scores = iter([0.25, 0.75])
    judge = FakeJudge(lambda prompt, wanted: {"score": next(scores)})
    found = await evaluated(experiment(scenario(step(metrics=(*VALUE, CONTAINS)))), judge, judge_samples=2)
    asked, own = results(found)
    assert (asked.score, asked.details["samples"], asked.details["spread"]) == (0.5, [0.25, 0.75], 0.5)
    assert "samples" not in own.details


async def test_what_was_judged_before_is_not_judged_again() -> None:
    executed = experiment(scenario(step(metrics=(CONTAINS,)), name="a"), scenario(step(metrics=(CONTAINS,)), name="b"))
    first = await evaluated(executed)
    marked = first.scenarios[0].model_copy(update={"name": "kept"})
    dependencies = EvaluationDependencies(
        {}, registry=GenericMetricsRegistry({"builtin": BuiltinAdapter}), clock=FakeClock()
    )
    again = await evaluate(executed, EvaluationSettings(cache=None), dependencies, done={key_of(marked): marked})
    assert [one.name for one in again.scenarios] == ["kept", "b"]


async def test_a_step_without_an_answer_is_skipped_with_the_reason_and_counts_as_an_error() -> None:
    found = await evaluated(experiment(scenario(step(None, metrics=(CONTAINS,)), step(metrics=(CONTAINS,)))))
    first, second = results(found)
    assert (first.result, first.score) == ("skipped", None)
    assert first.reason == "the step has no answer: timeout: no answer within 30 s"
    assert second.result == "pass"
    conclusion = conclude(found, lambda errors, of: True)
    assert conclusion.sentence == "1 of 2 evaluations scored, 1 error"
    assert conclusion.exit_code == ExitCode.DONE


async def test_a_missing_field_is_named() -> None:
    executed = experiment(scenario(step(metrics=(metric("builtin.exact_match"), metric("builtin.tool_calls")))))
    first, second = results(await evaluated(executed))
    assert (first.result, first.reason) == ("skipped", "the sample has no reference.response")
    assert (second.result, second.reason) == ("skipped", "the sample has no reference.tool_calls")


async def test_a_scenario_metric_sees_the_whole_conversation() -> None:
    seen: list[Sample] = []

    def look(sample: Sample) -> MetricResult:
        seen.append(sample)
        return MetricResult(score=1.0)

    steps = (
        step("one", input="a", made=calls("x"), reference=Reference(tool_calls=calls("x")), latency_ms=5),
        step("two", input="b", made=calls("y"), reference=Reference(tool_calls=calls("y"), response="r"), latency_ms=7),
    )
    executed = experiment(scenario(*steps, metrics=(metric("Own"), metric("builtin.tool_calls"))))
    found = await evaluated(executed, behave=look)
    assert [one.result for one in results(found)] == ["pass", "pass"]
    [sample] = seen
    assert (sample.user_input, sample.response, sample.reference.response) == ("a", "two", "r")
    assert [turn.content for turn in sample.conversation if turn.type == "human"] == ["a", "b"]
    assert sample.reference.tool_calls == calls("x", "y")
    assert sample.latency_ms == 12


async def test_a_step_metric_sees_the_conversation_so_far() -> None:
    seen: dict[str, tuple[int, int]] = {}

    def look(sample: Sample) -> MetricResult:
        seen[sample.user_input] = (len(sample.turns), len(sample.conversation))
        return MetricResult(score=1.0)

    own = (metric("Own"),)
    steps = (step(input="a", metrics=own), step(None, input="b"), step(input="c", metrics=own))
    await evaluated(experiment(scenario(*steps)), behave=look)
    assert seen == {"a": (2, 2), "c": (2, 5)}


async def test_a_conversation_with_a_hole_is_not_judged_as_a_whole() -> None:
    executed = experiment(scenario(step(), step(None), metrics=(metric("Own"),)))
    [result] = results(await evaluated(executed))
    assert result.result == "skipped"
    assert "step 2" in (result.reason or "")


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.1, 1.01, None])
async def test_what_is_no_score_is_an_error(score: float | None) -> None:
    executed = experiment(scenario(step(metrics=(metric("Own"),))))
    [result] = results(await evaluated(executed, behave=lambda sample: MetricResult(score=score)))
    assert (result.result, result.score) == ("error", None)
    assert result.error is not None
    assert result.error.kind in ("undefined", "out_of_range")


async def test_a_fault_of_a_framework_is_an_error_of_one_evaluation() -> None:
    def fail(sample: Sample) -> MetricResult:
        raise ZeroDivisionError("division by zero")

    executed = experiment(scenario(step(metrics=(metric("Own"), CONTAINS))))
    first, second = results(await evaluated(executed, behave=fail))
    assert first.error is not None
    assert first.error.kind == "metric_failed"
    assert "ZeroDivisionError: division by zero" in first.error.message
    assert second.result == "pass"


def raising(error: BaseException) -> Behaviour:
    def fail(sample: Sample) -> MetricResult:
        raise error

    return fail


@pytest.mark.parametrize(
    ("behave", "told"),
    [
        (lambda sample: 0.5, "it returned float, not a MetricResult"),
        (lambda sample: None, "it returned NoneType, not a MetricResult"),
        (lambda sample: MetricResult(score="0.9"), "its score is str, not a number"),  # type: ignore[arg-type]
        (lambda sample: MetricResult(score=1.0, reason=5), "its reason is not a text"),  # type: ignore[arg-type]
        (lambda sample: MetricResult(score=1.0, details=[1]), "its details are not a mapping"),  # type: ignore[arg-type]
        (lambda sample: MetricResult(error="down"), "its error is not a Failure"),  # type: ignore[arg-type]
        (raising(asyncio.CancelledError()), "CancelledError"),
        (raising(SystemExit(0)), "SystemExit: 0"),
    ],
)
async def test_whatever_a_users_metric_does_is_an_error_of_one_evaluation(behave: Behaviour, told: str) -> None:
    executed = experiment(scenario(step(metrics=(metric("Own"), CONTAINS))))
    first, second = results(await evaluated(executed, behave=behave))
    assert (first.result, first.score, second.result) == ("error", None, "pass")
    assert first.error is not None
    assert first.error.kind == "metric_failed"
    assert told in first.error.message


async def test_a_judges_failure_is_found_among_errors_that_were_raised_together() -> None:
    down = ExceptionGroup("two", [JudgeError("nobody there", kind="unreachable"), ValueError("x")])
    [result] = results(await evaluated(experiment(scenario(step(metrics=(metric("Own"),)))), behave=raising(down)))
    assert result.error is not None
    assert result.error.kind == "unreachable"


@pytest.mark.parametrize(
    "outcome",
    [
        MetricResult(score=1.0, reason="half of \ud83d"),
        MetricResult(score=1.0, details={"own": object(), "below": {("a", "b"): 1}}),
        MetricResult(error=Failure(kind="malformed", message="\udfff", raw="\udfff")),
    ],
)
async def test_what_no_file_can_hold_is_replaced(outcome: MetricResult) -> None:
    found = await evaluated(experiment(scenario(step(metrics=(metric("Own"),)))), behave=lambda sample: outcome)
    [result] = results(EvaluatedExperiment.model_validate_json(found.model_dump_json(exclude_none=True)))
    assert (result.result, result.score) == ("error", None) if outcome.error else ("pass", 1.0)


async def test_several_judgements_off_the_scale_do_not_make_one_on_it() -> None:
    scores = iter([1.5, 0.5])
    judge = FakeJudge(lambda prompt, wanted: {"score": next(scores)})
    [result] = results(await evaluated(experiment(scenario(step(metrics=VALUE))), judge, judge_samples=2))
    assert (result.result, result.score) == ("error", None)


@pytest.mark.parametrize("reference", [" ", "\n\t", "\u00a0", "\u3000"])
async def test_a_blank_reference_is_none(reference: str) -> None:
    names = ("contains", "exact_match", "similarity", "rouge", "json_equality", "numeric")
    asked = tuple(metric(f"builtin.{name}") for name in names)
    executed = experiment(scenario(step(metrics=asked, reference=Reference(response=reference))))
    assert {result.result for result in results(await evaluated(executed))} == {"skipped"}


async def test_a_metric_that_takes_too_long_is_an_error() -> None:
    class Hanging(FakeJudge):
        async def ask(self, question: Question[Any]) -> Any:
            await asyncio.Event().wait()

    registry = GenericMetricsRegistry({"ragas": lambda: ScriptedAdapter(nothing)})
    evaluator = MetricEvaluator(
        registry, Hanging(), default_threshold=0.5, limits=EvaluationLimits(evaluations=1, timeout_s=0.01)
    )
    runtime = ExperimentRuntime(evaluator, concurrency=1)
    [found] = await runtime.run([scenario(step(metrics=(metric("Value"),)))])
    assert found.steps[0].evaluations[0].result.error is not None
    assert found.steps[0].evaluations[0].result.error.kind == "timeout"


VALUE = (metric("Value"),)


async def test_an_evaluation_that_is_stopped_closes_the_judge() -> None:
    class Hanging(FakeJudge):
        reached = asyncio.Event()

        async def ask(self, question: Question[Any]) -> Any:
            self.reached.set()
            await asyncio.Event().wait()

    judge = Hanging()
    run = asyncio.create_task(evaluated(experiment(scenario(step(metrics=VALUE))), judge))
    await judge.reached.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert judge.closed


async def test_usage_and_judge_are_kept_with_each_result() -> None:
    judge = FakeJudge(lambda prompt, wanted: {"score": 0.75})
    executed = experiment(scenario(step("x" * 40, metrics=(*VALUE, CONTAINS))), llm_as_a_judge_model="from the file")
    found = await evaluated(executed, judge, model=None)
    asked, unasked = results(found)
    assert (asked.usage, asked.judge_model) == (Usage(input_tokens=10, output_tokens=1), "from the file")
    assert (unasked.usage, unasked.judge_model) == (None, None)
    assert found.evaluation is not None
    assert found.evaluation.judge_model == "from the file"
    assert judge.closed


async def test_a_judges_failure_is_an_error_with_its_words() -> None:
    judge = FakeJudge(lambda prompt, wanted: JudgeError("no fit", kind="malformed", raw="I'd say 7", attempts=2))
    [result] = results(await evaluated(experiment(scenario(step(metrics=VALUE))), judge))
    assert result.result == "error"
    assert result.error is not None
    assert (result.error.kind, result.error.raw, result.error.attempts) == ("malformed", "I'd say 7", 2)


async def test_evaluations_go_on_at_once_and_their_number_is_bounded() -> None:
    class Counting(FakeJudge):
        inside = most = 0

        async def ask(self, question: Question[Any]) -> Any:
            Counting.inside += 1
            Counting.most = max(Counting.most, Counting.inside)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            Counting.inside -= 1
            return Verdict(score=1.0)

    executed = experiment(*(scenario(step(metrics=VALUE * 3), step(metrics=VALUE), name=f"{n}") for n in range(20)))
    found = await evaluated(executed, Counting(), concurrency=3)
    assert {result.result for result in results(found)} == {"pass"}
    assert Counting.most == 6


@pytest.mark.parametrize("executed", [experiment(), experiment(scenario(step())), experiment(scenario())])
async def test_nothing_to_judge_is_told_before_any_work(executed: ExecutedExperiment) -> None:
    with pytest.raises(NothingToDo):
        await evaluated(executed)


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ((metric("Valu"),), "scenario 'second', step 2: no metric 'Valu'"),
        ((metric("builtin.latency"),), "scenario 'second', step 2: builtin.latency needs the parameter 'max_ms'"),
    ],
)
async def test_a_metric_that_cannot_be_used_is_told_with_its_place_before_the_judge_is_asked(
    metrics: tuple[Metric, ...], told: str
) -> None:
    judge = FakeJudge(lambda prompt, wanted: {"score": 1.0})
    executed = experiment(scenario(step(metrics=VALUE)), scenario(step(), step(metrics=metrics), name="second"))
    with pytest.raises(InputError) as caught:
        await evaluated(executed, judge)
    assert told in caught.value.message
    assert judge.asked == []


async def test_a_judge_without_a_model_or_an_endpoint_is_told_at_once() -> None:
    executed = experiment(scenario(step(metrics=VALUE)))
    with pytest.raises(InputError) as caught:
        await evaluated(executed, FakeJudge(), model=None)
    assert "--model" in caught.value.hint
    assert "OPENAI_API_BASE" in caught.value.hint
    dependencies = EvaluationDependencies(
        environment={}, registry=GenericMetricsRegistry({"ragas": lambda: ScriptedAdapter(nothing)}), clock=FakeClock()
    )
    with pytest.raises(InputError, match="no endpoint"):
        await evaluate(executed, EvaluationSettings(model="m"), dependencies)


def down(kind: str) -> FakeJudge:
    return FakeJudge(lambda prompt, wanted: JudgeError("the judge is not there", kind=kind))


@pytest.mark.parametrize(
    ("steps", "judge", "code", "told"),
    [
        ((step(metrics=(CONTAINS,)),), None, ExitCode.DONE, "1 of 1 evaluations scored"),
        ((step(metrics=VALUE), step(metrics=(CONTAINS,))), down("unreachable"), ExitCode.NOT_DONE, "judge answered"),
        ((step(metrics=VALUE), step(metrics=(CONTAINS,))), down("auth"), ExitCode.NOT_DONE, "judge answered nothing"),
        ((step(metrics=VALUE), step(metrics=(CONTAINS,))), down("malformed"), ExitCode.DONE, "1 of 2"),
        ((step(metrics=VALUE),), down("malformed"), ExitCode.NOT_DONE, "0 of 1 evaluations scored, 1 error"),
        ((step(None, metrics=(CONTAINS,)),), None, ExitCode.NOT_DONE, "0 of 1 evaluations scored, 1 error"),
        ((step(metrics=(metric("builtin.exact_match"),)),), None, ExitCode.NOTHING_TO_DO, "1 skipped"),
    ],
)
async def test_how_an_evaluation_ends(steps: Any, judge: FakeJudge | None, code: ExitCode, told: str) -> None:
    conclusion = conclude(await evaluated(experiment(scenario(*steps)), judge), lambda errors, of: True)
    assert conclusion.exit_code == code
    assert told in f"{conclusion.sentence}; {conclusion.fault}"
    assert (conclusion.fault is None) == (conclusion.hint is None) == (code == ExitCode.DONE)


@pytest.mark.parametrize(
    ("budget", "errors", "of", "covered"),
    [
        ("0", 0, 10, True),
        ("0", 1, 10, False),
        ("2", 2, 10, True),
        ("2", 3, 10, False),
        ("10%", 1, 10, True),
        ("10%", 2, 10, False),
        ("0.1", 2, 10, False),
        ("0.29", 29, 100, True),
        ("0.29", 30, 100, False),
        ("1.0", 9, 9, True),
    ],
)
async def test_the_error_budget(budget: str, errors: int, of: int, covered: bool) -> None:
    assert ErrorBudget.parse(budget).covers(errors, of) is covered


@pytest.mark.parametrize("budget", ["", "many", "-1", "150%", "1.5", "nan", "inf"])
def test_an_error_budget_that_is_none(budget: str) -> None:
    with pytest.raises(InputError):
        ErrorBudget.parse(budget)


async def test_more_errors_than_allowed_is_not_done() -> None:
    executed = experiment(scenario(step(None, metrics=(CONTAINS,)), step(metrics=(CONTAINS,))))
    conclusion = conclude(await evaluated(executed), ErrorBudget.parse("0").covers)
    assert conclusion.exit_code == ExitCode.NOT_DONE
    assert "--fail-on-error" in (conclusion.fault or "")


async def test_the_table_says_of_how_many_a_mean_is() -> None:
    executed = experiment(scenario(*(step(answer, metrics=(CONTAINS,)) for answer in ("sunny", "rain", None))))
    lines = format_table(conclude(await evaluated(executed), lambda errors, of: True).summary).splitlines()
    assert lines[0].split() == ["metric", "scored", "mean", "pass", "fail", "error", "skipped"]
    assert lines[1].split() == ["builtin.contains", "2", "of", "3", "0.500", "1", "1", "1", "0"]


def test_expected_tool_calls_of_a_scenario_are_known_only_if_every_step_states_them() -> None:
    whole = scenario(step(reference=Reference(tool_calls=calls("x"))), step())
    assert Sample.of_scenario(whole).reference.tool_calls is None
    assert sample().reference.tool_calls is None
