"""When requests arrive: one schedule for the whole test, dealt to the workers.

Pure; used by every worker and by the reducer. Nothing but the common start has to be agreed: arrival k belongs to
worker k mod n.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from testbench.arena.manifest.job import LoadTestSettings, seconds
from testbench.schema.shards import Shard

PER_WORKER_RPS: Final = 250
"""Turns a second that one process is given: they take a quarter of a core (0.5 to 0.9 ms each, `benchmarks/load.py`),
which leaves room on a node that is busy."""


@dataclass(frozen=True)
class RateProfile:
    """A rate that grows evenly from 0 to `rate` during `ramp_s`, and stays there until `duration_s`.

    `rate` is in arrivals a second, times in seconds from the start of the test.
    """

    rate: float
    ramp_s: float
    duration_s: float

    @property
    def count(self) -> int:
        """How many arrivals the test has."""
        return math.ceil(self.expected(self.duration_s) - 1e-9)

    def expected(self, at_s: float) -> float:
        """Arrivals up to a time: the integral of the rate."""
        ramped = min(at_s, self.ramp_s)
        growing = self.rate * ramped**2 / (2 * self.ramp_s) if self.ramp_s else 0.0
        return growing + self.rate * max(0.0, at_s - self.ramp_s)

    def time_of(self, number: int) -> float:
        """When arrival `number` (from 0) is due: where the integral of the rate reaches it."""
        in_ramp = self.rate * self.ramp_s / 2
        if number < in_ramp:
            return math.sqrt(2 * self.ramp_s * number / self.rate)
        return self.ramp_s + (number - in_ramp) / self.rate

    def rate_at(self, at_s: float) -> float:
        """The planned rate at a time, in arrivals a second."""
        if not 0 <= at_s < self.duration_s:
            return 0.0
        return self.rate * min(1.0, at_s / self.ramp_s) if self.ramp_s else self.rate

    def dealt(self, shard: Shard) -> Iterator[tuple[int, float]]:
        """Return the arrivals of a worker's shard, each with its number and its time."""
        return ((number, self.time_of(number)) for number in shard.of(range(self.count)))


def profile_of(settings: LoadTestSettings, mean_turns: float) -> RateProfile | None:
    """The profile of conversations, so that their turns together make `targetRPS`; None: no rate, a closed loop.

    `mean_turns` is the mean number of turns of the conversations that are started.
    """
    if settings.target_rps is None:
        return None
    return RateProfile(settings.target_rps / mean_turns, seconds(settings.ramp_up), seconds(settings.duration))


def workers_needed(target_rps: int | None, per_worker: int, fewest: int, most: int) -> int:
    """How many workers a load test gets, all at once and for the whole of it: as many as hold the rate, within limits.

    Without a rate each worker keeps one conversation in flight, so their number is the load: the fewest.
    """
    if target_rps is None:
        return fewest
    return min(max(math.ceil(target_rps / per_worker), fewest, 1), most)
