"""Metrics that compute do not stop the judge's requests, and what would take for ever is an error that says so."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any, ClassVar

import pytest

from testbench.metrics.builtin.adapter import BuiltinAdapter
from testbench.metrics.computed import ComputedMetric
from testbench.metrics.evaluation import EvaluationDependencies, EvaluationSettings, evaluate
from testbench.metrics.protocol import MetricCallable, MetricResult, MetricSpec, Sample
from testbench.metrics.ragas.adapter import _RagasCallable
from testbench.results.summary import walk_evaluations
from testbench.schema.models import Metric, Reference, Result
from tests.support.metric_samples import experiment, metric, sample, scenario, step


class Slow:
    """Computes until it is told to stop; without another thread nobody could tell it."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.told = threading.Event()
        self.loop = asyncio.get_running_loop()

    def compute(self) -> bool:
        self.loop.call_soon_threadsafe(self.begun.set)
        return self.told.wait(timeout=10)


class SlowMetric(ComputedMetric):
    """As slow as the test wants."""

    metric_name: ClassVar[str] = "slow"

    slow: Any

    def score(self, sample: Sample) -> MetricResult:
        return MetricResult(score=float(self.slow.compute()))


class SlowRagas:
    """A metric of RAGAS that computes where it says that it waits, as all of those without a judge do."""

    def __init__(self, slow: Slow) -> None:
        self.slow = slow

    async def ascore(self, **_: Any) -> Any:
        class Value:
            value = float(self.slow.compute())
            reason = None

        return Value()


@pytest.mark.parametrize("framework", ["builtin", "ragas"])
async def test_a_metric_that_computes_does_not_stop_the_others(framework: str) -> None:
    slow = Slow()
    call: MetricCallable = SlowMetric(slow=slow)
    if framework == "ragas":
        call = _RagasCallable(MetricSpec("ragas", "Slow", "Slow."), SlowRagas(slow), (), None)
    computing = asyncio.create_task(call(sample()))
    await slow.begun.wait()
    slow.told.set()
    assert (await computing).score == 1.0


async def result_of(asked: Metric, answer: str, reference: str) -> Result:
    contexts = {"retrieved_contexts": [answer]}
    one = step(
        answer,
        metrics=(asked,),
        reference=Reference(response=reference, reference_contexts=(reference,)),
        custom_values=contexts,
    )
    found = await evaluate(experiment(scenario(one)), EvaluationSettings(cache=None), EvaluationDependencies({}))
    [item] = walk_evaluations(found)
    return item.evaluation.result


@pytest.mark.parametrize(
    ("asked", "characters"),
    [
        (metric("builtin.similarity"), 40_000),
        (metric("builtin.similarity", algorithm="token_sort"), 40_000),
        (metric("builtin.similarity", algorithm="partial"), 3_000),
        (metric("builtin.rouge"), 200_000),
        (metric("builtin.bleu"), 1_100_000),
        (metric("builtin.chrf"), 1_100_000),
        (metric("ragas.RougeScore"), 12_000),
        (metric("ragas.NonLLMStringSimilarity"), 40_000),
        (metric("ragas.NonLLMContextRecall"), 40_000),
        (metric("ragas.NonLLMContextPrecisionWithReference"), 40_000),
        (metric("ragas.QuotedSpansAlignment"), 300_000),
        (metric("ragas.BleuScore"), 1_100_000),
        (metric("ragas.CHRFScore"), 1_100_000),
    ],
    ids=lambda value: value.metric_name if isinstance(value, Metric) else str(value),
)
async def test_texts_that_would_take_for_ever_are_an_error(asked: Metric, characters: int) -> None:
    result = await result_of(asked, "a " * (characters // 2), "b " * (characters // 2))
    assert (result.result, result.score) == ("error", None)
    assert result.error is not None
    assert result.error.kind == "too_long"
    assert "too many" in result.error.message


@pytest.mark.parametrize(
    "asked",
    [
        metric("builtin.similarity", algorithm="partial"),
        metric("ragas.RougeScore", rouge_type="rouge1"),
        metric("ragas.NonLLMStringSimilarity"),
    ],
    ids=lambda value: value.metric_name,
)
async def test_a_long_answer_and_a_short_reference_are_compared(asked: Metric) -> None:
    result = await result_of(asked, "It is sunny. " * 2_000, "It is sunny.")
    assert result.result in ("pass", "fail")


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (metric("builtin.regex", pattern="(a|aa)+$"), "a" * 60 + "b"),
        (
            metric("builtin.json_schema", schema={"items": {"pattern": "^(a|aa)+$"}}),
            json.dumps(["a" * 20_000 + "c"] * 1_000),
        ),
    ],
    ids=lambda value: value.metric_name if isinstance(value, Metric) else "",
)
async def test_expressions_have_their_time_together(
    asked: Metric, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbench.metrics.effort.REGEX_TIME_LIMIT_S", 0.02)
    result = await result_of(asked, answer, "x")
    assert result.error is not None
    assert result.error.kind == "timeout"


@pytest.mark.parametrize(
    ("items", "score"),
    [
        ([{"a": 1}, {"a": 2}], 1.0),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1.0}], 0.0),
        ([1, True, "1"], 1.0),
        ([1, 1.0], 0.0),
        ([[0], [False]], 1.0),
    ],
)
async def test_unique_items_are_those_of_json(items: list[Any], score: float) -> None:
    call = BuiltinAdapter().create("json_schema", {"schema": {"uniqueItems": True}}, None)
    assert (await call(sample(json.dumps(items)))).score == score


async def test_many_unique_items_are_told_apart_at_once() -> None:
    """By comparing each with each, this one would take minutes."""
    await test_unique_items_are_those_of_json([{"number": number} for number in range(20_000)], 1.0)
