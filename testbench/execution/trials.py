"""What a run has to send: every scenario as often as it is repeated, and of that the part that a shard takes.

    planned scenarios x repetitions -> trials, dealt in turn to the shards

All scenarios come once before any comes twice. A flaky agent is found by asking again later and not at once; a run that
is stopped has a whole first repetition; and more repeats only add trials at the end, so that a shard that has done its
part keeps it when `--repeats` grows. Ids are made before the dealing: they do not depend on shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from testbench.schema.ids import ScenarioKey
from testbench.schema.models import PlannedScenario, PlannedStep
from testbench.schema.shards import Shard


@dataclass(frozen=True)
class Trial:
    """One repetition of one scenario, out of `repeats`."""

    scenario: PlannedScenario
    repetition: int = 1
    repeats: int = 1

    @property
    def key(self) -> ScenarioKey:
        return ScenarioKey(self.scenario.id, self.repetition)

    @property
    def steps(self) -> tuple[PlannedStep, ...]:
        return self.scenario.steps


def trials(scenarios: Sequence[PlannedScenario], repeats: int, shard: Shard | None = None) -> Sequence[Trial]:
    """What is to be sent, in the order of sending."""
    dealt = [Trial(scenario, number, repeats) for number in range(1, repeats + 1) for scenario in scenarios]
    return dealt if shard is None else shard.of(dealt)


def in_file_order(found: Sequence[Trial], scenarios: Sequence[PlannedScenario]) -> list[Trial]:
    """The repetitions of a scenario side by side, as they are read and compared."""
    place = {scenario.id: number for number, scenario in enumerate(scenarios)}
    return sorted(found, key=lambda trial: (place[trial.scenario.id], trial.repetition))
