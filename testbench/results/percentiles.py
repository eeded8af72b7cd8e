"""Percentiles by the nearest rank: exact, and always a value that was measured.

Used by the end of a run, by the report and by load tests.
"""

from __future__ import annotations

from collections.abc import Sequence


def nearest_rank(count: int, percent: int) -> int:
    """Return the position of a percentile among `count` values in ascending order, counted from 0.

    It is that of the smallest value that at least `percent` % of the values do not exceed.
    """
    return max(0, -(-percent * count // 100) - 1)


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Return a percentile of values in ascending order, None where there are none."""
    return ordered[nearest_rank(len(ordered), percent)] if ordered else None
