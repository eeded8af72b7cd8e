"""An OpenAI-compatible gateway with a model that says what a test tells it: text, tool calls, streamed or whole.

Faults are those of every scripted server. Without a script the model answers "answer to: " and the last user's words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.support.servers.loopback import LoopbackServer, Reply
from tests.support.servers.scripted_judge import message_text, prompt_tokens, tokens
from tests.support.servers.scripting import Request

Json: TypeAlias = Mapping[str, Any]

COST_HEADER = "x-litellm-response-cost"
PIECE = 4
"""Characters of a streamed piece."""


@dataclass(frozen=True)
class Call:
    """A tool call; `arguments` is sent as it is, whatever it is."""

    name: str
    arguments: str = "{}"
    id: str = ""


@dataclass(frozen=True)
class Says:
    """One answer of the model."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    finish_reason: str | None = None
    """Made up from the rest if None; "" leaves it out."""
    refusal: str | None = None
    cut: bool = False
    """Hang up in the middle of the stream."""
    error: Json | None = None
    """End the stream with this error."""


Answer: TypeAlias = "str | Says | Callable[[Json], str | Says]"


class ScriptedChat(LoopbackServer):
    """Serves `/v1/chat/completions` and `/v1/models` under `base_url`."""

    def __init__(self) -> None:
        self._answers: list[Answer] = []
        self._cost: float | None = None
        self._usage = True
        self._refused: set[str] = set()
        self._holds_streams = False
        self.held = 0
        super().__init__()
        self.base_url = f"{self.origin}/v1"

    def says(self, *answers: Answer) -> None:
        """The answers in turn, the last one for good. A callable gets the request's body."""
        self._answers = list(answers)

    def cost(self, usd: float | None) -> None:
        """Send this cost with every whole answer, as LiteLLM does."""
        self._cost = usd

    def without_usage(self) -> None:
        """Count no tokens from now on."""
        self._usage = False

    def refuses(self, *options: str) -> None:
        """Answer 400 to every request with one of these options."""
        self._refused |= set(options)

    def hold_streams(self) -> None:
        """From now on wait for `release` before the first piece of text of every stream, and again before the second.

        `held` counts the waits.
        """
        self._holds_streams = True

    @property
    def chats(self) -> list[Request]:
        """The recorded chat requests, failed ones included."""
        return [request for request in self.requests if request.path.endswith("/chat/completions")]

    @property
    def bodies(self) -> list[Any]:
        """What they asked for."""
        return [request.json() for request in self.chats]

    def reply_to(self, request: Request) -> Reply:
        if request.method == "GET" and request.path == "/v1/models":
            return _json(200, {"object": "list", "data": [{"id": "model", "object": "model"}]})
        if request.method != "POST" or request.path != "/v1/chat/completions":
            return _json(404, {"error": {"message": "no such route"}})
        body = request.json()
        if found := sorted(self._refused & body.keys()):
            return _json(400, {"error": {"message": f"Unsupported parameter: '{found[0]}'", "param": found[0]}})
        says = self._next(body)
        if body.get("stream"):
            return Reply(200, headers={"content-type": "text/event-stream"}, pieces=self._stream(says, body))
        choice = {"index": 0, "message": _message(says), "finish_reason": _finish_reason(says)}
        content = {"id": "chatcmpl-1", "object": "chat.completion", "model": body["model"], "choices": [choice]}
        headers = {} if self._cost is None else {COST_HEADER: str(self._cost)}
        return _json(200, content | self._spent(says, body), headers)

    def _next(self, body: Json) -> Says:
        if not self._answers:
            asked = [message_text(message) for message in body["messages"] if message["role"] == "user"]
            return Says(f"answer to: {asked[-1]}")
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        answer = answer(body) if callable(answer) else answer
        return Says(answer) if isinstance(answer, str) else answer

    def _spent(self, says: Says, body: Json) -> dict[str, Any]:
        if not self._usage:
            return {}
        spent = {"prompt_tokens": prompt_tokens(body), "completion_tokens": tokens(says.text)}
        return {"usage": {**spent, "total_tokens": sum(spent.values())}}

    def _stream(self, says: Says, body: Json) -> Iterator[bytes]:
        yield b": a comment\n\n" + _event({"role": "assistant", "content": ""})
        for start in range(0, len(says.text), PIECE):
            if self._holds_streams and start <= PIECE:
                self._close_gate()
                self.held += 1
                self.notify()
                self.gate().result()
            yield _event({"content": says.text[start : start + PIECE]})
        if says.refusal:
            yield _event({"refusal": says.refusal})
        for index, call in enumerate(says.calls):
            middle = len(call.arguments) // 2
            first = {"name": call.name, "arguments": call.arguments[:middle]}
            yield _event({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": first}]})
            yield _event({"tool_calls": [{"index": index, "function": {"arguments": call.arguments[middle:]}}]})
        if says.cut:
            raise ConnectionAbortedError
        if says.error is not None:
            yield b"data: " + json.dumps({"error": says.error}).encode() + b"\n\n"
            return
        yield _event({}, _finish_reason(says))
        if body.get("stream_options", {}).get("include_usage") and self._usage:
            yield b"data: " + json.dumps({"choices": [], **self._spent(says, body)}).encode() + b"\n\n"
        if says.finish_reason != "":
            yield b"data: [DONE]\n\n"


def _message(says: Says) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": says.text or None}
    if says.refusal:
        message["refusal"] = says.refusal
    if says.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in says.calls
        ]
    return message


def _finish_reason(says: Says) -> str | None:
    if says.finish_reason is not None:
        return says.finish_reason or None
    return "tool_calls" if says.calls else "stop"


def _event(delta: Json, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\r\n\r\n"


def _json(status: int, content: Json, headers: Json | None = None) -> Reply:
    return Reply(status, json.dumps(content).encode(), {"content-type": "application/json", **(headers or {})})
