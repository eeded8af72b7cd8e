"""How a run went, in numbers: what `run.py` prints at its end.

Made from the executed experiment alone, but for what only the process that sent the messages knows (`Sending`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from testbench.results.percentiles import percentile
from testbench.schema.models import ExecutedExperiment


@dataclass
class Sending:
    """What this process did: grows while it sends."""

    steps: int = 0
    retries: int = 0
    seconds: float = 0.0
    scenarios_taken_over: int = 0


@dataclass(frozen=True)
class RunStatistics:
    """Steps by outcome, errors by kind, latencies of answered steps in milliseconds.

    `conversations` counts every repetition of a scenario, `scenarios` each scenario once.
    """

    scenarios: int
    conversations: int
    steps: int
    answered: int
    errors: Mapping[str, int]
    skipped: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    first_token_p50_ms: float | None
    """Of the answers that were streamed."""
    first_token_p95_ms: float | None
    sending: Sending

    @property
    def unanswered(self) -> int:
        return self.steps - self.answered

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


def count_run(executed: ExecutedExperiment, sending: Sending) -> RunStatistics:
    """Count an executed experiment."""
    steps = [step for scenario in executed.scenarios for step in scenario.steps]
    errors = Counter(step.error.kind for step in steps if step.error is not None)
    latencies = sorted(step.latency_ms for step in steps if step.status == "ok" and step.latency_ms is not None)
    first_tokens = sorted(step.time_to_first_token_ms for step in steps if step.time_to_first_token_ms is not None)
    return RunStatistics(
        scenarios=len({scenario.id for scenario in executed.scenarios}),
        conversations=len(executed.scenarios),
        steps=len(steps),
        answered=sum(step.status == "ok" for step in steps),
        errors=dict(errors.most_common()),
        skipped=sum(step.status == "skipped" for step in steps),
        latency_p50_ms=percentile(latencies, 50),
        latency_p95_ms=percentile(latencies, 95),
        first_token_p50_ms=percentile(first_tokens, 50),
        first_token_p95_ms=percentile(first_tokens, 95),
        sending=sending,
    )


def format_summary(statistics: RunStatistics) -> list[str]:
    """Return the summary for people."""
    sending = statistics.sending
    where = f"{statistics.scenarios} scenarios"
    if statistics.conversations != statistics.scenarios:
        where = f"{statistics.conversations} repetitions of {where}"
    lines = [
        f"steps     {statistics.steps} in {where}: {statistics.answered} answered, "
        f"{statistics.failed} failed, {statistics.skipped} skipped"
    ]
    if statistics.errors:
        lines.append("errors    " + ", ".join(f"{kind} {count}" for kind, count in statistics.errors.items()))
    if statistics.latency_p50_ms is not None and statistics.latency_p95_ms is not None:
        lines.append(f"latency   p50 {statistics.latency_p50_ms:.0f} ms, p95 {statistics.latency_p95_ms:.0f} ms")
    if statistics.first_token_p50_ms is not None and statistics.first_token_p95_ms is not None:
        first = f"p50 {statistics.first_token_p50_ms:.0f} ms, p95 {statistics.first_token_p95_ms:.0f} ms"
        lines.append(f"streamed  first token after {first}")
    if sending.steps:
        rate = f", {sending.steps / sending.seconds:.1f} steps/s" if sending.seconds else ""
        lines.append(f"time      {sending.seconds:.1f} s{rate}, {sending.retries} retries")
    if sending.scenarios_taken_over:
        lines.append(f"kept      {sending.scenarios_taken_over} scenarios from an earlier run")
    return lines
