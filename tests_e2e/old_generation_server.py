"""An agent on the SDK of generation 0.3, as many that run today: started in an environment of its own.

It cannot be imported beside the SDK of generation 1, and so it is checked by being run: `test_old_generation.py`.
"""
# mypy: ignore-errors
# (the modules that it imports are not in the environment that is type-checked)

from __future__ import annotations

import asyncio
import socket

import uvicorn
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.apps import A2AStarletteApplication
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, DataPart, MessageSendConfiguration, Part, TaskState, TextPart
from a2a.utils import new_agent_text_message, new_task

POLLED = asyncio.Event()


def text_part(text: str) -> Part:
    return Part(root=TextPart(text=text))


def call_part() -> Part:
    """A tool call as Google ADK writes it."""
    call = {"id": "call-1", "name": "get_weather", "args": {"city": "Berlin"}}
    return Part(root=DataPart(data=call, metadata={"adk_type": "function_call"}))


class Agent(AgentExecutor):
    """Does what the first word of a message says."""

    def __init__(self) -> None:
        self.heard: dict[str, list[str]] = {}

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        text = context.get_user_input()
        heard = self.heard.setdefault(context.context_id, [])
        heard.append(text)
        if text.startswith("message"):
            await event_queue.enqueue_event(new_agent_text_message(f"said: {text}", context_id=context.context_id))
            return
        task = context.current_task
        resumed = task is not None
        if task is None:
            task = new_task(context.message)
            await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        if text.startswith("ask") and not resumed:
            question = updater.new_agent_message([text_part("which city?")])
            await updater.update_status(TaskState.input_required, question, final=True)
            return
        if text.startswith("fail"):
            await updater.failed(updater.new_agent_message([text_part("no ticket")]))
            return
        await updater.start_work()
        if text.startswith("poll"):
            await POLLED.wait()
        if text.startswith("tool"):
            await updater.start_work(updater.new_agent_message([call_part()]))
        if text.startswith("chunks"):
            for number, piece in enumerate(("It is ", "sunny ", "in Berlin.")):
                last = number == 2
                await updater.add_artifact(
                    [text_part(piece)], artifact_id="a1", name="answer", append=number > 0, last_chunk=last
                )
        else:
            await updater.add_artifact([text_part(" | ".join(heard))], name="answer")
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


class Handler(DefaultRequestHandler):
    """Answers a `poll` message while the task still works, and lets it end once it was asked for."""

    async def on_message_send(self, params, context=None):
        if any(getattr(part.root, "text", "").startswith("poll") for part in params.message.parts):
            params.configuration = MessageSendConfiguration(blocking=False)
        return await super().on_message_send(params, context)

    async def on_get_task(self, params, context=None):
        task = await super().on_get_task(params, context)
        POLLED.set()
        return task


def main() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    card = AgentCard(
        name="old agent",
        description="of generation 0.3",
        url="http://nowhere.invalid/",
        version="3",
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[],
    )
    handler = Handler(agent_executor=Agent(), task_store=InMemoryTaskStore())
    app = A2AStarletteApplication(agent_card=card, http_handler=handler).build()
    print(f"ready at {url}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listening])


if __name__ == "__main__":
    main()
