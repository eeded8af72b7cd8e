"""Intervals keep their promise where values come in clusters: 95 % of them hold the truth, and naive ones do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.results.intervals import Interval, Observation, mean_interval, rate_interval, wilson_interval

RUNS = 600
NOMINAL = 0.95
ROOM = 3 * float(np.sqrt(NOMINAL * (1 - NOMINAL) / RUNS))
"""Three standard errors of a simulated coverage."""


def conversations(
    draw: np.random.Generator, number: int, steps: int, *, weighted: bool = False
) -> tuple[list[Observation], float]:
    """Passed and failed steps of conversations that succeed with a probability of their own, and the true rate."""
    rates = draw.beta(4, 1, size=number)
    weights = draw.choice([1.0, 3.0], size=number) if weighted else np.ones(number)
    return [
        Observation(str(index), float(draw.random() < rate), float(weight))
        for index, (rate, weight) in enumerate(zip(rates, weights, strict=True))
        for _ in range(steps)
    ], 0.8


def covers(interval: Interval | None, truth: float) -> bool:
    assert interval is not None
    return interval.low <= truth <= interval.high


@pytest.mark.parametrize(
    ("number", "steps", "weighted"), [(50, 1, False), (20, 5, False), (12, 4, False), (40, 3, True), (60, 1, True)]
)
def test_an_interval_of_a_rate_holds_the_truth_as_often_as_it_says(number: int, steps: int, weighted: bool) -> None:
    draw = np.random.default_rng(number * 100 + steps)
    covered = 0
    for _ in range(RUNS):
        outcomes, truth = conversations(draw, number, steps, weighted=weighted)
        covered += covers(rate_interval(outcomes), truth)
    assert covered / RUNS >= NOMINAL - 0.01 - ROOM


def test_steps_of_one_conversation_as_so_many_observations_would_claim_too_much() -> None:
    draw = np.random.default_rng(5)
    covered = 0
    for _ in range(RUNS):
        outcomes, truth = conversations(draw, 20, 8)
        covered += covers(wilson_interval(float(np.mean([one.value for one in outcomes])), len(outcomes)), truth)
    assert covered / RUNS < 0.9, "the reason for clusters"


@pytest.mark.parametrize(("number", "steps"), [(40, 1), (15, 4), (8, 6)])
def test_an_interval_of_a_mean_holds_the_truth_as_often_as_it_says(number: int, steps: int) -> None:
    draw = np.random.default_rng(number)
    covered = 0
    for _ in range(RUNS):
        base = draw.normal(0.7, 0.08, size=number)
        scores = np.clip(base[:, None] + draw.normal(0, 0.05, size=(number, steps)), 0, 1)
        names = [str(index) for index in range(number) for _ in range(steps)]
        covered += covers(mean_interval(list(map(float, scores.ravel())), names), 0.7)
    assert abs(covered / RUNS - NOMINAL) <= ROOM + 0.01


def test_one_check_for_each_scenario_is_plain_wilson() -> None:
    outcomes = [Observation(str(index), float(index < 8)) for index in range(10)]
    assert rate_interval(outcomes) == wilson_interval(0.8, 10)


def test_one_conversation_is_one_observation_however_long_it_is() -> None:
    assert rate_interval([Observation("a", 1.0)] * 50) == wilson_interval(1.0, 1)


def test_repetitions_of_a_perfect_run_are_no_further_evidence() -> None:
    once = [Observation(str(index), 1.0) for index in range(10)]
    assert rate_interval(once * 5) == rate_interval(once)


outcomes = st.lists(
    st.builds(Observation, st.sampled_from("abcdef"), st.sampled_from([0.0, 1.0]), st.sampled_from([0.5, 1.0, 4.0])),
    min_size=1,
    max_size=30,
)


@given(outcomes, st.randoms(use_true_random=False))
def test_an_interval_holds_its_rate_and_knows_no_order(found: list[Observation], shuffler: object) -> None:
    interval = rate_interval(found)
    rate = sum(one.weight * one.value for one in found) / sum(one.weight for one in found)
    assert interval is not None
    assert 0 <= interval.low <= rate + 1e-9
    assert rate - 1e-9 <= interval.high <= 1
    assert interval.high - interval.low > 0.01
    shuffler.shuffle(found)  # type: ignore[attr-defined]  # a random.Random
    assert rate_interval(found) == interval
