"""How sure a mean score is: 95 % intervals for means of scores between 0 and 1.

Called by `testbench.report.scores`. Standard library only, because the report must not wait for numpy to load.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Method = Literal["wilson", "t"]

NORMAL_QUANTILE = statistics.NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval, cut to 0..1, and the method that gave it."""

    low: float
    high: float
    method: Method


def mean_interval(scores: Sequence[float]) -> Interval | None:
    """The interval of the mean of `scores`, each in 0..1; None where there is no score.

    Scores that are all 0 or 1 get Wilson's interval. Others get Student's t, unless they do not differ at all (or there
    is only one): t would then claim certainty, while Wilson's is wide enough for every distribution on 0..1 with that
    mean, since its variance is at most mean * (1 - mean) (Bhatia & Davis, 2000).
    """
    if not scores:
        return None
    mean = statistics.fmean(scores)
    binary = all(score in (0, 1) for score in scores)
    if binary or len(set(scores)) == 1:
        return wilson(mean, len(scores))
    margin = student_t_quantile(len(scores) - 1) * statistics.stdev(scores) / math.sqrt(len(scores))
    return Interval(max(0.0, mean - margin), min(1.0, mean + margin), "t")


def wilson(proportion: float, n: int) -> Interval:
    """Wilson's score interval for a proportion of `n` trials (E. B. Wilson, JASA 22, 1927)."""
    z2 = NORMAL_QUANTILE**2
    centre = (proportion + z2 / (2 * n)) / (1 + z2 / n)
    margin = NORMAL_QUANTILE / (1 + z2 / n) * math.sqrt(proportion * (1 - proportion) / n + z2 / (4 * n * n))
    return Interval(max(0.0, centre - margin), min(1.0, centre + margin), "wilson")


def student_t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t, within 0.2 %.

    Closed forms for one and two degrees of freedom, else the expansion 26.7.5 of Abramowitz & Stegun.
    """
    if degrees == 1:
        return math.tan(math.pi * 0.475)
    if degrees == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z = NORMAL_QUANTILE
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, start=1))
