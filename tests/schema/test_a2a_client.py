"""The A2A client against real agents: both protocol generations, with and without a card, every way to end."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Literal

import httpx
import pytest

from testbench.errors import AgentError
from testbench.schema.a2a_client import A2AStepClient, ClientSettings
from testbench.schema.agent import Conversation
from testbench.schema.models import ToolCall
from tests.support.agent_questions import answer, ask, connected, fault
from tests.support.servers.agent_answers import TOOL_ARGS, TOOL_NAME, USAGE, Exchange
from tests.support.servers.raw_agent import RawAgent, RpcError, message_03, task_03
from tests.support.servers.scripted_agent import ScriptedAgent

Protocol = Literal["1.0", "0.3-compat"]


@pytest.fixture(params=["1.0", "1.0 streaming", "0.3-compat", "1.0 without card", "0.3", "0.3 without card"])
def any_agent(request: pytest.FixtureRequest) -> Iterator[str]:
    """Agents of both generations that understand the magic texts, and the hand-written 0.3 one for plain text."""
    kind = str(request.param)
    with ExitStack() as stack:
        if kind.startswith("0.3") and "compat" not in kind:
            yield stack.enter_context(RawAgent(card="without" not in kind)).url
        else:
            protocol: Protocol = "0.3-compat" if "compat" in kind else "1.0"
            streaming, card = "streaming" in kind, "without" not in kind
            yield stack.enter_context(ScriptedAgent(protocol=protocol, streaming=streaming, card=card)).url


async def test_a_plain_question_is_answered_by_every_generation(any_agent: str) -> None:
    reply = await ask(any_agent, "hello")
    assert answer(reply) == "answer to: hello"
    assert reply.context_id


@pytest.fixture(params=["1.0", "0.3-compat"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with ScriptedAgent(protocol=request.param) as agent:
        yield agent.url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!say sunny", "sunny"),
        ("!message sunny", "sunny"),
        ("!status sunny", "sunny"),
        ("!history sunny", "sunny"),
        ("!poll 2", "polled"),
        ("!adk sunny", "sunny"),
        ("!adk-artifacts sunny", "sunny"),
        ("!metadata sunny", "sunny"),
        ("!many", "The first one.\nAnd a second.\nthird"),
        ("!file sunny", "sunny"),
        ("!data", '{"answer": 42, "exact": true}'),
        ("!ask which city?", "which city?"),
    ],
)
async def test_the_answer_is_found_wherever_the_agent_put_it(url: str, text: str, expected: str) -> None:
    assert answer(await ask(url, text)) == expected


@pytest.mark.parametrize("text", ["!adk sunny", "!adk-artifacts sunny", "!metadata sunny"])
async def test_tool_calls_become_turns(url: str, text: str) -> None:
    reply = await ask(url, text)
    assert reply.turns[0].tool_calls == (ToolCall(name=TOOL_NAME, args=dict(TOOL_ARGS)),)
    assert reply.turns[0].content == ""


async def test_usage_is_read(url: str) -> None:
    usage = (await ask(url, "!adk sunny")).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (USAGE["promptTokenCount"], USAGE["candidatesTokenCount"])


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("!fail no ticket", "failed", "no ticket"),
        ("!reject not mine", "rejected", "not mine"),
        ("!cancel changed my mind", "canceled", "changed my mind"),
        ("!auth please log in", "auth_required", "please log in"),
        ("!raise boom", "failed", "boom"),
        ("!raise-late boom", "failed", "boom"),
        ("!fail", "failed", "the task ended as failed, without a reason"),
        ("!empty", "no_answer", "without a text"),
    ],
)
async def test_an_agent_that_fails_is_an_error_in_its_own_words(
    url: str, text: str, kind: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = await fault(url, text)
    assert (error.kind, error.retryable) == (kind, False)
    assert message in error.message


async def test_steps_of_a_scenario_share_the_context_and_scenarios_do_not(agent: ScriptedAgent) -> None:
    async with connected(agent.url) as client:
        one, other = Conversation(), Conversation()
        await client.send_step("first", one)
        await client.send_step("elsewhere", other)
        assert answer(await client.send_step("!recall", one)) == "first | !recall"
    assert one.context_id != other.context_id


async def test_a_task_that_asks_is_continued_and_a_finished_one_is_not(url: str) -> None:
    async with connected(url) as client:
        conversation = Conversation()
        asked = await client.send_step("!ask which city?", conversation)
        assert conversation.task_id == asked.task_id
        answered = await client.send_step("!say Berlin then", conversation)
        assert (answered.task_id, conversation.task_id) == (asked.task_id, None)
        assert [turn.content for turn in answered.turns] == ["Berlin then"]
        later = await client.send_step("hi", conversation)
        assert later.task_id != asked.task_id


async def test_one_card_and_few_connections_for_a_whole_run(agent: ScriptedAgent) -> None:
    seen: list[httpx.AsyncBaseTransport] = []

    def instrument(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        seen.append(transport)
        return transport

    client = A2AStepClient(ClientSettings(agent.url, concurrency=9), instrument=instrument)
    description = await client.connect()
    for number in range(20):
        await client.send_step(str(number), Conversation())
    await client.close()
    assert (description.name, description.protocol_version) == ("scripted agent", "1.0")
    assert [request.method for request in agent.requests].count("GET") == 1
    assert len(seen) == 1


@pytest.mark.parametrize("card", [True, False])
async def test_the_generation_is_found_out_once(card: bool) -> None:
    with RawAgent(card=card) as old:
        async with connected(old.url) as client:
            for _ in range(3):
                await client.send_step("hi", Conversation())
        probes = [] if card else ["SendMessage"]
        assert [call.method for call in old.calls] == [*probes, "message/send", "message/send", "message/send"]


async def test_once_understood_the_generation_stays(agent: ScriptedAgent) -> None:
    async with connected(agent.url) as client:
        await client.send_step("hi", Conversation())
        agent.garbage_next(body='{"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "not now"}}')
        with pytest.raises(AgentError, match="not now"):
            await client.send_step("hi", Conversation())
        assert answer(await client.send_step("again", Conversation())) == "answer to: again"
    assert {received.method for received in agent.received} == {"SendMessage"}


async def test_a_card_that_names_the_wrong_generation_is_corrected() -> None:
    with RawAgent() as old:
        interface = {"url": f"{old.url}/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        with RawAgent(card={"name": "x", "version": "1", "supportedInterfaces": [interface]}) as wrong:
            assert answer(await ask(wrong.url, "hi")) == "answer to: hi"


async def test_the_given_address_is_called_even_where_the_card_names_another() -> None:
    with ScriptedAgent(advertised_origin="http://elsewhere.invalid:1", path="/agents/x") as agent:
        assert answer(await ask(agent.url, "hi")) == "answer to: hi"


async def test_headers_credentials_and_query_go_with_every_request_and_into_no_message(agent: ScriptedAgent) -> None:
    address = agent.url.replace("http://", "http://user:p%40ss@") + "/?key=hidden"
    headers = (("X-One", "1"), ("X-Two", "2"))
    await ask(address, "hi", headers=headers)
    for request in agent.requests:
        assert (request.headers["x-one"], request.headers["x-two"]) == ("1", "2")
        assert request.headers["authorization"] == "Basic dXNlcjpwQHNz"
        assert request.query == "key=hidden"
    agent.fail_next(status=500, body="no")
    error = await fault(address, headers=headers)
    assert error.message == "HTTP 500: no"
    assert "p@ss" not in repr(ClientSettings("http://agent", (("Authorization", "p@ss"),)))


async def test_a_header_of_ones_own_wins_over_the_address(agent: ScriptedAgent) -> None:
    address = agent.url.replace("http://", "http://user:pass@")
    await ask(address, "hi", headers=(("authorization", "Bearer mine"),))
    assert {request.headers["authorization"] for request in agent.requests} == {"Bearer mine"}


async def test_an_agent_that_is_not_there_is_found_before_anything_is_sent(nobody: str) -> None:
    error = await fault(nobody)
    assert (error.kind, error.retryable, error.delivered) == ("unreachable", True, False)
    assert error.message.startswith(nobody)


@pytest.mark.parametrize(("status", "kind"), [(500, "unreachable"), (503, "unreachable"), (401, "auth_required")])
async def test_a_gateway_in_front_of_nothing_is_not_an_agent(agent: ScriptedAgent, status: int, kind: str) -> None:
    agent.fail_card_next(status=status)
    assert (await fault(agent.url)).kind == kind
    assert agent.received == []


@pytest.mark.parametrize("card", [{"name": 3}, {"supportedInterfaces": "none"}, {}])
async def test_a_card_that_is_none_is_no_card(card: dict[str, Any]) -> None:
    with RawAgent(card=card) as agent:
        assert answer(await ask(agent.url, "hi")) == "answer to: hi"


@pytest.mark.parametrize(
    "result",
    [
        None,
        {},
        {"kind": "task"},
        {"kind": "message", "parts": 3},
        task_03("x") | {"status": "fine"},
        task_03("x") | {"artifacts": [{"artifactId": "a", "parts": [{"kind": "data", "data": {"x": "\ud800"}}]}]},
        task_03("x") | {"artifacts": [{"artifactId": "a", "parts": [{"kind": "data", "data": {"x": math.inf}}]}]},
        task_03("x") | {"metadata": {"usage": {"input_tokens": math.nan}}},
    ],
    ids=str,
)
async def test_a_reply_that_is_not_of_the_protocol_is_an_error_of_its_kind(result: Any) -> None:
    with RawAgent() as agent:
        agent.answers("message/send", result)
        assert (await fault(agent.url)).kind == "protocol"


@pytest.mark.parametrize(
    "words",
    [
        "bad token: Bearer s3cret-token",
        "bad token: s3cret-token",
        "Basic dXNlcjpwQHNz for p@ss",
        "no such key: hidden-key",
        "x" * 295 + "s3cret-token" + "y" * 400,
    ],
)
async def test_a_secret_that_the_agent_repeats_is_not_told(agent: ScriptedAgent, words: str) -> None:
    address = agent.url.replace("http://", "http://user:p%40ss@") + "/?key=hidden-key"
    headers = (("X-Token", "Bearer s3cret-token"),)
    agent.fail_card_next(status=401)
    messages = [(await fault(address, headers=headers)).message]
    agent.fail_next(status=401, body=words)
    messages += [(await fault(address, headers=headers)).message, (await fault(address, f"!fail {words}")).message]
    agent.garbage_next(body=json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": words}}))
    messages += [(await fault(address, headers=headers)).message]
    for message in messages[1:2] + messages[3:]:
        assert "…" in message
        assert not re.search("s3cre|p@ss|dXNl|hidden", message), message
    assert not re.search("p@ss|dXNl|hidden", "".join(messages))


async def test_garbage_is_an_error_of_the_protocol(agent: ScriptedAgent) -> None:
    for body in ("<html>", "[]", '"x"', '{"jsonrpc": "2.0", "id": 1}', '{"error": "x"}', "[" * 100_000):
        agent.garbage_next(body=body)
        assert (await fault(agent.url)).kind == "protocol", body[:20]


async def test_an_error_of_the_agents_own_is_told_in_its_words() -> None:
    with RawAgent() as agent:
        agent.answers("message/send", RpcError(-32602, "no such \x1b[31mskill"))
        error = await fault(agent.url)
        assert (error.kind, error.retryable) == ("protocol", False)
        assert error.message == "no such \\x1b[31mskill"


@pytest.mark.parametrize(
    "canned",
    [
        lambda params: message_03("fine"),
        lambda params: task_03("fine", message=params["message"]),
        lambda params: task_03(message=params["message"], status_text="fine"),
        lambda params: task_03(message=params["message"], history=[message_03("fine")]),
        lambda params: task_03(history=[params["message"], message_03("fine"), params["message"]]),
    ],
)
async def test_shapes_of_protocol_0_3(canned: Callable[[Any], Any]) -> None:
    with RawAgent() as agent:
        agent.answers("message/send", canned)
        reply = await ask(agent.url, "hi")
        assert [turn.content for turn in reply.turns] == ["fine"]


async def test_a_behaviour_that_streams_chunks_into_one_artifact(agent: ScriptedAgent) -> None:
    from a2a.helpers import new_text_part
    from a2a.types import TaskState

    async def chunks(exchange: Exchange) -> None:
        await exchange.begin()
        for place, chunk in enumerate(["It", " is", " sun", "ny."]):
            await exchange.updater.add_artifact([new_text_part(chunk)], artifact_id="a", append=place > 0)
        await exchange.end(TaskState.TASK_STATE_COMPLETED)

    agent.behaviour = chunks
    assert answer(await ask(agent.url, "hi")) == "It is sunny."
