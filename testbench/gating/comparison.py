"""Is the agent worse than in an earlier run, by more than chance? Called by `testbench.gating.verdict`.

    two Baselines (runs as `testbench.schema.comparison` keeps them) + Policy -> pairs -> tests -> BaselineComparison

The pass rate and every gating metric are asked about, each by a paired one-sided test that takes a scenario for one
piece of evidence; Holm's correction keeps the chance of any false alarm below alpha. What cannot be compared is never
taken for unchanged.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from testbench.gating.power import TARGET_DROP, noise_of, power_of
from testbench.gating.statistics import holm, mcnemar_p_value, sign_flip_p_value
from testbench.schema.checks import Check
from testbench.schema.comparison import Baseline, differences
from testbench.schema.regression import RATE, BaselineComparison, ChangedCheck, Method, Power, Tested
from testbench.schema.verdict import Policy


class Pair(NamedTuple):
    """A check in both runs: its value before and now, its scenario, and how much that counts."""

    cluster: str
    before: float
    now: float
    weight: float = 1.0

    @property
    def difference(self) -> float:
        return self.now - self.before


@dataclass(frozen=True)
class Both:
    """A check that both runs have."""

    before: Check
    now: Check

    @property
    def judged(self) -> bool:
        return self.before.judged > 0 and self.now.judged > 0

    @property
    def rates(self) -> Pair:
        before, now = (check.passed / check.judged for check in (self.before, self.now))
        return Pair(self.now.cluster, before, now, self.now.weight)


def compare_runs(before: Baseline, now: Baseline, policy: Policy) -> BaselineComparison:
    """The runs side by side, and whether the later one is worse by more than the tolerance and chance allow."""
    old, new = before.counted, now.counted
    both = [Both(old[key], check) for key, check in new.items() if key in old]
    judged = [pair for pair in both if pair.judged]
    found = differences(before, now)
    obstacles = (*_no_comparison(before, now, len(judged)), *found.obstacles)
    tests = () if obstacles else _tests(judged, policy)
    regressed = any(test.regressed for test in tests)
    return BaselineComparison(
        source=before.source,
        experiment_id=before.experiment_id,
        comparable=not obstacles,
        regressed=regressed,
        sentence=_sentence(tests, regressed, len(obstacles)),
        obstacles=obstacles,
        changes=found.changes,
        tests=tests,
        power=_power(judged, policy) if tests else None,
        worse=_changed(pair for pair in judged if pair.rates.difference < 0),
        better=_changed(pair for pair in judged if pair.rates.difference > 0),
        unjudged=_changed(pair for pair in both if not pair.judged),
        new=tuple(_one_sided(check, now=check.label) for key, check in new.items() if key not in old),
        gone=tuple(_one_sided(check, before=check.label) for key, check in old.items() if key not in new),
    )


def _no_comparison(before: Baseline, now: Baseline, judged: int) -> Iterator[str]:
    if before.began == now.began and before.began != (None, None) and before.checks.keys() == now.checks.keys():
        yield "The baseline is this very run: a run is never worse than itself."
    if judged == 0:
        yield "No check was judged in both runs."


# --- the tests -------------------------------------------------------------------------------------------------------


def _tests(judged: Sequence[Both], policy: Policy) -> tuple[Tested, ...]:
    repeated = any(len(check.attempts) > 1 for pair in judged for check in (pair.before, pair.now))
    return ask_together(_family(judged), policy, repeated=repeated)


def _family(judged: Sequence[Both]) -> dict[str, list[Pair]]:
    """All that is asked about: the pass rate, then each gating metric by name."""
    scores: dict[str, list[Pair]] = {}
    for pair in judged:
        before, now = pair.before.scores, pair.now.scores
        for name in before.keys() & now.keys():
            found = Pair(pair.now.cluster, before[name], now[name], pair.now.weight)
            scores.setdefault(name, []).append(found)
    return {RATE: [pair.rates for pair in judged], **dict(sorted(scores.items()))}


def ask_together(family: Mapping[str, Sequence[Pair]], policy: Policy, *, repeated: bool = False) -> tuple[Tested, ...]:
    """Each question tested, and all of them together held to alpha.

    Questions with the same differences are one question: a run with one metric of only 0 and 1 is not asked twice.
    """
    questions = _questions(family, policy.tolerance)
    firsts = [names[0] for names in questions]
    ways = {name: _p_value(family[name], policy.tolerance, repeated or name != RATE) for name in firsts}
    adjusted = dict(zip(firsts, holm([ways[name][1] for name in firsts]), strict=True))
    first = {name: names[0] for names in questions for name in names}
    return tuple(
        _tested(name, pairs, ways[first[name]], adjusted[first[name]], policy) for name, pairs in family.items()
    )


def _questions(family: Mapping[str, Sequence[Pair]], tolerance: float) -> list[list[str]]:
    """The names that ask the same, the first of each as in the family; the scale of the differences decides nothing."""
    same: dict[tuple[tuple[str, float, float], ...], list[str]] = {}
    for name, pairs in family.items():
        largest = max((abs(pair.difference) for pair in pairs), default=0.0)
        scale = largest if largest and tolerance == 0 else 1.0
        asked = sorted((pair.cluster, round(pair.difference / scale, 9), pair.weight) for pair in pairs)
        same.setdefault(tuple(asked), []).append(name)
    return list(same.values())


def _tested(name: str, pairs: Sequence[Pair], way: tuple[Method, float], adjusted: float, policy: Policy) -> Tested:
    before, now = (_mean(pairs, position) for position in (1, 2))
    worse_than_allowed = before - now > policy.tolerance + 1e-12
    return Tested(
        name=name,
        pairs=len(pairs),
        scenarios=len({pair.cluster for pair in pairs}),
        before=before,
        now=now,
        method=way[0],
        p_value=way[1],
        adjusted_p_value=adjusted,
        regressed=worse_than_allowed and adjusted <= policy.alpha,
    )


def _p_value(pairs: Sequence[Pair], tolerance: float, graded: bool) -> tuple[Method, float]:
    """The test that fits: McNemar's where every scenario is one pass or fail, else sign flips of scenarios."""
    clusters = _by_cluster(pairs)
    single = len(clusters) == len(pairs) and len({pair.weight for pair in pairs}) == 1
    if single and not graded and tolerance == 0:
        signs = [pair.difference for pair in pairs]
        return "mcnemar", mcnemar_p_value(sum(sign < 0 for sign in signs), sum(sign > 0 for sign in signs))
    shifted = {
        cluster: [pair.weight * (pair.difference + tolerance) for pair in group] for cluster, group in clusters.items()
    }
    return "sign-flip", sign_flip_p_value(shifted)


def _by_cluster(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    clusters: dict[str, list[Pair]] = {}
    for pair in pairs:
        clusters.setdefault(pair.cluster, []).append(pair)
    return clusters


def _mean(pairs: Sequence[Pair], position: int) -> float:
    if len({pair.weight for pair in pairs}) == 1:
        return statistics.fmean(pair[position] for pair in pairs)  # type: ignore[misc]  # both are numbers
    total = math.fsum(pair.weight for pair in pairs)
    return min(1.0, math.fsum(pair.weight * float(pair[position]) for pair in pairs) / total)


def _power(judged: Sequence[Both], policy: Policy) -> Power:
    """Of the test of the pass rate, at the level that Holm leaves it beside all other questions."""
    family = _family(judged)
    clusters = sorted(_by_cluster(family[RATE]).items())
    differences = {cluster: [pair.difference for pair in pairs] for cluster, pairs in clusters}
    repetitions = min(len(check.attempts) for pair in judged for check in (pair.before, pair.now))
    alpha = policy.alpha / len(_questions(family, policy.tolerance))
    return power_of(noise_of(differences, repetitions), alpha, max(TARGET_DROP, policy.tolerance))


# --- in words --------------------------------------------------------------------------------------------------------


def _sentence(tests: Sequence[Tested], regressed: bool, obstacles: int) -> str:
    if obstacles:
        return "The baseline is not comparable."
    rate = tests[0]
    numbers = f"pass rate {rate.before:.1%} before, {rate.now:.1%} now, {rate.pairs} pairs, p = {rate.p_value:.2g}"
    if not regressed:
        return f"Not worse than the baseline beyond chance: {numbers}."
    fallen = sum(test.regressed for test in tests[1:])
    scores = f"; the scores of {fallen} of {len(tests) - 1} metrics fell" if fallen else ""
    return f"Worse than the baseline: {numbers}{scores}."


def _changed(pairs: Iterator[Both]) -> tuple[ChangedCheck, ...]:
    return tuple(_one_sided(pair.now, before=pair.before.label, now=pair.now.label) for pair in pairs)


def _one_sided(check: Check, before: str | None = None, now: str | None = None) -> ChangedCheck:
    return ChangedCheck(id=check.id, scenario=check.scenario, title=check.title, before=before, now=now)
