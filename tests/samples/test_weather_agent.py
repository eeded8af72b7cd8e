"""The sample agent as a process, asked by the A2A SDK's own client in both generations of the protocol."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types import Message, Part, Role, SendMessageRequest, Task, TaskState
from a2a.utils.errors import A2AError
from google.protobuf.json_format import MessageToDict

from testbench.samples.weather_dialogue import OFF_TOPIC
from testbench.samples.weather_server import Behaviour, build_app

READY = "weather agent ready at "
START_TIMEOUT_S = 60

COMPLETED = TaskState.TASK_STATE_COMPLETED
INPUT_REQUIRED = TaskState.TASK_STATE_INPUT_REQUIRED


@contextmanager
def agent_process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running agent and its address."""
    command = [sys.executable, "-m", "testbench.samples.weather_agent", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], START_TIMEOUT_S)[0], "the agent does not get ready"
            line = process.stdout.readline()
            assert line.startswith(READY), line + (process.stderr.read() if process.stderr else "")
            yield process, line.removeprefix(READY).strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def agent_url() -> Iterator[str]:
    with agent_process() as (_, url):
        yield url


class Talk:
    """One conversation: sends a message, and with a task that waits for input goes on with that task."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._context_id = ""
        self._paused_task_id = ""

    async def events(self, text: str) -> list[Any]:
        message = Message(
            message_id=uuid4().hex,
            role=Role.ROLE_USER,
            parts=[Part(text=text)],
            context_id=self._context_id,
            task_id=self._paused_task_id,
        )
        return [event async for event in self._client.send_message(SendMessageRequest(message=message))]

    async def say(self, text: str) -> Task:
        (event,) = await self.events(text)
        task: Task = event.task
        self._context_id = task.context_id
        self._paused_task_id = task.id if task.status.state == INPUT_REQUIRED else ""
        return task


@asynccontextmanager
async def client_of(url: str, protocol: str = "1.0", streaming: bool = False) -> AsyncIterator[Client]:
    """A client as the agent's card makes it, once all but one of its interfaces are struck off."""
    async with httpx.AsyncClient(timeout=30) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        (interface,) = [each for each in card.supported_interfaces if each.protocol_version.startswith(protocol)]
        del card.supported_interfaces[:]
        card.supported_interfaces.append(interface)
        yield ClientFactory(ClientConfig(streaming=streaming, httpx_client=http)).create(card)


@pytest.fixture(params=["1.0", "0.3"])
async def talk(request: pytest.FixtureRequest, agent_url: str) -> AsyncIterator[Talk]:
    async with client_of(agent_url, request.param) as client:
        yield Talk(client)


def answer_of(task: Task) -> str:
    (artifact,) = task.artifacts
    (part,) = artifact.parts
    return part.text


def data_parts(task: Task, adk_type: str) -> list[Any]:
    parts = [part for message in task.history for part in message.parts]
    return [MessageToDict(part.data) for part in parts if dict(part.metadata.items()).get("adk_type") == adk_type]


def calls(task: Task) -> list[tuple[str, str]]:
    return [(call["name"], call["args"]["city"]) for call in data_parts(task, "function_call")]


async def test_question_is_answered_with_tools_in_history_and_text_in_one_artifact(talk: Talk) -> None:
    task = await talk.say("What is the weather like in London?")
    assert task.status.state == COMPLETED
    assert not task.status.HasField("message")
    assert answer_of(task) == "It is rainy in London, 14 degrees Celsius."
    roles = [(Role.Name(message.role), message.parts[0].WhichOneof("content")) for message in task.history]
    assert roles == [
        ("ROLE_USER", "text"),
        ("ROLE_AGENT", "data"),
        ("ROLE_AGENT", "data"),
        ("ROLE_AGENT", "text"),
    ]
    (call,) = data_parts(task, "function_call")
    (response,) = data_parts(task, "function_response")
    assert call == {"id": call["id"], "name": "get_weather", "args": {"city": "London"}}
    assert response == {
        "id": call["id"],
        "name": "get_weather",
        "response": {"status": "success", "city": "London", "condition": "rainy", "temperature_c": 14},
    }


async def test_usage_is_told_and_the_same_every_time(talk: Talk) -> None:
    tasks = [await talk.say("What time is it in Tokyo?") for _ in range(2)]
    first, second = (MessageToDict(task.metadata)["adk_usage_metadata"] for task in tasks)
    assert first == second
    assert first["totalTokenCount"] == first["promptTokenCount"] + first["candidatesTokenCount"]
    assert min(first["promptTokenCount"], first["candidatesTokenCount"]) > 0


async def test_follow_ups_are_answered_from_the_conversation(talk: Talk) -> None:
    tasks = [await talk.say(text) for text in ("Is it cold in New York?", "And in London?", "What time is it there?")]
    assert [calls(task) for task in tasks] == [
        [("get_weather", "New York")],
        [("get_weather", "London")],
        [("get_current_time", "London")],
    ]
    assert answer_of(tasks[2]) == "It is 12:00 in London (UTC+00:00)."
    assert len({task.context_id for task in tasks}) == 1
    assert len({task.id for task in tasks}) == 3


async def test_unknown_city_is_looked_up_and_politely_refused(talk: Talk) -> None:
    task = await talk.say("What is the weather like in Atlantis?")
    assert calls(task) == [("get_weather", "Atlantis")]
    (response,) = data_parts(task, "function_response")
    assert "not available" in response["response"]["error_message"]
    assert answer_of(task) == "I have no weather data for Atlantis."


async def test_question_without_a_city_waits_for_input_and_the_same_task_goes_on(talk: Talk) -> None:
    asked = await talk.say("What time is it there?")
    assert asked.status.state == INPUT_REQUIRED
    assert asked.status.message.parts[0].text == "For which city?"
    assert not asked.artifacts
    task = await talk.say("Berlin")
    assert (task.id, task.status.state) == (asked.id, COMPLETED)
    assert calls(task) == [("get_current_time", "Berlin")]
    assert answer_of(task) == "It is 13:00 in Berlin (UTC+01:00)."


async def test_off_topic_gets_a_fixed_answer_and_no_tool_call(talk: Talk) -> None:
    task = await talk.say("Can you write a poem about the sea?")
    assert (answer_of(task), calls(task)) == (OFF_TOPIC, [])


async def test_two_conversations_at_once_do_not_mix(agent_url: str) -> None:
    async with client_of(agent_url, "1.0") as new, client_of(agent_url, "0.3") as old:
        one, other = Talk(new), Talk(old)
        await asyncio.gather(one.say("Is it cold in Berlin?"), other.say("What time is it in Tokyo?"))
        here, there = await asyncio.gather(one.say("And in Sydney?"), other.say("And in Sydney?"))
        assert (calls(here), calls(there)) == ([("get_weather", "Sydney")], [("get_current_time", "Sydney")])
        here, there = await asyncio.gather(one.say("And in London?"), other.say("What is the weather there?"))
        assert (calls(here), calls(there)) == ([("get_weather", "London")], [("get_weather", "Sydney")])


@pytest.mark.parametrize("protocol", ["1.0", "0.3"])
async def test_stream_tells_what_happens_as_it_happens(agent_url: str, protocol: str) -> None:
    async with client_of(agent_url, protocol, streaming=True) as client:
        events = await Talk(client).events("Is it cold in Berlin?")
    kinds = [event.WhichOneof("payload") for event in events]
    assert kinds == ["task", *["status_update"] * 4, "artifact_update", "status_update"]
    assert events[-1].status_update.status.state == COMPLETED
    assert "adk_usage_metadata" in MessageToDict(events[-1].status_update.metadata)


async def test_finished_task_takes_no_further_message(agent_url: str) -> None:
    async with client_of(agent_url) as client:
        task = await Talk(client).say("Is it cold in Berlin?")
        message = Message(message_id="m", role=Role.ROLE_USER, parts=[Part(text="And in London?")], task_id=task.id)
        with pytest.raises(A2AError):
            _ = [event async for event in client.send_message(SendMessageRequest(message=message))]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_agent_behind_another_address_ends_on_a_signal_without_a_word(number: signal.Signals) -> None:
    with agent_process("--public-url", "https://weather.example/") as (process, url):
        card = httpx.get(f"{url}.well-known/agent-card.json").json()
        assert {interface["url"] for interface in card["supportedInterfaces"]} == {"https://weather.example/"}
        malformed = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": 7}}
        assert "error" in httpx.post(url, json=malformed).json()
        process.send_signal(number)
        output, errors = process.communicate(timeout=START_TIMEOUT_S)
    assert (process.returncode, output, errors) == (0, "", "")


def test_port_in_use_is_an_error_with_a_hint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = _run("--port", str(taken.getsockname()[1]))
    assert outcome.returncode == 3
    error, hint = outcome.stderr.splitlines()
    assert error.startswith("error: cannot listen on 127.0.0.1:")
    assert hint.startswith("hint: Choose another --port")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "70000"),
        ("--port", "-1"),
        ("--now", "yesterday"),
        ("--now", "0001-01-01"),
        ("--latency-ms", "-1"),
        ("--latency-ms", "nan"),
        ("--bogus",),
    ],
    ids=" ".join,
)
def test_bad_argument_is_an_error_with_a_hint(arguments: tuple[str, ...]) -> None:
    outcome = _run(*arguments)
    error, hint = outcome.stderr.splitlines()
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert error.startswith("error: ")
    assert hint == "hint: See python -m testbench.samples.weather_agent --help."


def test_help_names_the_fixed_instant_and_imports_nothing_heavy() -> None:
    outcome = _run("--help", flags=("-X", "importtime"))
    assert "2026-03-02T12:00:00+00:00" in outcome.stdout
    assert not {"a2a", "uvicorn", "starlette", "pyarrow"} & {
        line.rpartition("|")[2].strip() for line in outcome.stderr.splitlines()
    }


def _run(*arguments: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, "-m", "testbench.samples.weather_agent", *arguments]
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=START_TIMEOUT_S, env=environment, check=False
    )


@asynccontextmanager
async def in_process(behaviour: Behaviour) -> AsyncIterator[Talk]:
    url = "http://agent.test/"
    app = build_app(url, behaviour)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        assert {interface.url for interface in card.supported_interfaces} == {url}
        yield Talk(ClientFactory(ClientConfig(streaming=False, httpx_client=http)).create(card))


async def test_now_can_be_set() -> None:
    async with in_process(Behaviour(now=datetime(2026, 7, 1, 12, 0, tzinfo=UTC))) as talk:
        assert answer_of(await talk.say("What time is it in London?")) == "It is 13:00 in London (UTC+01:00)."


async def test_latency_holds_the_answer_back() -> None:
    async with in_process(Behaviour(latency_s=3600)) as talk:
        question = asyncio.create_task(talk.say("Is it cold in Berlin?"))
        answered, _ = await asyncio.wait({question}, timeout=0.3)
        question.cancel()
        await asyncio.wait({question})
    assert not answered
