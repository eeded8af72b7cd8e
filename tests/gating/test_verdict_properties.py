"""Laws of the verdict: nothing that gets worse makes it better, and no order of anything changes it."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from testbench.results.verdict import Verdict
from tests.support.gate_samples import ORDER, RESULTS, recorded, run_of, scenario, scored, verdict_against, verdict_on

BADNESS = {"pass": 0, "fail": 1, "error": 2, "skipped": 2}
WEIGHTS = (0.1, 1.0, 2.5)
rates = st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9, 1.0])


@st.composite
def runs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Scenarios with weights, tags, steps in quarantine and repetitions."""
    repetitions = draw(st.integers(1, 3))
    scenarios = []
    for number in range(draw(st.integers(1, 4))):
        length = draw(st.integers(1, 3))
        about = {"weight": draw(st.sampled_from(WEIGHTS)), "tags": draw(st.lists(st.sampled_from("xy"), max_size=2))}
        apart = draw(st.lists(st.booleans(), min_size=length, max_size=length))
        for repetition in range(1, repetitions + 1):
            results = draw(st.lists(st.sampled_from(sorted(RESULTS)), min_size=length, max_size=length))
            made = scenario(f"s{number}", *results, repetition=repetition, **about)
            for step, quarantine in zip(made["steps"], apart, strict=True):
                step["quarantine"] = quarantine
            scenarios.append(made)
    return scenarios


policies = st.fixed_dictionaries(
    {"min_pass_rate": rates, "max_error_rate": rates, "min_coverage": rates, "only": st.sampled_from([(), ("x",)])}
)


def rank(verdict: Verdict) -> int:
    return ORDER[verdict.verdict]


@given(runs(), policies, st.data())
def test_a_worse_result_never_makes_a_better_verdict(
    scenarios: list[dict[str, Any]], policy: dict[str, Any], data: st.DataObject
) -> None:
    worse = deepcopy(scenarios)
    step = data.draw(st.sampled_from([step for one in worse for step in one["steps"]]))
    result = step["evaluations"][0]["result"]
    end = data.draw(
        st.sampled_from([*(word for word in RESULTS if BADNESS[word] >= BADNESS[result["result"]]), "gone"])
    )
    step["evaluations"] = [] if end == "gone" else [step["evaluations"][0] | {"result": RESULTS[end]}]
    assert rank(verdict_on(worse, **policy)) <= rank(verdict_on(scenarios, **policy))


@given(runs(), policies, st.data())
def test_an_attempt_that_is_lost_never_makes_a_better_verdict(
    scenarios: list[dict[str, Any]], policy: dict[str, Any], data: st.DataObject
) -> None:
    several = [number for number, made in enumerate(scenarios) if made["repetition"] < scenarios[-1]["repetition"]]
    if several:
        lost = data.draw(st.sampled_from(several))
        left = [made for number, made in enumerate(scenarios) if number != lost]
        assert rank(verdict_on(left, **policy)) <= rank(verdict_on(scenarios, **policy))


@given(runs(), policies, st.data())
def test_a_scenario_that_stands_twice_never_makes_a_better_verdict(
    scenarios: list[dict[str, Any]], policy: dict[str, Any], data: st.DataObject
) -> None:
    twice = [*scenarios, data.draw(st.sampled_from(scenarios))]
    assert rank(verdict_on(twice, **policy)) <= rank(verdict_on(scenarios, **policy))


@given(runs(), policies, st.randoms(use_true_random=False))
def test_the_order_of_anything_changes_nothing(
    scenarios: list[dict[str, Any]], policy: dict[str, Any], shuffler: random.Random
) -> None:
    shuffled = deepcopy(scenarios)
    shuffler.shuffle(shuffled)
    for made in shuffled:
        shuffler.shuffle(made["steps"])
    assert verdict_on(shuffled, **policy) == verdict_on(scenarios, **policy)


@given(runs(), policies)
def test_the_rates_of_a_verdict_agree_with_its_counts(scenarios: list[dict[str, Any]], policy: dict[str, Any]) -> None:
    reached = verdict_on(scenarios, **policy)
    assert (reached.pass_rate is None) == (reached.checks.judged == 0) == (reached.interval is None)
    if reached.interval is not None and reached.pass_rate is not None:
        assert reached.interval.low - 1e-9 <= reached.pass_rate <= reached.interval.high + 1e-9
    assert reached.coverage.judged == reached.checks.judged
    assert reached.verdict != "pass" or reached.checks.passed > 0 or policy["min_pass_rate"] == 0


SCORES = (0.0, 0.3, 0.5, 0.7, 1.0)


@settings(max_examples=100, deadline=None)  # SciPy loads in the first
@given(
    st.lists(st.tuples(*[st.sampled_from(SCORES)] * 2), min_size=5, max_size=16),
    st.sampled_from([0.05, 0.1, 0.3]),
    st.sampled_from([0.0, 0.1]),
    st.data(),
)
def test_against_a_baseline_a_worse_score_or_an_outage_makes_no_better_verdict(
    pairs: list[tuple[float, float]], alpha: float, tolerance: float, data: st.DataObject
) -> None:
    policy = {"min_pass_rate": 0.0, "max_error_rate": 0.5, "alpha": alpha, "tolerance": tolerance}
    before = run_of(*(scored(f"s{number}", old) for number, (old, _) in enumerate(pairs)), **recorded(day=1))
    now = [scored(f"s{number}", new) for number, (_, new) in enumerate(pairs)]
    place = data.draw(st.integers(0, len(pairs) - 1))
    lower = [score for score in (0.0, 0.29, 0.3, 0.5, 0.69) if score < pairs[place][1]]
    ends: list[float | str] = [*lower, "error", "skipped", "gone"]
    end = data.draw(st.sampled_from(ends))
    worse = [*now]
    if isinstance(end, float):
        worse[place] = scored(f"s{place}", end)
    else:
        worse[place] = deepcopy(now[place])
        step = worse[place]["steps"][0]
        step["evaluations"] = [] if end == "gone" else [step["evaluations"][0] | {"result": RESULTS[end]}]
    reached, after = (verdict_against(before, run_of(*made, **recorded(day=2)), **policy) for made in (now, worse))
    assert rank(after) <= rank(reached)


@settings(max_examples=50, deadline=None)
@given(runs(), runs(), policies, st.sampled_from([0.0, 0.1, 1.0]), st.sampled_from([0.05, 0.5, 0.99]))
def test_a_baseline_never_makes_a_better_verdict(
    before: list[dict[str, Any]], now: list[dict[str, Any]], policy: dict[str, Any], tolerance: float, alpha: float
) -> None:
    against = verdict_against(run_of(*before), run_of(*now), tolerance=tolerance, alpha=alpha, **policy)
    assert rank(against) <= rank(verdict_on(now, **policy))
    assert against.verdict != "pass" or (against.baseline is not None and against.baseline.comparable)
