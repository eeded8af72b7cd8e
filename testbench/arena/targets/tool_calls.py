"""A tool call as it is recorded, read and answered, whoever executes it. Pure; `tools` and `mcp_tools` stand on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from testbench.errors import AgentError
from testbench.safe_text import printable
from testbench.schema.models import ToolCall

Json: TypeAlias = dict[str, Any]
MAX_ARGUMENT_CHARS: Final = 64 * 1024
ERROR_CHARS: Final = 500
UNPARSED: Final = "unparsed_arguments"
"""Under this name a call is recorded whose arguments are not a JSON object: it equals no expected call."""
HINT: Final = "Check the tool's endpoint in the ToolRegistry, its credentials and its own log."


@dataclass(frozen=True)
class ArgumentFault:
    """Why the arguments of a call cannot be used, as the model is told."""

    message: str


def record_call(name: str, arguments: str | Json) -> ToolCall:
    """Return the call as metrics see it."""
    known = parse_arguments(arguments)
    if isinstance(known, ArgumentFault):
        return ToolCall(name=name, args={UNPARSED: str(arguments)[:ERROR_CHARS]})
    return ToolCall(name=name, args=known)


def parse_arguments(arguments: str | Json) -> Json | ArgumentFault:
    """Return the arguments of a call; none at all are an empty object."""
    if isinstance(arguments, dict):
        return arguments
    if len(arguments) > MAX_ARGUMENT_CHARS:
        return ArgumentFault(f"the arguments are longer than {MAX_ARGUMENT_CHARS} characters")
    try:
        value = json.loads(arguments, parse_constant=_no_number) if arguments.strip() else {}
        json.dumps(value, ensure_ascii=False).encode()  # half of a character can be read, and never written
    except (ValueError, RecursionError) as error:
        return ArgumentFault(f"the arguments are not JSON: {error}")
    return value if isinstance(value, dict) else ArgumentFault("the arguments are not a JSON object")


def make_unavailable_error(name: str, why: str, *, retryable: bool = False) -> AgentError:
    """Return the error of a step whose tool is down."""
    message = printable(f"the tool {name!r} is unavailable: {why}", ERROR_CHARS)
    return AgentError(message, kind="tool_unavailable", retryable=retryable, hint=HINT)


def make_error_result(message: str) -> str:
    """Return a tool's own error as the model is told of it."""
    return json.dumps({"error": message}, ensure_ascii=False)


def _as_text(result: Any) -> str:
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")
