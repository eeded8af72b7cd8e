"""What the scripted agent does with a message: one `Exchange` to act on, and a behaviour for every magic input text.

A message that starts with `!` asks for a behaviour by name, the rest of the text is its argument: `!fail no ticket`
ends the task as failed with the reason "no ticket". Any other text is answered with an artifact "answer to: <text>".
The names are the keys of `BEHAVIOURS`; a test that needs something else hands its own `Behaviour` to the agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeAlias

from a2a.helpers import new_data_part, new_raw_part, new_text_message, new_text_part, new_url_part
from a2a.server.events import EventQueue
from a2a.server.tasks import TaskUpdater
from a2a.types import Message, Part, Task, TaskState, TaskStatus

TOOL_NAME = "get_weather"
TOOL_ARGS: Mapping[str, Any] = {"city": "Berlin", "days": 2}
TOOL_RESPONSE: Mapping[str, Any] = {"temp_c": 21, "ok": True}
USAGE: Mapping[str, int] = {"promptTokenCount": 120, "candidatesTokenCount": 30, "totalTokenCount": 150}
FILE_BYTES = b"\x89PNG not really"


@dataclass
class Exchange:
    """One message and the means to answer it. `heard` are all texts of this context so far, this one included;
    `resumed` says that the message continues a task that was waiting for it."""

    text: str
    argument: str
    message: Message
    heard: list[str]
    resumed: bool
    streaming: bool
    headers: Mapping[str, str]
    queue: EventQueue
    updater: TaskUpdater
    gate: Callable[[], Future[None]]
    polled: Callable[[int], Awaitable[None]]
    """Waits until the task has been asked for (tasks/get) so many times."""

    async def begin(self) -> None:
        """Create the task and report it as working; does nothing to a task that goes on."""
        if not self.resumed:
            status = TaskStatus(state=TaskState.TASK_STATE_WORKING)
            task = Task(id=self.updater.task_id, context_id=self.updater.context_id, status=status)
            task.history.append(self.message)
            await self.queue.enqueue_event(task)
            self.resumed = True

    async def say(self, *parts: Part, metadata: dict[str, Any] | None = None) -> None:
        """A message on the way, which the next status pushes into the task's history."""
        await self.begin()
        await self.updater.start_work(self.updater.new_agent_message(list(parts), metadata))

    async def artifact(self, *parts: Part, name: str = "answer") -> None:
        """One artifact of its own id."""
        await self.begin()
        await self.updater.add_artifact(list(parts), name=name)

    async def end(self, state: TaskState, text: str = "", metadata: dict[str, Any] | None = None) -> None:
        """Put the task into a final or waiting state; the text, if any, becomes the status message."""
        await self.begin()
        message = self.updater.new_agent_message([new_text_part(text)]) if text else None
        await self.updater.update_status(state, message, metadata=metadata)

    async def complete(self, text: str) -> None:
        """The plain case: one artifact with this text, task completed."""
        await self.artifact(new_text_part(text))
        await self.end(TaskState.TASK_STATE_COMPLETED)

    async def reply(self, text: str) -> None:
        """Answer with a bare Message, without any task."""
        await self.queue.enqueue_event(new_text_message(text, context_id=self.updater.context_id))

    async def released(self) -> None:
        """Wait until the test calls `release` on the agent."""
        await asyncio.shield(asyncio.wrap_future(self.gate()))


Behaviour: TypeAlias = Callable[[Exchange], Awaitable[None]]


def tool_call_part() -> Part:
    """A tool call as Google ADK writes it."""
    part = new_data_part({"id": "call-1", "name": TOOL_NAME, "args": dict(TOOL_ARGS)})
    part.metadata.update({"adk_type": "function_call"})
    return part


def tool_result_part() -> Part:
    """A tool's result as Google ADK writes it."""
    part = new_data_part({"id": "call-1", "name": TOOL_NAME, "response": dict(TOOL_RESPONSE)})
    part.metadata.update({"adk_type": "function_response"})
    return part


def thought_part(text: str) -> Part:
    """Text that a model thought and did not say."""
    part = new_text_part(text)
    part.metadata.update({"adk_thought": True})
    return part


async def echo(exchange: Exchange) -> None:
    await exchange.complete(f"answer to: {exchange.text}")


async def say(exchange: Exchange) -> None:
    await exchange.complete(exchange.argument)


async def recall(exchange: Exchange) -> None:
    await exchange.complete(" | ".join(exchange.heard))


async def bare_message(exchange: Exchange) -> None:
    await exchange.reply(exchange.argument)


def ending(state: TaskState) -> Behaviour:
    """The task ends (or waits) in this state and the argument is the status message."""

    async def end(exchange: Exchange) -> None:
        await exchange.end(state, exchange.argument)

    return end


async def crash(exchange: Exchange) -> None:
    raise RuntimeError(exchange.argument or "the agent crashed")


async def crash_later(exchange: Exchange) -> None:
    await exchange.begin()
    raise RuntimeError(exchange.argument or "the agent crashed")


async def history_only(exchange: Exchange) -> None:
    await exchange.say(new_text_part(exchange.argument))
    await exchange.end(TaskState.TASK_STATE_COMPLETED)


async def poll(exchange: Exchange) -> None:
    """Returned while working, even to a client that asked to block; done after so many polls (default 2)."""
    await exchange.begin()
    if not exchange.streaming:
        await exchange.polled(int(exchange.argument or 2))
    await exchange.complete("polled")


async def slow(exchange: Exchange) -> None:
    await exchange.begin()
    await exchange.released()
    await exchange.complete(exchange.argument or "at last")


async def adk(exchange: Exchange) -> None:
    """Tool call, result and text in the history; text again as artifact; usage in the task's metadata."""
    await exchange.say(tool_call_part())
    await exchange.say(tool_result_part())
    await exchange.say(thought_part("let me think"), new_text_part(exchange.argument))
    await exchange.artifact(new_text_part(exchange.argument))
    await exchange.end(TaskState.TASK_STATE_COMPLETED, metadata={"adk_usage_metadata": dict(USAGE)})


async def adk_artifacts(exchange: Exchange) -> None:
    """ADK's newer shape: nothing in the history, every event an artifact of its own."""
    for part in (tool_call_part(), tool_result_part(), new_text_part(exchange.argument)):
        await exchange.artifact(part, name="event")
    await exchange.end(TaskState.TASK_STATE_COMPLETED)


async def metadata_calls(exchange: Exchange) -> None:
    """A tool call named only in a message's metadata."""
    calls = {"tool_calls": [{"name": TOOL_NAME, "args": dict(TOOL_ARGS)}]}
    await exchange.say(new_text_part("looking it up"), metadata=calls)
    await exchange.complete(exchange.argument)


async def many(exchange: Exchange) -> None:
    """Two artifacts, the first of two parts."""
    await exchange.artifact(new_text_part("The first one."), new_text_part("And a second."))
    await exchange.artifact(new_text_part("third"), name="appendix")
    await exchange.end(TaskState.TASK_STATE_COMPLETED)


async def with_file(exchange: Exchange) -> None:
    """Text, a file's bytes and a file's address in one artifact."""
    picture = new_raw_part(FILE_BYTES, media_type="image/png", filename="map.png")
    link = new_url_part("http://127.0.0.1/map.pdf", media_type="application/pdf", filename="map.pdf")
    await exchange.artifact(new_text_part(exchange.argument or "see the map"), picture, link)
    await exchange.end(TaskState.TASK_STATE_COMPLETED)


async def data_only(exchange: Exchange) -> None:
    """An answer without any text."""
    await exchange.artifact(new_data_part({"answer": 42, "exact": True}))
    await exchange.end(TaskState.TASK_STATE_COMPLETED)


BEHAVIOURS: Mapping[str, Behaviour] = {
    "say": say,
    "recall": recall,
    "message": bare_message,
    "fail": ending(TaskState.TASK_STATE_FAILED),
    "reject": ending(TaskState.TASK_STATE_REJECTED),
    "cancel": ending(TaskState.TASK_STATE_CANCELED),
    "auth": ending(TaskState.TASK_STATE_AUTH_REQUIRED),
    "ask": ending(TaskState.TASK_STATE_INPUT_REQUIRED),
    "status": ending(TaskState.TASK_STATE_COMPLETED),
    "empty": ending(TaskState.TASK_STATE_COMPLETED),
    "raise": crash,
    "raise-late": crash_later,
    "history": history_only,
    "poll": poll,
    "slow": slow,
    "adk": adk,
    "adk-artifacts": adk_artifacts,
    "metadata": metadata_calls,
    "many": many,
    "file": with_file,
    "data": data_only,
}


def split_magic(text: str) -> tuple[str, str]:
    """`!name argument` -> (name, argument); any other text -> ("", text)."""
    if not text.startswith("!"):
        return "", text
    name, _, argument = text[1:].partition(" ")
    return name, argument


async def by_magic(exchange: Exchange) -> None:
    """The agent's default behaviour: the one that the message names, else `echo`. KeyError for an unknown name."""
    name, _ = split_magic(exchange.text)
    await (BEHAVIOURS[name] if name else echo)(exchange)
