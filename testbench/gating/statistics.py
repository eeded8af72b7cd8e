"""Is it worse than the last one? Pure; NumPy and SciPy compute.

Used by `testbench.gating.comparison`. All tests are one-sided (only *worse* raises an alarm), paired, and treat a
scenario as one unit: the steps of a conversation succeed and fail together, so counting each as evidence of its own
would see a regression in noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from scipy import stats

RESAMPLES = 9_999
"""Sign patterns that are drawn where there are too many to try all."""
FEW = 13
"""Scenarios up to which all patterns are tried."""
MANY = 500
"""Scenarios from which on the sum of random signs is normal for all that matters here."""


def mcnemar_p_value(worse: int, better: int) -> float:
    """Chance of at least `worse` of the changed pairs getting worse, were better and worse equally likely.

    The exact conditional test of McNemar (Psychometrika 12, 1947), one-sided. 1.0 where no pair changed.
    """
    changed = worse + better
    return float(stats.binomtest(worse, changed, 0.5, alternative="greater").pvalue) if changed else 1.0


def sign_flip_p_value(differences: Mapping[str, Sequence[float]], tolerance: float = 0.0) -> float:
    """Chance of a mean this low, were every scenario's sum as likely to have the other sign.

    `differences` are after minus before, by scenario; a mean that is at most `tolerance` lower raises no alarm. The
    permutation test of Fisher (The Design of Experiments, 1935, section 21), over all sign patterns where there are
    few; else over `RESAMPLES` of them from a fixed seed, the observed one counted too (Phipson & Smyth, Statistical
    Applications in Genetics and Molecular Biology 9, 2010); and for very many by the normal limit of the same sum. On
    differences of -1, 0 and 1, one for each scenario, it is McNemar's test.
    """
    sums = np.array([math.fsum(value + tolerance for value in group) for group in differences.values()])
    sums = np.sort(sums[sums != 0])  # zero has no sign, and the order of the scenarios changes nothing
    if sums.size == 0:
        return 1.0
    if sums.size > MANY:
        return float(stats.norm.cdf(sums.sum() / np.sqrt(np.square(sums).sum())))
    everything = sums.size <= FEW
    sampled = _signs(sums.size) @ sums
    as_low = int((sampled <= sums.sum() + 1e-9 * np.abs(sums).sum()).sum())
    return as_low / len(sampled) if everything else (as_low + 1) / (len(sampled) + 1)


@lru_cache(maxsize=8)
def _signs(number: int) -> np.ndarray:
    """Rows of signs for `number` scenarios: every pattern, or a sample of them."""
    if number <= FEW:
        patterns = np.arange(2**number)[:, None] >> np.arange(number) & 1
    else:
        patterns = np.random.default_rng(0).integers(0, 2, size=(RESAMPLES, number))
    return 2.0 * patterns - 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for asking several questions at once (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
