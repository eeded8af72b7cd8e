"""The statistics of a comparison: is one run worse than another, and how much worse must it be to be seen? Pure.

NumPy and SciPy compute. Used by `testbench.gating.regression`. All tests are one-sided (only *worse* raises an alarm),
paired, and treat a scenario as one unit: the steps of a conversation succeed and fail together, so counting each as
evidence of its own would see a regression in noise. The power is said beside every comparison: one that is too small to
see anything must not read like an agent that is as good as before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from testbench.results.verdict import Power

RESAMPLES = 9_999
"""Sign patterns that are drawn where there are too many to try all."""
MOST_EXHAUSTIVE = 13
"""Scenarios up to which all patterns are tried."""
MOST_SIGNED = 500
"""Scenarios with the largest differences whose signs are drawn; the sum of all others is then as good as normal."""
POWER = 0.8
"""Chance with which a drop of the stated size would have been seen."""
TARGET_DROP = 0.05
"""The drop for which the needed number of steps and repetitions is said."""
MOST_PAIRS = 1_000_000
"""Steps beyond which nobody would go."""


# --- is it worse? ----------------------------------------------------------------------------------------------------


def mcnemar_p_value(worse: int, better: int) -> float:
    """Return the chance of at least `worse` of the changed pairs getting worse, were better and worse equally likely.

    The exact conditional test of McNemar (Psychometrika 12, 1947), one-sided. 1.0 where no pair changed.
    """
    changed = worse + better
    return float(stats.binomtest(worse, changed, 0.5, alternative="greater").pvalue) if changed else 1.0


def sign_flip_p_value(differences: Mapping[str, Sequence[float]], tolerance: float = 0.0) -> float:
    """Return the chance of a mean this low, were every scenario's sum as likely to have the other sign.

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
    if changed.size <= MOST_EXHAUSTIVE:
        return float(_low_chances(changed).mean())
    by_size = sums[np.argsort(-np.abs(sums), kind="stable")] if sums.size > MOST_SIGNED else sums
    as_low = _low_chances(by_size[:MOST_SIGNED], float(np.sqrt(np.square(by_size[MOST_SIGNED:]).sum())))
    return float((as_low.sum() + 1) / (as_low.size + 1))


def _low_chances(sums: np.ndarray, spread: float = 0.0) -> np.ndarray:
    """Return for each sign pattern the chance of a sum as low.

    `spread` is the deviation of what it leaves to chance.
    """
    above = _sign_patterns(sums.size) @ sums - sums.sum()
    if spread:
        return np.asarray(stats.norm.cdf(-above / spread))
    return np.asarray(above <= 1e-9 * np.abs(sums).sum(), dtype=float)


@lru_cache(maxsize=8)
def _sign_patterns(number: int) -> np.ndarray:
    """Return rows of signs for `number` scenarios: every pattern, or a sample of them."""
    if number <= MOST_EXHAUSTIVE:
        patterns = np.arange(2**number)[:, None] >> np.arange(number) & 1
    else:
        patterns = np.random.default_rng(0).integers(0, 2, size=(RESAMPLES, number))
    return 2.0 * patterns - 1.0


def hochberg(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for asking several questions at once (Hochberg, Biometrika 75, 1988).

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


# --- what would have been seen? --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noise:
    """How much pass rates differ between two runs of an unchanged agent, from the pairs of the comparison.

    `flips` is the share of pairs that fail once and pass the other time in each direction; it applies where every
    scenario is one pair that ran once. Otherwise `error` is the standard error of the mean difference. `left` is the
    part of the evidence that unequal weights of the scenarios leave.
    """

    pairs: int
    scenarios: int
    repetitions: int
    flips: float
    error: float | None
    left: float = 1.0

    @property
    def attempts(self) -> float:
        return self.pairs * self.repetitions * self.left

    @property
    def evidence(self) -> float:
        """How many scenarios of equal weight would say as much."""
        return self.scenarios * self.left


def measure_noise(
    differences: Mapping[str, Sequence[float]], repetitions: int, weights: Mapping[str, float] | None = None
) -> Noise:
    """Measure it from the differences of pass rates (after minus before) by scenario, and the weights of the scenarios.

    What got better is taken for noise, and as much noise is expected downwards: a real drop does not hide it. With
    unequal weights as much evidence is left as in the effective number of scenarios (Kish, Survey Sampling, 1965).
    """
    counts = np.array([len(group) for group in differences.values()])
    each = np.array([1.0 if weights is None else weights[scenario] for scenario in differences])
    sums = each * [math.fsum(group) for group in differences.values()]
    sizes = each * counts
    pairs, scenarios = int(counts.sum()), len(sums)
    equal = len(set(each)) == 1
    single = repetitions == 1 and pairs == scenarios and equal
    flips = float((sums > 0).mean()) if single and scenarios else 0.0
    error = None if single or scenarios < 2 else _standard_error(sums, sizes)
    left = 1.0 if equal else float(each.sum() ** 2 / np.square(each).sum()) / scenarios
    return Noise(pairs, scenarios, repetitions, min(flips, 0.5), error, left)


def _standard_error(sums: np.ndarray, sizes: np.ndarray) -> float:
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    return float(np.sqrt(len(sums) / (len(sums) - 1) * np.square(residuals).sum()) / sizes.sum())


def mcnemar_power(pairs: int, drop: float, flips: float, alpha: float) -> float:
    """Return the chance that the exact one-sided McNemar test sees a drop of the pass rate.

    `flips` of the pairs change for no reason in each direction, and `drop` more get worse. Sums the conditional power
    over the number of changed pairs (Connor, Biometrics 43, 1987, for the model).
    """
    worse, better = min(1.0, flips + drop), min(flips, max(0.0, 1 - flips - drop))
    if worse + better == 0:
        return 0.0
    changed = np.arange(pairs + 1)
    needed = stats.binom.isf(alpha, changed, 0.5) + 1
    seen = stats.binom.sf(needed - 1, changed, worse / (worse + better))
    return float(np.dot(stats.binom.pmf(changed, pairs, worse + better), seen))


def smallest_drop(pairs: int, alpha: float, flips: float = 0.0) -> float | None:
    """Return the smallest drop of the pass rate that `pairs` pairs would show with 80 % chance; None if none would.

    Without `flips` it is what would be seen at best. An exact McNemar test then needs `k` pairs that got worse with
    2**-k <= alpha, and k of n come up with the chance of a binomial.
    """
    needed = _needed_changes(alpha)
    if pairs < needed:
        return None
    # P(Binomial(n, d) >= k) is the distribution function of Beta(k, n - k + 1) at d.
    low, high = float(stats.beta.ppf(POWER, needed, pairs - needed + 1)), 1.0 - flips
    if not flips or mcnemar_power(pairs, low, flips, alpha) >= POWER:
        return low
    if mcnemar_power(pairs, high, flips, alpha) < POWER:
        return None
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if mcnemar_power(pairs, middle, flips, alpha) >= POWER else (middle, high)
    return high


def pairs_for_drop(drop: float, alpha: float, flips: float = 0.0) -> int | None:
    """Return how many pairs would show a drop of the pass rate of that size with 80 % chance.

    None if more than a million.
    """
    low = high = _needed_changes(alpha)
    while not _is_seen(high, drop, alpha, flips):
        low, high = high, high * 2
        if high > MOST_PAIRS:
            return None
    while low < high:
        middle = (low + high) // 2
        if _is_seen(middle, drop, alpha, flips):
            high = middle
        else:
            low = middle + 1
    return high


def _is_seen(pairs: int, drop: float, alpha: float, flips: float) -> bool:
    if flips and pairs * (2 * flips + drop) > 1000:  # the sum over the changed pairs is then normal, and far cheaper
        spread = math.sqrt(2 * flips + drop - drop * drop)
        return drop * math.sqrt(pairs) >= _quantile(1 - alpha) * math.sqrt(2 * flips + drop) + _quantile(POWER) * spread
    if not flips:
        return float(stats.binom.sf(_needed_changes(alpha) - 1, pairs, drop)) >= POWER
    return mcnemar_power(pairs, drop, flips, alpha) >= POWER


def _needed_changes(alpha: float) -> int:
    return max(1, math.ceil(-math.log2(alpha)))


def _quantile(probability: float) -> float:
    return float(stats.norm.ppf(probability))


def measure_power(noise: Noise, alpha: float, target: float = TARGET_DROP) -> Power:
    """Return what a comparison with this noise can see at `alpha`, and what would be enough for a drop of `target`."""
    drop = _smallest_visible_drop(noise, alpha)
    steps, repetitions = _sufficient_sizes(noise, alpha, target)
    return Power(
        pairs=noise.pairs,
        repetitions=noise.repetitions,
        power=POWER,
        smallest_drop=drop,
        target_drop=target,
        steps_needed=steps,
        repetitions_needed=repetitions,
        sentence=_write_sentence(noise, drop, target, steps, repetitions),
    )


def _smallest_visible_drop(noise: Noise, alpha: float) -> float | None:
    if noise.error is None:
        return smallest_drop(noise.scenarios, alpha, noise.flips)
    if noise.evidence < _needed_changes(alpha):
        return None
    # the drop d with d = z * sqrt(error**2 + d / attempts): see _standard_error_with
    factor = _detection_factor(alpha) ** 2
    own = factor / noise.attempts
    drop = (own + math.sqrt(own * own + 4 * factor * noise.error**2)) / 2
    return drop if drop < 1 else None


def _sufficient_sizes(noise: Noise, alpha: float, target: float) -> tuple[int | None, int | None]:
    """Return steps with as many repetitions, and repetitions of the same steps in both runs.

    Repetitions help against luck, which falls with their number, where there are scenarios enough.
    """
    times = (_detection_factor(alpha) * _standard_error_with(noise, target) / target) ** 2
    single = noise.error is None
    steps = pairs_for_drop(target, alpha, noise.flips) if single else math.ceil(noise.pairs * times)
    enough = noise.evidence >= _needed_changes(alpha)
    repetitions = math.ceil(noise.repetitions * times) if enough else None
    return steps, repetitions


def _standard_error_with(noise: Noise, drop: float) -> float:
    """Return the standard error of the mean difference with a drop that is spread over all steps.

    Where the later run fails more often, it is also left to luck more often: by at most `drop` for each attempt.
    """
    luck = 2 * noise.flips / noise.pairs if noise.error is None else noise.error**2
    return math.sqrt(luck + drop / noise.attempts)


def _detection_factor(alpha: float) -> float:
    """Return how many standard errors a drop must be for a one-sided test of a normal mean to see it."""
    return _quantile(1 - alpha) + _quantile(POWER)


def _write_sentence(noise: Noise, drop: float | None, target: float, steps: int | None, repetitions: int | None) -> str:
    times = "once each" if noise.repetitions == 1 else f"{noise.repetitions} times each"
    these = f"With these {noise.pairs} {_pluralize('step', noise.pairs)} {times}"
    if noise.scenarios < noise.pairs:
        these += f", in {noise.scenarios} {_pluralize('scenario', noise.scenarios)}"
    seen = "no drop of the pass rate" if drop is None else f"a drop of the pass rate under {_show_points(drop)}"
    sentence = f"{these}, {seen} would {'be' if drop is None else 'not be'} seen reliably ({POWER:.0%} chance)"
    if (drop is not None and drop <= target) or steps is None:
        return f"{sentence}."
    enough = f" For {_show_points(target)} it takes about {steps} steps"
    if repetitions is not None and repetitions > noise.repetitions:
        enough += f", or these {repetitions} times in both runs if all get worse alike"
    return f"{sentence}.{enough}."


def _show_points(proportion: float) -> str:
    points = math.ceil(proportion * 1000 - 1e-9) / 10
    return f"{points:g} {'point' if points == 1 else 'points'}"


def _pluralize(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"
