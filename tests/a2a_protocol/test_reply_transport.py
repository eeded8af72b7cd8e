"""Agents with odd replies, streamed and not, over real connections: the answer where there is one, else what came."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from testbench.a2a_protocol import reply_transport
from testbench.errors import AgentError
from testbench.schema.agent import Conversation
from tests.support.agent_questions import answer, ask, connected, fault
from tests.support.servers.loopback import Reply
from tests.support.servers.raw_agent import (
    RawAgent,
    RpcError,
    artifact_03,
    event,
    event_stream,
    message_03,
    status_03,
    task_03,
)
from tests.support.servers.scripted_agent import Exchange, ScriptedAgent


@pytest.fixture
def streamer() -> Iterator[RawAgent]:
    """A 0.3 agent whose card offers streaming."""
    with RawAgent(streaming=True) as agent:
        yield agent


def methods(agent: RawAgent) -> list[str]:
    return [call.method for call in agent.calls]


# --- replies that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            Reply(200, b"<html> gone\n </html>", {"content-type": "text/html; charset=x"}),
            "not JSON (HTTP 200, text/html): <html> gone </html>",
        ),
        (Reply(202, b"", {"content-type": "application/json"}), "the reply is empty (HTTP 202, application/json)"),
        (Reply(204), "the reply is empty (HTTP 204, without a media type)"),
        (Reply(200, b"[1]"), "the reply is a JSON list in place of an object"),
        (Reply(200, b'{"a": 1}\n{"b": 2}'), "the reply is not JSON"),
        (Reply(200, b"", {"content-type": "text/event-stream"}), "the stream ended without a task or a message"),
    ],
    ids=str,
)
async def test_what_is_no_reply_is_named(reply: Reply, message: str) -> None:
    with RawAgent() as agent:
        agent.answers("message/send", reply)
        error = await fault(agent.url)
        assert (error.kind, error.retryable) == ("protocol", False)
        assert message in error.message


async def test_a_reply_that_is_no_json_keeps_a_secret() -> None:
    with RawAgent() as agent:
        agent.answers("message/send", Reply(200, b"no, s3cret-token", {"content-type": "text/plain"}))
        error = await fault(agent.url, headers=(("X-Token", "Bearer s3cret-token"),))
        assert "s3cret" not in error.message


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        ("Köln".encode(), "application/json"),
        ("Köln".encode("latin-1"), "application/json; charset=iso-8859-1"),
        ("Köln".encode("utf-8-sig"), "text/plain"),
        ("Köln".encode("utf-16"), "application/json"),
    ],
)
async def test_json_in_other_encodings(body: bytes, media_type: str) -> None:
    encoding = {"Köln".encode(): "utf-8", "Köln".encode("latin-1"): "latin-1", "Köln".encode("utf-16"): "utf-16"}.get(
        body, "utf-8-sig"
    )
    whole = json.dumps({"jsonrpc": "2.0", "id": 1, "result": message_03("Köln")}, ensure_ascii=False).encode(encoding)
    with RawAgent() as agent:
        agent.answers("message/send", Reply(200, whole, {"content-type": media_type}))
        assert answer(await ask(agent.url)) == "Köln"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"reason": "the crane is broken"}, 'Internal error: {"reason": "the crane is broken"}'),
        ("retry at noon", "Internal error: retry at noon"),
        ([{"loc": ["params"], "msg": "required"}], 'Internal error: [{"loc": ["params"], "msg": "required"}]'),
        ([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "X", "domain": "d"}], "Internal error"),
        ("Internal error", "Internal error"),
    ],
)
async def test_the_data_of_an_error_is_told(data: Any, told: str) -> None:
    with RawAgent() as agent:
        agent.answers("message/send", RpcError(-32603, "Internal error", data))
        assert (await fault(agent.url)).message == told
        body = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "Internal error", "data": data}}
        agent.answers("message/send", Reply(500, json.dumps(body).encode()))
        assert (await fault(agent.url)).message == f"HTTP 500: {told}"


# --- states and contexts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["unknown", "done", "", None])
async def test_a_state_that_is_not_known_gives_the_answer_where_there_is_one(state: Any) -> None:
    with RawAgent() as agent:
        agent.answers("message/send", task_03("one") | {"status": {"state": state}})
        assert answer(await ask(agent.url)) == "one"
        assert methods(agent) == ["message/send"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"state": "unknown"}, "the task's state is not known: unknown"),
        ({"state": "queued\x1b[1m"}, "the task's state is not known: queued\\x1b[1m"),
        ({}, "the task has no state"),
    ],
)
async def test_without_an_answer_it_is_an_error_at_once(status: dict[str, str], message: str) -> None:
    with RawAgent() as agent:
        agent.answers("message/send", task_03() | {"status": status})
        error = await fault(agent.url)
        assert (error.kind, error.message) == ("protocol", message)
        assert methods(agent) == ["message/send"]


async def test_an_agent_that_names_no_context_keeps_the_conversation() -> None:
    """As the helloworld of the SDKs 0.2 and 0.3: a bare message without a context."""

    def bare(params: Any) -> dict[str, Any]:
        return {"kind": "message", "messageId": "m", "role": "agent", "parts": [{"kind": "text", "text": "hi"}]}

    with RawAgent() as agent:
        agent.answers("message/send", bare)
        async with connected(agent.url) as client:
            one, other = Conversation(), Conversation()
            for conversation in (one, one, other):
                await client.send_step("hi", conversation)
        contexts = [call.message["contextId"] for call in agent.calls]
        assert contexts[0] == contexts[1] == one.context_id
        assert contexts[2] == other.context_id != contexts[0]


async def test_an_agent_that_answers_in_a_context_of_its_own_is_followed_and_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RawAgent() as agent, caplog.at_level(logging.WARNING):
        agent.answers("message/send", message_03("hi", context_id="its-own"))
        async with connected(agent.url) as client:
            conversation = Conversation()
            for _ in range(3):
                await client.send_step("hi", conversation)
        assert [call.message["contextId"] for call in agent.calls][1:] == ["its-own", "its-own"]
        assert [record.message for record in caplog.records if "its-own" in record.message] != []
        assert sum("context of its own" in record.message for record in caplog.records) == 1


async def test_an_agent_that_takes_no_context_of_a_client_makes_it_itself() -> None:
    def strict(params: Any) -> Any:
        if params["message"].get("contextId") not in (None, "its-own"):
            return RpcError(-32602, "unknown contextId")
        return message_03("hi", context_id="its-own")

    with RawAgent() as agent:
        agent.answers("message/send", strict)
        async with connected(agent.url) as client:
            conversation = Conversation()
            await client.send_step("hi", conversation)
            await client.send_step("hi", conversation)
            assert conversation.context_id == "its-own"


async def test_output_modes_are_named_to_every_agent(agent: ScriptedAgent) -> None:
    with RawAgent() as old:
        await ask(old.url)
        assert old.calls[0].params["configuration"]["acceptedOutputModes"] == ["text/plain", "application/json"]
    await ask(agent.url)
    assert agent.received[0].params["configuration"]["acceptedOutputModes"] == ["text/plain", "application/json"]


# --- the other generation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        RpcError(-32600, "Request payload validation error"),
        RpcError(-32601, "Method not found"),
        RpcError(-32602, "Invalid params"),
        RpcError(-32700, "Parse error"),
        *(Reply(status, b"no") for status in (400, 404, 405, 415, 422)),
        *(
            Reply(status, json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "x"}}).encode())
            for status in (400, 404, 500)
        ),
    ],
    ids=str,
)
async def test_an_agent_that_refuses_a_generation_is_asked_in_the_other(refusal: Any) -> None:
    with RawAgent(card=False) as agent:
        agent.answers("SendMessage", refusal)
        async with connected(agent.url) as client:
            for _ in range(2):
                assert answer(await client.send_step("hi", Conversation())) == "answer to: hi"
        assert methods(agent) == ["SendMessage", "message/send", "message/send"]


@pytest.mark.parametrize(
    "failure",
    [
        RpcError(-32603, "Internal error"),
        Reply(500, b'{"e": "x"}'),
        Reply(502, b"bad gateway"),
        Reply(400, json.dumps({"jsonrpc": "2.0", "error": {"code": -32050, "message": "quota"}}).encode()),
    ],
    ids=str,
)
async def test_an_agent_that_may_have_taken_the_message_is_not_asked_again(failure: Any) -> None:
    with RawAgent(card=False) as agent:
        agent.answers("SendMessage", failure)
        await fault(agent.url)
        assert methods(agent) == ["SendMessage"]


async def test_the_refusal_that_says_more_is_told() -> None:
    with RawAgent(card=False) as agent:
        agent.answers("message/send", RpcError(-32602, "no such skill"))
        assert (await fault(agent.url)).message == "no such skill"
    with RawAgent() as agent:
        agent.answers("message/send", RpcError(-32602, "no such skill"))
        assert (await fault(agent.url)).message == "no such skill"
        assert methods(agent) == ["message/send", "SendMessage"]


# --- cards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/.well-known/agent-card.json", "/.well-known/agent.json"])
async def test_the_address_of_the_card_is_an_address_of_the_agent(path: str) -> None:
    with RawAgent() as agent:
        assert answer(await ask(agent.url + path)) == "answer to: hi"
        assert [request.path for request in agent.requests] == ["/.well-known/agent-card.json", "/"]


class Redirecting(RawAgent):
    """Its card is elsewhere."""

    target = ""

    def reply_to(self, request: Any) -> Reply:
        if request.path == "/.well-known/agent-card.json":
            return Reply(307, headers={"location": self.target})
        if request.path == "/cards/mine":
            return Reply(200, json.dumps({"name": "moved", "url": "/", "protocolVersion": "0.3.0"}).encode())
        return super().reply_to(request)


async def test_the_card_may_be_elsewhere_on_the_same_host() -> None:
    with Redirecting(card=False) as agent:
        agent.target = "/cards/mine"
        async with connected(agent.url) as client:
            assert (await client.connect()).name == "moved"
            assert answer(await client.send_step("hi", Conversation())) == "answer to: hi"
        assert methods(agent) == ["message/send"]


async def test_the_card_of_another_host_and_one_that_goes_round_in_circles_are_no_cards() -> None:
    with Redirecting(card=False) as agent:
        for agent.target in ("http://elsewhere.invalid/card", "/.well-known/agent-card.json", "http://[", ""):
            async with connected(agent.url) as client:
                assert (await client.connect()).name is None


async def test_a_redirected_message_is_an_error_with_the_address() -> None:
    with RawAgent() as agent:
        agent.answers("message/send", Reply(307, headers={"location": "http://127.0.0.1:1/there"}))
        error = await fault(agent.url)
        assert error.message == "HTTP 307: redirected to http://127.0.0.1:1/there"


async def test_an_address_for_streams_alone_is_not_used_for_messages() -> None:
    """As the cards of agno have it."""
    with RawAgent() as agent:
        card = {"name": "x", "url": f"{agent.origin}/agents/x/v1/message:stream", "protocolVersion": "0.3.0"}
    with RawAgent(card=card) as agent:
        assert answer(await ask(agent.url)) == "answer to: hi"
        assert agent.requests[-1].path == "/agents/x/v1/message:send"


# --- streams --------------------------------------------------------------------------------------------------------

WHOLE = (
    b": ping\r\n\r\n",
    task_03(state="submitted"),
    b": keep-alive\n\n",
    status_03("working", "on it"),
    artifact_03("größ"),
    artifact_03("er als 4 m: ≥", append=True),
    artifact_03(" ✓", append=True),
    status_03("completed", final=True),
    status_03("completed", final=True),
)


@pytest.mark.parametrize("size", [None, 1, 7, 4096])
async def test_a_streamed_answer_is_the_same_as_one_sent_at_once(streamer: RawAgent, size: int | None) -> None:
    streamer.answers("message/stream", event_stream(*WHOLE, size=size))
    reply = await ask(streamer.url)
    assert answer(reply) == "größer als 4 m: ≥ ✓"
    assert (reply.turns[-1].model_extra or {})["progress"] == ["on it"]
    assert (reply.context_id, reply.task_id) == ("context-1", "task-1")
    assert methods(streamer) == ["message/stream"]
    assert reply.time_to_first_token_ms is not None
    assert reply.seconds is not None
    assert 0 < reply.time_to_first_token_ms <= 1000 * reply.seconds + 1


@pytest.mark.parametrize(
    "text", ["hello", "!adk sunny", "!adk-artifacts sunny", "!many", "!data", "!message hi", "!file x"]
)
async def test_streamed_or_not_the_turns_are_the_same(text: str) -> None:
    with ScriptedAgent(streaming=True) as agent:
        streamed, whole = [await ask(agent.url, text, streaming=mode) for mode in ("on", "off")]
        assert streamed.turns == whole.turns
        assert streamed.usage == whole.usage
        assert [received.method for received in agent.received] == ["SendStreamingMessage", "SendMessage"]
        assert whole.time_to_first_token_ms is None


@pytest.mark.parametrize("protocol", ["1.0", "0.3-compat"])
@pytest.mark.parametrize("text", ["hello", "!adk sunny", "!message hi", "!data", "!file x"])
async def test_over_rest_in_both_generations(protocol: Any, text: str) -> None:
    with ScriptedAgent(streaming=True, protocol=protocol) as agent:
        expected = await ask(agent.url, text, streaming="off")
    for mode in ("on", "off"):
        with ScriptedAgent(streaming=True, protocol=protocol, binding="HTTP+JSON") as agent:
            assert (await ask(agent.url, text, streaming=mode)).turns == expected.turns


@pytest.mark.parametrize("protocol", ["1.0", "0.3-compat"])
@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_a_task_that_asks_is_continued_in_a_stream(binding: Any, protocol: Any) -> None:
    with ScriptedAgent(streaming=True, binding=binding, protocol=protocol) as agent:
        async with connected(agent.url) as client:
            conversation = Conversation()
            asked = await client.send_step("!ask which city?", conversation)
            told = await client.send_step("!say Berlin then", conversation)
            assert [answer(asked), answer(told)] == ["which city?", "Berlin then"]
            assert asked.task_id == told.task_id
            assert told.time_to_first_token_ms is not None


async def test_only_where_the_card_offers_it() -> None:
    with RawAgent() as agent:
        await ask(agent.url, streaming="auto")
        await ask(agent.url, streaming="off")
        agent.answers("message/stream", event_stream(message_03("streamed")))
        assert answer(await ask(agent.url, streaming="on")) == "streamed"
        assert methods(agent) == ["message/send", "message/send", "message/stream"]


@pytest.mark.parametrize(
    "refusal",
    [
        RpcError(-32601, "Method not found"),
        RpcError(-32004, "not supported"),
        RpcError(-32603, "Streaming is not supported by the agent"),
        Reply(405, b"no"),
    ],
    ids=str,
)
async def test_a_card_that_promises_streams_in_vain(streamer: RawAgent, refusal: Any) -> None:
    streamer.answers("message/stream", refusal)
    async with connected(streamer.url) as client:
        for _ in range(2):
            assert answer(await client.send_step("hi", Conversation())) == "answer to: hi"
    assert methods(streamer) == ["message/stream", "message/send", "message/send"]
    assert (await fault(streamer.url, streaming="on")).kind in ("protocol", "http_error", "failed")


async def test_a_message_that_is_refused_either_way_says_nothing_about_streams(streamer: RawAgent) -> None:
    refusal = RpcError(-32602, "no such skill")
    streamer.answers("message/stream", refusal, event_stream(message_03("streamed")))
    streamer.answers("message/send", refusal)
    async with connected(streamer.url) as client:
        with pytest.raises(AgentError, match="no such skill"):
            await client.send_step("hi", Conversation())
        assert answer(await client.send_step("hi", Conversation())) == "streamed"


async def test_a_stream_in_reply_to_a_plain_message_is_read() -> None:
    with RawAgent() as agent:
        agent.answers("message/send", event_stream(*WHOLE, size=7))
        assert answer(await ask(agent.url)) == "größer als 4 m: ≥ ✓"


async def test_a_whole_reply_to_a_streaming_message_is_read(streamer: RawAgent) -> None:
    streamer.answers("message/stream", task_03("at once"))
    assert answer(await ask(streamer.url)) == "at once"


async def test_a_stream_that_stays_open_after_the_end_is_left(streamer: RawAgent) -> None:
    def open_end() -> Iterator[bytes]:
        yield event(task_03("done"))
        streamer.gate().result()

    streamer.answers("message/stream", Reply(200, headers={"content-type": "text/event-stream"}, pieces=open_end()))
    reply = await ask(streamer.url)
    assert answer(reply) == "done"
    streamer.release()


@pytest.mark.parametrize(
    "failure",
    [
        b'data: {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "boom", "data": "crane"}}\n\n',
        b'event: error\ndata: {"error": {"code": -32603, "message": "boom: crane"}}\n\n',
        b"event: error\ndata: boom: crane\n\n",
    ],
)
async def test_an_error_within_a_stream_is_told(streamer: RawAgent, failure: bytes) -> None:
    streamer.answers("message/stream", event_stream(task_03(state="working"), failure))
    error = await fault(streamer.url)
    assert (error.kind, error.message) == ("failed", "boom: crane")


@pytest.mark.parametrize("append", [True, False])
async def test_a_stream_may_be_longer_than_a_reply_but_not_what_it_adds_up_to(
    streamer: RawAgent, append: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_transport, "LONGEST_REPLY", 5_000)
    pieces = [artifact_03("x" * 1_000, append=append) for _ in range(20)]
    streamer.answers("message/stream", event_stream(*pieces, status_03("completed", final=True)))
    if append:
        assert "the reply is longer than" in (await fault(streamer.url)).message
    else:
        assert answer(await ask(streamer.url)) == "x" * 1_000


async def test_an_event_that_does_not_end_is_cut_off(streamer: RawAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_transport, "LONGEST_REPLY", 5_000)
    streamer.answers("message/stream", event_stream(b"data: ", *[b"x" * 1_000] * 20))
    assert "the reply is longer than" in (await fault(streamer.url)).message


async def test_events_that_are_none_are_passed_over(streamer: RawAgent) -> None:
    odd = (b"data: not json\n\n", b"data: [1]\n\n", b"event: ping\ndata: {}\n\n", {"kind": "weird"})
    streamer.answers("message/stream", event_stream(*odd, message_03("hi")))
    assert answer(await ask(streamer.url)) == "hi"


async def test_a_stream_that_is_cut_is_taken_up_and_the_whole_task_asked_for(streamer: RawAgent) -> None:
    streamer.answers("message/stream", event_stream(task_03(state="working"), artifact_03("be"), cut=True))
    streamer.answers("tasks/resubscribe", event_stream(artifact_03("ginning", append=True), status_03("completed")))
    streamer.answers("tasks/get", task_03("from the beginning"))
    assert answer(await ask(streamer.url)) == "from the beginning"
    assert methods(streamer) == ["message/stream", "tasks/resubscribe", "tasks/get"]
    assert streamer.calls[1].params == {"id": "task-1"}


async def test_a_stream_that_begins_again_with_the_task_needs_no_further_question(streamer: RawAgent) -> None:
    streamer.answers("message/stream", event_stream(status_03("working"), cut=True))
    streamer.answers("tasks/resubscribe", event_stream(task_03("whole")))
    assert answer(await ask(streamer.url)) == "whole"
    assert methods(streamer) == ["message/stream", "tasks/resubscribe"]


async def test_an_agent_without_resubscription_is_asked_for_the_task(streamer: RawAgent) -> None:
    streamer.answers("message/stream", event_stream(status_03("working"), cut=True))
    streamer.answers("tasks/get", task_03("whole"))
    assert answer(await ask(streamer.url)) == "whole"
    assert methods(streamer) == ["message/stream", "tasks/resubscribe", "tasks/get"]


async def test_a_stream_that_is_cut_before_any_event_is_not_sent_again(streamer: RawAgent) -> None:
    streamer.answers("message/stream", event_stream(b": hi\n\n", cut=True))
    error = await fault(streamer.url)
    assert (error.kind, error.retryable, error.delivered) == ("unreachable", False, True)


async def test_a_stream_that_takes_too_long_is_taken_up_by_asking_for_its_task(streamer: RawAgent) -> None:
    def slow() -> Iterator[bytes]:
        yield event(status_03("working"))
        streamer.gate().result()

    streamer.answers("message/stream", Reply(200, headers={"content-type": "text/event-stream"}, pieces=slow()))
    streamer.answers("tasks/get", task_03("at last"))
    async with connected(streamer.url, timeout_s=0.2) as client:
        conversation = Conversation()
        with pytest.raises(AgentError) as caught:
            await client.send_step("hi", conversation)
        assert (caught.value.kind, caught.value.retryable) == ("timeout", True)
        assert answer(await client.send_step("hi", conversation)) == "at last"
    streamer.release()
    assert methods(streamer) == ["message/stream", "tasks/get"]


async def test_a_stream_that_ends_early_is_polled(streamer: RawAgent) -> None:
    streamer.answers("message/stream", event_stream(task_03(state="working")))
    streamer.answers("tasks/get", task_03(state="working"), task_03("whole"))
    assert answer(await ask(streamer.url)) == "whole"


async def test_the_first_token_of_an_answer_that_came_by_its_status(streamer: RawAgent) -> None:
    words = [status_03("working", word) for word in ("It", " is", " 21")]
    streamer.answers(
        "message/stream", event_stream(*words, artifact_03("It is 21"), status_03("completed", final=True))
    )
    reply = await ask(streamer.url)
    assert [turn.content for turn in reply.turns] == ["It is 21"]
    assert reply.time_to_first_token_ms is not None


async def test_many_streams_at_once(agent: ScriptedAgent) -> None:
    async def talk(exchange: Exchange) -> None:
        await exchange.complete(f"answer to: {exchange.text}")

    with ScriptedAgent(talk, streaming=True) as streaming:
        async with connected(streaming.url) as client:
            replies = await asyncio.gather(*(client.send_step(f"q{n}", Conversation()) for n in range(50)))
        assert [answer(reply) for reply in replies] == [f"answer to: q{n}" for n in range(50)]
