"""Is it worse than the last one? Pure; NumPy and SciPy compute.

Used by `testbench.gating.regression`. All tests are one-sided (only *worse* raises an alarm), paired, and treat a
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
"""Scenarios with the largest differences whose signs are drawn; the sum of all others is then as good as normal."""


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
    Applications in Genetics and Molecular Biology 9, 2010). On differences of -1, 0 and 1, one for each scenario, it is
    McNemar's test.

    A pattern is as low where the scenarios whose sign it turns sum to 0 or more, and a scenario has the same sign in
    it whatever its difference is: a lower difference never makes the value larger.
    """
    sums = np.array([math.fsum(value + tolerance for value in group) for _, group in sorted(differences.items())])
    changed = sums[sums != 0]
    if changed.size == 0:
        return 1.0
    if changed.size <= FEW:
        return float(_as_low(changed).mean())
    by_size = sums[np.argsort(-np.abs(sums), kind="stable")] if sums.size > MANY else sums
    as_low = _as_low(by_size[:MANY], float(np.sqrt(np.square(by_size[MANY:]).sum())))
    return float((as_low.sum() + 1) / (as_low.size + 1))


def _as_low(sums: np.ndarray, spread: float = 0.0) -> np.ndarray:
    """For each sign pattern the chance of a sum as low, where `spread` is the deviation of what it leaves to chance."""
    above = _signs(sums.size) @ sums - sums.sum()
    if spread:
        return np.asarray(stats.norm.cdf(-above / spread))
    return np.asarray(above <= 1e-9 * np.abs(sums).sum(), dtype=float)


@lru_cache(maxsize=8)
def _signs(number: int) -> np.ndarray:
    """Rows of signs for `number` scenarios: every pattern, or a sample of them."""
    if number <= FEW:
        patterns = np.arange(2**number)[:, None] >> np.arange(number) & 1
    else:
        patterns = np.random.default_rng(0).integers(0, 2, size=(RESAMPLES, number))
    return 2.0 * patterns - 1.0


def hochberg(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for asking several questions at once (Hochberg, Biometrika 75, 1988).

    Questions that all have the same answer are adjusted by nothing: a run with one metric of only 0 and 1 is not asked
    twice. It holds for questions that are independent or rise and fall together, as scores of the same answers do
    (Sarkar, Annals of Statistics 26, 1998).
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index], reverse=True)
    adjusted = [1.0] * len(p_values)
    lowest = 1.0
    for rank, index in enumerate(order, start=1):
        lowest = min(lowest, rank * p_values[index])
        adjusted[index] = lowest
    return adjusted
