"""Tools over HTTP: each answers a POST of its arguments at `/NAME` with what a test gave it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.support.servers.loopback import LoopbackServer, Reply
from tests.support.servers.scripting import Request


class ToolServer(LoopbackServer):
    """`tool(name, result)` serves a tool and returns its URL; a callable gets the arguments and returns the result."""

    def __init__(self) -> None:
        self._tools: dict[str, Callable[[Any], Any]] = {}
        super().__init__()

    def tool(self, name: str, result: Any) -> str:
        self._tools[name] = result if callable(result) else lambda _: result
        return f"{self.origin}/{name}"

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """Names and arguments in the order of arrival, failed requests included."""
        return [(request.path[1:], request.json()) for request in self.requests]

    def reply_to(self, request: Request) -> Reply:
        name = request.path[1:]
        if name not in self._tools:
            return Reply(404, b"no such tool")
        result = self._tools[name](request.json())
        content = result if isinstance(result, bytes) else json.dumps(result).encode()
        return Reply(200, content, {"content-type": "application/json"})
