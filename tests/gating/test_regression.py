"""The comparison with a baseline: false alarms below alpha, power as promised, no pass for what cannot be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from testbench.gating.regression import PairedValue, compare_runs, run_tests_together
from testbench.gating.significance import (
    POWER,
    Noise,
    mcnemar_p_value,
    mcnemar_power,
    measure_noise,
    measure_power,
    pairs_for_drop,
    smallest_drop,
)
from testbench.results.checks import Attempt, Check
from testbench.results.comparison import Baseline
from testbench.results.verdict import RATE, BaselineComparison, Policy
from testbench.schema.models import EvaluatedExperiment
from tests.support.gate_samples import (
    METRIC,
    attempts,
    quarantined,
    recorded,
    run_of,
    scenario,
    scored,
    verdict_against,
)

ALPHA = 0.05
RUNS = 300
FEWER = 120


def margin(rate: float, runs: int = RUNS) -> float:
    """Three standard errors of a simulated rate."""
    return float(3 * np.sqrt(rate * (1 - rate) / runs))


def alarm(family: dict[str, list[PairedValue]], *, repeated: bool = False, **policy: Any) -> bool:
    return any(test.regressed for test in run_tests_together(family, Policy(**policy), repeated=repeated))


# --- simulations -----------------------------------------------------------------------------------------------------


def one_run_each(draw: np.random.Generator, steps: int, drop: float = 0.0) -> dict[str, list[PairedValue]]:
    """Steps that pass with a probability of their own, once in each run; the later one passes more seldom by `drop`."""
    rates = draw.beta(9, 1, size=steps)
    before, now = draw.random(steps) < rates, draw.random(steps) < np.maximum(0, rates - drop)
    return {RATE: [PairedValue(str(n), float(before[n]), float(now[n])) for n in range(steps)]}


def conversations(
    draw: np.random.Generator, number: int, steps: int, repetitions: int, drop: float = 0.0
) -> dict[str, list[PairedValue]]:
    """Conversations whose steps share the luck of the attempt, some times each, and two metrics with scores."""
    rates = draw.beta(9, 1, size=(number, 1, 1))
    luck = draw.random((2, number, 1, repetitions))
    own = draw.random((2, number, steps, repetitions))
    passed = np.where(own < 0.5, luck, draw.random((2, number, steps, repetitions)))
    before, now = (passed[0] < rates).mean(axis=2), (passed[1] < rates - drop).mean(axis=2)
    scores = draw.normal(0.7, 0.1, size=(2, 2, number, 1)) + draw.normal(0, 0.05, size=(2, 2, number, steps))
    family = {RATE: _pairs(before, now)}
    return family | {f"metric {m}": _pairs(scores[m, 0].clip(0, 1), scores[m, 1].clip(0, 1)) for m in range(2)}


def _pairs(before: np.ndarray, now: np.ndarray) -> list[PairedValue]:
    return [PairedValue(str(c), float(before[c, s]), float(now[c, s])) for c, s in np.ndindex(before.shape)]


def test_an_unchanged_agent_alarms_no_oftener_than_alpha() -> None:
    draw = np.random.default_rng(11)
    runs = 1_000
    alarms = sum(alarm(one_run_each(draw, 50)) for _ in range(runs)) / runs
    assert alarms <= ALPHA + margin(ALPHA, runs)


def test_an_unchanged_agent_alarms_no_oftener_with_conversations_repetitions_and_several_metrics() -> None:
    draw = np.random.default_rng(12)
    alarms = sum(alarm(conversations(draw, 14, 4, 3), repeated=True) for _ in range(RUNS)) / RUNS
    assert alarms <= ALPHA + margin(ALPHA)


def test_without_correction_several_metrics_would_alarm_too_often() -> None:
    draw = np.random.default_rng(13)
    alarms = 0
    for _ in range(RUNS):
        family = {f"metric {m}": _pairs(*draw.normal(0.5, 0.05, size=(2, 12, 1)).clip(0, 1)) for m in range(8)}
        alarms += any(test.p_value <= ALPHA for test in run_tests_together(family, Policy()))
    assert alarms / RUNS > 3 * ALPHA, "the reason for a correction"


def test_a_drop_of_exactly_the_tolerance_alarms_no_oftener_than_alpha() -> None:
    draw = np.random.default_rng(14)
    alarms = 0
    for _ in range(RUNS):
        rates = draw.beta(9, 2, size=40)
        rates = np.maximum(rates, 0.1)
        before, now = draw.random(40) < rates, draw.random(40) < rates - 0.1
        family = {RATE: [PairedValue(str(n), float(before[n]), float(now[n])) for n in range(40)]}
        alarms += alarm(family, tolerance=0.1)
    assert alarms / RUNS <= ALPHA + margin(ALPHA)


def attempts_at(name: str, passed: np.ndarray) -> Check:
    made = tuple(Attempt(n, "pass" if each else "fail", {}) for n, each in enumerate(passed, 1))
    return Check(name, name, name, name, "", 1.0, (), False, {}, made)


@pytest.mark.parametrize(("before", "now"), [(1, 5), (5, 1)])
def test_another_number_of_repetitions_than_before_alarms_no_oftener_than_alpha(before: int, now: int) -> None:
    draw = np.random.default_rng(15)

    def run(repetitions: int) -> Baseline:
        passed = draw.random((20, repetitions)) < 0.95
        made = {f"{n}": attempts_at(f"{n}", one) for n, one in enumerate(passed)}
        return Baseline("", None, frozenset(), {}, (None, None), made)

    alarms = sum(compare_runs(run(before), run(now), Policy()).regressed for _ in range(FEWER))
    assert alarms / FEWER <= ALPHA + margin(ALPHA, FEWER)


def test_a_few_heavy_scenarios_among_many_alarm_no_oftener_than_alpha() -> None:
    draw = np.random.default_rng(16)
    alarms = 0
    for _ in range(FEWER):
        differences = draw.choice([-0.1, 0.1], size=600)
        weights = np.where(np.arange(600) < 3, 1e4, 1.0)
        pairs = [PairedValue(f"{n:03}", 0.5, 0.5 + float(differences[n]), float(weights[n])) for n in range(600)]
        alarms += alarm({"metric": pairs})
    assert alarms / FEWER <= ALPHA + margin(ALPHA, FEWER)


@pytest.mark.parametrize(("pairs", "flips"), [(50, 0.05), (200, 0.08)])
def test_a_drop_of_the_stated_size_is_seen_as_often_as_promised(pairs: int, flips: float) -> None:
    drop = smallest_drop(pairs, ALPHA, flips)
    assert drop is not None
    draw = np.random.default_rng(pairs)
    runs = 1_000
    changed = draw.multinomial(pairs, [flips + drop, flips, 1 - 2 * flips - drop], size=runs)
    seen = sum(mcnemar_p_value(int(worse), int(better)) <= ALPHA for worse, better, _ in changed) / runs
    assert abs(seen - POWER) <= margin(POWER, runs)


def test_the_number_of_steps_that_is_told_is_enough() -> None:
    draw = np.random.default_rng(21)
    enough = pairs_for_drop(0.1, ALPHA, 0.08)
    assert enough is not None
    seen = sum(alarm(one_run_each(draw, enough, drop=0.1)) for _ in range(RUNS)) / RUNS
    assert seen >= POWER - margin(POWER)
    assert pairs_for_drop(0.1, ALPHA, 0.08) == enough
    assert mcnemar_power(enough, 0.1, 0.08, ALPHA) >= POWER


def test_the_number_of_repetitions_that_is_told_is_enough() -> None:
    draw = np.random.default_rng(22)
    found = one_run_each(draw, 50)
    differences = {pair.cluster: [pair.difference] for pair in found[RATE]}
    power = measure_power(measure_noise(differences, 1), ALPHA, target=0.1)
    assert power.repetitions_needed is not None
    assert 1 < power.repetitions_needed < 10
    seen = 0
    for _ in range(RUNS):
        rates = draw.beta(9, 1, size=50)
        before = draw.binomial(power.repetitions_needed, rates) / power.repetitions_needed
        now = draw.binomial(power.repetitions_needed, np.maximum(0, rates - 0.1)) / power.repetitions_needed
        pairs = [PairedValue(str(n), float(before[n]), float(now[n])) for n in range(50)]
        seen += alarm({RATE: pairs}, repeated=True)
    assert seen / RUNS >= POWER - margin(POWER)


def test_a_drop_that_conversations_would_show_is_seen_as_often_as_promised() -> None:
    draw = np.random.default_rng(23)
    seen, stated = 0, []
    for _ in range(RUNS):
        differences: dict[str, list[float]] = {}
        for pair in conversations(draw, 30, 3, 2)[RATE]:
            differences.setdefault(pair.cluster, []).append(pair.difference)
        stated.append(measure_power(measure_noise(differences, 2), ALPHA).smallest_drop or 1.0)
    drop = float(np.median(stated))
    for _ in range(RUNS):
        family = conversations(draw, 30, 3, 2, drop=drop)
        seen += alarm({RATE: family[RATE]}, repeated=True)
    assert seen / RUNS >= POWER - margin(POWER) - 0.05


# --- what it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "sentence"),
    [
        (Noise(4, 4, 1, 0.0, None), "With these 4 steps once each, no drop of the pass rate would be seen reliably"),
        (
            Noise(50, 50, 1, 0.0, None),
            "With these 50 steps once each, a drop of the pass rate under 13.1 points would not be seen reliably "
            "(80% chance). For 5 points it takes about 134 steps, or these 3 times in both runs if all get worse "
            "alike.",
        ),
        (
            Noise(50, 50, 1, 0.04, None),
            "With these 50 steps once each, a drop of the pass rate under 18.9 points would not be seen reliably "
            "(80% chance). For 5 points it takes about 347 steps, or these 7 times in both runs if all get worse "
            "alike.",
        ),
        (
            Noise(60, 20, 3, 0.0, 0.03),
            "With these 60 steps 3 times each, in 20 scenarios, a drop of the pass rate under 9.4 points would not be "
            "seen reliably (80% chance). For 5 points it takes about 175 steps, or these 9 times in both runs",
        ),
        (
            Noise(60, 4, 3, 0.0, 0.03),
            "With these 60 steps 3 times each, in 4 scenarios, no drop of the pass rate would be seen reliably",
        ),
        (
            Noise(2000, 2000, 1, 0.01, None),
            "With these 2000 steps once each, a drop of the pass rate under 1 point would",
        ),
    ],
)
def test_the_power_is_told_in_a_sentence(noise: Noise, sentence: str) -> None:
    assert measure_power(noise, ALPHA).sentence.startswith(sentence)


def twenty(*, fails: int = 0, **more: Any) -> EvaluatedExperiment:
    made = [scenario(f"s{n}", "fail" if n < fails else "pass") for n in range(20)]
    return run_of(*made, **recorded(**more))


def compared(before: EvaluatedExperiment, now: EvaluatedExperiment, **policy: Any) -> BaselineComparison:
    found = verdict_against(before, now, min_pass_rate=0.0, max_error_rate=1.0, **policy).baseline
    assert found is not None
    return found


def test_one_flipped_step_is_no_regression_and_eight_are() -> None:
    assert not compared(twenty(day=1), twenty(fails=1, day=2)).regressed
    found = compared(twenty(day=1), twenty(fails=8, day=2))
    assert found.regressed
    assert (
        found.sentence == "Worse than the baseline: pass rate 100.0% before, 60.0% now, 20 pairs, p = 0.0039; "
        "the scores of 1 of 1 metrics fell."
    )
    assert {test.method for test in found.tests} == {"mcnemar"}, "scores of the same differences are no second question"


def test_a_metric_can_fall_while_every_step_still_passes() -> None:
    before = run_of(*(scored(f"s{n}", 0.9 + 0.001 * n) for n in range(12)), **recorded(day=1))
    now = run_of(*(scored(f"s{n}", 0.7) for n in range(12)), **recorded(day=2))
    found = compared(before, now)
    assert found.regressed
    assert [(test.name, test.regressed, test.method) for test in found.tests] == [
        (RATE, False, "mcnemar"),
        (METRIC, True, "sign-flip"),
    ]
    assert not compared(before, now, tolerance=0.25).regressed


def test_a_metric_that_informs_is_not_asked() -> None:
    def informing(score: float, day: int) -> EvaluatedExperiment:
        made = [scenario(f"s{n}", "pass") for n in range(12)]
        metric = {"metric_name": "builtin.latency", "threshold": 0.5, "gating": False}
        for one in made:
            result = {"result": "pass" if score >= 0.5 else "fail", "score": score}
            one["steps"][0]["metrics"].append(metric)
            one["steps"][0]["evaluations"].append({"metric": metric, "result": result})
        return run_of(*made, **recorded(day=day))

    found = compared(informing(1.0, 1), informing(0.0, 2))
    assert not found.regressed
    assert [test.name for test in found.tests] == [RATE, METRIC]


def test_a_passing_score_that_drops_takes_no_alarm_back() -> None:
    """The score is then a second question beside the pass rate, and both questions still say the same."""
    ends = [(1.0, 0.0)] * 10 + [(0.0, 1.0)] * 3
    before = run_of(*(scored(f"s{n}", old) for n, (old, _) in enumerate(ends)), scored("s", 1.0), **recorded(day=1))
    for last in (1.0, 0.95):
        now = run_of(*(scored(f"s{n}", new) for n, (_, new) in enumerate(ends)), scored("s", last), **recorded(day=2))
        assert compared(before, now).regressed


def test_repetitions_are_one_pair_for_each_step() -> None:
    before = run_of(*(one for n in range(12) for one in attempts(f"s{n}", "pass", "pass", "pass")), **recorded(day=1))
    now = run_of(*(one for n in range(12) for one in attempts(f"s{n}", "pass", "fail", "fail")), **recorded(day=2))
    found = compared(before, now)
    assert found.regressed
    rate = found.tests[0]
    assert (rate.pairs, rate.before, rate.method) == (12, 1.0, "sign-flip")
    assert rate.now == pytest.approx(1 / 3)
    assert (found.worse[0].before, found.worse[0].now) == ("3/3", "1/3")


def test_what_is_in_quarantine_is_not_compared() -> None:
    made = [quarantined(scenario(f"q{n}", "pass")) for n in range(12)]
    worse = [quarantined(scenario(f"q{n}", "fail")) for n in range(12)]
    found = compared(
        run_of(scenario("a", "pass"), *made, **recorded(day=1)),
        run_of(scenario("a", "pass"), *worse, **recorded(day=2)),
    )
    assert (found.regressed, found.tests[0].pairs, found.worse) == (False, 1, ())


def test_what_one_run_could_not_judge_is_named_and_no_pair() -> None:
    before = run_of(scenario("a", "pass"), scenario("b", "error"), scenario("c", "pass"), **recorded(day=1))
    now = run_of(scenario("a", "error"), scenario("b", "pass"), scenario("c", "pass"), **recorded(day=2))
    found = compared(before, now)
    assert found.tests[0].pairs == 1
    assert [check.scenario for check in found.unjudged] == ["a", "b"]


def test_an_outage_cannot_hide_a_regression() -> None:
    now = run_of(
        *(scenario(f"s{n}", "fail" if n < 4 else "error" if n == 4 else "pass") for n in range(20)), **recorded(day=2)
    )
    assert compared(twenty(day=1), twenty(fails=5, day=2)).regressed
    found = compared(twenty(day=1), now)
    assert (found.regressed, found.comparable) == (False, False)
    assert found.obstacles == (
        "1 checks could not be judged now: had they failed, the agent would be worse than the baseline.",
    )
    verdict = verdict_against(twenty(day=1), now, min_pass_rate=0.5, max_error_rate=0.1)
    assert (verdict.verdict, verdict.exit_code) == ("error", 3)


def test_a_few_errors_that_could_hide_nothing_leave_the_comparison() -> None:
    now = run_of(*(scenario(f"s{n}", "error" if n == 4 else "pass") for n in range(20)), **recorded(day=2))
    assert compared(twenty(day=1), now).comparable


def test_another_number_of_repetitions_is_named() -> None:
    before = run_of(*(scenario(f"s{n}", "pass") for n in range(12)), **recorded(day=1))
    now = run_of(*(one for n in range(12) for one in attempts(f"s{n}", "pass", "fail", "pass")), **recorded(day=2))
    found = compared(before, now)
    assert found.changes == ("The repetitions differ: 1 before, 3 now; the first 1 of each are compared.",)
    assert (found.tests[0].before, found.tests[0].now) == (1.0, 1.0)
    assert len(found.worse) == 12, "all attempts are shown"


@pytest.mark.parametrize("weight", [1e308, 1e-308, 5e-324])
def test_weights_of_any_size_count_by_their_ratio(weight: float) -> None:
    def weighted(heavy: str, day: int) -> EvaluatedExperiment:
        alike = [scenario(f"s{n}", heavy, "pass", weight=weight) for n in range(8)]
        return run_of(*alike, scenario("other", "pass", weight=1.0), **recorded(day=day))

    found = compared(weighted("pass", 1), weighted("fail", 2))
    assert found.regressed == (weight > 1)
    assert found.tests[0].now == pytest.approx(0.5 if weight > 1 else 1.0)


def test_the_power_is_that_of_the_scenarios_that_count() -> None:
    def weighted(day: int) -> EvaluatedExperiment:
        return run_of(*(scenario(f"s{n}", "pass", weight=1000 if n < 2 else 1) for n in range(30)), **recorded(day=day))

    found = compared(weighted(1), weighted(2))
    assert found.power is not None
    assert found.power.smallest_drop is None


def test_the_power_is_that_of_the_level_that_other_questions_leave() -> None:
    before = run_of(*(scored(f"s{n}", 0.9 + 0.001 * n) for n in range(12)), **recorded(day=1))
    now = run_of(*(scored(f"s{n}", 0.9) for n in range(12)), **recorded(day=2))
    power = compared(before, now).power
    assert power is not None
    assert power.smallest_drop == smallest_drop(12, ALPHA / 2)


def test_the_selection_of_a_policy_is_made_in_both_runs() -> None:
    before = run_of(scenario("a", "pass", tags=["x"]), scenario("b", "pass"), **recorded(day=1))
    now = run_of(scenario("a", "pass", tags=["x"]), scenario("b", "fail"), **recorded(day=2))
    found = compared(before, now, only=("x",))
    assert (found.tests[0].pairs, found.gone) == (1, ())


# --- what cannot be compared -----------------------------------------------------------------------------------------


def with_metric(experiment: EvaluatedExperiment, **change: Any) -> EvaluatedExperiment:
    document = experiment.model_dump(mode="json", exclude_none=True)
    for one in document["scenarios"]:
        for owner in one["steps"]:
            for metric in (*owner["metrics"], *(found["metric"] for found in owner["evaluations"])):
                metric.update(change)
    return EvaluatedExperiment.model_validate(document)


def judged_by(experiment: EvaluatedExperiment, judge: str) -> EvaluatedExperiment:
    document = experiment.model_dump(mode="json", exclude_none=True)
    for one in document["scenarios"]:
        for owner in one["steps"]:
            for found in owner["evaluations"]:
                found["result"]["judge_model"] = judge
    return EvaluatedExperiment.model_validate(document)


BEFORE = twenty(day=1)
NOT_COMPARABLE = {
    "another judge": (
        judged_by(BEFORE, "old"),
        judged_by(twenty(day=2), "new"),
        "The judge differs (old before, new now)",
    ),
    "another threshold": (BEFORE, with_metric(twenty(day=2), threshold=0.8), "threshold 0.9 before, threshold 0.8 now"),
    "other parameters": (BEFORE, with_metric(twenty(day=2), parameters={"mode": "loose"}), '"mode": "loose"'),
    "another metric": (BEFORE, with_metric(twenty(day=2), metric_name="m"), "m differs: not asked for before"),
    "another dataset": (
        BEFORE,
        run_of(*(scenario(f"new{n}", "pass") for n in range(15)), scenario("s1", "pass"), **recorded(day=2)),
        "The dataset differs: only 1 of 20 checks before and 16 now are the same.",
    ),
    "nothing in common": (BEFORE, run_of(scenario("new", "pass")), "No check was judged in both runs."),
    "an empty baseline": (run_of(), twenty(day=2), "No check was judged in both runs."),
    "a baseline in error": (
        run_of(*(scenario(f"s{n}", "error") for n in range(20)), **recorded(day=1)),
        twenty(day=2),
        "No check was judged in both runs.",
    ),
    "the run itself": (BEFORE, BEFORE, "The baseline is this very run"),
    "the run itself, judged again": (
        BEFORE,
        BEFORE.model_copy(update={"evaluation": twenty(day=2).evaluation}),
        "The baseline is this very run",
    ),
    "the run itself, without a record": (run_of(scenario("a", "pass")), run_of(scenario("a", "pass")), "this very run"),
    "a shard of a run": (
        BEFORE.model_copy(update={"run": BEFORE.run and BEFORE.run.model_copy(update={"shard": "1/2"})}),
        twenty(day=2),
        "The baseline is a shard of a run",
    ),
}


@pytest.mark.parametrize("name", NOT_COMPARABLE)
def test_what_cannot_be_compared_is_no_pass(name: str) -> None:
    before, now, obstacle = NOT_COMPARABLE[name]
    verdict = verdict_against(before, now)
    assert (verdict.verdict, verdict.exit_code) == ("error", 3)
    assert verdict.baseline is not None
    assert not verdict.baseline.comparable
    assert any(obstacle in said for said in verdict.baseline.obstacles), verdict.baseline.obstacles


def test_a_fail_stays_a_fail_whatever_the_baseline_is() -> None:
    before, _, _ = NOT_COMPARABLE["an empty baseline"]
    assert verdict_against(before, twenty(fails=1)).verdict == "fail"


def test_a_threshold_for_both_runs_makes_them_comparable_again() -> None:
    now = with_metric(twenty(day=2), threshold=0.8)
    assert verdict_against(BEFORE, now, thresholds={METRIC: 0.9}).verdict == "pass"


def test_another_agent_is_what_is_compared_and_is_named() -> None:
    found = compared(twenty(day=1), twenty(day=2, version="2.0"))
    assert found.comparable
    assert found.changes == ("The agent's version differs: 1.0 before, 2.0 now.",)


def test_steps_that_only_one_run_has_are_named_and_not_counted() -> None:
    now = run_of(*(scenario(f"s{n}", "pass") for n in range(1, 20)), scenario("new", "fail"), **recorded(day=2))
    found = compared(BEFORE, now)
    assert ([check.scenario for check in found.new], [check.scenario for check in found.gone]) == (["new"], ["s0"])
    assert (found.comparable, found.regressed, found.tests[0].pairs) == (True, False, 19)
