"""Is the agent worse than in an earlier run, by more than chance? Called by `testbench.gating.decision`.

    two Baselines (runs as `testbench.results.comparison` keeps them) + Policy -> pairs -> tests -> BaselineComparison

The pass rate and every gating metric are asked about, each by a paired one-sided test that takes a scenario for one
piece of evidence; Hochberg's correction keeps the chance of any false alarm below alpha. What cannot be compared is
never taken for unchanged: where the runs would be too different had all failed that this run could not judge, there is
no verdict, so that an outage cannot hide a regression.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from testbench.gating.significance import (
    TARGET_DROP,
    hochberg,
    mcnemar_p_value,
    measure_noise,
    measure_power,
    sign_flip_p_value,
)
from testbench.results.checks import Check
from testbench.results.comparison import Baseline, find_differences
from testbench.results.summary import JUDGED
from testbench.results.verdict import RATE, BaselineComparison, ChangedCheck, PairedTest, Policy, Power, TestMethod


class PairedValue(NamedTuple):
    """A check in both runs: its value before and now, its scenario, and how much that counts."""

    cluster: str
    before: float
    now: float
    weight: float = 1.0

    @property
    def difference(self) -> float:
        return self.now - self.before


@dataclass(frozen=True)
class PairedCheck:
    """A check that both runs have."""

    before: Check
    now: Check

    @property
    def judged(self) -> bool:
        return self.before.judged > 0 and self.now.judged > 0

    @property
    def hidden(self) -> bool:
        """Whether this run could not judge all that the earlier one did."""
        return self.before.judged > 0 and self.now.judged < len(self.now.attempts)

    @property
    def moved(self) -> float:
        """The difference of the pass rates over all attempts that were judged."""
        return self.now.passed / self.now.judged - self.before.passed / self.before.judged

    def pair_values(self, name: str, unjudged: float | None = None) -> PairedValue | None:
        """Return the passes, or the scores of a metric; None where a run has none.

        Of as many attempts in both runs: were one left to luck more often, an unchanged agent would too often look
        worse. `unjudged` is what an attempt of this run counts that could not be judged; without it, it is left out.
        """
        before, now = _values_by_attempt(self.before, name), _values_by_attempt(self.now, name, unjudged)
        number = min(len(before), len(now))
        if not number:
            return None
        return PairedValue(
            self.now.cluster, statistics.fmean(before[:number]), statistics.fmean(now[:number]), self.now.weight
        )


def _values_by_attempt(check: Check, name: str, unjudged: float | None = None) -> list[float]:
    """Return by attempt: 1 for a pass and 0 for a fail, or the scores of a metric."""
    found: list[float | None] = []
    for attempt in check.attempts:
        missing = unjudged if attempt.verdict == "error" else None
        if name == RATE:
            found.append(float(attempt.verdict == "pass") if attempt.verdict in JUDGED else missing)
        else:
            found.append(attempt.scores.get(name, missing))
    return [value for value in found if value is not None]


def compare_runs(before: Baseline, now: Baseline, policy: Policy) -> BaselineComparison:
    """Return the runs side by side, and whether the later one is worse by more than the tolerance and chance allow."""
    old, new = before.counted, now.counted
    both = [PairedCheck(old[key], check) for key, check in new.items() if key in old]
    judged = [pair for pair in both if pair.judged]
    found = find_differences(before, now)
    obstacles = (*_general_obstacles(before, now, len(judged)), *found.obstacles)
    tests = () if obstacles else _test_pairs(judged, policy)
    regressed = any(test.regressed for test in tests)
    if tests and not regressed:
        obstacles = tuple(_hidden_obstacles(both, policy))
    return BaselineComparison(
        source=before.source,
        experiment_id=before.experiment_id,
        comparable=not obstacles,
        regressed=regressed,
        sentence=_write_sentence(tests, regressed, len(obstacles)),
        obstacles=obstacles,
        changes=(*found.changes, *_repetition_changes(judged)),
        tests=tests,
        power=_measure_power(judged, policy) if tests else None,
        worse=_list_changed(pair for pair in judged if pair.moved < 0),
        better=_list_changed(pair for pair in judged if pair.moved > 0),
        unjudged=_list_changed(pair for pair in both if not pair.judged),
        new=tuple(_to_changed_check(check, now=check.label) for key, check in new.items() if key not in old),
        gone=tuple(_to_changed_check(check, before=check.label) for key, check in old.items() if key not in new),
    )


def _general_obstacles(before: Baseline, now: Baseline, judged: int) -> Iterator[str]:
    if _is_same_run(before, now):
        yield "The baseline is this very run: a run is never worse than itself."
    if before.part:
        yield "The baseline is a shard of a run and not the whole; merge them first."
    if judged == 0:
        yield "No check was judged in both runs."


def _is_same_run(before: Baseline, now: Baseline) -> bool:
    """Return whether the answers are the same ones.

    Without a record of when they were given, whether the results are.
    """
    if before.began[0] is None and now.began[0] is None:
        return before.checks == now.checks
    return before.began[0] == now.began[0] and before.checks.keys() == now.checks.keys()


def _hidden_obstacles(both: Sequence[PairedCheck], policy: Policy) -> Iterator[str]:
    """Yield an obstacle if the agent were worse had all failed that this run could not judge."""
    unjudged = sum(pair.hidden for pair in both)
    if unjudged and any(test.regressed for test in _test_pairs(both, policy, unjudged=0.0)):
        yield f"{unjudged} checks could not be judged now: had they failed, the agent would be worse than the baseline."


def _repetition_changes(judged: Sequence[PairedCheck]) -> Iterator[str]:
    before, now = (max((len(check.attempts) for check in checks), default=1) for checks in _split_sides(judged))
    if before != now:
        yield f"The repetitions differ: {before} before, {now} now; the first {min(before, now)} of each are compared."


def _split_sides(pairs: Sequence[PairedCheck]) -> tuple[list[Check], list[Check]]:
    return [pair.before for pair in pairs], [pair.now for pair in pairs]


# --- the tests -------------------------------------------------------------------------------------------------------


def _test_pairs(both: Sequence[PairedCheck], policy: Policy, unjudged: float | None = None) -> tuple[PairedTest, ...]:
    repeated = any(len(check.attempts) > 1 for side in _split_sides(both) for check in side)
    return run_tests_together(_collect_questions(both, unjudged), policy, repeated=repeated)


def _collect_questions(both: Sequence[PairedCheck], unjudged: float | None = None) -> dict[str, list[PairedValue]]:
    """Return all that is asked about: the pass rate, then each gating metric by name.

    Of weights only their ratios count.
    """
    heaviest = max((one.now.weight for one in both), default=1.0)
    family: dict[str, list[PairedValue]] = {}
    for name in (RATE, *sorted({name for one in both for name in one.before.scores})):
        found = (one.pair_values(name, unjudged) for one in both)
        pairs = [pair._replace(weight=pair.weight / heaviest) for pair in found if pair is not None]
        if pairs:
            family[name] = pairs
    return family


def run_tests_together(
    family: Mapping[str, Sequence[PairedValue]], policy: Policy, *, repeated: bool = False
) -> tuple[PairedTest, ...]:
    """Test each question, and hold all of them together to alpha. The same differences have the same answer."""
    ways: dict[str, tuple[TestMethod, float]] = {}
    for same in _group_same_questions(family, policy.tolerance):
        way = _choose_test(family[same[0]], policy.tolerance, repeated or same[0] != RATE)
        ways |= dict.fromkeys(same, way)
    adjusted = dict(zip(ways, hochberg([p_value for _, p_value in ways.values()]), strict=True))
    return tuple(_build_test(name, pairs, ways[name], adjusted[name], policy) for name, pairs in family.items())


def _group_same_questions(family: Mapping[str, Sequence[PairedValue]], tolerance: float) -> list[list[str]]:
    """Return the names that ask the same, the first of each as in the family.

    The scale of the differences decides nothing.
    """
    same: dict[tuple[tuple[str, float, float], ...], list[str]] = {}
    for name, pairs in family.items():
        largest = max((abs(pair.difference) for pair in pairs), default=0.0)
        scale = largest if largest and tolerance == 0 else 1.0
        asked = sorted((pair.cluster, round(pair.difference / scale, 9), pair.weight) for pair in pairs)
        same.setdefault(tuple(asked), []).append(name)
    return list(same.values())


def _build_test(
    name: str, pairs: Sequence[PairedValue], way: tuple[TestMethod, float], adjusted: float, policy: Policy
) -> PairedTest:
    before, now = (_weighted_mean(pairs, position) for position in (1, 2))
    worse_than_allowed = before - now > policy.tolerance + 1e-12
    return PairedTest(
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


def _choose_test(pairs: Sequence[PairedValue], tolerance: float, graded: bool) -> tuple[TestMethod, float]:
    """Return the test that fits and its p-value.

    McNemar's is for scenarios that are each one pass or fail; all others get sign flips of scenarios.
    """
    clusters = _group_by_cluster(pairs)
    single = len(clusters) == len(pairs) and len({pair.weight for pair in pairs}) == 1
    if single and not graded and tolerance == 0:
        signs = [pair.difference for pair in pairs]
        return "mcnemar", mcnemar_p_value(sum(sign < 0 for sign in signs), sum(sign > 0 for sign in signs))
    shifted = {
        cluster: [pair.weight * (pair.difference + tolerance) for pair in group] for cluster, group in clusters.items()
    }
    return "sign-flip", sign_flip_p_value(shifted)


def _group_by_cluster(pairs: Sequence[PairedValue]) -> dict[str, list[PairedValue]]:
    clusters: dict[str, list[PairedValue]] = {}
    for pair in pairs:
        clusters.setdefault(pair.cluster, []).append(pair)
    return clusters


def _weighted_mean(pairs: Sequence[PairedValue], position: int) -> float:
    if len({pair.weight for pair in pairs}) == 1:
        return statistics.fmean(pair[position] for pair in pairs)  # type: ignore[misc]  # both are numbers
    total = math.fsum(pair.weight for pair in pairs)
    return min(1.0, math.fsum(pair.weight * float(pair[position]) for pair in pairs) / total)


def _measure_power(judged: Sequence[PairedCheck], policy: Policy) -> Power:
    """Return the power of the test of the pass rate, at the level that the other questions surely leave to it."""
    family = _collect_questions(judged)
    clusters = sorted(_group_by_cluster(family[RATE]).items())
    differences = {cluster: [pair.difference for pair in pairs] for cluster, pairs in clusters}
    weights = {cluster: pairs[0].weight for cluster, pairs in clusters}
    repetitions = min(len(check.attempts) for side in _split_sides(judged) for check in side)
    alpha = policy.alpha / len(_group_same_questions(family, policy.tolerance))
    return measure_power(measure_noise(differences, repetitions, weights), alpha, max(TARGET_DROP, policy.tolerance))


# --- in words --------------------------------------------------------------------------------------------------------


def _write_sentence(tests: Sequence[PairedTest], regressed: bool, obstacles: int) -> str:
    if obstacles:
        return "The baseline is not comparable."
    rate = tests[0]
    numbers = f"pass rate {rate.before:.1%} before, {rate.now:.1%} now, {rate.pairs} pairs, p = {rate.p_value:.2g}"
    if not regressed:
        return f"Not worse than the baseline beyond chance: {numbers}."
    fallen = sum(test.regressed for test in tests[1:])
    scores = f"; the scores of {fallen} of {len(tests) - 1} metrics fell" if fallen else ""
    return f"Worse than the baseline: {numbers}{scores}."


def _list_changed(pairs: Iterator[PairedCheck]) -> tuple[ChangedCheck, ...]:
    return tuple(_to_changed_check(pair.now, before=pair.before.label, now=pair.now.label) for pair in pairs)


def _to_changed_check(check: Check, before: str | None = None, now: str | None = None) -> ChangedCheck:
    return ChangedCheck(id=check.id, scenario=check.scenario, title=check.title, before=before, now=now)
