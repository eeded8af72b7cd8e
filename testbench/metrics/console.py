"""What `evaluate.py` says: how an evaluation ended, a table of the metrics, and what a dry run found out. Pure.

evaluated experiment -> EvaluationConclusion -> exit code, table, JSON
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from testbench.errors import ExitCode
from testbench.metrics.estimate import Estimate
from testbench.metrics.evaluation import count_left_out_for_cost
from testbench.results.summary import MetricSummary, Summary, summarize, walk_evaluations
from testbench.safe_text import printable
from testbench.schema.models import EvaluatedExperiment, Usage

HEADINGS: Final = ("metric", "scored", "mean", "pass", "fail", "error", "skipped")
NAME_LIMIT: Final = 48
OUTAGES: Final = frozenset({"unreachable", "auth", "timeout", "rate_limited", "http_error"})
"""Kinds of a judge's failure that say nothing about the question."""
_RETRY_HINT: Final = "The same command with --retry-errors judges what failed once more."


@dataclass(frozen=True)
class EvaluationConclusion:
    """How an evaluation ended: counts for the last line and, unless it is done, what was wrong and what to do."""

    summary: Summary
    sentence: str
    exit_code: ExitCode = ExitCode.DONE
    fault: str | None = None
    hint: str | None = None


def conclude(experiment: EvaluatedExperiment, allowed_errors: Callable[[int, int], bool]) -> EvaluationConclusion:
    """Return how an evaluation ended; `allowed_errors(errors, of)` is the error budget.

    It could not be done where nothing was scored because of errors, where the judge answered none of the metrics that
    asked it, or where there are more errors than allowed. There was nothing to do where everything was skipped.
    """
    summary = summarize(experiment)
    counts = summary.evaluations
    parts = [f"{counts.judged} of {counts.total} evaluations scored"]
    parts += [f"{counts.errors} {_plural('error', counts.errors)}"] if counts.errors else []
    parts += [f"{counts.skipped} skipped"] if counts.skipped else []
    left_out = sum(map(count_left_out_for_cost, experiment.scenarios))
    parts += [f"{left_out} of these by --max-cost"] if left_out else []
    conclusion = partial(EvaluationConclusion, summary, ", ".join(parts))
    if outage := judge_outage(experiment):
        hint = f"Check OPENAI_API_BASE (or OPENAI_BASE_URL), OPENAI_API_KEY and the model's name. {_RETRY_HINT}"
        return conclusion(ExitCode.NOT_DONE, f"the judge answered nothing: {outage}", hint)
    if not counts.judged:
        code = ExitCode.NOT_DONE if counts.errors else ExitCode.NOTHING_TO_DO
        hint = "The file says why, evaluation by evaluation."
        return conclusion(code, f"no evaluation has a score, e.g.: {_first_reason(experiment)}", hint)
    if not allowed_errors(counts.errors, counts.total):
        fault = f"{counts.errors} of {counts.total} evaluations are errors, more than --fail-on-error allows"
        return conclusion(ExitCode.NOT_DONE, fault, f"The file says why, evaluation by evaluation. {_RETRY_HINT}")
    return conclusion()


def judge_outage(experiment: EvaluatedExperiment) -> str | None:
    """Return why the judge gave no answer at all, or None if it was asked nothing or gave one."""
    asked = [item.evaluation.result for item in walk_evaluations(experiment) if item.evaluation.result.judge_model]
    failed = [result.error for result in asked if result.error is not None and result.error.kind in OUTAGES]
    return failed[0].message if failed and len(failed) == len(asked) else None


def format_table(summary: Summary) -> str:
    """Return a line for each metric, and one for what the judge used. A mean says of how many it is."""
    rows = [HEADINGS, *(_row(metric) for metric in summary.metrics)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [_aligned(row, widths) for row in rows]
    if used := format_usage(summary.judge_usage):
        lines.append(used)
    return "\n".join(lines)


def format_usage(usage: Usage) -> str | None:
    """Return tokens and cost of the judge, or None where nobody reported any."""
    parts = []
    if usage.input_tokens is not None or usage.output_tokens is not None:
        parts.append(f"{usage.input_tokens or 0} tokens in, {usage.output_tokens or 0} out")
    if usage.cost_usd is not None:
        parts.append(f"{usage.cost_usd:.4f} USD")
    return f"judge: {', '.join(parts)}" if parts else None


def format_estimate(estimate: Estimate, max_cost: float | None) -> list[str]:
    """Return what a dry run found out, as lines for people."""
    calls = f"{estimate.calls} calls of {estimate.model or 'no model'}"
    if estimate.embedding_calls:
        calls += f", {estimate.embedding_calls} of {estimate.embedding_model}"
    lines = [f"judge: {calls}; about {estimate.input_tokens} tokens in"]
    if estimate.cost_ceiling is None:
        return [*lines, "cost: unknown; --prices FILE names what a million tokens cost"]
    limit = "" if max_cost is None else f" (--max-cost {max_cost:g} USD)"
    return [
        *lines,
        f"cost: at most {estimate.cost_ceiling:.4f} USD{limit}, were every answer as long as allowed and repaired",
    ]


def estimate_data(estimate: Estimate) -> dict[str, Any]:
    """Return what a dry run found out, as `--json` prints it."""
    return {
        "model": estimate.model,
        "calls": estimate.calls,
        "embedding_calls": estimate.embedding_calls,
        "input_tokens": estimate.input_tokens,
        "cost_ceiling_usd": estimate.cost_ceiling,
    }


def metric_data(metric: MetricSummary) -> dict[str, Any]:
    """Return a line of the table as `--json` prints it."""
    counts = metric.counts
    return {
        "name": metric.name,
        "scored": counts.judged,
        "of": counts.total,
        "mean": metric.mean,
        "pass": counts.passed,
        "fail": counts.failed,
        "error": counts.errors,
        "skipped": counts.skipped,
    }


def _first_reason(experiment: EvaluatedExperiment) -> str:
    reasons = (item.evaluation.result.reason for item in walk_evaluations(experiment))
    return next((reason for reason in reasons if reason), "no reason is given")


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _row(metric: MetricSummary) -> tuple[str, ...]:
    counts = metric.counts
    mean = "-" if metric.mean is None else f"{metric.mean:.3f}"
    numbers = (counts.passed, counts.failed, counts.errors, counts.skipped)
    scored = f"{counts.judged} of {counts.total}"
    return (printable(metric.name, NAME_LIMIT), scored, mean, *map(str, numbers))


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = (
        text.ljust(width) if column == 0 else text.rjust(width)
        for column, (text, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([name, *numbers]).rstrip()
