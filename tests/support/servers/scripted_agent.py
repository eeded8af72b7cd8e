"""A real A2A agent on loopback: the SDK's own server under uvicorn in a thread, with faults at the HTTP edge.

What it answers is decided by `tests.support.servers.agent_answers`; `RawAgent` (hand-written 0.3 replies) is in
`tests.support.servers.raw_agent` and re-exported here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import isinf
from typing import Any, Literal, cast

os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")  # read when a2a is imported

import uvicorn
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    GetTaskRequest,
    Message,
    SendMessageRequest,
    Task,
)
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as AsgiMessage

from tests.support.servers.agent_answers import Behaviour, Exchange, by_magic, split_magic
from tests.support.servers.raw_agent import RawAgent
from tests.support.servers.scripting import PATIENCE_SECONDS, Fault, Request, ScriptedServer

__all__ = ["Exchange", "RawAgent", "Received", "ScriptedAgent"]

SENDING_METHODS = frozenset({"SendMessage", "SendStreamingMessage", "message/send", "message/stream"})
REST_SENDING = ("message:send", "message:stream")

logging.getLogger("a2a.server").setLevel(logging.CRITICAL)  # the SDK logs a traceback for every scripted crash


@dataclass(frozen=True)
class Received:
    """A message that reached the agent, as it was sent: ids that the client left out are empty."""

    text: str
    context_id: str
    task_id: str
    message_id: str
    method: str
    headers: Mapping[str, str]
    params: Mapping[str, Any]


class ScriptedAgent(ScriptedServer):
    """An A2A agent at `url` until it is closed.

    `behaviour` decides about every message (default: magic input texts). `protocol` says what the card offers, and
    "0.3-compat" also lets the server understand 0.3 requests. `advertised_origin` puts another scheme and host into the
    card. Without a `card` the card's address answers 404. `path` is where the agent is mounted. `binding` is the one
    transport that the card names; HTTP+JSON (REST) is served in place of JSON-RPC, and GRPC by nobody.
    """

    def __init__(
        self,
        behaviour: Behaviour = by_magic,
        *,
        card: bool = True,
        protocol: Literal["1.0", "0.3-compat"] = "1.0",
        streaming: bool = False,
        advertised_origin: str | None = None,
        path: str = "",
        binding: Literal["JSONRPC", "HTTP+JSON", "GRPC"] = "JSONRPC",
    ) -> None:
        super().__init__()
        self.behaviour = behaviour
        self.received: list[Received] = []
        self.heard: dict[str, list[str]] = defaultdict(list)
        self.polls: Counter[str] = Counter()
        self.task_asked_for = asyncio.Condition()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else answers wait 40 ms for a receipt
        origin = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = origin + path
        offered = agent_card(f"{advertised_origin or origin}{path}/", protocol, streaming)
        offered.supported_interfaces[0].protocol_binding = binding
        handler = _Handler(self, offered)
        routes: list[BaseRoute] = []
        if binding == "JSONRPC":
            routes += create_jsonrpc_routes(handler, f"{path}/", enable_v0_3_compat=protocol == "0.3-compat")
        if card:
            routes += create_agent_card_routes(offered, card_url=f"{path}/.well-known/agent-card.json")
        if binding == "HTTP+JSON":
            routes += create_rest_routes(handler, path_prefix=path, enable_v0_3_compat=protocol == "0.3-compat")
        self._server = _Uvicorn(_Edge(self, Starlette(routes=routes)), handler)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        if not self._server.up.wait(PATIENCE_SECONDS):
            raise TimeoutError("the scripted agent did not start")

    def fail_card_next(self, n: int = 1, status: int = 503) -> None:
        """Answer the next `n` requests for the card with this status."""
        self._server.edge.card_failures += [status] * n

    def stop(self) -> None:
        """Cut every connection, cancel what the agent still works on, and end its loop."""
        self._server.ask_to_end()
        self._thread.join(PATIENCE_SECONDS)


def agent_card(url: str, protocol: str, streaming: bool) -> AgentCard:
    """A card with one JSON-RPC interface."""
    version = "1.0" if protocol == "1.0" else "0.3"
    skill = AgentSkill(id="script", name="script", description="does what the test says", tags=["test"])
    return AgentCard(
        name="scripted agent",
        description="does what the test says",
        version="1",
        supported_interfaces=[AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version=version)],
        capabilities=AgentCapabilities(streaming=streaming),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[skill],
    )


class _Executor(AgentExecutor):
    def __init__(self, agent: ScriptedAgent) -> None:
        self.agent = agent

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        message, context_id, task_id = context.message, context.context_id or "", context.task_id or ""
        assert message is not None
        text = context.get_user_input()
        heard = self.agent.heard[context_id]
        heard.append(text)
        state = context.call_context.state

        async def polled(times: int) -> None:
            async with self.agent.task_asked_for:
                await self.agent.task_asked_for.wait_for(lambda: self.agent.polls[task_id] >= times)

        exchange = Exchange(
            text=text,
            argument=split_magic(text)[1],
            message=message,
            heard=list(heard),
            resumed=context.current_task is not None,
            streaming="tream" in state.get("method", ""),
            headers=state["headers"],
            queue=event_queue,
            updater=TaskUpdater(event_queue, task_id, context_id),
            gate=self.agent.gate,
            polled=polled,
        )
        await self.agent.behaviour(exchange)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await TaskUpdater(event_queue, context.task_id or "", context.context_id or "").cancel()


class _Handler(DefaultRequestHandler):
    """The SDK's handler, which also counts polls and returns early from `!poll` messages."""

    def __init__(self, agent: ScriptedAgent, card: AgentCard) -> None:
        super().__init__(agent_executor=_Executor(agent), task_store=InMemoryTaskStore(), agent_card=card)
        self.agent = agent

    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Message | Task:
        if any(part.text.startswith("!poll") for part in params.message.parts):
            params.configuration.return_immediately = True
        reply: Message | Task = await super().on_message_send(params, context)
        return reply

    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task | None:
        task: Task | None = await super().on_get_task(params, context)
        self.agent.polls[params.id] += 1
        async with self.agent.task_asked_for:
            self.agent.task_asked_for.notify_all()
        return task


class _Edge:
    """The outermost ASGI layer: records every request and applies the scripted faults around the SDK's server."""

    def __init__(self, agent: ScriptedAgent, app: ASGIApp) -> None:
        self.agent, self.app = agent, app
        self.card_failures: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await HttpRequest(scope, receive).body()
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        request = Request(scope["method"], scope["path"], scope["query_string"].decode(), headers, body)
        with self.agent.handling(request) as fault:
            await self._hold(fault)
            if request.method == "GET" and self.card_failures:
                fault = Fault(status=self.card_failures.pop(0))
            if fault.status:
                await _send_reply(fault, send)
                return
            if not self.agent.closing:
                self._note_message(request)
                await self.app(scope, _replay(body, receive), _discard if fault.drop else send)
            if fault.drop or self.agent.closing:
                # ASGI has no word for hanging up; uvicorn's `send` belongs to the object that owns the connection
                cast(Any, send).__self__.transport.abort()
                await receive()

    async def _hold(self, fault: Fault) -> None:
        if fault.wait_seconds:
            patience = None if isinf(fault.wait_seconds) else fault.wait_seconds
            await asyncio.wait([asyncio.wrap_future(self.agent.gate())], timeout=patience)

    def _note_message(self, request: Request) -> None:
        try:
            call = request.json()
            if request.path.endswith(REST_SENDING):
                call = {"method": request.path.rpartition("/")[2], "params": call}
            message = call["params"]["message"] if call["method"] in (*SENDING_METHODS, *REST_SENDING) else None
        except (ValueError, KeyError, TypeError):
            return  # not a message; the SDK's server says what it is
        if message is not None:
            text = "\n".join(part["text"] for part in message.get("parts", []) if "text" in part)
            self.agent.received.append(
                Received(
                    text=text,
                    context_id=message.get("contextId", ""),
                    task_id=message.get("taskId", ""),
                    message_id=message.get("messageId", ""),
                    method=call["method"],
                    headers=request.headers,
                    params=call["params"],
                )
            )
            self.agent.notify()


async def _send_reply(fault: Fault, send: Send) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in fault.headers.items()]
    headers.append((b"content-length", str(len(fault.body)).encode()))
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": fault.body})


def _replay(body: bytes, receive: Receive) -> Receive:
    unread: list[AsgiMessage] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> AsgiMessage:
        return unread.pop() if unread else await receive()

    return replay


async def _discard(message: AsgiMessage) -> None:
    """The answer that nobody gets."""


class _Uvicorn(uvicorn.Server):
    """uvicorn without its ticks and grace periods: it starts and ends at once."""

    def __init__(self, edge: _Edge, handler: _Handler) -> None:
        app = cast(Any, edge)  # uvicorn spells the ASGI types differently from Starlette
        super().__init__(
            uvicorn.Config(app, lifespan="off", log_level="critical", access_log=False, proxy_headers=False)
        )
        self.edge, self.handler = edge, handler
        self.up = threading.Event()

    def ask_to_end(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        await self._end.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            cast(Any, connection).transport.abort()
        await self.handler.aclose()
