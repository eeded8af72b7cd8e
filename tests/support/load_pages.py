"""Pages of load tests: one with everything on it, and one whose every text is hostile."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from testbench.report.load_report import LevelRow, LimitRow, LoadNumbers, LoadView, SecondRow, TimesRow


def load_view(word: str = "", seconds: int = 120) -> LoadView:
    """A load test that missed a limit while the system stalled; `word` is put into every text."""
    stalls = [60 <= second < 70 for second in range(seconds)]
    times = TimesRow("Latency", 54_000, 412.0, 380.2, 640.0, 910.5, 12_400.0, 20_180.0)
    return LoadView(
        job=f"checkout assistant {word}",
        run_id=f"20261121T140000Z-1a2b3c4d{word}",
        verdict="fail",
        reason="LimitMissed",
        message=f"latency_p99 12400 (< 2000 missed){word}",
        systems=(f"gpt-4o-mini{word}", f"local/qwen{word}"),
        workers=2,
        missing_workers=0,
        started_at=datetime(2026, 11, 21, 14, tzinfo=UTC),
        ramp_s=30.0,
        duration_s=float(seconds),
        testbench_version=f"1.0{word}",
        numbers=LoadNumbers(
            turns=54_120,
            answered=54_000,
            error_rate=120 / 54_120,
            rps_target=500.0,
            rps_achieved=499.8,
            latency_p50=380.2,
            latency_p95=910.5,
            ttft_p95=240.0,
            slip_p99=4.2,
            slipped=False,
            pass_rate=0.942,
            input_tokens=1_200_000,
            output_tokens=300_000,
            cost_usd=3.42,
        ),
        limits=(
            LimitRow(f"latency_p99{word}", "< 2.00 s", "12.40 s", False),
            LimitRow("ttft_p95", "<= 300 ms", f"240 ms{word}", True),
            LimitRow("error_rate", "<= 1\u202f%", "0.2\u202f%", True),
            LimitRow("total_cost", f"< $5.00{word}", None, False),
        ),
        times=(times, TimesRow("Time to first token", 54_000, 140, 120, 200, 240, 900, 2_000)),
        by_system=(
            TimesRow(f"gpt-4o-mini{word}", 27_000, 300, 280, 400, 600, 900, 1_200),
            TimesRow(f"local/qwen{word}", 27_000, 520, 460, 800, 1_200, 13_000, 20_180),
        ),
        errors=((f"timeout{word}", 100), ("rate_limited", 20)),
        levels=(
            *(LevelRow(f"ramp, quarter {part}{word}", 125.0 * part, 100, 100 - 2 * part) for part in range(1, 5)),
            LevelRow(f"plateau{word}", 500.0, 0, 0),
        ),
        seconds=tuple(
            SecondRow(
                second=second,
                planned=500.0 * min(1, (second + 0.5) / 30),
                due=round(500 * min(1, (second + 0.5) / 30)) + round(8 * math.sin(second)),
                errors=12 if stall else 0,
                p50_ms=None if stall and second % 3 == 0 else 8_000.0 if stall else 380 + 30 * math.sin(second / 5),
                p95_ms=None if stall and second % 3 == 0 else 12_000.0 if stall else 900 + 60 * math.cos(second / 7),
            )
            for second, stall in enumerate(stalls)
        ),
    )
