"""pass@k, pass^k and flake labels: what several repetitions say."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.gating.decision import pass_all_k, pass_at_k
from tests.support.gate_samples import attempts, quarantined, scenario, verdict_on


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.integers(1, 7))
def test_they_are_the_shares_of_all_choices_of_k_attempts(passed: list[bool], k: int) -> None:
    k = min(k, len(passed))
    choices = list(combinations(passed, k))
    assert pass_at_k(len(passed), sum(passed), k) == pytest.approx(fmean(map(any, choices)))
    assert pass_all_k(len(passed), sum(passed), k) == pytest.approx(fmean(map(all, choices)))


@pytest.mark.parametrize(("rate", "k"), [(0.3, 2), (0.9, 3), (0.5, 5)])
def test_they_are_without_bias(rate: float, k: int) -> None:
    draw = np.random.default_rng(3)
    passed = [int(count) for count in draw.binomial(5, rate, size=20_000)]
    assert fmean(pass_at_k(5, count, k) for count in passed) == pytest.approx(1 - (1 - rate) ** k, abs=0.01)
    assert fmean(pass_all_k(5, count, k) for count in passed) == pytest.approx(rate**k, abs=0.01)


def test_a_verdict_says_how_flaky_each_step_is() -> None:
    reached = verdict_on(
        [
            *attempts("steady", "pass", "pass", "pass", "pass", "pass"),
            *attempts("flaky", "pass", "fail", "pass", "pass", "fail"),
            *attempts("broken", "fail", "fail", "fail", "fail", "fail"),
            *[quarantined(one) for one in attempts("known", "pass", "fail", "fail", "fail", "fail")],
        ],
        min_pass_rate=0.5,
    )
    assert reached.sentence == "PASS: 8 of 15 attempts at 3 steps passed (50% required)."
    assert reached.repeats is not None
    assert reached.repeats.repetitions == 5
    assert [(check.scenario, check.label) for check in reached.repeats.flaky] == [("flaky", "3/5")]
    assert reached.repeats.pass_at[1] == reached.repeats.pass_all[1] == pytest.approx(8 / 15)
    assert reached.repeats.pass_at[5] == pytest.approx(2 / 3)
    assert reached.repeats.pass_all[5] == pytest.approx(1 / 3)


def test_an_attempt_without_a_verdict_has_not_passed() -> None:
    reached = verdict_on(attempts("a", "pass", "error"), min_pass_rate=0.0, max_error_rate=1.0)
    assert reached.repeats is not None
    assert reached.repeats.pass_all[2] == 0
    assert reached.repeats.flaky == (), "an outage is no flaky answer"


def test_a_run_without_repetitions_says_nothing_of_them() -> None:
    assert verdict_on([scenario("a", "pass")]).repeats is None
