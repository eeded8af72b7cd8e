"""From the results of a load test to what its page shows. Called by `load_reduction`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from testbench import __version__
from testbench.arena.conclusion import SUCCEEDED
from testbench.arena.load.arrivals import RateProfile
from testbench.arena.load.limits import LIMIT_MISSED, TIMES, LimitResult
from testbench.arena.load.measures import Distribution, Measures
from testbench.arena.load.outcome import LoadResults
from testbench.arena.manifest import LoadTestSettings, seconds
from testbench.report.load_page import load_page, milliseconds
from testbench.report.load_view import LevelRow, LimitRow, LoadNumbers, LoadView, SecondRow, TimesRow
from testbench.report.render import money, percent

RATES = ("error_rate", "pass_rate", "rate_limit_rate")


def load_report(
    results: LoadResults, settings: LoadTestSettings, arrivals: RateProfile | None, mean_turns: float
) -> bytes:
    """The page that people read.

    Raises:
        StoreError: Chart.js is not installed.
    """
    measures = results.measures
    view = LoadView(
        job=results.job,
        run_id=results.run_id,
        verdict=_verdict(results.reason),
        reason=results.reason,
        message=results.message,
        contenders=tuple(measures.by_contender),
        workers=results.workers,
        missing_workers=len(results.missing_workers),
        started_at=results.started_at,
        ramp_s=None if arrivals is None else arrivals.ramp_s,
        duration_s=seconds(settings.duration),
        testbench_version=__version__,
        numbers=_numbers(results),
        limits=tuple(map(_limit, results.limits)),
        times=_times(
            ("Latency", measures.latency_ms),
            ("Time to first token", measures.ttft_ms),
            ("Slip of the generator", measures.slip_ms),
        ),
        by_contender=_times(*measures.by_contender.items()),
        errors=tuple(sorted(measures.errors.items(), key=lambda entry: (-entry[1], entry[0]))),
        levels=tuple(
            LevelRow(level.name, None if level.rate is None else level.rate * mean_turns, level.judged, level.passed)
            for level in results.levels
        ),
        seconds=_seconds(measures, arrivals, mean_turns),
    )
    return load_page(view)


def _verdict(reason: str) -> Literal["pass", "fail", "error"]:
    return "pass" if reason == SUCCEEDED else "fail" if reason == LIMIT_MISSED else "error"


def _numbers(results: LoadResults) -> LoadNumbers:
    measures = results.measures
    latency, ttft, slip = measures.latency_ms, measures.ttft_ms, measures.slip_ms
    return LoadNumbers(
        turns=measures.turns,
        answered=measures.answered,
        error_rate=measures.error_rate,
        rps_target=measures.rps_target,
        rps_achieved=measures.rps_achieved,
        latency_p50=latency.p50 if latency else None,
        latency_p95=latency.p95 if latency else None,
        ttft_p95=ttft.p95 if ttft else None,
        slip_p99=slip.p99 if slip else None,
        slipped=measures.generator_slipped,
        pass_rate=results.pass_rate,
        input_tokens=measures.input_tokens,
        output_tokens=measures.output_tokens,
        cost_usd=measures.total_cost,
    )


def _limit(limit: LimitResult) -> LimitRow:
    measured = None if limit.measured is None else _shown(limit.metric, limit.measured)
    return LimitRow(limit.metric, f"{limit.operator} {_shown(limit.metric, limit.limit)}", measured, limit.kept)


def _shown(metric: str, value: float) -> str:
    if metric.startswith(TIMES):
        return milliseconds(value)
    if metric in RATES:
        return percent(value)
    return money(value)


def _times(*found: tuple[str, Distribution | None]) -> tuple[TimesRow, ...]:
    return tuple(TimesRow(name=name, **one.model_dump()) for name, one in found if one is not None)


def _seconds(measures: Measures, arrivals: RateProfile | None, mean_turns: float) -> tuple[SecondRow, ...]:
    return tuple(
        SecondRow(
            second=one.second,
            planned=None if arrivals is None else round(arrivals.rate_at(one.second + 0.5) * mean_turns, 2),
            due=one.due,
            errors=one.errors,
            p50_ms=one.p50_ms,
            p95_ms=one.p95_ms,
        )
        for one in measures.series
    )


def mean_turns(inputs: Sequence[Sequence[str]]) -> float:
    """Turns of a conversation, on average over what is drawn."""
    return sum(map(len, inputs)) / len(inputs)
