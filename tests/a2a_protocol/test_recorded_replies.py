"""Replies that agents of other people's frameworks gave, as `replies/` holds them: the right answer, streamed or not.

Recorded over loopback from agents with a scripted model. Each file has the reply to a message and, where there is one,
the stream, and the task where the agent did not wait for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testbench.net.clock import FakeClock
from testbench.schema.a2a_client import A2AStepClient, ClientSettings
from testbench.schema.agent import AgentReply, Conversation
from tests.support.servers.loopback import Reply
from tests.support.servers.raw_agent import RawAgent, card_03

REPLIES = Path(__file__).parent / "replies"
WEATHER = "柏林的天气晴朗\uff0c最高气温为二十一度。明天可能有小雨\uff0c请带伞。"
REPORT = 'The answer is: {"status": "success", "report": "Sunny in Berlin, 25 degrees."}'


@dataclass(frozen=True)
class Expected:
    """What a reply says: its answer, the types of its turns, its tool calls, and what is kept beside the answer."""

    answer: str
    turns: str = "agent"
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    beside: tuple[str, ...] = ()


CALL = (("get_weather", {"city": "Berlin"}),)
EXPECTED = {
    "pydantic-ai-2.68-fasta2a-2.1": Expected("Echo: hi"),
    "pydantic-ai-1.107-fasta2a-0.6": Expected("Echo: hi"),
    "a2a-sdk-0.2.16-message": Expected("I know of this conversation: ['bare']"),
    "a2a-sdk-0.3.26-message": Expected("I know of this conversation: ['bare']"),
    "a2a-sdk-1.3.0-chunks": Expected(WEATHER[:18], beside=("progress",)),
    "a2a-sdk-1.3.0-thoughts": Expected("visible answer", beside=("thoughts", "progress")),
    "agno-3.1.10": Expected("Echo: hi"),
    "strands-1.62.0": Expected(WEATHER + "\n"),
    "strands-1.62.0-compliant": Expected(WEATHER),
    "agent-framework-1.0b-stream": Expected("The answer is: Sunny in Berlin, 25 degrees."),
    "google-adk-2.13.0-tool": Expected(REPORT, "agent tool agent", CALL),
    "google-adk-1.39.1-tool": Expected(REPORT, "agent tool agent", CALL),
    "langgraph-api-0.16.7-interrupt": Expected("Which city?"),
    "langgraph-api-0.16.7-tool": Expected("The answer is: Sunny in Berlin, 25 degrees.", "agent agent"),
}


def test_every_recorded_reply_is_read() -> None:
    assert {path.stem for path in REPLIES.glob("*.json")} == set(EXPECTED)


def recorded(name: str) -> dict[str, str]:
    content: dict[str, str] = json.loads((REPLIES / f"{name}.json").read_text())
    return content


async def reply_of(name: str, streaming: bool) -> AgentReply:
    said = recorded(name)
    if said["generation"] == "0.3":
        send, stream, get = "message/send", "message/stream", "tasks/get"
        card = card_03("/", streaming=streaming)
    else:
        send, stream, get = "SendMessage", "SendStreamingMessage", "GetTask"
        interface = {"url": "/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        card = {"name": name, "supportedInterfaces": [interface], "capabilities": {"streaming": streaming}}
    with RawAgent(card=card) as agent:
        agent.answers(send, _reply(said["reply"], "application/json"))
        agent.answers(get, _reply(said.get("task", ""), "application/json"))
        agent.answers(stream, _reply(said.get("stream", ""), "text/event-stream"))
        client = A2AStepClient(ClientSettings(agent.url), clock=FakeClock())
        await client.connect()
        try:
            return await client.send_step(said["text"], Conversation())
        finally:
            await client.close()
            assert agent.calls[0].method == (stream if streaming else send)


def _reply(body: str, media_type: str) -> Reply:
    return Reply(200, body.encode(), {"content-type": media_type})


CASES = [
    (name, streaming) for name in EXPECTED for streaming in (False, True) if not streaming or "stream" in recorded(name)
]


@pytest.mark.parametrize(("name", "streaming"), CASES)
async def test_the_answer_of_a_framework(name: str, streaming: bool) -> None:
    expected = EXPECTED[name]
    reply = await reply_of(name, streaming)
    assert reply.turns[-1].content == expected.answer
    assert " ".join(turn.type for turn in reply.turns) == expected.turns
    calls = [(call.name, call.args) for turn in reply.turns for call in turn.tool_calls or ()]
    assert calls == list(expected.calls)
    assert {"thoughts", "progress"} & set(reply.turns[-1].model_extra or {}) == set(expected.beside)
    assert (reply.time_to_first_token_ms is not None) == (streaming and "interrupt" not in name)
