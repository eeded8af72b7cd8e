"""A real MCP server of the official SDK over streamable HTTP, under uvicorn in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, cast

import uvicorn
from mcp.server.mcpserver import MCPServer

from tests.support.servers.scripting import PATIENCE_SECONDS


class McpToolServer:
    """Serves the functions that it is given as tools at `url`, until it is closed.

    `headers` holds those of every request. With `token`, a request without it as bearer is answered 401.
    """

    def __init__(self, *tools: Callable[..., Any], token: str | None = None) -> None:
        self.headers: list[dict[str, str]] = []
        self._token = token
        server = MCPServer("tools", log_level="CRITICAL")
        for tool in tools:
            server.add_tool(tool)
        self._app = server.streamable_http_app()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else answers wait 40 ms for a receipt
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/mcp"
        self._server = uvicorn.Server(
            uvicorn.Config(
                cast(Any, self._serve),
                interface="asgi3",
                log_level="critical",
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._up.wait(PATIENCE_SECONDS):
            raise TimeoutError("the MCP server did not start")

    def cut(self) -> None:
        """Cut all connections; to be called by a tool."""
        for connection in list(self._server.server_state.connections):
            cast(Any, connection).transport.abort()

    def close(self) -> None:
        """Stop serving. May be called again."""
        self._server.should_exit = True
        self._thread.join(PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.run(self._server.serve([self._socket]))

    async def _serve(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan":
            send = self._noting_start(send)
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self.headers.append(headers)
            if self._token is not None and headers.get("authorization") != f"Bearer {self._token}":
                await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body", "body": b""})
                return
        await self._app(scope, receive, send)

    def _noting_start(self, send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        async def noting(message: Any) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._up.set()  # the socket listens since it was made: whoever comes now waits for a moment

        return noting
