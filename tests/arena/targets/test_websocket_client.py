"""An agent behind the reference system's WebSocket: its answers, its calls of our tools, and what may be sent again."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from testbench.arena.targets.target import HttpHandler, MockHandler, Tool, WebSocketTarget
from testbench.arena.targets.tools import ToolBox
from testbench.arena.targets.websocket_client import WebSocketClient
from testbench.errors import AgentError, InputError
from testbench.schema.agent import AgentReply, Conversation
from tests.support.servers.websocket_agent import AWAIT_RESULT, DROP, HANG, WebSocketAgent, call, chunk, done, error

Open = Callable[..., WebSocketClient]


@pytest.fixture
def agent() -> Iterator[WebSocketAgent]:
    with WebSocketAgent() as part:
        yield part


@pytest.fixture
async def client_of(agent: WebSocketAgent) -> AsyncIterator[Open]:
    clients: list[WebSocketClient] = []

    def opened(*tools: Tool, url: str = "", clock: Any = None, **settings: Any) -> WebSocketClient:
        target = WebSocketTarget(url or agent.url, **settings)
        clients.append(WebSocketClient(target, ToolBox(tools), clock=clock))
        return clients[-1]

    yield opened
    for client in clients:
        await client.close()


async def fails(client: WebSocketClient, conversation: Conversation | None = None) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await client.send_step("hi", conversation or Conversation())
    return caught.value


def answer(reply: AgentReply) -> str:
    return reply.turns[-1].content


def said(reply: AgentReply) -> list[Any]:
    return [
        [(one.name, one.args) for one in turn.tool_calls] if turn.tool_calls else turn.content for turn in reply.turns
    ]


async def test_each_conversation_has_a_connection_and_a_session(agent: WebSocketAgent, client_of: Open) -> None:
    client, first, second = client_of(), Conversation(), Conversation()
    assert answer(await client.send_step("one", first)) == "answer to: one"
    assert answer(await client.send_step("two", second)) == "answer to: two"
    assert answer(await client.send_step("three", first)) == "answer to: three"
    sessions = [frame["session_id"] for frame in agent.received]
    assert sessions == [first.context_id, second.context_id, first.context_id]
    assert first.context_id != second.context_id
    assert agent.open == 2


async def test_a_connection_ends_with_its_conversation(agent: WebSocketAgent, client_of: Open) -> None:
    client, conversation, other = client_of(), Conversation(), Conversation()
    await client.send_step("one", conversation)
    await client.send_step("one", other)
    del conversation
    gc.collect()
    await asyncio.to_thread(agent.wait_open, 1)
    await client.close()
    await asyncio.to_thread(agent.wait_open, 0)


@pytest.mark.parametrize(
    "script",
    [
        [chunk("the "), chunk("answer"), done()],
        [chunk("the "), chunk("answer"), done("the answer")],
        [done("the answer")],
        [{"type": "done", "content": "no", "parts": [{"type": "text", "text": "the answer"}, {"type": "image"}]}],
        [{"type": "chunk", "role": "user", "content": "heard"}, {"type": "interrupt"}, chunk("the answer"), done()],
    ],
)
async def test_the_answer_is_read_in_every_shape(agent: WebSocketAgent, client_of: Open, script: Any) -> None:
    agent.says(script)
    reply = await client_of().send_step("hi", Conversation())
    assert answer(reply) == "the answer"
    assert reply.time_to_first_token_ms is not None


class Ticking:
    """Each look is one second later."""

    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        self.time += 1
        return self.time


async def test_the_first_token_is_the_first_chunk_with_text(agent: WebSocketAgent, client_of: Open) -> None:
    agent.says([call("time", {}), AWAIT_RESULT, chunk(""), chunk("noon"), chunk("!"), done()])
    reply = await client_of(Tool("time", MockHandler("noon")), clock=Ticking()).send_step("hi", Conversation())
    assert reply.time_to_first_token_ms == 1000
    assert reply.seconds == 2


async def test_the_agent_gets_what_our_tools_answer(agent: WebSocketAgent, client_of: Open) -> None:
    agent.says(
        [
            chunk("Let me see."),
            call("weather", {"city": "Berlin"}),
            AWAIT_RESULT,
            call("nothing", {}, "c2"),
            AWAIT_RESULT,
            {"type": "tool_result", "tool_result": {"id": "s1", "result": {"its": "own"}}},
            chunk("Sunny."),
            done(),
        ]
    )
    reply = await client_of(Tool("weather", MockHandler({"sky": "sunny"}))).send_step("hi", Conversation())
    first, second = (frame["tool_result"] for frame in agent.received[1:])
    assert first == {"call_id": "c1", "result": {"sky": "sunny"}}
    assert second.keys() == {"call_id", "error"}
    assert "no tool 'nothing'" in second["error"]
    assert said(reply)[:2] == [[("weather", {"city": "Berlin"})], '{"sky": "sunny"}']
    assert said(reply)[-2:] == ['{"its": "own"}', "Sunny."]


async def test_without_tools_a_call_is_answered_with_an_error(agent: WebSocketAgent, client_of: Open) -> None:
    agent.says([call("weather", {}), AWAIT_RESULT, done("Sorry.")])
    assert answer(await client_of().send_step("hi", Conversation())) == "Sorry."
    assert "error" in agent.received[1]["tool_result"]


async def test_a_tool_that_is_down_is_no_answer_of_the_agent(
    agent: WebSocketAgent, client_of: Open, nobody: str
) -> None:
    agent.says([call("weather", {}), AWAIT_RESULT, done("Sorry.")])
    assert (await fails(client_of(Tool("weather", HttpHandler(nobody))))).kind == "tool_unavailable"


@pytest.mark.parametrize(
    ("script", "kind", "retryable", "delivered"),
    [
        ([error("RATE_LIMITED", "slow down")], "rate_limited", True, False),
        ([error("AGENT_UNAVAILABLE")], "unreachable", True, False),
        ([chunk("half"), error("INTERNAL_ERROR", "oops")], "failed", False, True),
        ([chunk("half"), DROP], "unreachable", False, True),
        ([chunk("half"), "<html>"], "protocol", False, True),
        (["[1]"], "protocol", False, True),
        ([chunk("x" * 3000)], "protocol", False, True),
        ([done()], "no_answer", False, True),
        ([chunk("half"), HANG], "timeout", False, True),
    ],
)
async def test_what_is_no_whole_answer_is_an_error(
    agent: WebSocketAgent, client_of: Open, script: Any, kind: str, retryable: bool, delivered: bool
) -> None:
    agent.says(script)
    failure = await fails(client_of(max_frame_bytes=2000, timeout_s=0.3 if HANG in script else 20))
    assert (failure.kind, failure.retryable, failure.delivered) == (kind, retryable, delivered)


async def test_a_message_that_may_have_arrived_is_not_sent_twice(agent: WebSocketAgent, client_of: Open) -> None:
    client, conversation = client_of(), Conversation()
    agent.says([DROP], [done("again")])
    await fails(client, conversation)
    again = await fails(client, conversation)
    assert (again.kind, again.retryable) == ("unreachable", False)
    assert agent.messages == ["hi"]


async def test_a_message_that_was_refused_is_sent_again(agent: WebSocketAgent, client_of: Open) -> None:
    client, conversation = client_of(), Conversation()
    agent.says([error("RATE_LIMITED")], [done("again")])
    await fails(client, conversation)
    assert answer(await client.send_step("hi", conversation)) == "again"


async def test_a_connection_that_broke_between_two_steps_is_made_again(agent: WebSocketAgent, client_of: Open) -> None:
    client, conversation = client_of(), Conversation()
    await client.send_step("one", conversation)
    session = conversation.context_id
    await asyncio.to_thread(agent.cut)
    await conversation.memory.socket.wait_closed()
    assert answer(await client.send_step("two", conversation)) == "answer to: two"
    assert [frame["session_id"] for frame in agent.received] == [session, session]
    assert len(agent.headers) == 2


async def test_what_a_failed_step_leaves_behind_is_not_the_next_answer(agent: WebSocketAgent, client_of: Open) -> None:
    client, conversation = client_of(), Conversation()
    agent.says([error("INTERNAL_ERROR"), chunk("late"), done()], [done("the next answer")])
    await fails(client, conversation)
    conversation.outstanding = None  # as the executor does once it has given up
    assert answer(await client.send_step("next", conversation)) == "the next answer"


async def test_after_a_failure_the_connection_is_another_whatever_may_still_come(
    agent: WebSocketAgent, client_of: Open
) -> None:
    client, conversation = client_of(), Conversation()
    agent.says([error("INTERNAL_ERROR")], [done("the next answer")])
    await fails(client, conversation)
    conversation.outstanding = None
    await client.send_step("next", conversation)
    assert len(agent.headers) == 2


@pytest.mark.parametrize("late", [chunk("late"), done("late"), error("INTERNAL_ERROR"), call("time", {})])
async def test_what_comes_after_the_end_of_an_answer_is_not_the_next_one(
    agent: WebSocketAgent, client_of: Open, late: Any
) -> None:
    client, conversation = client_of(), Conversation()
    agent.says([chunk("first"), done(), late], [chunk("second"), done()])
    assert answer(await client.send_step("one", conversation)) == "first"
    session = conversation.context_id
    await (await conversation.memory.socket.ping())  # all that was sent before its answer has arrived
    assert answer(await client.send_step("two", conversation)) == "second"
    assert [frame["session_id"] for frame in agent.received] == [session, session]
    assert len(agent.headers) == 2


async def test_what_says_nothing_may_come_at_any_time(agent: WebSocketAgent, client_of: Open) -> None:
    client, conversation = client_of(), Conversation()
    agent.says([chunk("first"), done(), {"type": "presence"}], [{"type": "connected"}, chunk("second"), done()])
    await client.send_step("one", conversation)
    await (await conversation.memory.socket.ping())
    assert answer(await client.send_step("two", conversation)) == "second"
    assert len(agent.headers) == 1


async def test_an_agent_that_is_not_there_was_not_reached(client_of: Open, nobody: str) -> None:
    client = client_of(url=f"{nobody}/ws")
    with pytest.raises(AgentError) as caught:
        await client.connect()
    for failure in (caught.value, await fails(client)):
        assert (failure.kind, failure.retryable, failure.delivered) == ("unreachable", True, False)


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [(401, "auth_required", False), (404, "http_error", False), (429, "rate_limited", True), (503, "http_error", True)],
)
async def test_a_status_instead_of_a_connection_is_named(
    agent: WebSocketAgent, client_of: Open, status: int, kind: str, retryable: bool
) -> None:
    agent.refuse_next = [status]
    failure = await fails(client_of())
    assert (failure.kind, failure.retryable, failure.delivered) == (kind, retryable, False)


@pytest.mark.parametrize("greeting", [{"type": "done"}, {"type": "connected", "session_id": ""}, "hello"])
async def test_a_server_without_a_proper_greeting_speaks_another_protocol(
    agent: WebSocketAgent, client_of: Open, greeting: Any
) -> None:
    agent.greeting = greeting
    failure = await fails(client_of())
    assert (failure.kind, failure.delivered) == ("protocol", False)
    assert agent.messages == []


async def test_connecting_says_nothing(agent: WebSocketAgent, client_of: Open) -> None:
    client = client_of(headers=(("Authorization", "Bearer token"),))
    await client.connect()
    assert agent.headers[0]["authorization"] == "Bearer token"
    assert agent.received == []
    await client.close()
    await asyncio.to_thread(agent.wait_open, 0)


async def test_no_secret_is_shown(agent: WebSocketAgent, client_of: Open) -> None:
    url = f"{agent.url}?token=hidden-token"
    headers = (("Authorization", "Bearer hidden-bearer"),)
    agent.says([error("INTERNAL_ERROR", "bad hidden-token or hidden-bearer")])
    failure = await fails(client_of(url=url, headers=headers))
    assert "bad … or …" in failure.message
    assert "hidden" not in f"{failure!r} {failure.message} {WebSocketTarget(url, headers)!r}"


@pytest.mark.parametrize("url", ["ftp://host", "ws://", "host:80", "ws://[::1"])
async def test_an_address_that_is_none_is_bad_input(client_of: Open, url: str) -> None:
    with pytest.raises(InputError, match="not the address of a WebSocket"):
        client_of(url=url)
