"""The time of an evaluation: what it does itself counts, what it waits for does not."""

from __future__ import annotations

import asyncio

import pytest

from testbench import defaults
from testbench.metrics.evaluation import EvaluationDependencies, EvaluationSettings, evaluate
from testbench.metrics.judge.client import OpenAIJudge
from testbench.metrics.judge.judge import Judge, JudgeSettings
from testbench.net.clock import Clock, FakeClock
from testbench.net.pacing import Pacer
from testbench.net.time_limit import limit_time, not_counted
from testbench.results.summary import walk_evaluations
from testbench.schema.tracing import Tracing
from tests.metrics.builtin.test_rubric import code_in
from tests.support.metric_samples import experiment, metric, scenario, step
from tests.support.servers.scripted_judge import ScriptedJudge


async def turns_of_the_loop(number: int = 10) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_block_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(TimeoutError):
        async with limit_time(0):
            await turns_of_the_loop()


async def test_a_wait_is_not_counted_and_what_follows_is() -> None:
    waited = []

    async def work() -> None:
        async with limit_time(0):
            with not_counted():
                await turns_of_the_loop()
                with not_counted():
                    await turns_of_the_loop()
                await turns_of_the_loop()
                waited.append(True)
            await turns_of_the_loop()

    with pytest.raises(TimeoutError):
        await work()
    assert waited


async def test_a_wait_outside_of_any_limit_is_just_a_wait() -> None:
    with not_counted():
        await turns_of_the_loop()


async def test_what_goes_on_after_the_end_harms_nobody() -> None:
    done = asyncio.Event()

    async def left_behind() -> None:
        with not_counted():
            await done.wait()

    async with limit_time(60):
        task = asyncio.create_task(left_behind())
        await asyncio.sleep(0)
    done.set()
    await task


async def test_an_evaluation_that_waits_long_for_its_turn_is_not_lost(
    judge: ScriptedJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = 0.0
    loop = asyncio.get_running_loop()
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + late)
    occupied: list[tuple[Pacer, asyncio.Task[None]]] = []
    go_on = asyncio.Event()

    async def occupy(pacer: Pacer) -> None:
        async with pacer.take_slot():
            await go_on.wait()

    def make(settings: JudgeSettings, clock: Clock, tracing: Tracing) -> Judge:
        client = OpenAIJudge(settings, clock)
        occupied.append((client._pacer, asyncio.create_task(occupy(client._pacer))))
        return client

    judge.answer("RubricVerdict", lambda prompt: {"reason": "fine", "score": 5, "code": code_in(prompt)})
    executed = experiment(scenario(step(metrics=(metric("builtin.judge", 0.5, criteria="polite"),))))
    dependencies = EvaluationDependencies({"OPENAI_API_BASE": judge.base_url}, clock=FakeClock(), make_judge=make)
    running = asyncio.create_task(
        evaluate(executed, EvaluationSettings(model="m", cache=None, concurrency=1), dependencies)
    )
    while not (occupied and occupied[0][0]._waiting):  # noqa: ASYNC110  # nobody tells when one begins to wait
        await asyncio.sleep(0)
    late = 10 * defaults.METRIC_TIMEOUT_S
    await turns_of_the_loop()
    go_on.set()
    found = await running
    assert [item.status for item in walk_evaluations(found)] == ["pass"]
