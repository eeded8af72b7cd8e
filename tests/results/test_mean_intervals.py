"""Intervals of mean scores: known values, and what must hold for any scores."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.results.intervals import mean_interval, student_t_quantile, wilson_interval

scores = st.lists(st.floats(0, 1), min_size=1, max_size=40)


def test_no_score_has_no_interval() -> None:
    assert mean_interval([]) is None


@pytest.mark.parametrize(
    ("passed", "n", "low", "high"),
    [(3, 6, 0.188, 0.812), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (81, 263, 0.255, 0.366)],
)
def test_wilson_agrees_with_published_values(passed: int, n: int, low: float, high: float) -> None:
    interval = wilson_interval(passed / n, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042)]
)
def test_student_t_agrees_with_the_tables(degrees: int, quantile: float) -> None:
    assert student_t_quantile(degrees) == pytest.approx(quantile, rel=2e-3)


def test_scores_between_0_and_1_get_student_t() -> None:
    interval = mean_interval([0.8, 0.9, 1.0])
    assert interval is not None
    assert interval.method == "t"
    assert interval.low == pytest.approx(0.9 - 4.303 * 0.1 / 3**0.5, abs=1e-3)
    assert interval.high == 1.0


def test_three_perfect_scores_are_no_certainty() -> None:
    interval = mean_interval([1.0, 1.0, 1.0])
    assert interval is not None
    assert interval.method == "wilson"
    assert interval.high == pytest.approx(1)
    assert interval.low < 0.5


@given(scores)
def test_an_interval_holds_its_mean_and_stays_within_0_and_1(found: list[float]) -> None:
    interval = mean_interval(found)
    assert interval is not None
    assert 0 <= interval.low <= statistics.fmean(found) + 1e-9
    assert statistics.fmean(found) - 1e-9 <= interval.high <= 1


@given(st.integers(0, 30), st.integers(1, 30))
def test_an_interval_is_never_a_point(passed: int, failed: int) -> None:
    interval = mean_interval([1.0] * passed + [0.0] * failed)
    assert interval is not None
    assert interval.high - interval.low > 0.01
