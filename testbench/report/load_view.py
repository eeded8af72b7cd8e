"""What the page of a load test shows, as plain data without any markup.

Filled by whoever ran the test and rendered by `testbench.report.load_page`. The verdict and every number are handed in:
the page measures nothing. What was not measured is None and never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


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
    contenders: tuple[str, ...]
    workers: int
    missing_workers: int
    started_at: datetime | None
    ramp_s: float | None
    duration_s: float
    testbench_version: str
    numbers: LoadNumbers
    limits: tuple[LimitRow, ...]
    times: tuple[TimesRow, ...]
    by_contender: tuple[TimesRow, ...]
    errors: tuple[tuple[str, int], ...]
    levels: tuple[LevelRow, ...]
    seconds: tuple[SecondRow, ...]
