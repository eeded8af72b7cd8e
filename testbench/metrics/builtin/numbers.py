"""Metrics over numbers: one that the answer must name, and the time that the agent took."""

from __future__ import annotations

import math
import re
from typing import ClassVar, Final, Literal

from pydantic import Field

from testbench.metrics.computed import ComputedMetric, pass_or_fail
from testbench.metrics.protocol import MetricResult, Sample, SampleField

_MINUS: Final = str.maketrans({"\u2212": "-", "\u2013": "-"})
_SEPARATORS: Final = {".": r",'\u00a0\u2009\u202f", ",": r".'\u00a0\u2009\u202f"}
"""What may stand between groups of three digits, by the sign that starts the decimals."""


def numbers_in(text: str, decimal: Literal[".", ","] = ".") -> list[float]:
    """Return every finite number in a text, in order: signs, groups of three, decimals and exponents are understood.

    A hyphen right after a letter, digit or closing bracket is not a sign: `2024-05-06`, `COVID-19`.
    """
    groups = _SEPARATORS[decimal]
    pattern = re.compile(
        rf"(?<![\w{re.escape(decimal)}])(?P<sign>(?<![\w)\]])-)?"
        rf"(?P<whole>\d{{1,3}}(?:[{groups}]\d{{3}})+(?!\d)|\d+)(?P<part>{re.escape(decimal)}\d+)?"
        rf"(?P<power>[eE][+-]?\d{{1,3}})?"
    )
    found = []
    for match in pattern.finditer(text.translate(_MINUS)):
        whole = re.sub(rf"[{groups}]", "", match["whole"])
        part = (match["part"] or "").replace(decimal, ".")
        value = float(f"{match['sign'] or ''}{whole}{part}{match['power'] or ''}")
        if math.isfinite(value):
            found.append(value)
    return found


class Numeric(ComputedMetric):
    """The answer names the expected number, within a tolerance."""

    metric_name: ClassVar[str] = "numeric"

    value: float | None = Field(
        default=None, allow_inf_nan=False, description="The expected number; without it, the one in reference.response."
    )
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Allowed absolute difference.")
    relative: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Allowed part of the expected number.")
    pick: Literal["any", "first", "last", "only"] = Field(
        default="any", description="Which number of the answer counts; `only`: there must be no other."
    )
    decimal: Literal[".", ","] = Field(default=".", description="The sign that starts the decimals.")

    def required_fields(self) -> tuple[SampleField, ...]:
        return ("response",) if self.value is not None else ("response", "reference")

    def score(self, sample: Sample) -> MetricResult:
        expected = self.value
        if expected is None:
            named = numbers_in(sample.reference.response or "", self.decimal)
            if len(set(named)) != 1:
                return MetricResult(skipped=f"reference.response names {len(named)} numbers, not one; set `value`")
            expected = named[0]
        found = numbers_in(sample.response or "", self.decimal)
        allowed = max(self.tolerance, self.relative * abs(expected))
        # the last bit of a decimal fraction is no difference: 0.3 - 0.2 is within 0.1
        slack = 4 * math.ulp(max(abs(expected), allowed))
        passed = any(abs(number - expected) <= allowed + slack for number in self._pick(found))
        shown = ", ".join(f"{number:g}" for number in found[:10]) or "none"
        reason = f"numbers in the answer: {shown}; expected ({self.pick}) {expected:g} ± {allowed:g}"
        return pass_or_fail(passed, reason, numbers=found[:100], expected=expected)

    def _pick(self, found: list[float]) -> list[float]:
        match self.pick:
            case "any":
                return found
            case "first":
                return found[:1]
            case "last":
                return found[-1:]
            case "only":
                return found if len(set(found)) == 1 else []


class Latency(ComputedMetric):
    """The agent answered in time; over a scenario, the sum of its steps."""

    metric_name: ClassVar[str] = "latency"
    fields: ClassVar[tuple[SampleField, ...]] = ("latency_ms",)

    max_ms: float = Field(gt=0, allow_inf_nan=False, description="Milliseconds that it may take.")

    def score(self, sample: Sample) -> MetricResult:
        took = sample.latency_ms or 0.0
        return pass_or_fail(took <= self.max_ms, f"{took:.10g} ms, {self.max_ms:.10g} ms allowed", latency_ms=took)
