"""Replies in the OpenAI format: from bytes to what the model said, or to vectors, and what it cost. Pure.

    body, or events of a stream -> PartialCompletion -> Completion
    body                        -> Embeddings

Gateways differ in what they add and leave out, so only what is needed is read; whoever asked decides what it means.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from testbench.schema.files import describe
from testbench.schema.models import Usage

DONE: Final = b"[DONE]"
MAX_CALLS: Final = 64
"""Tool calls of one message beyond which it is not a message of a sane model."""
MAX_TOKENS: Final = 10**12
"""More than this is not a number of tokens."""


class MalformedReplyError(Exception):
    """Bytes that are not the reply that was asked for."""


class ErrorReplyError(Exception):
    """A reply with a good status that says that something went wrong; `status` is the code it gives, 0 if none."""

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
    refusal: str
    """Its words where it refused to answer; they are its text as well if there is no other."""
    calls: tuple[RequestedCall, ...]
    finish_reason: str | None
    usage: Usage | None
    """Tokens, and the cost where the gateway states it; None where it states neither."""


@dataclass(frozen=True)
class Embeddings:
    """Vectors by the place of their text among those that were sent."""

    vectors: dict[int, list[float]]
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
    prompt_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    completion_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    cost: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @property
    def usage(self) -> Usage:
        return Usage(input_tokens=self.prompt_tokens, output_tokens=self.completion_tokens, cost_usd=self.cost)


def _none_if_unreadable(value: Any, read: ValidatorFunctionWrapHandler) -> _Tokens | None:
    try:
        return read(value)  # type: ignore[no-any-return]  # it reads the annotated type
    except ValidationError:
        return None


_Stated = Annotated[_Tokens | None, WrapValidator(_none_if_unreadable)]
"""What an answer cost; an answer is none the worse for a number of tokens that makes no sense."""


class _Chunk(BaseModel):
    choices: list[_Choice] = []
    usage: _Stated = None
    error: Any = None


class _Vector(BaseModel):
    index: int
    embedding: list[FiniteFloat] = Field(min_length=1)


class _Vectors(BaseModel):
    data: list[_Vector]
    usage: _Stated = None


@dataclass
class _PartialCall:
    id: str
    name: str = ""
    arguments: str = ""


@dataclass
class PartialCompletion:
    """A completion as it arrives; `text_begun` from the first character of the answer on."""

    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
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
            MalformedReplyError: it is neither.
            ErrorReplyError: it is an error.
        """
        if payload == DONE:
            self.done = True
            return
        try:
            chunk = _Chunk.model_validate_json(payload)
        except ValidationError as error:
            raise MalformedReplyError(describe(error)) from error
        if chunk.error is not None:
            raise ErrorReplyError(_code(chunk.error), payload)
        if chunk.usage is not None:
            self.usage = chunk.usage.usage
        for choice in chunk.choices:
            if choice.index == 0:
                self._take(choice)

    def completion(self) -> Completion:
        """Return all that was said.

        Raises:
            MalformedReplyError: the end is missing.
        """
        if self.finish_reason is None and not self.done:
            raise MalformedReplyError("it ends before the model has finished")
        calls = tuple(
            RequestedCall(call.id or f"call_{number}", call.name, call.arguments)
            for number, call in enumerate(self._calls)
        )
        return Completion("".join(self.texts), "".join(self.refusals), calls, self.finish_reason, self.usage)

    def _take(self, choice: _Choice) -> None:
        self.begun = True
        message = choice.message or choice.delta or _Message()
        if said := message.content or message.refusal:
            self.texts.append(said)
            self.text_begun = True
        self.refusals.append(message.refusal or "")
        for call in message.tool_calls or ():
            self._take_call(call)
        self.finish_reason = choice.finish_reason or self.finish_reason

    def _take_call(self, call: _Call) -> None:
        """A call, or more of one: pieces share an index; a new id at a known index is another call."""
        place = self._places.get(call.index) if call.index is not None else None
        if place is None or (call.id and self._calls[place].id not in ("", call.id)):
            place = len(self._calls)
            if place >= MAX_CALLS:
                raise MalformedReplyError(f"more than {MAX_CALLS} tool calls in one message")
            self._calls.append(_PartialCall(call.id or ""))
            if call.index is not None:
                self._places[call.index] = place
        partial, function = self._calls[place], call.function
        partial.id = partial.id or call.id or ""
        partial.name += function.name or ""
        partial.arguments += _arguments(function.arguments)


def read_completion(body: bytes) -> Completion:
    """Return the completion of a reply that was not streamed.

    Raises:
        MalformedReplyError, ErrorReplyError: there is none.
    """
    partial = PartialCompletion()
    partial.add(body)
    if not partial.begun:
        raise MalformedReplyError("it holds no choice")
    partial.done = True
    return partial.completion()


def read_embeddings(body: bytes) -> Embeddings:
    """Return the vectors of a reply.

    Raises:
        MalformedReplyError: there are none.
    """
    try:
        reply = _Vectors.model_validate_json(body)
    except ValidationError as error:
        raise MalformedReplyError(describe(error)) from error
    usage = None if reply.usage is None else reply.usage.usage.model_copy(update={"output_tokens": 0})
    return Embeddings({vector.index: vector.embedding for vector in reply.data}, usage)


def add_stated_cost(usage: Usage | None, header: str | None) -> Usage | None:
    """Return the tokens with the cost in US dollars that a header states, unless the reply itself states one."""
    try:
        cost = Usage(cost_usd=float(header)).cost_usd if header else None
    except ValueError:  # not a number, or one that is not a cost (pydantic's error is a ValueError)
        cost = None
    if cost is None or (usage is not None and usage.cost_usd is not None):
        return usage
    return (usage or Usage()).model_copy(update={"cost_usd": cost})


def total_usage(usages: Sequence[Usage | None]) -> Usage | None:
    """Return the sum over several requests, None where one states nothing; a number that one lacks is not in it."""
    known = [usage for usage in usages if usage is not None]
    if not known or len(known) < len(usages):
        return None
    tokens_in = [usage.input_tokens for usage in known if usage.input_tokens is not None]
    tokens_out = [usage.output_tokens for usage in known if usage.output_tokens is not None]
    costs = [usage.cost_usd for usage in known if usage.cost_usd is not None]
    return Usage(
        input_tokens=sum(tokens_in) if len(tokens_in) == len(known) else None,
        output_tokens=sum(tokens_out) if len(tokens_out) == len(known) else None,
        cost_usd=math.fsum(costs) if len(costs) == len(known) else None,
    )


class EventStream:
    """Server-sent events: bytes in, the data of each event out."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the events that are complete with these bytes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r"))

    def end(self) -> Iterator[bytes]:
        """Yield the last event, where the blank line after it is missing."""
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
