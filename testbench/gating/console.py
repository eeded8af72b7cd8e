"""The verdict on a terminal: the lines before the last one, which is the sentence itself. Called by `gate.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from testbench.gating.decision import percent
from testbench.results.verdict import BaselineComparison, ChangedCheck, Repeats, TagVerdict, Verdict
from testbench.safe_text import printable

SHOWN = 10
"""Steps of one kind, or tags, that are listed; verdict.json has all."""
LINE = 160
"""Characters of a line."""


def lines(verdict: Verdict) -> Iterator[str]:
    """What failed, tags, repetitions and the baseline, each line safe for a terminal."""
    yield from (f"  - {printable(reason, LINE)}" for reason in verdict.reasons)
    if verdict.interval is not None and verdict.pass_rate is not None:
        low, high = percent(verdict.interval.low), percent(verdict.interval.high)
        yield f"  pass rate {percent(verdict.pass_rate)} of what was judged, 95% interval {low} to {high}"
    yield from map(_tag, verdict.tags[:SHOWN])
    yield from _more(len(verdict.tags))
    if verdict.repeats is not None:
        yield from _repeats(verdict.repeats)
    if verdict.baseline is not None:
        yield from _baseline(verdict.baseline)


def _tag(tag: TagVerdict) -> str:
    return f"  tag {printable(tag.tag, 40)}: {tag.verdict}, {tag.checks.passed} of {tag.checks.total} passed"


def _repeats(found: Repeats) -> Iterator[str]:
    k = max(found.pass_at)
    yield f"  {k} attempts: at least one passes {percent(found.pass_at[k])}, all pass {percent(found.pass_all[k])}"
    for check in found.flaky[:SHOWN]:
        yield f"  flaky {check.label}: {printable(f'{check.scenario}: {check.title}', LINE)}"
    yield from _more(len(found.flaky))


def _baseline(found: BaselineComparison) -> Iterator[str]:
    yield f"  baseline {printable(found.source, LINE)}: {found.sentence}"
    yield from (f"    {printable(text, LINE)}" for text in (*found.obstacles, *found.changes))
    if found.power is not None:
        yield f"    {found.power.sentence}"
    for word, checks in (("worse", found.worse), ("better", found.better), ("new", found.new), ("gone", found.gone)):
        yield from (f"    {word}: {_changed(check)}" for check in checks[:SHOWN])
        yield from _more(len(checks))


def _changed(check: ChangedCheck) -> str:
    moved = f" ({check.before} -> {check.now})" if check.before and check.now else ""
    return printable(f"{check.scenario}: {check.title}", LINE) + moved


def _more(number: int) -> Sequence[str]:
    return [f"    … and {number - SHOWN} more"] if number > SHOWN else []
