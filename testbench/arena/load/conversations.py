"""What a load test sends: every scenario of the plan to every system under test, in the order of the plan.

Pure; called by the load worker and by whoever judges what it has kept.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from testbench.arena.load.arrivals import PER_WORKER_RPS, RateProfile, profile_of, workers_needed
from testbench.arena.load.generator import Draw
from testbench.arena.manifest.job import ArenaJob, LoadTestSettings
from testbench.arena.plan.model import Item, Plan, PlannedScenarioFile
from testbench.errors import InputError, NothingToDo


def drawn_items(plan: Plan) -> tuple[Item, ...]:
    """The item of each draw: repetitions mean nothing here, where everything is sent again and again.

    Raises:
        NothingToDo: there is none.
        InputError: a scenario has no question of its own; a user who is played would be a part of what is measured.
    """
    items = tuple(item for item in plan.items if item.repetition == 1)
    if not items:
        raise NothingToDo("the plan has no item", hint="Check scenarios and providers: arena/cli.py plan shows both.")
    scenarios = {planned.id: planned for planned in plan.scenarios}
    for item in items:
        planned = scenarios[item.scenario_id]
        if not planned.scenario.steps:
            hint = "Give it steps with inputs, or leave it out with scenarios.exclude."
            raise InputError(f"{planned.path}: a load test has no use for a scenario without steps", hint=hint)
    return items


def draws_of(plan: Plan) -> tuple[Draw, ...]:
    """One draw for each item of `drawn_items`; only the scenarios' own steps are sent.

    Raises:
        NothingToDo, InputError: see `drawn_items`.
    """
    scenarios = {planned.id: planned for planned in plan.scenarios}
    return tuple(_draw(item, scenarios[item.scenario_id]) for item in drawn_items(plan))


def _draw(item: Item, planned: PlannedScenarioFile) -> Draw:
    prompted = planned.system_prompt and item.system.kind == "provider"
    return Draw(
        scenario=item.scenario_name,
        system=item.system.label,
        inputs=tuple(step.input for step in planned.scenario.steps),
        client=speaker(item.system.label, planned.id) if prompted else "",
    )


def speaker(system: str, scenario_id: str) -> str:
    """The name of a system's client with the system prompt of one scenario."""
    return f"{system} in {scenario_id}"


def settings_of(job: ArenaJob) -> LoadTestSettings:
    """The settings of a load test, or what a job without any has."""
    return job.spec.load_test or LoadTestSettings()


def profile(job: ArenaJob, draws: Sequence[Draw]) -> RateProfile | None:
    """When conversations begin; None: no rate, one after the other."""
    return profile_of(settings_of(job), statistics.fmean(len(draw.inputs) for draw in draws))


def workers_of(job: ArenaJob) -> int:
    """How many processes a load test gets on one machine."""
    workers = job.spec.workers
    return workers_needed(settings_of(job).target_rps, PER_WORKER_RPS, workers.fewest, workers.most)
