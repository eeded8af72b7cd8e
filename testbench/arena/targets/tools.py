"""Tools for chat targets: what is offered, and how a call is executed: over HTTP, by an MCP server, or mocked.

A tool's own error (bad arguments, nothing found, `isError`) is an answer: the model is told, and what it makes of that
is its own doing. A tool that is down is none: it ends the step with the error kind `tool_unavailable`, because a model
that cannot look anything up must not be taken for one that knows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from testbench.arena.targets.target import HttpHandler, MockHandler, Tool
from testbench.arena.targets.tool_calls import (
    ERROR_CHARS,
    ArgumentFault,
    Json,
    _as_text,
    make_error_result,
    make_unavailable_error,
    parse_arguments,
)
from testbench.errors import InputError
from testbench.net.endpoint import (
    HttpEndpoint,
    HttpFaultError,
    Instrument,
    ReplyTooLongError,
    no_instrument,
    read_reply,
)
from testbench.safe_text import hide_secrets, redact_line, redact_url

OWN_ERRORS: Final = frozenset({400, 409, 422})
"""Statuses with which a tool says that it does not like the arguments. A 404 also comes from a wrong address, and
so is no answer: a tool that found nothing says so with 200."""


class ToolBox:
    """The tools of a target; calls of all its conversations go through it."""

    def __init__(self, tools: Sequence[Tool], instrument: Instrument = no_instrument) -> None:
        """
        Raises:
            InputError: two tools have one name, or a schema of arguments is none.
        """
        self._tools = {tool.name: tool for tool in tools}
        if len(self._tools) < len(tools):
            names = [tool.name for tool in tools]
            twice = sorted({name for name in names if names.count(name) > 1})
            message = f"several tools are called {', '.join(twice)}"
            raise InputError(message, hint="Leave one of the ToolRegistries out, or rename the tool in it.")
        self._checks = {tool.name: _argument_check(tool) for tool in tools}
        self._instrument = instrument
        self._endpoints: dict[str, HttpEndpoint] = {}

    @property
    def offered(self) -> list[Json]:
        """Return the tools as a chat request names them."""
        return [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.input_schema),
                },
            }
            for tool in self._tools.values()
        ]

    async def call(self, name: str, arguments: str | Json) -> str:
        """Return what the tool answers, or what is wrong with the call, as the model is told.

        Raises:
            AgentError: `tool_unavailable`; retryable where the call cannot have arrived.
        """
        tool = self._tools.get(name)
        if tool is None:
            names = ", ".join(self._tools) or "none"
            return make_error_result(f"there is no tool {name!r:.100}; there are: {names}")
        known = parse_arguments(arguments)
        if isinstance(known, ArgumentFault):
            return make_error_result(known.message)
        if fault := next(self._checks[name](known), None):
            return make_error_result(f"the arguments do not fit the tool's schema: {fault}")
        return await self._execute(tool, known)

    async def close(self) -> None:
        for endpoint in self._endpoints.values():
            await endpoint.close()
        self._endpoints.clear()

    async def _execute(self, tool: Tool, arguments: Json) -> str:
        handler = tool.handler
        if isinstance(handler, MockHandler):
            return _as_text(handler.result) if handler.error is None else make_error_result(handler.error)
        if isinstance(handler, HttpHandler):
            return await self._post(tool.name, handler, arguments)
        from testbench.arena.targets.mcp_tools import call_mcp

        return await call_mcp(tool.name, handler, arguments)

    async def _post(self, name: str, handler: HttpHandler, arguments: Json) -> str:
        if name not in self._endpoints:
            self._endpoints[name] = HttpEndpoint(handler.url, handler.headers, self._instrument)
        try:
            content = json.dumps(arguments, ensure_ascii=False).encode(errors="replace")
            async with self._endpoints[name].post(content, handler.timeout_s) as response:
                body = await read_reply(response, handler.max_result_bytes)
        except HttpFaultError as fault:
            raise make_unavailable_error(
                name, f"{redact_url(handler.url)}: {fault}", retryable=not fault.sent
            ) from fault
        except ReplyTooLongError as error:
            raise make_unavailable_error(name, f"its result has {error}") from error
        text = body.decode(errors="replace")
        if response.is_success:
            return text
        if response.status_code in OWN_ERRORS:
            return make_error_result(hide_secrets(text, handler.secrets) or f"HTTP {response.status_code}")
        said = redact_line(text, handler.secrets, ERROR_CHARS)
        refused = response.status_code in (429, 503)
        raise make_unavailable_error(name, f"HTTP {response.status_code}: {said}", retryable=refused)


Check: TypeAlias = Callable[[Json], Iterator[str]]


def _argument_check(tool: Tool) -> Check:
    """What is wrong with arguments by the tool's schema.

    Regular expressions in it are left to the tool: on a model's text they may take for ever. References are followed
    inside the schema only: one that names an address must not make this process call it.
    """
    from jsonschema import SchemaError
    from jsonschema.exceptions import best_match
    from jsonschema.validators import extend, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    schema = dict(tool.input_schema)
    base = validator_for(schema)
    hint = "Write inputSchema as a JSON Schema of an object."
    try:
        base.check_schema(schema)
    except SchemaError as error:
        raise InputError(f"the tool {tool.name!r} has no valid input schema: {error.message}", hint=hint) from error
    closed = base.VALIDATORS["additionalProperties"]

    def additional(validator: Any, allowed: Any, value: Any, below: Mapping[str, Any]) -> Iterable[Any]:
        return () if "patternProperties" in below else closed(validator, allowed, value, below)

    def ignored(validator: Any, pattern: Any, value: Any, below: Any) -> Iterable[Any]:
        return ()

    keywords = {"pattern": ignored, "patternProperties": ignored, "additionalProperties": additional}
    bounded = extend(base, keywords)  # type: ignore[no-untyped-call]  # its stubs lack types here
    validator = bounded(schema, registry=Registry())

    def check(arguments: Json) -> Iterator[str]:
        try:
            error = best_match(validator.iter_errors(arguments))
        except (Unresolvable, RecursionError) as fault:
            raise InputError(f"the input schema of {tool.name!r} cannot be followed: {fault}", hint=hint) from fault
        if error is not None:
            yield f"{error.json_path}: {error.message:.300}"

    return check
