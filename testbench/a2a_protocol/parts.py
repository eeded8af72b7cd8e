"""The parts of an A2A message as plain items: text, tool calls and results, data, files; and token usage in metadata.

Called by `testbench.a2a_protocol.reply`. Protobuf keeps every number as a double and the order of keys is lost on the
way, so whole numbers become int again (large ones come as text, see `testbench.a2a_protocol.tolerance`) and JSON is
written with sorted keys. Tool calls are known in the shapes of
Google ADK (`adk_type`), of the SDK's samples, and of OpenAI's and LangChain's tool calls.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

from a2a.types import Part
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message as Protobuf
from pydantic import ValidationError
from pydantic_core import from_json

from testbench.a2a_protocol.tolerance import exact_integer
from testbench.schema.models import ToolCall, Usage

ARGUMENTS: Final = ("args", "arguments", "input", "parameters")
RESULTS: Final = ("response", "result", "output", "content")
CALL_TYPES: Final = frozenset({"function_call", "tool_call", "tool_use"})
RESULT_TYPES: Final = frozenset({"function_response", "tool_response", "tool_result"})
THOUGHTS: Final = ("adk_thought", "thought", "thinking", "reasoning")
"""In a part's metadata: as a key that is true, or as the value of `type`."""
SENTENCE_ENDS: Final = tuple('.!?:;…)]"”»*`|')
NEW_LINE: Final = re.compile(r"[-*+#>|•]\s|\d{1,3}[.)]\s")
"""How a line of a list, a heading or a table begins."""
INPUT_TOKENS: Final = ("promptTokenCount", "prompt_token_count", "input_tokens", "prompt_tokens", "inputTokens")
OUTPUT_TOKENS: Final = (
    ("candidatesTokenCount", "candidates_token_count", "output_tokens", "completion_tokens", "outputTokens"),
    ("thoughtsTokenCount", "thoughts_token_count"),
)
INTERRUPT_KEYS: Final = frozenset({"id", "interrupt_id", "value", "ns", "resumable", "when"})
QUESTIONS: Final = ("question", "query", "prompt", "message", "text")
USAGES: Final = ("adk_usage_metadata", "usage_metadata", "usage")
DEEPEST: Final = 100
"""Levels of nesting that are taken over, as in protobuf: a file with many more could not be read again."""


@dataclass(frozen=True)
class PartItem:
    """One part: `text` of a text, a thought or a tool's result, `call` of a call, `value` of data or about a file."""

    kind: Literal["text", "thought", "call", "result", "data", "file"]
    text: str = ""
    call: ToolCall | None = None
    value: Any = None
    id: str | None = None


def items_of_parts(parts: Iterable[Part]) -> tuple[PartItem, ...]:
    """The parts in order; empty parts say nothing."""
    return tuple(item for part in parts for item in _items(part))


def items_of_metadata(metadata: Protobuf) -> tuple[PartItem, ...]:
    """Tool calls that a message names only in its metadata."""
    if not metadata.ByteSize():
        return ()
    calls = plain(metadata).get("tool_calls")
    return tuple(item for call in _list(calls) if isinstance(call, dict) and (item := _call(call)))


def plain(message: Protobuf) -> Any:
    """Protobuf as plain data, with whole numbers as int."""
    return _whole(MessageToDict(message))


def json_text(value: Any) -> str:
    """A value as the text of a turn; text stays as it is."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def join_texts(texts: Sequence[str]) -> str:
    """Text parts as one text.

    Parts that carry their own white space at a seam are the chunks of a stream and follow each other as they are;
    others are paragraphs.
    """
    chunks = any(before[-1:].isspace() or after[:1].isspace() for before, after in pairwise(texts))
    return ("" if chunks else "\n").join(texts)


def are_chunks(texts: Sequence[str]) -> bool:
    """Whether messages that follow each other are a text in pieces: most seams have white space of the text's own."""
    seams = [before[-1:].isspace() or after[:1].isspace() for before, after in pairwise(texts)]
    return len(seams) > 1 and 2 * sum(seams) > len(seams)


def join_chunks(texts: Sequence[str]) -> str:
    """Text parts of one artifact as one text.

    A streaming agent adds a part for each piece that its model wrote, so they follow each other as they are; where
    every part looks like a paragraph of its own, whole sentences side by side without white space, each gets a line.
    """
    seams = list(pairwise(texts))
    apart = seams and all(_is_paragraph(before) and _begins_anew(after) for before, after in seams)
    return ("\n" if apart else "").join(texts)


def _is_paragraph(text: str) -> bool:
    return text.endswith(SENTENCE_ENDS) and " " in text.strip()


def _begins_anew(text: str) -> bool:
    return (text[:1].isupper() or NEW_LINE.match(text) is not None) and " " in text.strip()


def usage_of(*metadata: Protobuf) -> Usage | None:
    """The sum of the token usage that these metadata report; None if none does."""
    found = [usage for one in metadata if one.ByteSize() and (usage := _usage(plain(one)))]
    if not found:
        return None
    return Usage(
        input_tokens=_total([usage[0] for usage in found]), output_tokens=_total([usage[1] for usage in found])
    )


def _items(part: Part) -> list[PartItem]:
    content = part.WhichOneof("content")
    if content is None:
        return []
    metadata = plain(part.metadata) if part.HasField("metadata") else {}
    if content == "text":
        return [PartItem("thought" if _is_thought(metadata) else "text", text=part.text)] if part.text else []
    if content == "data":
        return _data_items(plain(part.data), metadata)
    return [PartItem("file", value=_file(part))]


def _is_thought(metadata: Mapping[str, Any]) -> bool:
    declared = metadata.get("type") or metadata.get("kind")
    return declared in THOUGHTS or any(metadata.get(name) in (True, "true") for name in THOUGHTS)


def interrupt_question(data: Any) -> str | None:
    """Return what a waiting task asks in the data of LangGraph's interrupts; None for other data."""
    if not isinstance(data, dict) or "value" not in data or not data.keys() <= INTERRUPT_KEYS:
        return None
    value = data["value"]
    named = value if isinstance(value, dict) else {}
    asked = next((named[key] for key in QUESTIONS if isinstance(named.get(key), str)), "")
    return asked or json_text(value)


def _data_items(data: Any, metadata: Mapping[str, Any]) -> list[PartItem]:
    if isinstance(data, dict):
        calls = [item for call in _list(data.get("tool_calls")) if isinstance(call, dict) and (item := _call(call))]
        if calls:
            return calls
        declared = metadata.get("adk_type") or metadata.get("type") or data.get("type")
        if declared in RESULT_TYPES or (declared not in CALL_TYPES and "name" in data and "response" in data):
            return [_result(data)]
        is_call = declared in CALL_TYPES or declared == "function" or (declared is None and _looks_like_a_call(data))
        if is_call and (item := _call(data)):
            return [item]
    return [PartItem("data", value=data)]


def _looks_like_a_call(data: Mapping[str, Any]) -> bool:
    return isinstance(data.get("name"), str) and isinstance(data.get("args", data.get("arguments")), dict | str)


def _call(data: Mapping[str, Any]) -> PartItem | None:
    """A tool call in any of the known shapes, or None if it names no tool."""
    named = data["function"] if isinstance(data.get("function"), dict) else data
    arguments: Any = next((named[key] for key in ARGUMENTS if key in named), {})
    if isinstance(arguments, str):
        arguments = _parsed(arguments)
    if not isinstance(arguments, dict):
        arguments = {"value": arguments}
    try:
        return PartItem("call", call=ToolCall(name=named.get("name"), args=arguments), id=_id("call", data))
    except ValidationError:
        return None


def _result(data: Mapping[str, Any]) -> PartItem:
    value = next((data[key] for key in RESULTS if key in data), None)
    return PartItem("result", text=json_text(value), id=_id("result", data))


def _id(kind: str, data: Mapping[str, Any]) -> str | None:
    found = next((data[key] for key in ("id", "call_id", "tool_call_id", "tool_use_id") if data.get(key)), None)
    return f"{kind} {found}" if found is not None else None


def _parsed(text: str) -> Any:
    """Arguments that came as JSON; what no file could hold (half a character, no number, too deep) stays text."""
    try:
        return _whole(from_json(text, allow_inf_nan=False))
    except ValueError:
        return text


def _file(part: Part) -> dict[str, Any]:
    """What is known of a file; its bytes stay out of the experiment, their digest tells two apart."""
    known: dict[str, Any] = {"name": part.filename, "media_type": part.media_type, "url": part.url}
    if part.WhichOneof("content") == "raw":
        known |= {"bytes": len(part.raw), "sha256": hashlib.sha256(part.raw).hexdigest()}
    return {name: value for name, value in known.items() if value != ""}


def _usage(metadata: Mapping[str, Any]) -> tuple[int | None, int | None] | None:
    reported = next((metadata[key] for key in USAGES if isinstance(metadata.get(key), dict)), None)
    if reported is None:
        return None
    return _first_count(reported, INPUT_TOKENS), _total([_first_count(reported, names) for names in OUTPUT_TOKENS])


def _first_count(reported: Mapping[str, Any], names: Iterable[str]) -> int | None:
    counts = (reported[name] for name in names if name in reported)
    return next((count for count in counts if isinstance(count, int) and count >= 0), None)


def _total(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _whole(value: Any, room: int = DEEPEST) -> Any:
    """`value` with whole numbers as int; ValueError if it is nested more than `room` deep, or holds an infinity."""
    if not room:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        number = exact_integer(value)
        return value if number is None else number
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("no finite number")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item, room - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item, room - 1) for item in value]
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
