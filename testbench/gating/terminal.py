"""The verdict on a terminal: the lines before the last one, which is the sentence itself. Called by `gate.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from testbench.gating.decision import show_percent
from testbench.results.verdict import BaselineComparison, ChangedCheck, Repeats, TagVerdict, Verdict
from testbench.safe_text import printable

MOST_ITEMS = 10
"""Steps of one kind, or tags, that are listed; verdict.json has all."""
LINE_CHARACTERS = 160
"""Characters of a line."""


def render_lines(verdict: Verdict) -> Iterator[str]:
    """Yield what failed, tags, repetitions and the baseline, each line safe for a terminal."""
    yield from (f"  - {printable(reason, LINE_CHARACTERS)}" for reason in verdict.reasons)
    if verdict.interval is not None and verdict.pass_rate is not None:
        low, high = show_percent(verdict.interval.low), show_percent(verdict.interval.high)
        yield f"  pass rate {show_percent(verdict.pass_rate)} of what was judged, 95% interval {low} to {high}"
    yield from map(_tag_line, verdict.tags[:MOST_ITEMS])
    yield from _more_line(len(verdict.tags))
    if verdict.repeats is not None:
        yield from _repetition_lines(verdict.repeats)
    if verdict.baseline is not None:
        yield from _baseline_lines(verdict.baseline)


def _tag_line(tag: TagVerdict) -> str:
    return f"  tag {printable(tag.tag, 40)}: {tag.verdict}, {tag.checks.passed} of {tag.checks.total} passed"


def _repetition_lines(found: Repeats) -> Iterator[str]:
    k = max(found.pass_at)
    at_least_one, every = show_percent(found.pass_at[k]), show_percent(found.pass_all[k])
    yield f"  {k} attempts: at least one passes {at_least_one}, all pass {every}"
    for check in found.flaky[:MOST_ITEMS]:
        yield f"  flaky {check.label}: {printable(f'{check.scenario}: {check.title}', LINE_CHARACTERS)}"
    yield from _more_line(len(found.flaky))


def _baseline_lines(found: BaselineComparison) -> Iterator[str]:
    yield f"  baseline {printable(found.source, LINE_CHARACTERS)}: {found.sentence}"
    yield from (f"    {printable(text, LINE_CHARACTERS)}" for text in (*found.obstacles, *found.changes))
    if found.power is not None:
        yield f"    {found.power.sentence}"
    for word, checks in (("worse", found.worse), ("better", found.better), ("new", found.new), ("gone", found.gone)):
        yield from (f"    {word}: {_describe_change(check)}" for check in checks[:MOST_ITEMS])
        yield from _more_line(len(checks))


def _describe_change(check: ChangedCheck) -> str:
    moved = f" ({check.before} -> {check.now})" if check.before and check.now else ""
    return printable(f"{check.scenario}: {check.title}", LINE_CHARACTERS) + moved


def _more_line(number: int) -> Sequence[str]:
    return [f"    … and {number - MOST_ITEMS} more"] if number > MOST_ITEMS else []
