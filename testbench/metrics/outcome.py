"""What the calls of a metric come to: whatever it returned or raised, as a result that the file can keep.

    returned -> check_result -> combine_results, where a sample is judged several times -> Result -> make_writable
    raised   -> result_of_error

A framework of a user's may do anything: one metric that goes wrong is the error of one evaluation, never the end of
all. A judge does not always say the same: `RepeatedMetric` asks it several times, and the judge's cache looks at
`current_repetition`, so that the second judgement of a sample is not the first one out of the cache. Used by
`testbench.metrics.evaluator` and `testbench.metrics.registry`.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Final

from pydantic_core import PydanticSerializationError

from testbench.errors import JudgeError
from testbench.metrics.effort import TooMuchEffortError
from testbench.metrics.judge.cost import OVER_BUDGET
from testbench.metrics.protocol import Combine, MetricCallable, MetricResult, Sample
from testbench.schema.models import Failure, Result

EQUAL_DIGITS: Final = 9
"""Scores that agree in so many digits are the same verdict."""


@dataclass(frozen=True)
class RepeatedMetric:
    """A metric that judges each sample `samples` times, one after the other."""

    call: MetricCallable
    samples: int
    combine: Combine

    async def __call__(self, sample: Sample, **overrides: Any) -> MetricResult:
        """Return the combined result, or the first one that has no score."""
        results: list[MetricResult] = []
        for number in range(self.samples):
            with _repetition(number):
                result = check_result(await self.call(sample, **overrides))
            if result.score is None:
                return result
            results.append(result)
        return combine_results(results, self.combine)


_repetition_under_way: ContextVar[int] = ContextVar("testbench_repetition", default=0)


@contextmanager
def _repetition(number: int) -> Iterator[None]:
    token = _repetition_under_way.set(number)
    try:
        yield
    finally:
        _repetition_under_way.reset(token)


def current_repetition() -> int:
    """Return which judgement of a sample is under way, from 0."""
    return _repetition_under_way.get()


def combine_results(results: Sequence[MetricResult], how: Combine) -> MetricResult:
    """Return one result for several that all have a score; no majority is an error, and never a guess."""
    scores = [result.score for result in results if result.score is not None]
    details = {
        "samples": scores,
        "spread": max(scores) - min(scores),
        "stdev": statistics.pstdev(scores),
        "combined_by": how,
    }
    shown = ", ".join(f"{score:.3g}" for score in scores)
    if how == "majority":
        verdict, votes = Counter(round(score, EQUAL_DIGITS) for score in scores).most_common(1)[0]
        if 2 * votes <= len(scores):
            message = f"the judge contradicts itself, no verdict has a majority: {shown}"
            return MetricResult(error=Failure(kind="contradictory", message=message), details=details)
        score = next(score for score in scores if round(score, EQUAL_DIGITS) == verdict)
    else:
        score = min(max(statistics.fmean(scores), min(scores)), max(scores))  # rounding may leave the range
    nearest = min(results, key=lambda result: abs((result.score or 0.0) - score))
    reason = f"{how} of {len(scores)} judgements ({shown}). {nearest.reason or ''}".strip()
    return replace(nearest, score=score, reason=reason, details={**nearest.details, **details})


def check_result(returned: object) -> MetricResult:
    """Return what a metric returned; without a score from 0 to 1 it becomes an error.

    Raises:
        TypeError: it is not a `MetricResult`, or has parts of another type; a user's package need not be type-checked.
    """
    if not isinstance(returned, MetricResult):
        raise TypeError(f"it returned {type(returned).__name__}, not a MetricResult")
    if not isinstance(returned.details, Mapping) or not all(isinstance(key, str) for key in returned.details):
        raise TypeError("its details are not a mapping of names to values")
    if not (isinstance(returned.reason, str | None) and isinstance(returned.skipped, str | None)):
        raise TypeError("its reason is not a text")
    if not isinstance(returned.error, Failure | None):
        raise TypeError("its error is not a Failure")
    if returned.error is not None or returned.skipped is not None:
        return returned
    score: object = returned.score
    if score is None:
        return MetricResult(
            error=Failure(kind="undefined", message="the metric gave no score"), details=returned.details
        )
    if not isinstance(score, Real):
        raise TypeError(f"its score is {type(score).__name__}, not a number")
    if not 0.0 <= float(score) <= 1.0:  # also true of NaN
        message = f"the metric gave {score}, which is not a score from 0 to 1"
        return MetricResult(error=Failure(kind="out_of_range", message=message), details=returned.details)
    return returned


def result_of_error(metric: str, error: BaseException) -> MetricResult:
    """Return the result of a metric that raised something; of several errors at once, for the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, JudgeError):
        if error.kind == OVER_BUDGET:
            return MetricResult(skipped=error.message, details={"skipped_by": OVER_BUDGET})
        return MetricResult(error=_failure_of(error))
    if isinstance(error, TooMuchEffortError):
        return MetricResult(error=Failure(kind="too_long", message=str(error)))
    message = f"{metric} failed: {type(error).__name__}: {error}"
    return MetricResult(error=Failure(kind="metric_failed", message=message))


def make_writable(result: Result) -> Result:
    """Return the result without what JSON in UTF-8 cannot hold: half of a character, an object without a form."""
    try:
        result.model_dump_json()
    except PydanticSerializationError:
        text = json.dumps(result.model_dump(), ensure_ascii=False, default=str, skipkeys=True)
        return Result.model_validate_json(text.encode(errors="replace"))
    return result


def _failure_of(error: JudgeError) -> Failure:
    return Failure(
        kind=error.kind,
        message=error.message,
        attempts=error.attempts,
        retryable=error.retryable,
        raw=error.raw,
    )
