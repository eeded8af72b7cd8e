"""The limits that a load test must keep, and how it ends; what could not be measured is a limit that was missed.

    Measures, thresholds -> LimitResult each -> Conclusion

A manifest without a threshold for `error_rate` still has one: an outage answers fast, and must not pass for that.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from testbench.arena.conclusion import CANCELLED, NO_COMMON_START, SUCCEEDED, Conclusion, Counts, list_some
from testbench.arena.load.generator import Stopped
from testbench.arena.load.measures import Distribution, Measures
from testbench.arena.manifest.job import LoadTestSettings, LoadThreshold, parse_seconds
from testbench.arena.manifest.job_status import SUMMARY_ERRORS, SUMMARY_SCORE, SUMMARY_VERDICT
from testbench.arena.plan.model import PlanModel

ERROR_RATE_LIMIT: Final = LoadThreshold(metric="error_rate", operator="<=", value="0.01")
GENERATOR_SATURATED: Final = "GeneratorSaturated"
LIMIT_MISSED: Final = "LimitMissed"
NO_REQUESTS: Final = "NoRequests"
BUDGET_EXCEEDED: Final = "BudgetExceeded"
BUDGET_UNKNOWN: Final = "BudgetUnknown"
MISSING_WORKERS: Final = "MissingWorkers"

TIMES: Final = ("latency_", "ttft_")
"""Metrics in milliseconds begin so."""

COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class LimitResult(PlanModel):
    """A threshold and what was measured; milliseconds for times."""

    metric: str
    operator: str
    limit: float
    measured: float | None
    kept: bool

    @property
    def sentence(self) -> str:
        """What it says to a person."""
        unit = " ms" if self.metric.startswith(TIMES) else ""
        shown = "not measured" if self.measured is None else f"{self.measured:g}{unit}"
        return f"{self.metric} {shown} ({self.operator} {self.limit:g}{unit} {'kept' if self.kept else 'missed'})"


def check_limits(
    settings: LoadTestSettings, measures: Measures, pass_rate: float | None = None
) -> tuple[LimitResult, ...]:
    """Return every threshold of the manifest, and the one for errors where it names none.

    `pass_rate` is the part of sampled answers that passed their metrics, None where none was judged.
    """
    thresholds = list(settings.thresholds)
    if not any(threshold.metric == "error_rate" for threshold in thresholds):
        thresholds.append(ERROR_RATE_LIMIT)
    return tuple(_check(threshold, _find_measured(threshold.metric, measures, pass_rate)) for threshold in thresholds)


def _check(threshold: LoadThreshold, measured: float | None) -> LimitResult:
    limit = _parse_limit(threshold.value)
    kept = measured is not None and COMPARE[threshold.operator](measured, limit)
    return LimitResult(metric=threshold.metric, operator=threshold.operator, limit=limit, measured=measured, kept=kept)


def _parse_limit(value: str) -> float:
    """Milliseconds of a duration; a plain number is taken as it is (of a time, milliseconds)."""
    return parse_seconds(value) * 1000 if value[-1].isalpha() else float(value)


def _find_measured(metric: str, measures: Measures, pass_rate: float | None) -> float | None:
    name, _, part = metric.rpartition("_")
    times: Mapping[str, Distribution | None] = {"latency": measures.latency_ms, "ttft": measures.ttft_ms}
    if name in times:
        found = times[name]
        if found is None or found.count < measures.answered:  # of some answers only, such as those that were streamed
            return None
        return float(getattr(found, part))
    rates: Mapping[str, float | None] = {
        "error_rate": measures.error_rate,
        "rate_limit_rate": measures.rate_limit_rate,
        "total_cost": measures.total_cost,
        "pass_rate": pass_rate,
    }
    return rates[metric]


def conclude_load(
    measures: Measures,
    limits: Sequence[LimitResult],
    missing_workers: Sequence[int] = (),
    stopped_by: Stopped = "duration",
    *,
    together: bool = True,
) -> Conclusion:
    """Return the end of a load test. One that its own generator could not drive is void, whatever was measured.

    `together` says whether all workers began at the same time.
    """
    missed = [limit for limit in limits if not limit.kept]
    reason, message = SUCCEEDED, f"{measures.turns} turns, all {len(limits)} limits kept."
    if missing_workers:
        reason = MISSING_WORKERS
        message = f"Void: not finished: worker {list_some(missing_workers)}. The load was not what was planned."
    elif not together:
        reason, message = (
            NO_COMMON_START,
            "Void: the workers did not begin together, so the load was not what was planned.",
        )
    elif measures.turns == 0:
        reason, message = NO_REQUESTS, "Nothing was sent."
    elif measures.generator_slipped and measures.slip_ms is not None:
        reason = GENERATOR_SATURATED
        message = f"Void: the generator itself was late (p99 {measures.slip_ms.p99:g} ms). More workers are needed."
    elif stopped_by == "cancelled":
        reason, message = CANCELLED, f"Cancelled after {measures.turns} turns."
    elif stopped_by == "unpriced":
        reason, message = BUDGET_UNKNOWN, "Stopped: there is a budget, and the cost of an answer is not known."
    elif stopped_by == "budget":
        reason, message = BUDGET_EXCEEDED, f"The budget was used up after {measures.turns} turns."
    elif missed:
        reason, message = LIMIT_MISSED, "; ".join(limit.sentence for limit in missed)
    return Conclusion(
        phase="Succeeded" if reason == SUCCEEDED else "Cancelled" if reason == CANCELLED else "Failed",
        reason=reason,
        message=message,
        counts=Counts(total=measures.turns, passed=measures.answered, errors=measures.turns - measures.answered),
        summary=_summarize(measures, limits, reason),
    )


def _summarize(measures: Measures, limits: Sequence[LimitResult], reason: str) -> dict[str, str]:
    kept = sum(limit.kept for limit in limits)
    numbers: dict[str, float | int | None] = {
        "requests": measures.turns,
        "rps_target": measures.rps_target,
        "rps_achieved": measures.rps_achieved,
        "error_rate": measures.error_rate,
        "rate_limit_rate": measures.rate_limit_rate,
        "total_cost": measures.total_cost,
        "slip_p99": measures.slip_ms.p99 if measures.slip_ms else None,
    }
    for name, found in (("latency", measures.latency_ms), ("ttft", measures.ttft_ms)):
        for part in ("avg", "p50", "p90", "p95", "p99"):
            numbers[f"{name}_{part}"] = getattr(found, part) if found else None
    return {
        SUMMARY_VERDICT: "pass" if reason == SUCCEEDED else "fail" if reason == LIMIT_MISSED else "error",
        SUMMARY_SCORE: f"{kept}/{len(limits)}",
        SUMMARY_ERRORS: str(sum(measures.errors.values())),
        **{name: f"{value:g}" for name, value in numbers.items() if value is not None},
    }
