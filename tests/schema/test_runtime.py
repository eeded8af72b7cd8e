"""The one iterator over scenarios: order, bound, state of its own for each scenario, and how a run ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from testbench.schema.runtime import ExperimentHooks, ExperimentRuntime


@dataclass(frozen=True)
class Walk:
    """A scenario of a test."""

    name: str
    steps: tuple[str, ...] = ("a", "b", "c")


@dataclass
class Hooks(ExperimentHooks[Walk, str, list[str], str, str]):
    """Writes down what it is called for; a step waits for its gate, where it has one."""

    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    in_flight: int = 0
    most: int = 0
    raising: str = ""
    two_in_flight: asyncio.Event = field(default_factory=asyncio.Event)

    async def before_run(self, scenarios: Sequence[Walk]) -> None:
        self.started.append(f"{len(scenarios)} scenarios")
        if self.raising == "before_run":
            raise RuntimeError("not today")

    async def before_scenario(self, scenario: Walk) -> list[str]:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        if self.in_flight == 2:
            self.two_in_flight.set()
        self.started.append(scenario.name)
        return [scenario.name]

    async def on_step(self, step: str, state: list[str]) -> str:
        await asyncio.sleep(0)
        if gate := self.gates.get(state[0]):
            await gate.wait()
        if self.raising == f"{state[0]}{step}":
            raise RuntimeError("a defect")
        state.append(step)
        return f"{state[0]}{step}"

    async def after_scenario(self, scenario: Walk, steps: Sequence[str], state: list[str]) -> str:
        self.in_flight -= 1
        return f"{scenario.name}: {' '.join(steps)} / {''.join(state[1:])}"


async def test_outcomes_are_in_the_order_of_the_input_whichever_ends_first() -> None:
    slow = asyncio.Event()
    done: list[str] = []

    def on_done(outcome: str) -> None:
        done.append(outcome[0])
        if len(done) == 2:
            slow.set()

    runtime = ExperimentRuntime(Hooks(gates={"x": slow}), concurrency=3, on_scenario_done=on_done)
    outcomes = await runtime.run([Walk("x"), Walk("y"), Walk("z")])
    assert [outcome[0] for outcome in outcomes] == ["x", "y", "z"]
    assert done[-1] == "x"


async def test_steps_of_a_scenario_run_in_order_and_share_only_its_state() -> None:
    outcomes = await ExperimentRuntime(Hooks(), concurrency=2).run([Walk("x"), Walk("y")])
    assert outcomes == ("x: xa xb xc / abc", "y: ya yb yc / abc")


@pytest.mark.parametrize("concurrency", [1, 3, 50])
async def test_at_most_so_many_scenarios_are_in_flight_and_that_many_are(concurrency: int) -> None:
    hooks = Hooks()
    await ExperimentRuntime(hooks, concurrency=concurrency).run([Walk(str(number)) for number in range(10)])
    assert hooks.most == min(concurrency, 10)


async def test_an_exception_of_a_hook_ends_the_run_and_cancels_what_is_in_flight() -> None:
    hooks = Hooks(gates={"y": asyncio.Event()}, raising="xb")
    with pytest.raises(RuntimeError, match="a defect"):
        await ExperimentRuntime(hooks, concurrency=2).run([Walk("x"), Walk("y"), Walk("z")])
    assert hooks.started == ["3 scenarios", "x", "y"]


async def test_before_run_can_stop_everything() -> None:
    hooks = Hooks(raising="before_run")
    with pytest.raises(RuntimeError, match="not today"):
        await ExperimentRuntime(hooks, concurrency=2).run([Walk("x")])
    assert hooks.started == ["1 scenarios"]


async def test_an_exception_where_an_outcome_is_kept_ends_the_run() -> None:
    def full(_: str) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await ExperimentRuntime(Hooks(), concurrency=1, on_scenario_done=full).run([Walk("x"), Walk("y")])


async def test_cancelling_the_run_reaches_every_scenario() -> None:
    hooks = Hooks(gates={"x": asyncio.Event(), "y": asyncio.Event()})
    run = asyncio.ensure_future(ExperimentRuntime(hooks, concurrency=2).run([Walk("x"), Walk("y")]))
    await hooks.two_in_flight.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


async def test_no_scenario_is_no_work() -> None:
    assert await ExperimentRuntime(Hooks(), concurrency=4).run([]) == ()


def test_a_bound_below_one_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ExperimentRuntime(Hooks(), concurrency=0)
