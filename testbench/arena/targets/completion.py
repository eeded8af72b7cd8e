"""Chat completions in the OpenAI format, whole or as a stream of events: from bytes to what the model said. Pure.

Gateways differ in what they add and leave out, so only what is needed is read: `ChatClient` decides what it means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from testbench.schema.models import Usage

Json: TypeAlias = dict[str, Any]

DONE: Final = b"[DONE]"
MAX_CALLS: Final = 64
"""Tool calls of one message beyond which it is no message of a sane model."""


class UnreadableError(Exception):
    """Bytes that are no chat completion."""


class EventError(Exception):
    """A stream that says that something went wrong; `status` is the code it gives, 0 if none."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


@dataclass(frozen=True)
class RequestedCall:
    """A tool call as the model wrote it: its arguments are text that should be JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Completion:
    """What the model said: text, tool calls or both, and why it stopped."""

    text: str
    calls: tuple[RequestedCall, ...]
    finish_reason: str | None
    usage: Usage | None


def _text(content: Any) -> Any:
    """The text of a content that some gateways send as parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return content


class _Function(BaseModel):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(BaseModel):
    index: int | None = None
    id: str | None = None
    function: _Function = _Function()


class _Message(BaseModel):
    content: Annotated[str | None, BeforeValidator(_text)] = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(BaseModel):
    index: int = 0
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Tokens(BaseModel):
    prompt_tokens: int | None = Field(default=None, ge=0)
    completion_tokens: int | None = Field(default=None, ge=0)
    cost: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class _Chunk(BaseModel):
    choices: list[_Choice] = []
    usage: _Tokens | None = None
    error: Any = None


@dataclass
class _PartialCall:
    id: str
    name: str = ""
    arguments: str = ""


@dataclass
class Reading:
    """A completion as it arrives; `text_begun` from the first character of the answer on."""

    texts: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage | None = None
    begun: bool = False
    text_begun: bool = False
    done: bool = False
    _calls: list[_PartialCall] = field(default_factory=list)
    _places: dict[int, int] = field(default_factory=dict)

    def add(self, payload: bytes) -> None:
        """Take in one event of a stream, or a whole reply.

        Raises:
            UnreadableError: it is neither.
            EventError: it is an error.
        """
        if payload == DONE:
            self.done = True
            return
        try:
            chunk = _Chunk.model_validate_json(payload)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise UnreadableError(f"{where}: {first['msg']}" if where else first["msg"]) from error
        if chunk.error is not None:
            raise EventError(_code(chunk.error), payload)
        if chunk.usage is not None:
            tokens = chunk.usage
            self.usage = Usage(
                input_tokens=tokens.prompt_tokens, output_tokens=tokens.completion_tokens, cost_usd=tokens.cost
            )
        for choice in chunk.choices:
            if choice.index == 0:
                self._take(choice)

    def completion(self) -> Completion:
        """All that was said.

        Raises:
            UnreadableError: the end is missing.
        """
        if self.finish_reason is None and not self.done:
            raise UnreadableError("it ends before the model has finished")
        calls = tuple(
            RequestedCall(call.id or f"call_{number}", call.name, call.arguments)
            for number, call in enumerate(self._calls)
        )
        return Completion("".join(self.texts), calls, self.finish_reason, self.usage)

    def _take(self, choice: _Choice) -> None:
        self.begun = True
        message = choice.message or choice.delta or _Message()
        said = message.content or message.refusal or ""
        if said:
            self.texts.append(said)
            self.text_begun = True
        for call in message.tool_calls or ():
            self._take_call(call)
        self.finish_reason = choice.finish_reason or self.finish_reason

    def _take_call(self, call: _Call) -> None:
        """A call, or more of one: pieces share an index; a new id at a known index is another call."""
        place = self._places.get(call.index) if call.index is not None else None
        if place is None or (call.id and self._calls[place].id not in ("", call.id)):
            place = len(self._calls)
            if place >= MAX_CALLS:
                raise UnreadableError(f"more than {MAX_CALLS} tool calls in one message")
            self._calls.append(_PartialCall(call.id or ""))
            if call.index is not None:
                self._places[call.index] = place
        partial, function = self._calls[place], call.function
        partial.id = partial.id or call.id or ""
        partial.name += function.name or ""
        partial.arguments += _arguments(function.arguments)


def whole(body: bytes) -> Completion:
    """The completion of a reply that was not streamed.

    Raises:
        UnreadableError, EventError: there is none.
    """
    reading = Reading()
    reading.add(body)
    if not reading.begun:
        raise UnreadableError("it holds no choice")
    reading.done = True
    return reading.completion()


class EventStream:
    """Server-sent events: bytes in, the data of each event out."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The events that are complete with these bytes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r"))

    def end(self) -> Iterator[bytes]:
        """The last event, where the blank line after it is missing."""
        yield from self._line(self._rest.removesuffix(b"\r"))
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[bytes]:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            yield b"\n".join(self._data)
            self._data = []


def _arguments(arguments: str | dict[str, Any] | None) -> str:
    if isinstance(arguments, dict):
        return json.dumps(arguments)
    return arguments or ""


def _code(error: Any) -> int:
    code = error.get("code") or error.get("status") if isinstance(error, dict) else None
    return code if isinstance(code, int) and not isinstance(code, bool) else 0
