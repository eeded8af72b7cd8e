"""What a builtin metric is: its parameters as a model, the fields it needs, and a pure function from sample to result.

A new one is a subclass of `BuiltinMetric` and a line in `testbench.metrics.builtin.adapter`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from testbench.metrics.builtin.bounded_regex import PatternTimeoutError, limited_time
from testbench.metrics.protocol import MetricResult, Sample, SampleField
from testbench.schema.models import Failure

QUOTED = 120
"""Characters of a text that a reason quotes."""


class BuiltinMetric(BaseModel, ABC):
    """One metric with its parameters; the docstring's first line describes it to users."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    metric_name: ClassVar[str]
    fields: ClassVar[tuple[SampleField, ...]] = ("response",)

    def required(self) -> tuple[SampleField, ...]:
        """What a sample must have, with these parameters."""
        return self.fields

    def prepare(self) -> None:
        """Called once before the first sample: load what takes long, which must not stop the event loop later."""

    @abstractmethod
    def judge(self, sample: Sample) -> MetricResult:
        """The score with a reason from which it can be computed again; called in a thread.

        Raises:
            TooLongError: it would take too long.
        """

    async def __call__(self, sample: Sample, **overrides: Any) -> MetricResult:
        try:
            with limited_time():
                return await asyncio.to_thread(self.judge, replace(sample, **overrides))
        except PatternTimeoutError as error:
            return MetricResult(error=Failure(kind="timeout", message=str(error)))


def verdict(passed: bool, reason: str, **details: Any) -> MetricResult:
    """A result of metrics that know only right and wrong."""
    return MetricResult(score=1.0 if passed else 0.0, reason=reason, details=details)


def quoted(text: str) -> str:
    """A text in a reason: on one line, in quotes, and not too long."""
    line = " ".join(text.split())
    return f"{line[: QUOTED - 1]}…" if len(line) > QUOTED else f"{line!r}"


def expected_text(given: str | None, sample: Sample) -> str | None:
    """What is expected: the parameter, else the reference."""
    return given if given is not None else sample.reference.response
