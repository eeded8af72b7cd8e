"""How a job ended: a phase, a reason in one word, and a handful of numbers that fit into its status.

    verdict, reduction, rows -> Conclusion -> summary.json, termination message, status

Pure; called by the reducer. Only a complete run with a verdict of pass is a success. Everything else is a failure with
a name: `MissingShards`, `MissingItems`, `NoItems`, `NotJudged`, `BelowThreshold`, `OutputFailed` and those that the
load test and the data generation add.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from pydantic import Field

from testbench.arena.evaluation.results import Reduction
from testbench.arena.evaluation.rows import ItemRow
from testbench.arena.manifest.job_status import MESSAGE_LENGTH, SUMMARY_ERRORS, SUMMARY_SCORE, SUMMARY_VERDICT
from testbench.arena.plan.model import PlanModel
from testbench.results.summary import sum_usage
from testbench.results.verdict import Verdict, VerdictWord
from testbench.safe_text import printable

EndPhase = Literal["Succeeded", "Failed", "Cancelled"]

SUCCEEDED: Final = "Succeeded"
MISSING_SHARDS: Final = "MissingShards"
MISSING_ITEMS: Final = "MissingItems"
NO_ITEMS: Final = "NoItems"
NOT_JUDGED: Final = "NotJudged"
BELOW_THRESHOLD: Final = "BelowThreshold"
OUTPUT_FAILED: Final = "OutputFailed"
CANCELLED: Final = "Cancelled"
NO_COMMON_START: Final = "NoCommonStart"
"""Of a load test: its workers did not begin together, by their own measurements or because some were not ready."""

REASONS: Final[Mapping[VerdictWord, str]] = {
    "pass": SUCCEEDED,
    "fail": BELOW_THRESHOLD,
    "error": NOT_JUDGED,
    "nothing": NO_ITEMS,
}
TERMINATION_BYTES: Final = 4096
"""What Kubernetes keeps of a container's termination message."""


class Counts(PlanModel):
    """Items by how they ended; together they are all items of the plan."""

    total: int = Field(ge=0)
    passed: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    errors: int = Field(default=0, ge=0)
    unjudged: int = Field(default=0, ge=0)


class Conclusion(PlanModel):
    """The end of a run, as `summary.json` holds it."""

    phase: EndPhase
    reason: str
    message: str
    counts: Counts
    summary: Mapping[str, str] = {}
    url: str | None = None


def conclude_evaluation(
    verdict: Verdict, reduction: Reduction, missing_shards: Sequence[int], found: Sequence[ItemRow]
) -> Conclusion:
    """The end of an evaluation. `found` are the rows of all items, `missing_shards` those without their done marker."""
    counts = count(found)
    reason, message = REASONS[verdict.verdict], verdict.sentence
    if counts.total == 0:
        reason, message = NO_ITEMS, "The plan has no item."
    elif missing_shards:
        reason = MISSING_SHARDS
        message = f"{len(missing_shards)} shards did not finish: {_some(missing_shards)}. {verdict.sentence}"
    elif not reduction.complete:
        reason, message = MISSING_ITEMS, f"{'; '.join(reduction.faults)}. {verdict.sentence}"
    summary = _summary(verdict, counts, found)
    return Conclusion(
        phase="Succeeded" if reason == SUCCEEDED else "Failed",
        reason=reason,
        message=printable(message, MESSAGE_LENGTH),
        counts=counts,
        summary=_of_a_failure(summary) if reason != SUCCEEDED else summary,
    )


def failed(conclusion: Conclusion, reason: str, message: str) -> Conclusion:
    """The same run with a failure that came after its verdict, such as an output that was not written."""
    told = printable(f"{message} {conclusion.message}", MESSAGE_LENGTH)
    summary = _of_a_failure(conclusion.summary)
    return conclusion.model_copy(update={"phase": "Failed", "reason": reason, "message": told, "summary": summary})


def _of_a_failure(summary: Mapping[str, str]) -> dict[str, str]:
    """A run that has failed shows no `pass`, whatever the verdict on what there is of it."""
    passed = summary.get(SUMMARY_VERDICT) == "pass"
    return {**summary, **({SUMMARY_VERDICT: "error"} if passed else {})}


def summary_bytes(conclusion: Conclusion) -> bytes:
    """The content of `summary.json`."""
    return conclusion.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"


def count(found: Sequence[ItemRow]) -> Counts:
    """Items by their status."""
    statuses = [row.status for row in found]
    return Counts(
        total=len(statuses),
        passed=statuses.count("passed"),
        failed=statuses.count("failed"),
        errors=statuses.count("error"),
        unjudged=statuses.count("skipped"),
    )


def termination_message(conclusion: Conclusion) -> str:
    """The conclusion in so few bytes that Kubernetes keeps all of them; the message is what is cut."""
    text = conclusion.model_dump_json(exclude_none=True)
    over = len(text.encode()) - TERMINATION_BYTES
    if over <= 0:
        return text
    room = max(0, len(conclusion.message.encode()) - over - len("…".encode()))
    short = conclusion.message.encode()[:room].decode(errors="ignore") + "…"
    slim = conclusion.model_copy(update={"message": short})
    text = slim.model_dump_json(exclude_none=True)
    return text if len(text.encode()) <= TERMINATION_BYTES else _bare(slim)


def _bare(conclusion: Conclusion) -> str:
    return conclusion.model_copy(update={"message": "", "summary": {}, "url": None}).model_dump_json(exclude_none=True)


def _summary(verdict: Verdict, counts: Counts, found: Sequence[ItemRow]) -> dict[str, str]:
    usage = sum_usage([usage for row in found for usage in (row.agent_usage, row.judge_usage)])
    latencies = [row.latency_ms for row in found if row.latency_ms is not None]
    numbers: dict[str, str | None] = {
        SUMMARY_VERDICT: verdict.verdict,
        SUMMARY_SCORE: None if verdict.pass_rate is None else f"{verdict.pass_rate:.3f}",
        SUMMARY_ERRORS: str(counts.errors),
        "totalItems": str(counts.total),
        "passedItems": str(counts.passed),
        "failedItems": str(counts.failed),
        "unjudgedItems": str(counts.unjudged),
        "avgLatencyMs": f"{math.fsum(latencies) / len(latencies):.1f}" if latencies else None,
        "inputTokens": None if usage.input_tokens is None else str(usage.input_tokens),
        "outputTokens": None if usage.output_tokens is None else str(usage.output_tokens),
        "totalCostUSD": None if usage.cost_usd is None else f"{usage.cost_usd:.6f}",
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _some(shards: Sequence[int], most: int = 5) -> str:
    shown = ", ".join(str(shard) for shard in shards[:most])
    return f"{shown}, …" if len(shards) > most else shown
