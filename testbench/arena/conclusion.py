"""How a job ended: a phase, a reason in one word, and a handful of numbers that fit into its status.

    Conclusion, made by the reducer of each type of job -> summary.json, termination message, status

Pure. Only a complete run with a verdict of pass is a success. Everything else is a failure with
a name: `MissingShards`, `MissingItems`, `NoItems`, `NotJudged`, `BelowThreshold`, `OutputFailed` and those that the
load test and the data generation add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from pydantic import Field

from testbench.arena.manifest.job_status import MESSAGE_LENGTH, SUMMARY_VERDICT
from testbench.arena.plan.model import PlanModel
from testbench.safe_text import printable
from testbench.schema.models import Usage

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


def to_failure(conclusion: Conclusion, reason: str, message: str) -> Conclusion:
    """Return the same run with a failure that came after its verdict, such as an output that was not written."""
    told = printable(f"{message} {conclusion.message}", MESSAGE_LENGTH)
    summary = withdraw_pass(conclusion.summary)
    return conclusion.model_copy(update={"phase": "Failed", "reason": reason, "message": told, "summary": summary})


def withdraw_pass(summary: Mapping[str, str]) -> dict[str, str]:
    """Return the summary of a run that has failed: it shows no `pass`, whatever the verdict on what there is of it."""
    passed = summary.get(SUMMARY_VERDICT) == "pass"
    return {**summary, **({SUMMARY_VERDICT: "error"} if passed else {})}


def encode_summary(conclusion: Conclusion) -> bytes:
    """Return the content of `summary.json`."""
    return conclusion.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"


def build_termination_message(conclusion: Conclusion) -> str:
    """Return the conclusion in so few bytes that Kubernetes keeps all of them; the message is what is cut."""
    text = conclusion.model_dump_json(exclude_none=True)
    over = len(text.encode()) - TERMINATION_BYTES
    if over <= 0:
        return text
    room = max(0, len(conclusion.message.encode()) - over - len("…".encode()))
    short = conclusion.message.encode()[:room].decode(errors="ignore") + "…"
    slim = conclusion.model_copy(update={"message": short})
    text = slim.model_dump_json(exclude_none=True)
    return text if len(text.encode()) <= TERMINATION_BYTES else _strip(slim)


def _strip(conclusion: Conclusion) -> str:
    return conclusion.model_copy(update={"message": "", "summary": {}, "url": None}).model_dump_json(exclude_none=True)


def summarize_usage(usage: Usage) -> dict[str, str]:
    """Return tokens and costs as a summary shows them; what nobody reported is left out."""
    numbers = {
        "inputTokens": None if usage.input_tokens is None else str(usage.input_tokens),
        "outputTokens": None if usage.output_tokens is None else str(usage.output_tokens),
        "totalCostUSD": None if usage.cost_usd is None else f"{usage.cost_usd:.6f}",
    }
    return {name: value for name, value in numbers.items() if value is not None}


def list_some(shards: Sequence[int], most: int = 5) -> str:
    """Return the first shards as text, e.g. `0, 2, 3, 5, 8, …`."""
    shown = ", ".join(str(shard) for shard in shards[:most])
    return f"{shown}, …" if len(shards) > most else shown
