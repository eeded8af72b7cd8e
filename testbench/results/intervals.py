"""How sure a rate or a mean is: 95 % intervals of values between 0 and 1, where values of one scenario belong together.

Called by `testbench.gating` and `testbench.report`. Standard library only, because the report must not wait for numpy
to load. Steps of one conversation, and repetitions of one scenario, succeed and fail together: as so many independent
values they would make every interval too narrow, so a *cluster* (the scenario) is what counts as one observation.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

IntervalMethod = Literal["wilson", "t"]

NORMAL_QUANTILE = statistics.NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval, cut to 0..1, and the method that gave it."""

    low: float
    high: float
    method: IntervalMethod


class Observation(NamedTuple):
    """A value in 0..1 (a check that passed is 1), with its scenario and how much that counts."""

    cluster: str
    value: float
    weight: float = 1.0


def rate_interval(observations: Sequence[Observation]) -> Interval | None:
    """Return the interval of the weighted share of passed checks; None where there is none.

    Wilson's interval. Where scenarios have several values, or weights, its n is the effective sample size: the n with
    which independent checks would be as sure as these clusters are (Kish, Survey Sampling, 1965; in Wilson's interval:
    Dean & Pagano, Journal of Survey Statistics and Methodology 3, 2015), made smaller where there are few clusters
    (Korn & Graubard, Survey Methodology 24, 1998). Where the values do not differ between clusters, nothing is known of
    how alike the values of one are; then each cluster counts once.
    """
    if not observations:
        return None
    heaviest = max(
        observation.weight for observation in observations
    )  # only ratios count, and squares of extremes are no numbers
    observations = [observation._replace(weight=observation.weight / heaviest) for observation in observations]
    rate = _weighted_mean(observations)
    if (
        len({observation.cluster for observation in observations}) == len(observations)
        and len({one.weight for one in observations}) == 1
    ):
        return wilson_interval(rate, len(observations))
    return wilson_interval(rate, _effective_size(observations, rate))


def mean_interval(scores: Sequence[float], clusters: Sequence[str] | None = None) -> Interval | None:
    """Return the interval of the mean of `scores`, each in 0..1; None where there is no score.

    Without `clusters` each score is one.

    Scores that are all 0 or 1 get Wilson's interval. Others get Student's t with the standard error of a mean of
    clusters of unequal sizes (Cochran, Sampling Techniques, 1977, chapter 9A; Miller, arXiv:2411.00640, for
    evaluations), which for clusters of one is the ordinary one. Only where clusters do not differ at all (or there is
    only one), t would claim certainty. Wilson's is then wide enough for every distribution on 0..1 with that mean,
    since its variance is at most mean * (1 - mean) (Bhatia & Davis, 2000).
    """
    if not scores:
        return None
    names = [str(number) for number in range(len(scores))] if clusters is None else clusters
    observations = [Observation(cluster, score) for cluster, score in zip(names, scores, strict=True)]
    if all(score in (0, 1) for score in scores):
        return rate_interval(observations)
    mean, number = _weighted_mean(observations), len(set(names))
    error = _standard_error(observations, mean)
    if error is None or error < 1e-9:
        return wilson_interval(mean, number)
    margin = student_t_quantile(number - 1) * error
    return Interval(max(0.0, mean - margin), min(1.0, mean + margin), "t")


def wilson_interval(proportion: float, n: float) -> Interval:
    """Return Wilson's score interval for a proportion of `n` trials (E. B. Wilson, JASA 22, 1927)."""
    z2 = NORMAL_QUANTILE**2
    centre = (proportion + z2 / (2 * n)) / (1 + z2 / n)
    margin = NORMAL_QUANTILE / (1 + z2 / n) * math.sqrt(proportion * (1 - proportion) / n + z2 / (4 * n * n))
    return Interval(max(0.0, centre - margin), min(1.0, centre + margin), "wilson")


def _weighted_mean(observations: Sequence[Observation]) -> float:
    # summed exactly, so that the order of the observations changes nothing
    total = math.fsum(observation.weight for observation in observations)
    return min(1.0, math.fsum(observation.weight * observation.value for observation in observations) / total)


def _standard_error(observations: Sequence[Observation], mean: float) -> float | None:
    """Return that of a weighted mean of clusters; None where there is only one. First-order (Taylor) linearisation."""
    residuals: dict[str, list[float]] = {}
    for observation in observations:
        residuals.setdefault(observation.cluster, []).append(observation.weight * (observation.value - mean))
    number = len(residuals)
    if number == 1:
        return None
    total = math.fsum(observation.weight for observation in observations)
    squares = math.fsum(math.fsum(values) ** 2 for values in residuals.values())
    return math.sqrt(number / (number - 1) * squares) / total


def _effective_size(observations: Sequence[Observation], rate: float) -> float:
    weights: dict[str, list[float]] = {}
    for observation in observations:
        weights.setdefault(observation.cluster, []).append(observation.weight)
    sums = [math.fsum(values) for values in weights.values()]
    effective_clusters = math.fsum(sums) ** 2 / math.fsum(value * value for value in sums)
    error = _standard_error(observations, rate)
    if error is None or error < 1e-9 or rate in (0.0, 1.0):
        return effective_clusters
    size = min(rate * (1 - rate) / error**2, len(observations))
    return size * (NORMAL_QUANTILE / student_t_quantile(len(sums) - 1)) ** 2


def student_t_quantile(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t, within 0.2 %.

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
