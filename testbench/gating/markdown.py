"""The verdict in Markdown, for a pull request's comment or a job's summary; written by `gate.py --summary`.

Everything that came from a dataset, an agent or a judge stands in a code span: no markup, no HTML, no link, no mention
and no reference to an issue is read there. The length is bounded, because such places refuse long texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from testbench.gating.decision import percent
from testbench.results.checks import Check, checks
from testbench.results.summary import MetricSummary, summarize
from testbench.results.verdict import BaselineComparison, ChangedCheck, Repeats, Verdict
from testbench.safe_text import printable
from testbench.schema.models import EvaluatedExperiment

ICONS = {"pass": "✅", "fail": "❌", "error": "⚠️", "nothing": "⚪"}
SHOWN = 20
"""Steps, metrics or tags that one list shows."""
TEXT = 120
"""Characters of a text that is not ours."""


def summary(verdict: Verdict, experiment: EvaluatedExperiment, name: str) -> str:
    """The document; `experiment` is the one that was judged."""
    found = [check for check in checks(experiment) if not check.quarantine]
    failed = [_described(check) for check in found if check.verdict == "fail"]
    errors = [_described(check) for check in found if check.verdict == "error"]
    blocks = [
        f"## {ICONS[verdict.verdict]} {_plain(verdict.sentence)}",
        f"{code(name)} · experiment {code(verdict.experiment_id or 'without id')}",
        *_numbers(verdict),
        *_metrics([metric for metric in summarize(experiment).metrics if metric.counts.total]),
        *_tags(verdict),
        *_list("Failed", failed),
        *_list("Not judged", errors),
        *(_repeats(verdict.repeats) if verdict.repeats else ()),
        *(_baseline(verdict.baseline) if verdict.baseline else ()),
        *_list("Why", [code(reason) for reason in verdict.reasons]),
    ]
    return "\n\n".join(blocks) + "\n"


def code(text: str, limit: int = TEXT) -> str:
    """Untrusted text as a code span, on one line."""
    shown = printable(text, limit) or "-"
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {shown} {fence}" if longest else f"{fence}{shown}{fence}"


def _cell(text: str) -> str:
    """The same inside a table, where a bar would end the cell."""
    return code(text).replace("|", "\\|")


def _plain(sentence: str) -> str:
    """A sentence of our own: numbers and words, in which nothing may be read as markup all the same."""
    return re.sub(r"([\\`*_{}\[\]<>#+|~&@!])", r"\\\1", sentence)


def _numbers(verdict: Verdict) -> Iterator[str]:
    coverage = verdict.coverage
    parts = [f"{coverage.judged} of {coverage.of} judged"]
    if verdict.pass_rate is not None and verdict.interval is not None:
        interval = f"95 % interval {percent(verdict.interval.low)} to {percent(verdict.interval.high)}"
        parts.append(f"pass rate {percent(verdict.pass_rate)} ({interval})")
    if verdict.quarantined.total:
        parts.append(f"{verdict.quarantined.total} in quarantine, not counted")
    yield ", ".join(parts) + "."


def _metrics(metrics: Sequence[MetricSummary]) -> Iterator[str]:
    if metrics:
        head = ["| metric | scored | mean | passed | failed | not judged |", "|---|---:|---:|---:|---:|---:|"]
        yield "\n".join([*head, *map(_metric, metrics[:SHOWN])])


def _metric(metric: MetricSummary) -> str:
    counts = metric.counts
    mean = "" if metric.mean is None else f"{metric.mean:.3f}"
    note = "" if metric.gating else " (informs only)"
    unjudged = counts.errors + counts.skipped
    scored = f"{counts.judged} of {counts.total}"
    return f"| {_cell(metric.name)}{note} | {scored} | {mean} | {counts.passed} | {counts.failed} | {unjudged} |"


def _tags(verdict: Verdict) -> Iterator[str]:
    if verdict.tags:
        rows = [
            f"| {_cell(tag.tag)} | {ICONS[tag.verdict]} {tag.verdict} | {tag.checks.passed} of {tag.checks.total} |"
            for tag in verdict.tags[:SHOWN]
        ]
        yield "\n".join(["| tag | verdict | passed |", "|---|---|---:|", *rows])


def _described(check: Check) -> str:
    label = f" {check.label}" if len(check.attempts) > 1 else ""
    return f"{code(check.scenario)}: {code(check.title)}{label}"


def _list(title: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        more = [f"- … and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
        lines = "\n".join([*(f"- {item}" for item in items[:SHOWN]), *more])
        yield f"<details><summary>{title}: {len(items)}</summary>\n\n{lines}\n\n</details>"


def _repeats(found: Repeats) -> Iterator[str]:
    k = max(found.pass_at)
    at_least_one, every = percent(found.pass_at[k]), percent(found.pass_all[k])
    yield f"Of {k} attempts at a step at least one passes with a chance of {at_least_one}, all {k} with {every}."
    flaky = [f"{code(check.scenario)}: {code(check.title)} passed {check.label}" for check in found.flaky]
    yield from _list("Flaky", flaky)


def _baseline(found: BaselineComparison) -> Iterator[str]:
    yield f"### Against the baseline\n\n{_plain(found.sentence)} Baseline: {code(found.source or 'unnamed')}"
    if found.power is not None:
        yield _plain(found.power.sentence)
    yield from _list("Not comparable", [code(text, 300) for text in found.obstacles])
    yield from _list("Also changed", [code(text, 300) for text in found.changes])
    for title, changed in (("Worse", found.worse), ("Better", found.better), ("New", found.new), ("Gone", found.gone)):
        yield from _list(title, list(map(_changed, changed)))


def _changed(check: ChangedCheck) -> str:
    moved = f" {check.before} → {check.now}" if check.before and check.now else ""
    return f"{code(check.scenario)}: {code(check.title)}{moved}"
