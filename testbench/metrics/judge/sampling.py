"""The same sample judged several times, because a judge does not always say the same: mean or majority, and spread.

    (callable, how often, how to combine) -> a callable with one result

`testbench.metrics.registry` wraps metrics in it; the judge cache asks for the `draw` that is under way, so that the
second judgement of a sample is not the first one out of the cache.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from testbench.metrics.protocol import Combine, MetricCallable, MetricResult, Sample
from testbench.metrics.returned import sound
from testbench.schema.models import Failure

DIGITS: Final = 9
"""Scores that agree in so many digits are the same verdict."""

_draw: ContextVar[int] = ContextVar("testbench_draw", default=0)


def current_draw() -> int:
    """Which judgement of a sample is under way, from 0."""
    return _draw.get()


@contextmanager
def _drawing(number: int) -> Iterator[None]:
    token = _draw.set(number)
    try:
        yield
    finally:
        _draw.reset(token)


@dataclass(frozen=True)
class Sampled:
    """A metric that judges `samples` times, one after the other."""

    call: MetricCallable
    samples: int
    combine: Combine

    async def __call__(self, sample: Sample, **overrides: Any) -> MetricResult:
        """The combined result; the first judgement without a score is the result instead."""
        results: list[MetricResult] = []
        for number in range(self.samples):
            with _drawing(number):
                result = sound(await self.call(sample, **overrides))
            if result.score is None:
                return result
            results.append(result)
        return combined(results, self.combine)


def combined(results: Sequence[MetricResult], how: Combine) -> MetricResult:
    """One result of several that all have a score; no majority is an error, and never a guess."""
    scores = [result.score for result in results if result.score is not None]
    details = {
        "samples": scores,
        "spread": max(scores) - min(scores),
        "stdev": statistics.pstdev(scores),
        "combined_by": how,
    }
    shown = ", ".join(f"{score:.3g}" for score in scores)
    if how == "majority":
        verdict, votes = Counter(round(score, DIGITS) for score in scores).most_common(1)[0]
        if 2 * votes <= len(scores):
            message = f"the judge contradicts itself, no verdict has a majority: {shown}"
            return MetricResult(error=Failure(kind="contradictory", message=message), details=details)
        score = next(score for score in scores if round(score, DIGITS) == verdict)
    else:
        score = min(max(statistics.fmean(scores), min(scores)), max(scores))  # rounding may leave the range
    nearest = min(results, key=lambda result: abs((result.score or 0.0) - score))
    reason = f"{how} of {len(scores)} judgements ({shown}). {nearest.reason or ''}".strip()
    return replace(nearest, score=score, reason=reason, details={**nearest.details, **details})
