"""How much worse would an agent have to be for the comparison to see it, and what would be enough? Pure.

Called by `testbench.gating.regression`, which says it beside every comparison: a comparison that is too small to see
anything must not read like an agent that is as good as before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from testbench.results.verdict import Power

POWER = 0.8
"""Chance with which a drop of the stated size would have been seen."""
TARGET_DROP = 0.05
"""The drop for which the needed number of steps and repetitions is told."""
MOST = 1_000_000
"""Steps beyond which nobody would go."""


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


def noise_of(
    differences: Mapping[str, Sequence[float]], repetitions: int, weights: Mapping[str, float] | None = None
) -> Noise:
    """From the differences of pass rates (after minus before) by scenario, and the weights of the scenarios.

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
    """Chance that the exact one-sided McNemar test sees a drop of the pass rate.

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
    """The smallest drop of the pass rate that `pairs` pairs would show with 80 % chance; None if none would.

    Without `flips` it is what would be seen at best. An exact McNemar test then needs `k` pairs that got worse with
    2**-k <= alpha, and k of n come up with the chance of a binomial.
    """
    needed = _needed(alpha)
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
    """How many pairs would show a drop of the pass rate of that size with 80 % chance; None if more than a million."""
    low = high = _needed(alpha)
    while not _seen(high, drop, alpha, flips):
        low, high = high, high * 2
        if high > MOST:
            return None
    while low < high:
        middle = (low + high) // 2
        if _seen(middle, drop, alpha, flips):
            high = middle
        else:
            low = middle + 1
    return high


def _seen(pairs: int, drop: float, alpha: float, flips: float) -> bool:
    if flips and pairs * (2 * flips + drop) > 1000:  # the sum over the changed pairs is then normal, and far cheaper
        spread = math.sqrt(2 * flips + drop - drop * drop)
        return drop * math.sqrt(pairs) >= _quantile(1 - alpha) * math.sqrt(2 * flips + drop) + _quantile(POWER) * spread
    if not flips:
        return float(stats.binom.sf(_needed(alpha) - 1, pairs, drop)) >= POWER
    return mcnemar_power(pairs, drop, flips, alpha) >= POWER


def _needed(alpha: float) -> int:
    return max(1, math.ceil(-math.log2(alpha)))


def _quantile(probability: float) -> float:
    return float(stats.norm.ppf(probability))


def power_of(noise: Noise, alpha: float, target: float = TARGET_DROP) -> Power:
    """What a comparison with this noise can see at `alpha`, and what would be enough for a drop of `target`."""
    drop = _visible(noise, alpha)
    steps, repetitions = _enough(noise, alpha, target)
    return Power(
        pairs=noise.pairs,
        repetitions=noise.repetitions,
        power=POWER,
        smallest_drop=drop,
        target_drop=target,
        steps_needed=steps,
        repetitions_needed=repetitions,
        sentence=_sentence(noise, drop, target, steps, repetitions),
    )


def _visible(noise: Noise, alpha: float) -> float | None:
    if noise.error is None:
        return smallest_drop(noise.scenarios, alpha, noise.flips)
    if noise.evidence < _needed(alpha):
        return None
    # the drop d with d = z * sqrt(error**2 + d / attempts): see _error
    factor = _factor(alpha) ** 2
    own = factor / noise.attempts
    drop = (own + math.sqrt(own * own + 4 * factor * noise.error**2)) / 2
    return drop if drop < 1 else None


def _enough(noise: Noise, alpha: float, target: float) -> tuple[int | None, int | None]:
    """Steps with as many repetitions, and repetitions of the same steps in both runs.

    Repetitions help against luck, which falls with their number, where there are scenarios enough.
    """
    times = (_factor(alpha) * _error(noise, target) / target) ** 2
    single = noise.error is None
    steps = pairs_for_drop(target, alpha, noise.flips) if single else math.ceil(noise.pairs * times)
    enough = noise.evidence >= _needed(alpha)
    repetitions = math.ceil(noise.repetitions * times) if enough else None
    return steps, repetitions


def _error(noise: Noise, drop: float) -> float:
    """The standard error of the mean difference with a drop that is spread over all steps.

    Where the later run fails more often, it is also left to luck more often: by at most `drop` for each attempt.
    """
    luck = 2 * noise.flips / noise.pairs if noise.error is None else noise.error**2
    return math.sqrt(luck + drop / noise.attempts)


def _factor(alpha: float) -> float:
    """How many standard errors a drop must be for a one-sided test of a normal mean to see it."""
    return _quantile(1 - alpha) + _quantile(POWER)


def _sentence(noise: Noise, drop: float | None, target: float, steps: int | None, repetitions: int | None) -> str:
    times = "once each" if noise.repetitions == 1 else f"{noise.repetitions} times each"
    these = f"With these {noise.pairs} {_plural('step', noise.pairs)} {times}"
    if noise.scenarios < noise.pairs:
        these += f", in {noise.scenarios} {_plural('scenario', noise.scenarios)}"
    seen = "no drop of the pass rate" if drop is None else f"a drop of the pass rate under {_points(drop)}"
    sentence = f"{these}, {seen} would {'be' if drop is None else 'not be'} seen reliably ({POWER:.0%} chance)"
    if (drop is not None and drop <= target) or steps is None:
        return f"{sentence}."
    enough = f" For {_points(target)} it takes about {steps} steps"
    if repetitions is not None and repetitions > noise.repetitions:
        enough += f", or these {repetitions} times in both runs if all get worse alike"
    return f"{sentence}.{enough}."


def _points(proportion: float) -> str:
    points = math.ceil(proportion * 1000 - 1e-9) / 10
    return f"{points:g} {'point' if points == 1 else 'points'}"


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"
