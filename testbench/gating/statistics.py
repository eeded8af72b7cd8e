"""Is it worse than the last one, and how much worse would it have to be to be seen? Pure; SciPy does the maths.

Used by `testbench.gating.comparison`. All tests are one-sided (only *worse* raises an alarm), paired, and treat a
scenario as one unit: the steps of a conversation succeed and fail together, so counting each as evidence of its own
would see a regression in noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

RESAMPLES = 9_999
"""Sign flips that are drawn where there are too many to try all."""
POWER = 0.8
"""Chance with which a drop of the stated size would have been seen."""


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
    few, else over `RESAMPLES` of them from a fixed seed.
    """
    sums = np.array([math.fsum(value + tolerance for value in group) for group in differences.values()])
    if sums.size == 0 or not np.any(sums):
        return 1.0
    if sums.size == 1:
        return 0.5 if sums[0] < 0 else 1.0
    result = stats.permutation_test(
        (sums, np.zeros_like(sums)),
        lambda after, before, axis: np.mean(after - before, axis=axis),
        permutation_type="samples",
        alternative="less",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for asking several questions at once (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def smallest_drop(pairs: int, alpha: float) -> float | None:
    """The smallest drop of the pass rate that `pairs` pairs would show with 80 % chance, at best; None if none would.

    At best: only steps that get worse change. An exact McNemar test then needs `k` of them with 2**-k <= alpha, and k
    of n come up with the chance of a binomial; every step that flips for no reason makes the real figure larger.
    """
    needed = _needed(alpha)
    if pairs < needed:
        return None
    # P(Binomial(n, d) >= k) is the distribution function of Beta(k, n - k + 1) at d.
    return float(stats.beta.ppf(POWER, needed, pairs - needed + 1))


def pairs_for_drop(drop: float, alpha: float) -> int:
    """How many pairs would show a drop of the pass rate of that size with 80 % chance, at best."""
    needed = _needed(alpha)
    low, high = needed, needed
    while _chance(high, needed, drop) < POWER:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        if _chance(middle, needed, drop) >= POWER:
            high = middle
        else:
            low = middle + 1
    return high


def _needed(alpha: float) -> int:
    return max(1, math.ceil(-math.log2(alpha)))


def _chance(pairs: int, needed: int, drop: float) -> float:
    return float(stats.binom.sf(needed - 1, pairs, drop))
