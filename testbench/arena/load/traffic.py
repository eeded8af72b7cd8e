"""What a load test sends and when: one schedule for the whole test, dealt to the workers.

    plan -> draws: every scenario to every system under test, in the order of the plan
    settings -> rate profile -> arrivals -> those of one worker

Pure; used by every worker, by the reducer and by the operator. Nothing but the common start has to be agreed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from testbench.arena.manifest.job import ArenaJob, LoadTestSettings, parse_seconds
from testbench.arena.plan.model import Item, Plan, PlannedScenarioFile
from testbench.errors import InputError, NothingToDo
from testbench.schema.shards import Shard

if TYPE_CHECKING:
    pass

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
        """Return when arrival `number` (from 0) is due: where the integral of the rate reaches it."""
        in_ramp = self.rate * self.ramp_s / 2
        if number < in_ramp:
            return math.sqrt(2 * self.ramp_s * number / self.rate)
        return self.ramp_s + (number - in_ramp) / self.rate

    def rate_at(self, at_s: float) -> float:
        """Return the planned rate at a time, in arrivals a second."""
        if not 0 <= at_s < self.duration_s:
            return 0.0
        return self.rate * min(1.0, at_s / self.ramp_s) if self.ramp_s else self.rate

    def dealt(self, shard: Shard) -> Iterator[tuple[int, float]]:
        """Return the arrivals of a worker's shard, each with its number and its time."""
        return ((number, self.time_of(number)) for number in shard.of(range(self.count)))


def make_rate_profile(settings: LoadTestSettings, mean_turns: float) -> RateProfile | None:
    """Return the profile of conversations, so that their turns together make `targetRPS`; None: no rate, a closed loop.

    `mean_turns` is the mean number of turns of the conversations that are started.
    """
    if settings.target_rps is None:
        return None
    return RateProfile(
        settings.target_rps / mean_turns, parse_seconds(settings.ramp_up), parse_seconds(settings.duration)
    )


def count_workers_needed(target_rps: int | None, per_worker: int, fewest: int, most: int) -> int:
    """Return how many workers a load test gets for the whole of it: as many as hold the rate, within limits.

    Without a rate each worker keeps one conversation in flight, so their number is the load: the fewest.
    """
    if target_rps is None:
        return fewest
    return min(max(math.ceil(target_rps / per_worker), fewest, 1), most)


@dataclass(frozen=True)
class Draw:
    """What an arrival does: the inputs of one scenario to one system.

    `client` names who says them, where the system has several: one for each system prompt.
    """

    scenario: str
    system: str
    inputs: tuple[str, ...]
    client: str = ""

    @property
    def speaker(self) -> str:
        """The name of its client."""
        return self.client or self.system


def list_drawn_items(plan: Plan) -> tuple[Item, ...]:
    """Return the item of each draw: repetitions mean nothing here, where everything is sent again and again.

    Raises:
        NothingToDo: there is none.
        InputError: a scenario has no question of its own; a user who is played would be a part of what is measured.
    """
    items = tuple(item for item in plan.items if item.repetition == 1)
    if not items:
        raise NothingToDo("the plan has no item", hint="Check scenarios and providers: `arena plan` shows both.")
    scenarios = {planned.id: planned for planned in plan.scenarios}
    for item in items:
        planned = scenarios[item.scenario_id]
        if not planned.scenario.steps:
            hint = "Give it steps with inputs, or leave it out with scenarios.exclude."
            raise InputError(f"{planned.path}: a load test has no use for a scenario without steps", hint=hint)
    return items


def list_draws(plan: Plan) -> tuple[Draw, ...]:
    """One draw for each item of `list_drawn_items`; only the scenarios' own steps are sent.

    Raises:
        NothingToDo, InputError: see `list_drawn_items`.
    """
    scenarios = {planned.id: planned for planned in plan.scenarios}
    return tuple(_make_draw(item, scenarios[item.scenario_id]) for item in list_drawn_items(plan))


def _make_draw(item: Item, planned: PlannedScenarioFile) -> Draw:
    prompted = planned.system_prompt and item.system.kind == "provider"
    return Draw(
        scenario=item.scenario_name,
        system=item.system.label,
        inputs=tuple(step.input for step in planned.scenario.steps),
        client=name_speaker(item.system.label, planned.id) if prompted else "",
    )


def name_speaker(system: str, scenario_id: str) -> str:
    """Return the name of a system's client with the system prompt of one scenario."""
    return f"{system} in {scenario_id}"


def get_load_settings(job: ArenaJob) -> LoadTestSettings:
    """Return the settings of a load test, or what a job without any has."""
    return job.spec.load_test or LoadTestSettings()


def make_profile(job: ArenaJob, draws: Sequence[Draw]) -> RateProfile | None:
    """Return when conversations begin; None: no rate, one after the other."""
    return make_rate_profile(get_load_settings(job), compute_mean_turns(draws))


def count_workers(job: ArenaJob) -> int:
    """Return how many processes a load test gets on one machine."""
    workers = job.spec.workers
    return count_workers_needed(get_load_settings(job).target_rps, PER_WORKER_RPS, workers.fewest, workers.most)


def compute_mean_turns(draws: Sequence[Draw]) -> float:
    """Turns of a conversation, on average over what is drawn."""
    return statistics.fmean(len(draw.inputs) for draw in draws)
