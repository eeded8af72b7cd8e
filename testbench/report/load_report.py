"""The page of a load test: one HTML file like the evaluation's, with the same policy, style and ways with hostile text.

Called by the reducer of load tests.
"""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from testbench.report.page import render_page
from testbench.report.report_rows import encode


@dataclass(frozen=True)
class LimitRow:
    """A limit that had to be kept; values as a person reads them, e.g. `800 ms`."""

    metric: str
    limit: str
    measured: str | None
    kept: bool


@dataclass(frozen=True)
class TimesRow:
    """Times of one kind in milliseconds."""

    name: str
    count: int
    avg: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True)
class SecondRow:
    """One second of the test by when its turns were due: the planned rate, and what became of them."""

    second: int
    planned: float | None
    due: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True)
class LevelRow:
    """How many of the conversations that were judged at one level of the load passed; `rate` in turns a second."""

    name: str
    rate: float | None
    judged: int
    passed: int

    @property
    def pass_rate(self) -> float | None:
        return self.passed / self.judged if self.judged else None


@dataclass(frozen=True)
class LoadNumbers:
    """The numbers at the top; rates are turns a second, times milliseconds."""

    turns: int
    answered: int
    error_rate: float | None
    rps_target: float | None
    rps_achieved: float | None
    latency_p50: float | None
    latency_p95: float | None
    ttft_p95: float | None
    slip_p99: float | None
    slipped: bool
    pass_rate: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None


@dataclass(frozen=True)
class LoadView:
    """Everything that the page shows. `verdict` is `error` where the numbers are not those of the planned load."""

    job: str
    run_id: str
    verdict: Literal["pass", "fail", "error"]
    reason: str
    message: str
    systems: tuple[str, ...]
    workers: int
    missing_workers: int
    started_at: datetime | None
    ramp_s: float | None
    duration_s: float
    testbench_version: str
    numbers: LoadNumbers
    limits: tuple[LimitRow, ...]
    times: tuple[TimesRow, ...]
    by_system: tuple[TimesRow, ...]
    errors: tuple[tuple[str, int], ...]
    levels: tuple[LevelRow, ...]
    seconds: tuple[SecondRow, ...]


SCRIPTS = ("dom.js", "load.js")
STYLES = ("base.css", "summary.css", "load.css", "print.css")
HEADLINES = {"pass": "PASS: all limits were kept", "fail": "FAIL: a limit was missed", "error": "NO VERDICT"}


def render_load_report(view: LoadView) -> bytes:
    """Return the whole page in UTF-8.

    Raises:
        StoreError: Chart.js is not installed.
    """
    values = {"view": view, "headline": HEADLINES[view.verdict], "series": _pack_seconds(view)}
    filters = {"milliseconds": format_milliseconds, "rate": format_rate}
    return render_page("load.html.j2", SCRIPTS, STYLES, values, filters)


def _pack_seconds(view: LoadView) -> str:
    """Return the seconds, column by column, as base64 of JSON: nothing in it can end its element."""
    rows = [asdict(one) for one in view.seconds]
    names = ("second", "planned", "due", "errors", "p50_ms", "p95_ms")
    return base64.b64encode(encode({name: [row[name] for row in rows] for name in names})).decode()


def format_milliseconds(value: float) -> str:
    """Return a time that is given in milliseconds in words, e.g. `3.2 ms`, `840 ms`, `1.52 s`."""
    if value < 10:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.2f} s"


def format_rate(value: float) -> str:
    """Return turns a second in digits, e.g. `500`, `12.5`."""
    return f"{value:,.1f}".removesuffix(".0")
