"""The frames of the reference system's agent WebSocket, as far as a text conversation needs them. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


class UnreadableFrameError(Exception):
    """A frame that is no JSON object with a type."""


@dataclass(frozen=True)
class Frame:
    """One frame of the server; what it does not have is empty. Types that say nothing here are passed over."""

    type: str
    session_id: str = ""
    text: str = ""
    role: str = ""
    call_id: str = ""
    call_name: str = ""
    call_arguments: dict[str, Any] | str = ""
    result: str = ""
    error_code: str = ""
    error_message: str = ""


def read_frame(data: str | bytes) -> Frame:
    """The meaning of a frame; a binary one carries media and means nothing.

    Raises:
        UnreadableFrameError: it has none.
    """
    if isinstance(data, bytes):
        return Frame("binary")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableFrameError(str(error)) from error
    if not isinstance(content, dict) or not isinstance(content.get("type"), str):
        raise UnreadableFrameError("no object with a type")
    call, result, fault = (_object(content.get(key)) for key in ("tool_call", "tool_result", "error"))
    arguments = call.get("arguments")
    return Frame(
        type=content["type"],
        session_id=_text(content.get("session_id")),
        text=_said(content),
        role=_text(content.get("role")),
        call_id=_text(call.get("id")),
        call_name=_text(call.get("name")),
        call_arguments=arguments if isinstance(arguments, dict | str) else {} if arguments is None else str(arguments),
        result=_text(result.get("error")) or _as_json(result.get("result")),
        error_code=_text(fault.get("code")),
        error_message=_text(fault.get("message")) or _text(content.get("content")),
    )


def result_frame(session_id: str, call_id: str, result: str) -> dict[str, Any]:
    """What a tool said, as the client answers a call; a tool's own error is named as one."""
    try:
        value = json.loads(result)
    except (ValueError, RecursionError):
        value = result
    failed = isinstance(value, dict) and value.keys() == {"error"} and isinstance(value["error"], str)
    outcome = {"error": value["error"]} if failed else {"result": value}
    return {"type": "tool_result", "session_id": session_id, "tool_result": {"call_id": call_id, **outcome}}


def _said(content: dict[str, Any]) -> str:
    """The text of the parts, which come before the plain content where there are any."""
    parts = content.get("parts")
    if isinstance(parts, list) and parts:
        return "".join(_text(part.get("text")) for part in parts if isinstance(part, dict))
    return _text(content.get("content"))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _as_json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
