"""The verdict in Markdown, for a pull request's comment or a job's summary; written by `gate.py --summary`.

Everything that came from a dataset, an agent or a judge stands in a code span: no markup, no HTML, no link, no mention
and no reference to an issue is read there. The length is bounded, because such places refuse long texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from testbench.gating.decision import show_percent
from testbench.results.checks import Check, collect_checks
from testbench.results.summary import MetricSummary, summarize
from testbench.results.verdict import BaselineComparison, ChangedCheck, Repeats, TagVerdict, Verdict
from testbench.safe_text import printable
from testbench.schema.models import EvaluatedExperiment

ICONS = {"pass": "✅", "fail": "❌", "error": "⚠️", "nothing": "⚪"}
MOST_ITEMS = 20
"""Steps, metrics or tags that one list shows."""
TEXT_CHARACTERS = 120
"""Characters of a text that is not ours."""


def render_markdown(verdict: Verdict, experiment: EvaluatedExperiment, name: str) -> str:
    """Return the document; `experiment` is the one that was judged."""
    found = [check for check in collect_checks(experiment) if not check.quarantine]
    failed = [_describe_check(check) for check in found if check.verdict == "fail"]
    errors = [_describe_check(check) for check in found if check.verdict == "error"]
    blocks = [
        f"## {ICONS[verdict.verdict]} {_escape_markup(verdict.sentence)}",
        f"{to_code_span(name)} · experiment {to_code_span(verdict.experiment_id or 'without id')}",
        *_write_numbers(verdict),
        *_write_metrics([metric for metric in summarize(experiment).metrics if metric.counts.total]),
        *_write_tags(verdict),
        *_write_list("Failed", failed),
        *_write_list("Not judged", errors),
        *(_write_repetitions(verdict.repeats) if verdict.repeats else ()),
        *(_write_baseline(verdict.baseline) if verdict.baseline else ()),
        *_write_list("Why", [to_code_span(reason) for reason in verdict.reasons]),
    ]
    return "\n\n".join(blocks) + "\n"


def to_code_span(text: str, limit: int = TEXT_CHARACTERS) -> str:
    """Return untrusted text as a code span, on one line."""
    shown = printable(text, limit) or "-"
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {shown} {fence}" if longest else f"{fence}{shown}{fence}"


def _table_cell(text: str) -> str:
    """Return the same for the inside of a table, where a bar would end the cell."""
    return to_code_span(text).replace("|", "\\|")


def _escape_markup(sentence: str) -> str:
    """Return a sentence of our own, numbers and words, with nothing in it that is read as markup."""
    return re.sub(r"([\\`*_{}\[\]<>#+|~&@!])", r"\\\1", sentence)


def _write_numbers(verdict: Verdict) -> Iterator[str]:
    coverage = verdict.coverage
    parts = [f"{coverage.judged} of {coverage.of} judged"]
    if verdict.pass_rate is not None and verdict.interval is not None:
        interval = f"95 % interval {show_percent(verdict.interval.low)} to {show_percent(verdict.interval.high)}"
        parts.append(f"pass rate {show_percent(verdict.pass_rate)} ({interval})")
    if verdict.quarantined.total:
        parts.append(f"{verdict.quarantined.total} in quarantine, not counted")
    yield ", ".join(parts) + "."


def _write_metrics(metrics: Sequence[MetricSummary]) -> Iterator[str]:
    if metrics:
        head = ["| metric | scored | mean | passed | failed | not judged |", "|---|---:|---:|---:|---:|---:|"]
        yield "\n".join([*head, *map(_metric_row, metrics[:MOST_ITEMS])])


def _metric_row(metric: MetricSummary) -> str:
    counts = metric.counts
    mean = "" if metric.mean is None else f"{metric.mean:.3f}"
    note = "" if metric.gating else " (informs only)"
    unjudged = counts.errors + counts.skipped
    scored = f"{counts.judged} of {counts.total}"
    return f"| {_table_cell(metric.name)}{note} | {scored} | {mean} | {counts.passed} | {counts.failed} | {unjudged} |"


def _write_tags(verdict: Verdict) -> Iterator[str]:
    if verdict.tags:
        rows = list(map(_tag_row, verdict.tags[:MOST_ITEMS]))
        yield "\n".join(["| tag | verdict | passed |", "|---|---|---:|", *rows])


def _tag_row(tag: TagVerdict) -> str:
    passed = f"{tag.checks.passed} of {tag.checks.total}"
    return f"| {_table_cell(tag.tag)} | {ICONS[tag.verdict]} {tag.verdict} | {passed} |"


def _describe_check(check: Check) -> str:
    label = f" {check.label}" if len(check.attempts) > 1 else ""
    return f"{to_code_span(check.scenario)}: {to_code_span(check.title)}{label}"


def _write_list(title: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        more = [f"- … and {len(items) - MOST_ITEMS} more"] if len(items) > MOST_ITEMS else []
        lines = "\n".join([*(f"- {item}" for item in items[:MOST_ITEMS]), *more])
        yield f"<details><summary>{title}: {len(items)}</summary>\n\n{lines}\n\n</details>"


def _write_repetitions(found: Repeats) -> Iterator[str]:
    k = max(found.pass_at)
    at_least_one, every = show_percent(found.pass_at[k]), show_percent(found.pass_all[k])
    yield f"Of {k} attempts at a step at least one passes with a chance of {at_least_one}, all {k} with {every}."
    flaky = [
        f"{to_code_span(check.scenario)}: {to_code_span(check.title)} passed {check.label}" for check in found.flaky
    ]
    yield from _write_list("Flaky", flaky)


def _write_baseline(found: BaselineComparison) -> Iterator[str]:
    source = to_code_span(found.source or "unnamed")
    yield f"### Against the baseline\n\n{_escape_markup(found.sentence)} Baseline: {source}"
    if found.power is not None:
        yield _escape_markup(found.power.sentence)
    yield from _write_list("Not comparable", [to_code_span(text, 300) for text in found.obstacles])
    yield from _write_list("Also changed", [to_code_span(text, 300) for text in found.changes])
    for title, changed in (("Worse", found.worse), ("Better", found.better), ("New", found.new), ("Gone", found.gone)):
        yield from _write_list(title, list(map(_describe_change, changed)))


def _describe_change(check: ChangedCheck) -> str:
    moved = f" {check.before} → {check.now}" if check.before and check.now else ""
    return f"{to_code_span(check.scenario)}: {to_code_span(check.title)}{moved}"
