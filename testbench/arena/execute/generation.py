"""What every worker and the reducer of a data generation have in common: settings, material, and what a round asks.

Called by `datagen`. All of it follows from the plan, its bundle and the files of the run: nobody has to be told.
"""

from __future__ import annotations

from dataclasses import dataclass

from testbench.arena.arena_file import arena_file_of
from testbench.arena.datagen.items import RoundPlan, Seed
from testbench.arena.datagen.records import Part, read_round
from testbench.arena.datagen.reduction import first_round
from testbench.arena.datagen.rounds import MOST_ITEMS, writers_of
from testbench.arena.datagen.seeds import seeds_of
from testbench.arena.execute.context import JobContext
from testbench.arena.manifest import DataGenSettings
from testbench.errors import InputError, StoreError


@dataclass(frozen=True)
class Generation:
    """A job that generates data; `providers` take turns at writing it."""

    context: JobContext
    settings: DataGenSettings
    seeds: tuple[Seed, ...]
    providers: tuple[str, ...]

    @property
    def digest(self) -> str:
        return self.context.plan.digest

    @property
    def part(self) -> Part:
        """What this worker has to ask now."""
        return Part(self.context.round, self.context.shard.index, self.context.shard.count)

    def parts(self, number: int) -> tuple[Part, ...]:
        """What all workers have to ask in a round."""
        return tuple(Part(number, index, self.context.shard.count) for index in range(self.context.shard.count))

    def round(self, number: int) -> RoundPlan:
        """What a round asks: the first follows from the plan, the others were decided by the reducer before.

        Raises:
            StoreError: nobody decided it, or it cannot be read.
        """
        if number == 1:
            return first_round(self.digest, self.settings.count, self.seeds, self.providers)
        found = read_round(self.context.store, number, self.digest)
        if found is None:
            hint = f"Reduce round {number - 1} first."
            raise StoreError(f"round {number} of {self.context.plan.job} is not decided yet", hint=hint)
        return found


def generation_of(context: JobContext) -> Generation:
    """Everything that is decided before anybody is asked.

    Raises:
        InputError: the bundle is not the plan's, holds nothing to generate from, or too many items are wanted.
    """
    settings = context.job.spec.data_gen or DataGenSettings()
    if settings.count > MOST_ITEMS:
        raise InputError(
            f"dataGen.count is {settings.count:,}", hint=f"At most {MOST_ITEMS:,}: make several jobs of it."
        )
    bundle = context.bundle
    if bundle.revision != context.plan.source_revision:
        hint = "Give the source that the plan was made with, or plan again."
        raise InputError(f"{bundle.origin}: is not the source of this plan", hint=hint)
    seeds = seeds_of(bundle, arena_file_of(context.job, bundle))
    return Generation(context, settings, seeds, writers_of(context.plan))
