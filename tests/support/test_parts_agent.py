"""The scripted agents do what they promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from a2a.client import A2ACardResolver, A2AClientError, Client, ClientConfig, ClientFactory
from a2a.types import GetTaskRequest, Message, Part, Role, SendMessageRequest, StreamResponse, Task, TaskState
from a2a.utils.errors import A2AError
from google.protobuf.json_format import MessageToDict

from tests.support.servers import agent_answers
from tests.support.servers.agent_answers import Exchange
from tests.support.servers.raw_agent import RawAgent, RpcError, message_03
from tests.support.servers.scripted_agent import ScriptedAgent

STATES = {
    "say": "COMPLETED",
    "fail": "FAILED",
    "reject": "REJECTED",
    "cancel": "CANCELED",
    "auth": "AUTH_REQUIRED",
    "ask": "INPUT_REQUIRED",
    "poll": "WORKING",
}


@asynccontextmanager
async def connected(url: str, *, streaming: bool = False) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        yield ClientFactory(ClientConfig(streaming=streaming, httpx_client=http)).create(card)


async def send(client: Client, text: str, context_id: str = "", task_id: str = "") -> list[StreamResponse]:
    message = Message(message_id=uuid4().hex, role=Role.ROLE_USER, parts=[Part(text=text)])
    message.context_id, message.task_id = context_id, task_id
    return [event async for event in client.send_message(SendMessageRequest(message=message))]


async def task_for(client: Client, text: str, context_id: str = "", task_id: str = "") -> Task:
    (event,) = await send(client, text, context_id, task_id)
    return event.task


def texts(task: Task) -> list[str]:
    return [part.text for artifact in task.artifacts for part in artifact.parts if part.text]


@pytest.mark.parametrize("protocol", ["1.0", "0.3-compat"])
async def test_agent_ends_in_the_state_that_the_message_asks_for(protocol: Any) -> None:
    with ScriptedAgent(protocol=protocol) as agent:
        async with connected(agent.url) as client:
            ends = {name: await task_for(client, f"!{name}") for name in STATES}
    assert {name: TaskState.Name(task.status.state) for name, task in ends.items()} == {
        name: f"TASK_STATE_{state}" for name, state in STATES.items()
    }


async def test_agent_goes_on_with_the_task_and_the_context_it_was_given(agent: ScriptedAgent) -> None:
    async with connected(agent.url) as client:
        asked = await task_for(client, "!ask which city?")
        answered = await task_for(client, "Berlin", asked.context_id, asked.id)
        recalled = await task_for(client, "!recall", asked.context_id)
    assert asked.status.message.parts[0].text == "which city?"
    assert (answered.id, texts(answered)) == (asked.id, ["answer to: Berlin"])
    assert texts(recalled) == ["!ask which city? | Berlin | !recall"]
    assert [(got.text, got.context_id, got.task_id) for got in agent.received] == [
        ("!ask which city?", "", ""),
        ("Berlin", asked.context_id, asked.id),
        ("!recall", asked.context_id, ""),
    ]


async def test_agent_shows_tool_calls_in_every_shape(agent: ScriptedAgent) -> None:
    async with connected(agent.url) as client:
        adk, newer, plain = [await task_for(client, f"!{n} sunny") for n in ("adk", "adk-artifacts", "metadata")]
        file, many = await task_for(client, "!file"), await task_for(client, "!many")
        (bare,) = await send(client, "!message hello")
    kinds = [[part.WhichOneof("content") for part in message.parts] for message in adk.history]
    assert kinds == [["text"], ["data"], ["data"], ["text", "text"]]
    assert adk.history[1].parts[0].metadata["adk_type"] == "function_call"
    assert (len(newer.history), len(newer.artifacts)) == (1, 3)
    calls = MessageToDict(plain.history[1].metadata)["tool_calls"]
    assert calls == [{"name": agent_answers.TOOL_NAME, "args": agent_answers.TOOL_ARGS}]
    assert texts(adk) == texts(newer) == texts(plain) == ["sunny"]
    assert file.artifacts[0].parts[1].raw == agent_answers.FILE_BYTES
    assert texts(many) == ["The first one.", "And a second.", "third"]
    assert bare.message.parts[0].text == "hello"


async def test_agent_works_on_while_it_is_polled(agent: ScriptedAgent) -> None:
    async with connected(agent.url) as client:
        task = await task_for(client, "!poll 2")
        states = [(await client.get_task(GetTaskRequest(id=task.id))).status.state for _ in range(2)]
        while task.status.state == TaskState.TASK_STATE_WORKING:
            task = await client.get_task(GetTaskRequest(id=task.id))
    assert states == [TaskState.TASK_STATE_WORKING] * 2
    assert texts(task) == ["polled"]


async def test_agent_streams_crashes_and_runs_the_behaviour_of_a_test() -> None:
    async def shout(exchange: Exchange) -> None:
        if exchange.text == "crash":
            raise LookupError("no such thing")
        await exchange.complete(exchange.text.upper())

    with ScriptedAgent(shout, streaming=True, path="/agents/loud") as agent:
        async with connected(agent.url, streaming=True) as client:
            events = await send(client, "hello")
            with pytest.raises(A2AError, match="no such thing"):
                await send(client, "crash")
    assert [event.WhichOneof("payload") for event in events] == ["task", "artifact_update", "status_update"]
    assert events[1].artifact_update.artifact.parts[0].text == "HELLO"


async def test_agent_faults_happen_before_or_after_delivery(agent: ScriptedAgent) -> None:
    async with connected(agent.url) as client:
        agent.fail_next(status=429, retry_after=3)
        with pytest.raises(A2AClientError) as refused:
            await send(client, "refused")
        agent.garbage_next()
        with pytest.raises(A2AClientError, match="JSON"):
            await send(client, "garbled")
        agent.drop_next()
        with pytest.raises(A2AClientError, match="disconnected"):
            await send(client, "dropped")
        await send(client, "delivered")
    cause = refused.value.__cause__
    assert isinstance(cause, httpx.HTTPStatusError)
    assert (cause.response.status_code, cause.response.headers["retry-after"]) == (429, "3")
    assert [got.text for got in agent.received] == ["dropped", "delivered"]
    assert list(agent.heard.values()) == [["dropped"], ["delivered"]]


async def test_agent_holds_messages_until_the_test_releases_them(agent: ScriptedAgent) -> None:
    async with connected(agent.url) as client:
        waiting = [asyncio.create_task(task_for(client, "!slow done")) for _ in range(3)]
        await asyncio.to_thread(agent.wait_in_flight, 3)
        assert not any(task.done() for task in waiting)
        agent.release()
        assert [texts(task) for task in await asyncio.gather(*waiting)] == [["done"]] * 3
        agent.hang()
        hung = asyncio.create_task(send(client, "too late"))
        await asyncio.to_thread(agent.wait_in_flight, 1)
        agent.close()
        # by whether the client was reading when the connection was reset
        with pytest.raises(A2AClientError, match=r"disconnected|Network communication error"):
            await hung
    assert agent.max_in_flight == 3
    assert "too late" not in [got.text for got in agent.received]


async def test_agent_hides_or_misstates_its_card() -> None:
    with ScriptedAgent(card=False) as hidden, ScriptedAgent(advertised_origin="http://agent.invalid:8000") as lost:
        async with httpx.AsyncClient(trust_env=False) as http:
            no_card = await http.get(f"{hidden.url}/.well-known/agent-card.json")
            lost.fail_card_next(status=503)
            down = await http.get(f"{lost.url}/.well-known/agent-card.json")
            card = await A2ACardResolver(http, lost.url).get_agent_card()
            with pytest.raises(httpx.ConnectError):
                await http.get(card.supported_interfaces[0].url)
    assert (no_card.status_code, down.status_code) == (404, 503)
    assert card.supported_interfaces[0].url == "http://agent.invalid:8000/"


async def test_raw_agent_speaks_0_3_with_canned_results() -> None:
    with RawAgent() as agent:
        async with connected(agent.url) as client:
            echoed = await task_for(client, "hi")
            again = await client.get_task(GetTaskRequest(id=echoed.id))
            agent.answers("message/send", message_03("bare"), RpcError(-32001, "Task not found"))
            (bare,) = await send(client, "hi")
            with pytest.raises(A2AError, match="Task not found"):
                await send(client, "hi")
    assert texts(echoed) == texts(again) == ["answer to: hi"]
    assert bare.message.parts[0].text == "bare"
    assert [call.method for call in agent.calls] == ["message/send", "tasks/get", "message/send", "message/send"]
