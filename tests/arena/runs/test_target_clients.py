"""Every kind of target is run by the same executor, unchanged."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from testbench.arena.runs.target_clients import open_client
from testbench.arena.targets.target import A2ATarget, ChatTarget, MockHandler, Target, Tool, WebSocketTarget
from testbench.arena.targets.tools import ToolBox
from testbench.execution.executor import A2AExecutor, RunDependencies, StepRules, Trial
from testbench.net.clock import FakeClock
from testbench.net.pacing import Pacer, fixed_pace
from testbench.net.retry import RetryPolicy
from testbench.schema.ids import assign_ids
from testbench.schema.models import ExecutedScenario, Scenario, Step
from testbench.schema.runtime import ExperimentRuntime
from tests.support.servers.scripted_chat import Call, Says, ScriptedChat
from tests.support.servers.websocket_agent import AWAIT_RESULT, WebSocketAgent, call, done

if TYPE_CHECKING:
    from tests.support.servers.scripted_agent import ScriptedAgent


async def run(target: Target, *scenarios: Scenario, tools: ToolBox | None = None) -> tuple[ExecutedScenario, ...]:
    dependencies = RunDependencies(clock=FakeClock(), chance=lambda: 0.0)
    client = open_client(target, tools)
    try:
        await client.connect()
        executor = A2AExecutor(client, StepRules(RetryPolicy()), dependencies, Pacer(fixed_pace(2)), lambda *_: None)
        return await ExperimentRuntime(executor, concurrency=2).run([Trial(one) for one in assign_ids(scenarios)])
    finally:
        await client.close()


def scenario(*inputs: str) -> Scenario:
    return Scenario(name="s", steps=tuple(Step(input=text) for text in inputs))


async def test_all_targets_run_alike(chat: ScriptedChat, agent: ScriptedAgent) -> None:
    with WebSocketAgent() as behind:
        for target in (ChatTarget("m", chat.base_url), A2ATarget(agent.url), WebSocketTarget(behind.url)):
            executed = await run(target, scenario("one", "two"), scenario("three"))
            steps = [step for one in executed for step in one.steps]
            assert [step.answer for step in steps] == [f"answer to: {text}" for text in ("one", "two", "three")]
            first, second, third = (step.context_id for step in steps)
            assert first == second != third
            assert all(step.latency_ms is not None for step in steps)


async def test_tools_serve_models_and_agents_behind_a_websocket(chat: ScriptedChat) -> None:
    chat.says(Says(calls=(Call("time", id="c1"),)), "Noon.")
    with WebSocketAgent() as behind:
        behind.says([call("time", {}), AWAIT_RESULT, done("Noon.")])
        for target in (ChatTarget("m", chat.base_url), WebSocketTarget(behind.url)):
            box = ToolBox([Tool("time", MockHandler("noon"))])
            ((step,),) = (one.steps for one in await run(target, scenario("what time is it?"), tools=box))
            assert [turn.content for turn in step.turns] == ["what time is it?", "", "noon", "Noon."]


async def test_what_passes_is_tried_again(chat: ScriptedChat) -> None:
    chat.statuses(429, 500, 200)
    chat.drop_next()
    ((one, two),) = (done.steps for done in await run(ChatTarget("m", chat.base_url), scenario("one", "two")))
    assert (one.status, two.status) == ("ok", "ok")
    assert len(chat.bodies) == 5


async def test_a_model_behind_two_prompts_is_one_gateway(chat: ScriptedChat) -> None:
    from testbench.arena.targets.chat_client import ChatClient
    from testbench.schema.agent import Conversation

    client = ChatClient(ChatTarget("m", chat.base_url, system_prompt="first"))
    await client.prompted("second").send_step("hi", Conversation())
    await client.prompted("").send_step("hi", Conversation())
    await client.send_step("hi", Conversation())
    await client.close()
    assert [body["messages"][0]["content"] for body in chat.bodies] == ["second", "hi", "first"]


def test_no_sdk_is_loaded_before_it_is_needed() -> None:
    heavy = {"a2a", "mcp", "websockets", "openai", "jsonschema"}
    code = f"import testbench.arena.runs.target_clients, sys; print({heavy!r} & sys.modules.keys())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "set()\n"
