"""Percentiles are values that were measured."""

from __future__ import annotations

import pytest

from testbench.results.percentiles import percentile


@pytest.mark.parametrize(("percent", "value"), [(50, 2), (75, 3), (76, 4), (100, 4), (1, 1)])
def test_a_percentile_is_one_of_the_values(percent: int, value: float) -> None:
    assert percentile(sorted([4, 1, 3, 2]), percent) == value


@pytest.mark.parametrize("count", [1, 20, 340, 1000])
def test_at_least_so_many_values_are_not_above_it(count: int) -> None:
    for percent in (50, 90, 95, 99):
        found = percentile(range(1, count + 1), percent)
        assert found is not None
        assert found * 100 >= percent * count > (found - 1) * 100


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile([], 95) is None
