"""A message that may have arrived is not sent twice: what the client says about each fault, and what it does next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from testbench.errors import AgentError
from testbench.net.clock import FakeClock
from testbench.schema.a2a_client import A2AStepClient, ClientSettings
from testbench.schema.agent import Conversation
from tests.support.servers.raw_agent import RawAgent, RpcError, message_03, task_03
from tests.support.servers.scripted_agent import ScriptedAgent

Connect = Callable[..., Any]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    clients: list[A2AStepClient] = []

    async def connected(url: str, **settings: Any) -> A2AStepClient:
        client = A2AStepClient(ClientSettings(url, **settings), clock=FakeClock())
        clients.append(client)
        await client.connect()
        return client

    yield connected
    for client in clients:
        await client.close()


async def fails(client: A2AStepClient, text: str, conversation: Conversation) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await client.send_step(text, conversation)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "retryable", "delivered"),
    [
        (429, "rate_limited", True, False),
        (503, "http_error", True, False),
        (500, "http_error", False, True),
        (502, "http_error", False, True),
        (504, "http_error", False, True),
        (401, "auth_required", False, False),
        (403, "auth_required", False, False),
        (404, "http_error", False, False),
    ],
)
async def test_only_a_refused_message_is_sent_again(
    agent: ScriptedAgent, connect: Connect, status: int, kind: str, retryable: bool, delivered: bool
) -> None:
    client = await connect(agent.url)
    agent.fail_next(status=status, body="the \x1b[1mreason", retry_after=7)
    conversation = Conversation()
    error = await fails(client, "hi", conversation)
    assert (error.kind, error.retryable, error.delivered) == (kind, retryable, delivered)
    assert error.message == f"HTTP {status}: the \\x1b[1mreason"
    assert error.retry_after == (7 if retryable else None)


@pytest.mark.parametrize("wait", ["9" * 400, "Thu, 01 Jan 9999999999999 00:00:00 GMT", "soon", "-1"])
async def test_a_wait_that_makes_no_sense_is_none(agent: ScriptedAgent, connect: Connect, wait: str) -> None:
    client = await connect(agent.url)
    agent.fail_next(status=503, retry_after=wait)
    error = await fails(client, "hi", Conversation())
    assert (error.retryable, error.retry_after) == (True, None)


async def test_sent_again_it_keeps_its_id(agent: ScriptedAgent, connect: Connect) -> None:
    client = await connect(agent.url)
    agent.fail_next(status=503)
    conversation = Conversation()
    await fails(client, "hi", conversation)
    await client.send_step("hi", conversation)
    first, second = (request.json()["params"]["message"]["messageId"] for request in agent.requests[1:])
    assert first == second
    await client.send_step("next", conversation)
    assert agent.received[-1].message_id != second


async def test_a_first_message_that_was_cut_off_is_not_to_be_sent_again(agent: ScriptedAgent, connect: Connect) -> None:
    client = await connect(agent.url)
    agent.drop_next()
    error = await fails(client, "hi", Conversation())
    assert (error.kind, error.retryable, error.delivered) == ("unreachable", False, True)


async def test_a_first_message_without_an_answer_in_time_is_not_to_be_sent_again(
    agent: ScriptedAgent, connect: Connect
) -> None:
    client = await connect(agent.url, timeout_s=0.1)
    agent.hang_next()
    error = await fails(client, "hi", Conversation())
    assert (error.kind, error.retryable, error.delivered) == ("timeout", False, True)


async def test_an_agent_that_went_away_was_not_reached(agent: ScriptedAgent, connect: Connect) -> None:
    client = await connect(agent.url)
    agent.close()
    error = await fails(client, "hi", Conversation())
    assert (error.kind, error.retryable, error.delivered) == ("unreachable", True, False)


async def test_in_a_known_task_a_lost_message_is_asked_about_and_its_answer_taken(
    agent: ScriptedAgent, connect: Connect
) -> None:
    client = await connect(agent.url)
    conversation = Conversation()
    await client.send_step("!ask which city?", conversation)
    agent.drop_next()
    assert (await fails(client, "!say Berlin then", conversation)).retryable
    reply = await client.send_step("!say Berlin then", conversation)
    assert reply.turns[-1].content == "Berlin then"
    assert [received.text for received in agent.received] == ["!ask which city?", "!say Berlin then"]


async def test_in_a_task_that_went_on_a_lost_message_has_arrived_even_where_no_history_is_kept(
    connect: Connect,
) -> None:
    with RawAgent() as agent:
        asks = task_03(state="input-required", status_text="which city?")
        agent.answers("message/send", asks)
        agent.answers("tasks/get", task_03("Berlin then"))
        client = await connect(agent.url)
        conversation = Conversation()
        await client.send_step("hi", conversation)
        agent.drop_next()
        assert (await fails(client, "Berlin", conversation)).retryable
        reply = await client.send_step("Berlin", conversation)
        assert reply.turns[-1].content == "Berlin then"
        assert [call.method for call in agent.calls] == ["message/send", "message/send", "tasks/get"]


async def test_in_a_task_that_asks_once_more_a_lost_message_has_arrived_where_its_history_says_so(
    connect: Connect,
) -> None:
    with RawAgent() as agent:
        agent.answers("message/send", task_03(state="input-required", status_text="which city?"))
        client = await connect(agent.url)
        conversation = Conversation()
        await client.send_step("hi", conversation)
        agent.drop_next()
        assert (await fails(client, "Berlin", conversation)).retryable
        history = [agent.calls[-1].message, message_03("and when?")]
        agent.answers("tasks/get", task_03(state="input-required", history=history))
        reply = await client.send_step("Berlin", conversation)
        assert reply.turns[-1].content == "and when?"
        assert [call.method for call in agent.calls] == ["message/send", "message/send", "tasks/get"]


async def test_in_a_known_task_a_message_that_never_arrived_is_sent_again(
    agent: ScriptedAgent, connect: Connect
) -> None:
    client = await connect(agent.url, timeout_s=0.2)
    conversation = Conversation()
    await client.send_step("!ask which city?", conversation)
    agent.hang_next()
    error = await fails(client, "!say Berlin then", conversation)
    assert (error.kind, error.retryable) == ("timeout", True)
    agent.closing = True  # what was held is let go without being processed
    agent.release()
    await asyncio.to_thread(agent.wait_for, lambda: agent.in_flight == 0)
    agent.closing = False
    reply = await client.send_step("!say Berlin then", conversation)
    assert reply.turns[-1].content == "Berlin then"
    assert agent.requests[-2].json()["method"] == "GetTask"


async def test_a_poll_that_fails_is_taken_up_by_asking_for_the_task(connect: Connect) -> None:
    with RawAgent() as agent:
        agent.answers("message/send", lambda params: task_03(state="working", message=params["message"]))
        agent.answers("tasks/get", task_03("done"))
        client = await connect(agent.url)
        agent.statuses(200, 500)
        conversation = Conversation()
        error = await fails(client, "hi", conversation)
        assert (error.kind, error.retryable) == ("http_error", True)
        reply = await client.send_step("hi", conversation)
        assert reply.turns[-1].content == "done"
        assert [call.method for call in agent.calls] == ["message/send", "tasks/get"]


async def test_a_task_that_the_agent_forgot_is_not_asked_for_again(connect: Connect) -> None:
    with RawAgent() as agent:
        agent.answers("message/send", lambda params: task_03(state="submitted", message=params["message"]))
        agent.answers("tasks/get", RpcError(-32001, "Task not found"))
        client = await connect(agent.url)
        error = await fails(client, "hi", Conversation())
        assert (error.kind, error.retryable) == ("protocol", False)


async def test_a_task_that_works_on_is_asked_for_ever_more_slowly(connect: Connect) -> None:
    clock = FakeClock()
    with RawAgent() as agent:
        agent.answers("message/send", lambda params: task_03(state="working", message=params["message"]))
        agent.answers("tasks/get", *[task_03(state="working")] * 20, task_03("done"))
        client = A2AStepClient(ClientSettings(agent.url), clock=clock)
        await client.connect()
        await client.send_step("hi", Conversation())
        await client.close()
    assert clock.sleeps == sorted(clock.sleeps)
    assert (clock.sleeps[0], clock.sleeps[-1], len(clock.sleeps)) == (0.1, 2.0, 21)
