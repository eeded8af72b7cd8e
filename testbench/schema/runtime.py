"""The one iterator over scenarios and their steps, used by run (`A2AExecutor`) and evaluate (`MetricEvaluator`).

Scenarios run concurrently under a bound; the steps of one scenario run in order. What a scenario needs to remember
lives in the state that `before_scenario` returns and every later hook is handed: a hooks object is shared by all
scenarios in flight and keeps nothing of any of them.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

__all__ = [
    "ExperimentHooks",
    "ExperimentRuntime",
]


class WithSteps(Protocol):
    """Anything that has steps: the scenario model of any phase."""

    @property
    def steps(self) -> Sequence[Any]: ...


ScenarioIn = TypeVar("ScenarioIn", bound=WithSteps)
StepIn = TypeVar("StepIn")
State = TypeVar("State")
StepOut = TypeVar("StepOut")
ScenarioOut = TypeVar("ScenarioOut")


class ExperimentHooks(ABC, Generic[ScenarioIn, StepIn, State, StepOut, ScenarioOut]):
    """What a phase does at each point of the walk.

    An exception from any hook ends the whole run: a failure that belongs to one step is part of what `on_step` returns.
    """

    async def before_run(self, scenarios: Sequence[ScenarioIn]) -> None:
        """Called once, before the first scenario: the place for checks that must stop a run before it starts."""

    @abstractmethod
    async def before_scenario(self, scenario: ScenarioIn) -> State:
        """Make the state of one scenario in flight."""

    @abstractmethod
    async def on_step(self, step: StepIn, state: State) -> StepOut:
        """Handle one step; called in the order of the scenario's steps."""

    @abstractmethod
    async def after_scenario(self, scenario: ScenarioIn, steps: Sequence[StepOut], state: State) -> ScenarioOut:
        """Put the scenario's outcome together."""


def _ignore(_: object) -> None:
    return None


class ExperimentRuntime(Generic[ScenarioIn, StepIn, State, StepOut, ScenarioOut]):
    """Walks scenarios with the given hooks, at most `concurrency` of them at once."""

    def __init__(
        self,
        hooks: ExperimentHooks[ScenarioIn, StepIn, State, StepOut, ScenarioOut],
        *,
        concurrency: int,
        on_scenario_done: Callable[[ScenarioOut], None] = _ignore,
    ) -> None:
        """Make a runtime; `on_scenario_done` sees each outcome as soon as it is there: for progress and journals."""
        if concurrency < 1:
            raise ValueError("concurrency is at least 1")
        self._hooks = hooks
        self._concurrency = concurrency
        self._on_scenario_done = on_scenario_done

    async def run(self, scenarios: Sequence[ScenarioIn]) -> tuple[ScenarioOut, ...]:
        """Walk all scenarios, and return their outcomes in the order of `scenarios`, whichever finished first."""
        await self._hooks.before_run(scenarios)
        outcomes: dict[int, ScenarioOut] = {}
        waiting = iter(enumerate(scenarios))
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(self._concurrency, len(scenarios))):
                    workers.create_task(self._work(waiting, outcomes))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return tuple(outcomes[position] for position in range(len(scenarios)))

    async def _work(self, waiting: Iterator[tuple[int, ScenarioIn]], outcomes: dict[int, ScenarioOut]) -> None:
        for position, scenario in waiting:
            outcomes[position] = outcome = await self._run_scenario(scenario)
            self._on_scenario_done(outcome)

    async def _run_scenario(self, scenario: ScenarioIn) -> ScenarioOut:
        state = await self._hooks.before_scenario(scenario)
        steps = [await self._hooks.on_step(step, state) for step in scenario.steps]
        return await self._hooks.after_scenario(scenario, steps, state)
