"""From what a RAGAS metric returned to a score in 0..1 with a reason, or to the failure that it hides.

    raw value + what the judge said -> MetricResult

Pure. RAGAS gives NaN, 0.0 or 1.0 where the judge found nothing to judge; none of these is a score.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Final

from pydantic import BaseModel

from testbench.metrics.protocol import MetricResult, MetricSpec
from testbench.schema.models import Failure

ROUNDING: Final = 1e-6
"""RAGAS adds small numbers to its denominators: a value this close to an end of its range is that end."""
DIGITS: Final = 12
"""What is left of 1 - 0.8 must reach a threshold of 0.2."""
REASON_LIMIT: Final = 4000
_MAY_BE_EMPTY: Final = frozenset({"EntitiesList"})
"""Answers that say something by being empty: contexts without any entity."""


def result_of(spec: MetricSpec, raw: Any, reason: str | None, said: Sequence[BaseModel]) -> MetricResult:
    """The result of a metric of this spec, `spec.value_range` being that of this sample."""
    if spec.needs_llm and (nothing := _nothing_to_judge(said)):
        return _undefined(nothing, raw)
    if isinstance(raw, bool) or not isinstance(raw, Real) or not math.isfinite(raw):
        return _undefined("RAGAS gave no number", raw)
    value = float(raw)
    low, high = spec.value_range
    outside = value < low - ROUNDING or value > high + ROUNDING
    if outside and not spec.clamped:
        message = f"the value {value:g} is outside of {low:g} to {high:g}"
        return MetricResult(error=Failure(kind="out_of_range", message=message, raw=str(raw)))
    score = _snapped((min(max(value, low), high) - low) / (high - low))
    details = {"raw": value, "range": [low, high], "higher_is_better": spec.higher_is_better}
    return MetricResult(
        score=score if spec.higher_is_better else round(1 - score, DIGITS),
        reason=(reason or reason_of(said) or _of_value(spec, value))[:REASON_LIMIT],
        details=details,
    )


def rubric_range(rubrics: Mapping[str, str] | None) -> tuple[float, float]:
    """The scale of rubrics by the numbers in their names, e.g. `score1_description` to `score3_description`."""
    numbers = [int(found.group()) for name in rubrics or () if (found := re.search(r"\d+", name))]
    low, high = (min(numbers), max(numbers)) if numbers else (1, 5)
    return (float(low), float(high)) if low < high else (1.0, 5.0)


def reason_of(said: Sequence[BaseModel]) -> str | None:
    """The judge's own words for its verdicts, a line each."""
    lines = [line for answer in said for part in _parts(answer) if (line := _line(part))]
    return "\n".join(lines) or None


def _nothing_to_judge(said: Sequence[BaseModel]) -> str | None:
    for position, answer in enumerate(said):
        lists = [value for value in dict(answer).values() if isinstance(value, list)]
        name = type(answer).__name__
        matters = name not in _MAY_BE_EMPTY or position == 0
        if lists and not any(lists) and matters:
            return f"the judge found nothing to judge (empty {name})"
    return None


def _undefined(why: str, raw: Any) -> MetricResult:
    message = f"the metric is undefined for this sample: {why}"
    return MetricResult(error=Failure(kind="undefined", message=message, raw=str(raw)))


def _snapped(score: float) -> float:
    return 0.0 if score < ROUNDING else 1.0 if score > 1 - ROUNDING else score


def _of_value(spec: MetricSpec, value: float) -> str:
    direction = "" if spec.higher_is_better else ", lower is better"
    return f"RAGAS {spec.name} = {value:.4g}{direction}"


def _parts(answer: BaseModel) -> list[tuple[str | None, dict[str, Any]]]:
    """The answer's own fields and the objects in its lists, each with the list's name."""
    fields = dict(answer)
    below = [
        (key, dict(item))
        for key, items in fields.items()
        if isinstance(items, list)
        for item in items
        if isinstance(item, BaseModel)
    ]
    return [(None, fields), *below]


def _line(part: tuple[str | None, dict[str, Any]]) -> str | None:
    group, fields = part
    if "rating" in fields:
        return f"rating {fields['rating']}"
    why = fields.get("reason") or fields.get("feedback")
    if not why:
        return None
    verdict = fields.get("verdict", fields.get("attributed", group))
    head = f"[{verdict}] " if verdict is not None else ""
    statement = f"{fields['statement']}: " if fields.get("statement") else ""
    return f"{head}{statement}{why}"
