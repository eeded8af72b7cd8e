"""The sample weather agent behind A2A: carries `weather_dialogue`'s replies in the shapes that Google ADK's agents use.

    message -> Task(submitted) -> working -> working[function_call] -> working[function_response] -> working[text]
            -> artifact[text] -> completed                                 (or, with a question: input_required[text])

Speaks JSON-RPC at `/` to clients of protocol 1.0 and 0.3. `weather_agent` runs it as a process; a test may put the
application behind an in-process transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from a2a.helpers import new_data_part, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Part, Task, TaskState, TaskStatus
from starlette.applications import Starlette

from testbench import __version__
from testbench.samples.weather_dialogue import DialogueReply, RecentConversations, RecentTasks, ToolUse, answer
from testbench.samples.weather_knowledge import CITIES, DEFAULT_NOW

AGENT_NAME: Final = "weather-agent"

PAUSED_TASK_TIMEOUT_S: Final = 5.0
"""Seconds after which the machinery of a task that waits for the user is freed; the task itself can still go on."""


@dataclass(frozen=True)
class Behaviour:
    """What can be set about the agent: its "now", and how long it thinks before it answers."""

    now: datetime = DEFAULT_NOW
    latency_s: float = 0.0


def build_app(url: str, behaviour: Behaviour = Behaviour()) -> Starlette:
    """The ASGI application of an agent whose card says that it is reached at `url`."""
    card = _agent_card(url)
    handler = DefaultRequestHandler(
        agent_executor=WeatherExecutor(behaviour),
        task_store=RecentTasks(),
        agent_card=card,
        interrupted_task_timeout=PAUSED_TASK_TIMEOUT_S,
    )

    @asynccontextmanager
    async def drain_at_the_end(_: Starlette) -> AsyncIterator[None]:
        yield
        await handler.aclose()

    routes = [*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/", enable_v0_3_compat=True)]
    return Starlette(routes=routes, lifespan=drain_at_the_end)


class WeatherExecutor(AgentExecutor):
    """Answers one message of one task; conversations in flight share nothing but the bounded memory."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._conversations = RecentConversations()

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        task_id, context_id = _ids(context)
        updater = TaskUpdater(event_queue, task_id, context_id)
        if context.current_task is None:
            submitted = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
            said = [context.message] if context.message else []
            await event_queue.enqueue_event(Task(id=task_id, context_id=context_id, status=submitted, history=said))
        await updater.start_work()
        if self._behaviour.latency_s:
            await asyncio.sleep(self._behaviour.latency_s)
        # No await between reading and writing the memory: messages of one conversation cannot mix.
        memory = self._conversations.recall(context_id)
        reply, memory = answer(context.get_user_input(), memory, self._behaviour.now)
        self._conversations.remember(context_id, memory)
        await _send(reply, updater)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await TaskUpdater(event_queue, *_ids(context)).cancel()


async def _send(reply: DialogueReply, updater: TaskUpdater) -> None:
    text = [new_text_part(reply.text)]
    metadata = {"adk_app_name": AGENT_NAME, "adk_session_id": updater.context_id, "adk_usage_metadata": _usage(reply)}
    if reply.needs_input:
        question = updater.new_agent_message(text)
        await updater.update_status(TaskState.TASK_STATE_INPUT_REQUIRED, question, metadata=metadata)
        return
    if reply.tool_uses:
        numbered = [(f"{updater.task_id}-{number}", use) for number, use in enumerate(reply.tool_uses, start=1)]
        calls = [_tool_part("function_call", call_id, use, "args", use.args) for call_id, use in numbered]
        results = [_tool_part("function_response", call_id, use, "response", use.response) for call_id, use in numbered]
        await updater.start_work(updater.new_agent_message(calls))
        await updater.start_work(updater.new_agent_message(results))
    await updater.start_work(updater.new_agent_message(text))
    await updater.add_artifact(text, last_chunk=True)
    await updater.update_status(TaskState.TASK_STATE_COMPLETED, metadata=metadata)


def _tool_part(
    adk_type: Literal["function_call", "function_response"],
    call_id: str,
    use: ToolUse,
    key: Literal["args", "response"],
    value: Mapping[str, Any],
) -> Part:
    part = new_data_part({"id": call_id, "name": use.name, key: dict(value)})
    part.metadata.update({"adk_type": adk_type})
    return part


def _usage(reply: DialogueReply) -> dict[str, int]:
    return {
        "promptTokenCount": reply.prompt_tokens,
        "candidatesTokenCount": reply.candidates_tokens,
        "totalTokenCount": reply.prompt_tokens + reply.candidates_tokens,
    }


def _ids(context: RequestContext) -> tuple[str, str]:
    if context.task_id is None or context.context_id is None:
        raise ValueError("the request handler gives every message a task and a context")
    return context.task_id, context.context_id


def _agent_card(url: str) -> AgentCard:
    names = ", ".join(city.name for city in CITIES)
    skills = (
        ("get_weather", "Weather", f"The weather in {names}.", "What is the weather like in London?"),
        ("get_current_time", "Local time", f"The local time in {names}.", "What time is it in Tokyo?"),
    )
    return AgentCard(
        name=AGENT_NAME,
        description="Answers questions about the weather and the local time in a few cities, always the same way.",
        version=__version__,
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version=version) for version in ("1.0", "0.3")
        ],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[
            AgentSkill(id=skill, name=name, description=description, tags=["weather"], examples=[example])
            for skill, name, description, example in skills
        ],
    )
