"""`--concurrency auto`: as many at once as the agent takes, found out from its 429s, and no step lost on the way."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbench.errors import AgentError
from testbench.execution.executor import RunDependencies
from testbench.execution.run import RunResult, RunSettings, execute
from testbench.net.clock import FakeClock, SystemClock
from testbench.net.pacing import CEILING, Pacer, fixed_pace
from testbench.net.retry import GaveUp, RetryPolicy, Succeeded, call_with_retries
from testbench.schema.a2a_client import A2AStepClient, ClientSettings
from testbench.schema.agent import Conversation
from testbench.schema.models import Experiment, Scenario, Step
from testbench.schema.progress import hide_progress
from tests.support.run_phase import Desk

if TYPE_CHECKING:
    from tests.support.servers.scripted_agent import ScriptedAgent


def asked(scenarios: int, steps: int) -> Experiment:
    return Experiment(
        scenarios=tuple(
            Scenario(name=str(number), steps=tuple(Step(input=f"{number}.{step}") for step in range(steps)))
            for number in range(scenarios)
        )
    )


def run(experiment: Experiment, agent: ScriptedAgent, folder: Path) -> RunResult:
    """Every wait is as long as the agent says, and not a moment longer."""
    settings = RunSettings(
        agent.url, folder / "out.json", concurrency=CEILING, adaptive=True, retry=RetryPolicy(patient=True)
    )

    async def whole() -> RunResult:
        client = A2AStepClient(ClientSettings(agent.url, concurrency=CEILING))
        try:
            return await execute(experiment, settings, client, RunDependencies(chance=lambda: 0.0), hide_progress)
        finally:
            await client.close()

    return asyncio.run(whole())


def test_it_finds_the_agents_limit_and_loses_no_step(agent: ScriptedAgent, tmp_path: Path) -> None:
    agent.delay(0.08)
    agent.refuse_beyond(6, retry_after=0)
    experiment = asked(60, 2)
    result = run(experiment, agent, tmp_path)
    assert (result.statistics.answered, result.statistics.errors) == (120, {})
    assert result.statistics.sending.retries == agent.refused
    assert Counter(received.text for received in agent.received) == {
        step.input: 1 for scenario in experiment.scenarios for step in scenario.steps
    }
    assert 0 < agent.refused <= 20, "it asks for a little more now and then, and does not go on asking"
    assert 5 <= max(agent.loads[20:]) <= 8, "near what the agent takes"


def test_it_goes_up_to_the_ceiling_where_nothing_is_refused(agent: ScriptedAgent, tmp_path: Path) -> None:
    agent.delay(0.1)
    assert run(asked(150, 1), agent, tmp_path).statistics.answered == 150
    assert 16 < agent.max_in_flight <= CEILING


def test_what_is_begun_is_ended_before_more_is_begun(agent: ScriptedAgent, tmp_path: Path) -> None:
    """As many conversations are open as messages go out, and not as many as there are workers."""
    agent.delay(0.02)
    agent.refuse_beyond(4, retry_after=0)
    run(asked(30, 3), agent, tmp_path)
    opened: set[str] = set()
    most = 0
    for received in agent.received:
        number, _, step = received.text.partition(".")
        opened.add(number)
        most = max(most, len(opened))
        if step == "2":
            opened.discard(number)
    assert most <= 14


def test_auto_is_an_option_of_run(
    agent: ScriptedAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path)
    desk.ask(*map(str, range(20)))
    agent.delay(0.05)
    assert desk.run(agent.url, "--concurrency", "AUTO") == 0
    assert agent.max_in_flight > 8
    assert desk.run(agent.url, "--concurrency", "many") == 2


async def test_the_wait_for_a_turn_is_neither_latency_nor_part_of_the_deadline() -> None:
    """A step that waited long for its turn is not the agent's fault."""
    clock = FakeClock()
    pacer = Pacer(fixed_pace(1))

    async def slow() -> str:
        await clock.sleep(4.0)
        return "answer"

    async def one() -> Succeeded[str] | GaveUp:
        return await call_with_retries(
            slow, RetryPolicy(deadline_s=5.0), clock, lambda: 0.0, lambda again: pacer.take_slot()
        )

    outcomes = await asyncio.gather(*(one() for _ in range(5)))
    assert outcomes == [Succeeded("answer", 1, 4.0)] * 5
    assert clock.monotonic() == 20.0


@pytest.mark.parametrize(("patient", "attempts"), [(False, 10), (True, 41)])
async def test_under_auto_only_the_deadline_ends_the_patience_with_a_rate_limit(patient: bool, attempts: int) -> None:
    left = 40

    async def call() -> str:
        nonlocal left
        left -= 1
        if left >= 0:
            error = AgentError("HTTP 429", kind="rate_limited", retryable=True, retry_after=1.0)
            error.overloaded = True
            raise error
        return "answer"

    outcome = await call_with_retries(call, RetryPolicy(patient=patient, retries=3), FakeClock(), lambda: 0.0)
    assert outcome.attempts == attempts
    assert isinstance(outcome, Succeeded if patient else GaveUp)


async def test_503_with_a_time_to_come_back_asks_for_time_and_without_one_is_a_fault() -> None:
    async def refuse(after: float | None) -> str:
        error = AgentError("HTTP 503", kind="http_error", retryable=True, retry_after=after, delivered=False)
        error.overloaded = True
        raise error

    patient = await call_with_retries(lambda: refuse(1.0), RetryPolicy(retries=3), FakeClock(), lambda: 0.0)
    short = await call_with_retries(lambda: refuse(None), RetryPolicy(retries=3), FakeClock(), lambda: 0.0)
    assert (patient.attempts, short.attempts) == (10, 3)


async def test_a_pushback_that_the_real_client_saw_slows_the_pace(agent: ScriptedAgent) -> None:
    """429 and 503 alike, and nothing else."""
    for status, overloaded in ((429, True), (503, True), (500, False), (404, False)):
        agent.fail_next(status=status)
        client = A2AStepClient(ClientSettings(agent.url), clock=SystemClock())
        try:
            await client.connect()
            with pytest.raises(AgentError) as caught:
                await client.send_step("hi", Conversation())
        finally:
            await client.close()
        assert caught.value.overloaded is overloaded, status
