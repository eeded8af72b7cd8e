"""The files of a load test: its results, its report, its limits as JUnit, and its seconds as CSV.

    LoadResults -> results.json, report.html, junit.xml, results.csv

Called by the reducer. Pure.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from xml.etree import ElementTree as ET  # writes XML, parses none  # nosec B405

from pydantic import Field

from testbench import __version__
from testbench.arena.conclusion import SUCCEEDED, Conclusion
from testbench.arena.load.generator import Stopped
from testbench.arena.load.limits import LIMIT_MISSED, TIMES, LimitResult
from testbench.arena.load.measures import Distribution, Measures
from testbench.arena.load.quality import LevelQuality
from testbench.arena.load.traffic import RateProfile
from testbench.arena.manifest.job import LoadTestSettings, parse_seconds
from testbench.arena.plan.model import PlanModel
from testbench.report.load_report import (
    LevelRow,
    LimitRow,
    LoadNumbers,
    LoadView,
    SecondRow,
    TimesRow,
    format_milliseconds,
    render_load_report,
)
from testbench.report.page import format_money, format_percent
from testbench.safe_text import printable


class LoadResults(PlanModel):
    """`results.json` of a load test. Missing workers make every number one of a part of the load."""

    job: str
    run_id: str
    plan_digest: str
    workers: int
    missing_workers: tuple[int, ...] = ()
    started_at: datetime | None = None
    stopped_by: Stopped = "duration"
    reason: str
    message: str
    limits: tuple[LimitResult, ...]
    pass_rate: float | None = Field(description="Of the conversations that were judged; absent where none was.")
    levels: tuple[LevelQuality, ...]
    measures: Measures


def encode_series(measures: Measures) -> bytes:
    """One line for each second; a number that was not measured is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("second", "due", "answered", "errors", "p50_ms", "p95_ms"))
    for one in measures.series:
        writer.writerow((one.second, one.due, one.answered, one.errors, one.p50_ms, one.p95_ms))
    return text.getvalue().encode()


def encode_limits(job: str, conclusion: Conclusion, limits: Sequence[LimitResult]) -> bytes:
    """Return a case for each limit, and one for the test as such: an error where its numbers are not to be believed."""
    name = printable(job)
    root = ET.Element("testsuites", name=name)
    suite = ET.SubElement(root, "testsuite", name="load test")
    whole = ET.SubElement(suite, "testcase", name="the load was as planned", classname=f"{name}.load", time="0")
    if conclusion.reason not in (SUCCEEDED, LIMIT_MISSED):
        ET.SubElement(whole, "error", message=printable(conclusion.message), type=conclusion.reason)
    for limit in limits:
        title = f"{limit.metric} {limit.operator} {limit.limit:g}"
        case = ET.SubElement(suite, "testcase", name=title, classname=f"{name}.load", time="0")
        if limit.measured is None:
            ET.SubElement(case, "error", message=limit.sentence, type="not_measured")
        elif not limit.kept:
            ET.SubElement(case, "failure", message=limit.sentence, type="limit")
    for element in (suite, root):
        element.set("tests", str(1 + len(limits)))
        element.set("failures", str(sum(1 for _ in element.iter("failure"))))
        element.set("errors", str(sum(1 for _ in element.iter("error"))))
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


RATES = ("error_rate", "pass_rate", "rate_limit_rate")


def render_report(
    results: LoadResults, settings: LoadTestSettings, arrivals: RateProfile | None, mean_turns: float
) -> bytes:
    """Return the page that people read.

    Raises:
        StoreError: Chart.js is not installed.
    """
    measures = results.measures
    view = LoadView(
        job=results.job,
        run_id=results.run_id,
        verdict=_decide_verdict(results.reason),
        reason=results.reason,
        message=results.message,
        systems=tuple(measures.by_system),
        workers=results.workers,
        missing_workers=len(results.missing_workers),
        started_at=results.started_at,
        ramp_s=None if arrivals is None else arrivals.ramp_s,
        duration_s=parse_seconds(settings.duration),
        testbench_version=__version__,
        numbers=_make_numbers(results),
        limits=tuple(map(_make_limit_row, results.limits)),
        times=_make_times(
            ("Latency", measures.latency_ms),
            ("Time to first token", measures.ttft_ms),
            ("Slip of the generator", measures.slip_ms),
        ),
        by_system=_make_times(*measures.by_system.items()),
        errors=tuple(sorted(measures.errors.items(), key=lambda entry: (-entry[1], entry[0]))),
        levels=tuple(
            LevelRow(level.name, None if level.rate is None else level.rate * mean_turns, level.judged, level.passed)
            for level in results.levels
        ),
        seconds=_make_seconds(measures, arrivals, mean_turns),
    )
    return render_load_report(view)


def _decide_verdict(reason: str) -> Literal["pass", "fail", "error"]:
    return "pass" if reason == SUCCEEDED else "fail" if reason == LIMIT_MISSED else "error"


def _make_numbers(results: LoadResults) -> LoadNumbers:
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


def _make_limit_row(limit: LimitResult) -> LimitRow:
    measured = None if limit.measured is None else _format_value(limit.metric, limit.measured)
    return LimitRow(limit.metric, f"{limit.operator} {_format_value(limit.metric, limit.limit)}", measured, limit.kept)


def _format_value(metric: str, value: float) -> str:
    if metric.startswith(TIMES):
        return format_milliseconds(value)
    if metric in RATES:
        return format_percent(value)
    return format_money(value)


def _make_times(*found: tuple[str, Distribution | None]) -> tuple[TimesRow, ...]:
    return tuple(TimesRow(name=name, **one.model_dump()) for name, one in found if one is not None)


def _make_seconds(measures: Measures, arrivals: RateProfile | None, mean_turns: float) -> tuple[SecondRow, ...]:
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
