"""Metrics that only RAGAS's older interface has, behind the one of today, so that the rest of the adapter knows one.

Of the others there, FaithfulnesswithHHEM needs a model of its own, and the rest are today's metrics under legacy names.
`strictness` is not offered: it judges once whatever it says; --judge-samples does what it promises.
"""

from __future__ import annotations

from typing import Any

from ragas.dataset_schema import SingleTurnSample
from ragas.metrics._aspect_critic import AspectCritic as _AspectCritic
from ragas.metrics._context_precision import IDBasedContextPrecision as _IDBasedContextPrecision
from ragas.metrics._context_precision import NonLLMContextPrecisionWithReference as _NonLLMContextPrecision
from ragas.metrics._context_recall import IDBasedContextRecall as _IDBasedContextRecall
from ragas.metrics._context_recall import NonLLMContextRecall as _NonLLMContextRecall
from ragas.metrics._simple_criteria import SimpleCriteriaScore as _SimpleCriteriaScore
from ragas.metrics.result import MetricResult


class _LegacyMetric:
    metric: Any

    async def _score(self, **fields: Any) -> MetricResult:
        return MetricResult(value=await self.metric.single_turn_ascore(SingleTurnSample(**fields)))


class AspectCritic(_LegacyMetric):
    """Whether the answer has an aspect that you define, yes or no."""

    def __init__(self, llm: Any, definition: str) -> None:
        self.metric = _AspectCritic(name="aspect_critic", definition=definition, llm=llm)

    async def ascore(
        self,
        user_input: str,
        response: str,
        retrieved_contexts: list[str] | None = None,
        reference_contexts: list[str] | None = None,
        reference: str | None = None,
    ) -> MetricResult:
        return await self._score(
            user_input=user_input,
            response=response,
            retrieved_contexts=retrieved_contexts,
            reference_contexts=reference_contexts,
            reference=reference,
        )


class SimpleCriteriaScore(AspectCritic):
    """A whole number from minimum to maximum by criteria that you define; say the scale in them too."""

    def __init__(self, llm: Any, definition: str, minimum: int = 0, maximum: int = 5) -> None:
        if minimum >= maximum:
            raise ValueError("minimum must be below maximum")
        self.metric = _SimpleCriteriaScore(name="simple_criteria_score", definition=definition, llm=llm)


class IDBasedContextPrecision(_LegacyMetric):
    """Part of the retrieved contexts' ids that are among the reference contexts' ids."""

    def __init__(self) -> None:
        self.metric = _IDBasedContextPrecision()

    async def ascore(self, retrieved_context_ids: list[str], reference_context_ids: list[str]) -> MetricResult:
        return await self._score(
            retrieved_context_ids=retrieved_context_ids, reference_context_ids=reference_context_ids
        )


class IDBasedContextRecall(IDBasedContextPrecision):
    """Part of the reference contexts' ids that are among the retrieved contexts' ids."""

    def __init__(self) -> None:
        self.metric = _IDBasedContextRecall()


class NonLLMContextPrecisionWithReference(_LegacyMetric):
    """Whether retrieved contexts that resemble a reference context come first, without a judge."""

    def __init__(self, threshold: float = 0.5) -> None:
        self.metric = _NonLLMContextPrecision(threshold=threshold)

    async def ascore(self, retrieved_contexts: list[str], reference_contexts: list[str]) -> MetricResult:
        return await self._score(retrieved_contexts=retrieved_contexts, reference_contexts=reference_contexts)


class NonLLMContextRecall(NonLLMContextPrecisionWithReference):
    """Part of the reference contexts that a retrieved context resembles, without a judge."""

    def __init__(self, threshold: float = 0.5) -> None:
        self.metric = _NonLLMContextRecall(threshold=threshold)


LEGACY_METRICS = (
    AspectCritic,
    SimpleCriteriaScore,
    IDBasedContextPrecision,
    IDBasedContextRecall,
    NonLLMContextPrecisionWithReference,
    NonLLMContextRecall,
)
