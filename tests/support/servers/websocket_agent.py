"""An agent behind a real WebSocket server in a thread, which answers with the frames that a test gives it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeAlias

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.support.servers.scripting import PATIENCE_SECONDS

Item: TypeAlias = "Mapping[str, Any] | str"
"""A frame, sent as JSON; a text, sent as it is; or one of the words below."""

AWAIT_RESULT = "<await the client's tool_result>"
DROP = "<cut the connection>"
HANG = "<say nothing more>"


def chunk(text: str) -> Item:
    return {"type": "chunk", "content": text}


def done(text: str = "") -> Item:
    return {"type": "done", "content": text}


def call(name: str, arguments: Any, call_id: str = "c1") -> Item:
    return {"type": "tool_call", "tool_call": {"id": call_id, "name": name, "arguments": arguments}}


def error(code: str, message: str = "") -> Item:
    return {"type": "error", "error": {"code": code, "message": message}}


class WebSocketAgent:
    """`url` greets every connection and answers every message with the next script, the last one for good.

    Without a script it answers "answer to: " and the message. `received` holds all frames of clients, `headers` those
    of every connection, `open` the number of connections.
    """

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.greeting: Item = {"type": "connected"}
        self.refuse_next: list[int] = []
        self.open = 0
        self._scripts: list[Sequence[Item]] = []
        self._changed = threading.Condition()
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        if not self._up.wait(PATIENCE_SECONDS):
            raise TimeoutError("the WebSocket agent did not start")

    def says(self, *scripts: Sequence[Item]) -> None:
        """The answers in turn, the last one for good."""
        self._scripts = list(scripts)

    def cut(self) -> None:
        """Cut all connections, and wait until that is done."""
        for connection in tuple(self._connections):
            self._loop.call_soon_threadsafe(connection.transport.abort)
        self.wait_open(0)

    def wait_open(self, connections: int) -> None:
        """Block until so many connections are open."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.open == connections, PATIENCE_SECONDS):
                raise TimeoutError(f"{self.open} connections instead of {connections}")

    @property
    def messages(self) -> list[str]:
        """What was said to the agent."""
        return [frame["content"] for frame in self.received if frame["type"] == "message"]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._connections: set[ServerConnection] = set()
        async with serve(self._talk, "127.0.0.1", 0, process_request=self._admit, close_timeout=0.1) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
            self._up.set()
            await self._end.wait()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.headers.append({name.lower(): value for name, value in request.headers.raw_items()})
        if self.refuse_next:
            return connection.respond(HTTPStatus(self.refuse_next.pop(0)), "no")
        return None

    async def _talk(self, connection: ServerConnection) -> None:
        self._connections.add(connection)
        self._count(1)
        try:
            greeting = self.greeting
            if isinstance(greeting, dict):
                greeting = {"session_id": f"session-{len(self.headers)}", **greeting}
            await self._say(connection, greeting)
            async for data in connection:
                frame = json.loads(data)
                self.received.append(frame)
                if frame["type"] == "message":
                    for item in self._next(frame["content"]):
                        await self._say(connection, item)
        except ConnectionClosed:
            pass
        finally:
            self._connections.discard(connection)
            self._count(-1)

    async def _say(self, connection: ServerConnection, item: Item) -> None:
        if item == DROP:
            connection.transport.abort()
        elif item == HANG:
            await connection.wait_closed()
        elif item == AWAIT_RESULT:
            self.received.append(json.loads(await connection.recv()))
        else:
            await connection.send(item if isinstance(item, str) else json.dumps(item))

    def _next(self, text: str) -> Sequence[Item]:
        if not self._scripts:
            return [chunk("answer "), chunk(f"to: {text}"), done()]
        return self._scripts[0] if len(self._scripts) == 1 else self._scripts.pop(0)

    def _count(self, change: int) -> None:
        with self._changed:
            self.open += change
            self._changed.notify_all()
