"""What a metric returned or raised, as an outcome that the file can keep: a framework of a user's may do anything.

    whatever it did -> MetricResult (`sound`, `failed`) -> Result -> one that can be written (`writable`)

Used by `testbench.metrics.evaluator`. One metric that goes wrong is the error of one evaluation, never the end of all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from numbers import Real

from pydantic_core import PydanticSerializationError

from testbench.errors import JudgeError
from testbench.metrics.effort import TooMuchEffortError
from testbench.metrics.judge.cost import OVER_BUDGET
from testbench.metrics.protocol import MetricResult
from testbench.schema.models import Failure, Result


def sound(returned: object) -> MetricResult:
    """What a metric returned, if it is what it must be; a missing score or one outside of 0 to 1 becomes an error.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(returned, MetricResult):
        raise TypeError(f"it returned {type(returned).__name__}, not a MetricResult")
    if not isinstance(returned.details, Mapping) or not all(isinstance(key, str) for key in returned.details):
        raise TypeError("its details are no mapping of names to values")
    if not (isinstance(returned.reason, str | None) and isinstance(returned.skipped, str | None)):
        raise TypeError("its reason is no text")
    if not isinstance(returned.error, Failure | None):
        raise TypeError("its error is no Failure")
    if returned.error is not None or returned.skipped is not None:
        return returned
    score: object = returned.score  # a user's own package is not type-checked
    if score is None:
        return MetricResult(
            error=Failure(kind="undefined", message="the metric gave no score"), details=returned.details
        )
    if not isinstance(score, Real):
        raise TypeError(f"its score is {type(score).__name__}, not a number")
    if not 0.0 <= float(score) <= 1.0:  # also true of NaN
        message = f"the metric gave {score}, which is no score from 0 to 1"
        return MetricResult(error=Failure(kind="out_of_range", message=message), details=returned.details)
    return returned


def failed(metric: str, error: BaseException) -> MetricResult:
    """The outcome of a metric that raised something."""
    error = _cause(error)
    if isinstance(error, JudgeError):
        if error.kind == OVER_BUDGET:
            return MetricResult(skipped=error.message, details={"skipped_by": OVER_BUDGET})
        return MetricResult(error=failure_of(error))
    if isinstance(error, TooMuchEffortError):
        return MetricResult(error=Failure(kind="too_long", message=str(error)))
    message = f"{metric} failed: {type(error).__name__}: {error}"
    return MetricResult(error=Failure(kind="metric_failed", message=message))


def failure_of(error: JudgeError) -> Failure:
    """A judge's failure as the file keeps it."""
    return Failure(
        kind=error.kind,
        message=error.message,
        attempts=error.attempts,
        retryable=error.retryable,
        raw=error.raw,
    )


def writable(result: Result) -> Result:
    """The result with nothing in it that JSON in UTF-8 cannot hold: half of a character, an object without a form."""
    try:
        result.model_dump_json()
    except PydanticSerializationError:
        text = json.dumps(result.model_dump(), ensure_ascii=False, default=str, skipkeys=True)
        return Result.model_validate_json(text.encode(errors="replace"))
    return result


def _cause(error: BaseException) -> BaseException:
    """The first of several errors that were raised together."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
