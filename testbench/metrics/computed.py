"""Metrics that compute their score from a sample: a class for each, with its parameters as fields.

    class Calm(ComputedMetric):
        "The answer asks little."

        limit: int = Field(default=3, description="Question marks that are allowed.")

        def score(self, sample: Sample) -> MetricResult:
            asked = (sample.response or "").count("?")
            return pass_or_fail(asked <= self.limit, f"{asked} question marks, {self.limit} allowed")

A `ComputedMetricsAdapter` makes a framework of such classes. The builtin metrics are one; a user's package may bring
another.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict

from testbench.metrics.adapter import FrameworkAdapter, parameters_of, parse_parameters
from testbench.metrics.effort import RegexTimeoutError, limit_regex_time
from testbench.metrics.judge.judge import Judge
from testbench.metrics.protocol import MetricCallable, MetricResult, MetricSpec, Sample, SampleField
from testbench.schema.models import Failure

__all__ = ["ComputedMetric", "ComputedMetricsAdapter", "pass_or_fail", "quote"]

QUOTE_LENGTH: Final = 120
"""Characters of a text that a reason quotes."""


class ComputedMetric(BaseModel, ABC):
    """One metric with its parameters; the first line of its docstring describes it to users."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    metric_name: ClassVar[str] = ""
    """What stands after the dot; without it, the name of the class."""
    fields: ClassVar[tuple[SampleField, ...]] = ("response",)
    """What a sample must have; without it the metric is skipped."""
    unavailable: ClassVar[str | None] = None
    """Why it cannot be used here, e.g. a package that is missing."""

    def required_fields(self) -> tuple[SampleField, ...]:
        """Return what a sample must have, with these parameters."""
        return self.fields

    def prepare(self) -> None:
        """Load what takes long before the first sample, because it must not stop the event loop later."""

    @abstractmethod
    def score(self, sample: Sample) -> MetricResult:
        """Return the score with a reason from which it can be computed again; called in a thread.

        Raises:
            TooMuchEffortError: it would take too long.
        """

    async def __call__(self, sample: Sample, **overrides: Any) -> MetricResult:
        """See `MetricCallable`."""
        try:
            with limit_regex_time():
                return await asyncio.to_thread(self.score, replace(sample, **overrides))
        except RegexTimeoutError as error:
            return MetricResult(error=Failure(kind="timeout", message=str(error)))


class ComputedMetricsAdapter(FrameworkAdapter):
    """A framework whose metrics are the classes in `metrics`; a subclass names both."""

    metrics: ClassVar[tuple[type[ComputedMetric], ...]]

    def specs(self) -> Mapping[str, MetricSpec]:
        return self._specs

    def spec_for(self, name: str, parameters: Mapping[str, Any]) -> MetricSpec:
        return replace(self._specs[name], required=self._parse(name, parameters).required_fields())

    def create(self, name: str, parameters: Mapping[str, Any], judge: Judge | None) -> MetricCallable:
        metric = self._parse(name, parameters)
        metric.prepare()
        return metric

    def _parse(self, name: str, parameters: Mapping[str, Any]) -> ComputedMetric:
        return parse_parameters(f"{self.framework}.{name}", self._classes[name], parameters)

    @cached_property
    def _classes(self) -> Mapping[str, type[ComputedMetric]]:
        return {metric.metric_name or metric.__name__: metric for metric in self.metrics}

    @cached_property
    def _specs(self) -> Mapping[str, MetricSpec]:
        return {
            name: MetricSpec(
                framework=self.framework,
                name=name,
                description=(metric.__doc__ or "").partition("\n")[0],
                required=metric.fields,
                parameters=parameters_of(metric),
                unavailable=metric.unavailable,
            )
            for name, metric in self._classes.items()
        }


def pass_or_fail(passed: bool, reason: str, **details: Any) -> MetricResult:
    """Return the result of a metric that knows only right (1) and wrong (0)."""
    return MetricResult(score=1.0 if passed else 0.0, reason=reason, details=details)


def quote(text: str) -> str:
    """Return a text as a reason shows it: on one line, in quotes, and not too long."""
    line = " ".join(text.split())
    return f"{line[: QUOTE_LENGTH - 1]}…" if len(line) > QUOTE_LENGTH else f"{line!r}"
