"""The statistics keep their promises: an unchanged agent alarms no oftener than alpha, a stated drop is seen."""

from __future__ import annotations

import itertools
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.gating.significance import (
    POWER,
    hochberg,
    mcnemar_p_value,
    pairs_for_drop,
    sign_flip_p_value,
    smallest_drop,
)

ALPHA = 0.05
RUNS = 1_000


def margin(rate: float) -> float:
    """Three standard errors of a simulated rate."""
    return float(3 * np.sqrt(rate * (1 - rate) / RUNS))


@pytest.mark.parametrize(("worse", "better", "expected"), [(0, 0, 1.0), (5, 0, 1 / 32), (0, 5, 1.0), (3, 1, 5 / 16)])
def test_mcnemar_counts_what_changed(worse: int, better: int, expected: float) -> None:
    assert mcnemar_p_value(worse, better) == pytest.approx(expected)


@given(st.lists(st.integers(-8, 8), min_size=2, max_size=8))
def test_sign_flip_is_the_share_of_sign_patterns_that_are_as_low(sums: list[int]) -> None:
    differences = {str(index): [value / 8] for index, value in enumerate(sums)}
    patterns = list(itertools.product((1, -1), repeat=len(sums)))
    as_low = [sum(sign * value for sign, value in zip(signs, sums, strict=True)) <= sum(sums) for signs in patterns]
    assert sign_flip_p_value(differences) == pytest.approx(fmean(as_low) if any(sums) else 1.0)


def test_an_unchanged_agent_alarms_no_oftener_than_alpha() -> None:
    """50 steps that pass with their own probability, twice: the only difference is luck."""
    draw = np.random.default_rng(1)
    alarms_of_flips, alarms_of_scores = 0, 0
    for _ in range(RUNS):
        probabilities = draw.beta(9, 1, size=50)
        before, after = draw.random((2, 50)) < probabilities
        alarms_of_flips += mcnemar_p_value(int((before & ~after).sum()), int((~before & after).sum())) <= ALPHA
        noise = {str(index): [value] for index, value in enumerate(draw.normal(0, 0.2, size=12))}
        alarms_of_scores += sign_flip_p_value(noise) <= ALPHA
    assert alarms_of_flips / RUNS <= ALPHA + margin(ALPHA)
    assert alarms_of_scores / RUNS <= ALPHA + margin(ALPHA)


def test_conversations_that_fail_as_a_whole_are_one_piece_of_evidence() -> None:
    """Ten conversations of five steps share their luck; as 50 pieces of evidence they would alarm far too often."""
    draw = np.random.default_rng(2)
    clustered, naive = 0, 0
    for _ in range(RUNS):
        luck = draw.normal(0, 0.3, size=10)
        differences = {str(index): [value] * 5 for index, value in enumerate(luck)}
        steps = {f"{index}-{step}": [value] for index, value in enumerate(luck) for step in range(5)}
        clustered += sign_flip_p_value(differences) <= ALPHA
        naive += fmean(value for group in steps.values() for value in group) < -1.645 * 0.3 / np.sqrt(50)
    assert clustered / RUNS <= ALPHA + margin(ALPHA)
    assert naive / RUNS > 2 * ALPHA, "the reason for clustering"


def test_a_drop_within_the_tolerance_is_no_alarm() -> None:
    same_drop = {str(index): [-0.05 + 0.001 * (index % 3)] for index in range(20)}
    assert sign_flip_p_value(same_drop) <= ALPHA
    assert sign_flip_p_value(same_drop, tolerance=0.06) > ALPHA


@pytest.mark.parametrize("pairs", [20, 50, 200])
def test_the_stated_drop_is_seen_as_often_as_promised(pairs: int) -> None:
    drop = smallest_drop(pairs, ALPHA)
    assert drop is not None
    draw = np.random.default_rng(pairs)
    seen = sum(mcnemar_p_value(int(draw.binomial(pairs, drop)), 0) <= ALPHA for _ in range(RUNS)) / RUNS
    assert abs(seen - POWER) <= margin(POWER)


def test_so_few_steps_show_no_drop_at_all() -> None:
    assert smallest_drop(4, ALPHA) is None
    assert smallest_drop(5, ALPHA) is not None


@pytest.mark.parametrize("drop", [0.02, 0.05, 0.1, 0.3])
def test_enough_pairs_are_just_enough(drop: float) -> None:
    enough = pairs_for_drop(drop, ALPHA)
    assert enough is not None
    at_enough, below = smallest_drop(enough, ALPHA), smallest_drop(enough - 1, ALPHA)
    assert at_enough is not None
    assert below is not None
    assert at_enough <= drop < below


def test_several_questions_are_held_to_one_alpha_and_the_same_one_is_not_asked_twice() -> None:
    assert hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert hochberg([0.03, 0.03]) == pytest.approx([0.03, 0.03])
    assert hochberg([]) == []
