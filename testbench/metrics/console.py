"""What `evaluate.py` shows: a table of the metrics, and the list of all metrics there are. Pure text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from testbench.metrics.estimate import Estimate
from testbench.metrics.protocol import MetricSpec
from testbench.results.summary import MetricSummary, Summary
from testbench.safe_text import printable
from testbench.schema.models import Usage

HEADINGS = ("metric", "scored", "mean", "pass", "fail", "error", "skipped")
NAME_LIMIT = 48


def table(summary: Summary) -> str:
    """One line for each metric, and one for what the judge used. A mean says of how many it is."""
    rows = [HEADINGS, *(_row(metric) for metric in summary.metrics)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [_aligned(row, widths) for row in rows]
    if used := usage_line(summary.judge_usage):
        lines.append(used)
    return "\n".join(lines)


def usage_line(usage: Usage) -> str | None:
    """Tokens and cost of the judge; None where nobody reported any."""
    parts = []
    if usage.input_tokens is not None or usage.output_tokens is not None:
        parts.append(f"{usage.input_tokens or 0} tokens in, {usage.output_tokens or 0} out")
    if usage.cost_usd is not None:
        parts.append(f"{usage.cost_usd:.4f} USD")
    return f"judge: {', '.join(parts)}" if parts else None


def estimate_lines(estimate: Estimate, max_cost: float | None) -> list[str]:
    """What a dry run found out, for people."""
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
    """What a dry run found out, as `--json` prints it."""
    return {
        "model": estimate.model,
        "calls": estimate.calls,
        "embedding_calls": estimate.embedding_calls,
        "input_tokens": estimate.input_tokens,
        "cost_ceiling_usd": estimate.cost_ceiling,
    }


def listing(specs: Iterable[MetricSpec]) -> str:
    """Every metric with what it needs, its parameters, and whether it can be used here."""
    return "\n".join(line for spec in specs for line in _described(spec))


def spec_data(spec: MetricSpec) -> dict[str, Any]:
    """A spec as `--json` prints it."""
    return {
        "name": spec.full_name,
        "description": spec.description,
        "required": list(spec.required),
        "parameters": [vars(parameter) for parameter in spec.parameters],
        "needs_llm": spec.needs_llm,
        "needs_embeddings": spec.needs_embeddings,
        "multi_turn": spec.multi_turn,
        "value_range": list(spec.value_range),
        "higher_is_better": spec.higher_is_better,
        "package": spec.package,
        "unavailable": spec.unavailable,
    }


def metric_data(metric: MetricSummary) -> dict[str, Any]:
    """A line of the table as `--json` prints it."""
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


def _described(spec: MetricSpec) -> list[str]:
    needs = [word for word, needed in (("LLM", spec.needs_llm), ("embeddings", spec.needs_embeddings)) if needed]
    low, high = spec.value_range
    direction = "higher is better" if spec.higher_is_better else "lower is better: its score is turned round"
    notes = [
        f"needs {' and '.join(needs)}" if needs else "no judge",
        f"fields: {', '.join(spec.required) or 'none'}",
        *(["over several turns"] if spec.multi_turn else []),
        f"value {low:g} to {high:g}, {direction}",
        *([f"package {spec.package}"] if spec.package else []),
        *([f"NOT AVAILABLE: {spec.unavailable}"] if spec.unavailable else []),
    ]
    lines = [f"{spec.full_name}: {spec.description}", f"    {'; '.join(notes)}"]
    for parameter in spec.parameters:
        default = "required" if parameter.required else f"default {parameter.default!r}"
        about = f". {parameter.description}" if parameter.description else ""
        lines.append(f"    {parameter.name}: {parameter.type} ({default}){about}")
    return lines
