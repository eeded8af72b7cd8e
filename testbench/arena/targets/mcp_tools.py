"""Tools of MCP servers over streamable HTTP, with the official SDK. Imported only where a tool needs it.

Every call opens a connection of its own and closes it: nothing of one conversation is left for another, and a server
that was restarted is found again. The SDK's client belongs to one task and could not be shared by several in flight.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent
from mcp_types import Tool as McpTool
from pydantic import ValidationError

from testbench.arena.targets.target import McpHandler, Tool
from testbench.arena.targets.tool_calls import HINT, Json, make_error_result, make_unavailable_error
from testbench.errors import WorkError
from testbench.net.endpoint import CONNECT_TIMEOUT_S
from testbench.safe_text import hide_secrets, redact_url

MAX_PAGES: Final = 100
FAULTS: Final = (MCPError, httpx2.HTTPError, ValidationError, RuntimeError, TimeoutError, OSError)
"""What the SDK raises where a server is not there, not well, or does not speak MCP."""


async def call_mcp(name: str, handler: McpHandler, arguments: Json) -> str:
    """Return what the tool answers, its own errors included.

    Raises:
        AgentError: `tool_unavailable`; retryable where the server was not even reached.
    """
    reached = False
    try:
        async with _connected(handler) as client:
            reached = True
            result = await client.call_tool(handler.tool or name, arguments)
            # servers also say so of a tool that they do not have, which is no doing of the model's
            known = [tool.name async for tool in _listed(client)] if result.is_error else []
    except _FaultError as fault:
        raise make_unavailable_error(name, str(fault), retryable=not reached) from fault
    if result.is_error and (handler.tool or name) not in known:
        raise make_unavailable_error(name, f"{redact_url(handler.url)} has no such tool")
    text = _text(result)
    if len(text.encode(errors="replace")) > handler.max_result_bytes:
        raise make_unavailable_error(name, f"its result has more than {handler.max_result_bytes} bytes")
    return make_error_result(hide_secrets(text, handler.secrets)) if result.is_error else text


async def discover(handler: McpHandler) -> tuple[Tool, ...]:
    """Return the tools of a server, as it describes them.

    Raises:
        WorkError: it cannot be asked.
    """
    try:
        async with _connected(handler) as client:
            return tuple(
                [
                    Tool(tool.name, handler, tool.description or "", dict(tool.input_schema))
                    async for tool in _listed(client)
                ]
            )
    except _FaultError as fault:
        raise WorkError(f"the tools cannot be listed: {fault}", hint=HINT) from fault


async def _listed(client: Client) -> AsyncIterator[McpTool]:
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            yield tool
        cursor = page.next_cursor
        if not cursor:
            return


class _FaultError(Exception):
    """The server is not there, not well, or does not speak MCP; the text says so without any secret."""


@asynccontextmanager
async def _connected(handler: McpHandler) -> AsyncIterator[Client]:
    headers = dict(handler.headers)
    timeout = httpx2.Timeout(handler.timeout_s, connect=min(CONNECT_TIMEOUT_S, handler.timeout_s))
    try:
        async with (
            asyncio.timeout(handler.timeout_s),
            httpx2.AsyncClient(headers=headers, timeout=timeout) as http,
            Client(streamable_http_client(handler.url, http_client=http), cache=None) as client,
        ):
            yield client
    except FAULTS as error:
        raise _FaultError(_why(error, handler)) from error
    except BaseExceptionGroup as group:  # the SDK's task groups wrap what happens inside them
        known, others = group.split(FAULTS)
        if known is None or others is not None:
            raise
        raise _FaultError(_why(_first(known), handler)) from group


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def _why(error: BaseException, handler: McpHandler) -> str:
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        said = f"no answer within {handler.timeout_s:g} s"
    else:
        said = hide_secrets(str(error), handler.secrets) or type(error).__name__
    return f"{redact_url(handler.url)}: {said}"


def _text(result: CallToolResult) -> str:
    """The text of a result; of what is no text only the kind, and of a result without any the data."""
    if not result.content and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(
        block.text if isinstance(block, TextContent) else f"[{block.type} left out]" for block in result.content
    )
