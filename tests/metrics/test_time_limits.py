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
from testbench.results.summary import walk_evaluations
from testbench.schema.tracing import Tracing
from tests.support.metric_samples import experiment, metric, scenario, step
from tests.support.servers.scripted_judge import ScriptedJudge, code_in


async def turns_of_the_loop(number: int = 10) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


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
