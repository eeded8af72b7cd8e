"""Between the A2A SDK and HTTP: replies that the SDK can read, whatever the agent sent, streamed or not.

    A2A SDK (one request, one reply) -> ReplyTransport -> tracing, if wanted -> `testbench.net.transport`

Made by `testbench.schema.a2a_client`, one for a run. The SDK asks for a whole reply. Where the agent offers streaming,
the same message goes out by the streaming method, and the events come back as the reply that they add up to
(`streams`); where an agent answers with a stream although none was asked for, too. JSON is mended on the way
(`tolerance`); what is no JSON becomes an error that says what came instead.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Literal

import httpx
from google.protobuf.json_format import MessageToDict

from testbench.a2a_protocol.errors import UnreadableReplyError, told_data
from testbench.a2a_protocol.streams import EventParser, ReplyAssembly, ServerEvent, text_of
from testbench.a2a_protocol.tolerance import Generation, Json, ReplyMender
from testbench.errors import AgentError
from testbench.net.transport import LONGEST_REPLY, STREAM, current

Streaming = Literal["auto", "on", "off"]

STREAMING_METHODS: Final = {"message/send": "message/stream", "SendMessage": "SendStreamingMessage"}
TASK_METHODS: Final = frozenset({"tasks/get", "GetTask"})
RESUBSCRIBE: Final[dict[Generation, str]] = {"0.3": "tasks/resubscribe", "1.0": "SubscribeToTask"}
NO_STREAM_CODES: Final = frozenset({-32004, -32600, -32601, -32602})
NO_STREAM_WORDS: Final = "streaming is not supported"
"""In an error without such a code, as the servers of SDK 0.3 send it."""
NO_STREAM_STATUSES: Final = frozenset({400, 404, 405, 406, 415, 422, 501})
"""What an agent says that does not stream after all; the message was not taken."""
BIG_INTEGER: Final = re.compile(rb"\d{16}")
FINAL_GRACE_S: Final = 0.25
"""For agents that say that they are done and then send more, or leave the stream open."""
SHOWN: Final = 120
"""Characters of a reply that is no JSON."""


@dataclass
class StreamNotes:
    """What is known of a streamed reply before it is whole."""

    task_id: str | None = None
    first_text: tuple[str, float] | None = None
    """The first text of the answer, and when it came."""
    first_status: tuple[str, float] | None = None
    """The first text of a status, which may be the answer's beginning or just say that there is work."""

    def first_token(self, answer: str) -> float | None:
        """Return when the answer began, by the watch; None if it was not streamed."""
        if self.first_status is not None and answer.startswith(self.first_status[0].strip()):
            return self.first_status[1]
        return self.first_text[1] if self.first_text is not None else None


_NOTES: ContextVar[StreamNotes | None] = ContextVar("stream_notes", default=None)


@contextmanager
def stream_notes() -> Iterator[StreamNotes]:
    """Note what is streamed to this task inside the block."""
    notes = StreamNotes()
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


@dataclass(frozen=True)
class _Question:
    """What a request asks for; `call` is its JSON-RPC, None over REST."""

    about: Literal["message", "task"]
    generation: Generation
    call: Json | None


class ReplyTransport(httpx.AsyncBaseTransport):
    """Wraps the transport of a run. `streams` says whether messages are sent by the streaming method."""

    def __init__(self, over: httpx.AsyncBaseTransport, streaming: Streaming = "auto") -> None:
        self._over = over
        self._streaming = streaming
        self.streams = streaming == "on"

    def offer(self, streaming: bool) -> None:
        """Take note of whether the agent's card offers streaming."""
        if self._streaming == "auto":
            self.streams = streaming

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        question = _question(request)
        if question is None:
            return await self._over.handle_async_request(request)
        if question.about == "message" and self.streams:
            response = await self._over.handle_async_request(_streaming_request(request, question))
            if self._streaming == "on" or not await _refuses_to_stream(response):
                return await self._read(response, request, question)
            plain = await self._read(await self._over.handle_async_request(request), request, question)
            self.streams = self.streams and _is_refused(plain)
            return plain
        response = await self._over.handle_async_request(request)
        return await self._read(response, request, question)

    async def aclose(self) -> None:
        await self._over.aclose()

    async def _read(self, response: httpx.Response, request: httpx.Request, question: _Question) -> httpx.Response:
        if not response.is_success:
            return response
        if _media_type(response) == STREAM:
            return _JsonResponse(response, await self._gather(response, request, question))
        body = await response.aread()
        return _JsonResponse(
            response, _mended(_json_of(response, body), question, BIG_INTEGER.search(body) is not None)
        )

    async def _gather(self, response: httpx.Response, request: httpx.Request, question: _Question) -> Any:
        """The reply that a stream adds up to; where it is cut, it is taken up again, and then asked for by the client.

        Raises:
            UnreadableReplyError: the stream ends without any event.
        """
        assembly = ReplyAssembly(ReplyMender(question.generation))
        notes = _NOTES.get() or StreamNotes()
        try:
            failure = await _listen(response, assembly, notes)
        except httpx.HTTPError:
            if assembly.task_id is None:
                raise
            assembly.whole = False
            failure = await self._listen_again(request, question, assembly, notes)
        if failure is not None:
            return _with_data({"jsonrpc": "2.0", "id": None, "error": failure})
        reply = assembly.reply()
        if reply is None:
            raise UnreadableReplyError("the stream ended without a task or a message")
        if question.about == "task":
            reply = reply if question.generation == "0.3" else next(iter(reply.values()))
        if question.call is None:
            return _rest_form(reply, question)
        return {"jsonrpc": "2.0", "id": question.call.get("id"), "result": reply}

    async def _listen_again(
        self, request: httpx.Request, question: _Question, assembly: ReplyAssembly, notes: StreamNotes
    ) -> Json | None:
        """Wait for the end of a task whose stream was cut; the client asks for the whole task afterwards."""
        again = _resubscription(request, question, assembly.task_id or "")
        if again is None:
            return None
        try:
            response = await self._over.handle_async_request(again)
            if response.is_success and _media_type(response) == STREAM:
                await _listen(response, assembly, notes)
            else:
                await response.aread()
        except httpx.HTTPError:
            return None
        return None


class _JsonResponse(httpx.Response):
    """A response whose JSON was read already."""

    def __init__(self, response: httpx.Response, value: Any) -> None:
        super().__init__(response.status_code, request=response.request)
        self._value = value

    def json(self, **_: Any) -> Any:
        return self._value


async def _listen(response: httpx.Response, assembly: ReplyAssembly, notes: StreamNotes) -> Json | None:
    """Read a stream to its end; the error that the agent sent in place of an event, if it did.

    Raises:
        AgentError: what it adds up to is longer than a reply may be.
    """
    parser, watch, unread = EventParser(), current(), 0
    failure: Json | None = None
    ended = False
    try:
        async with asyncio.timeout(None) as limit:
            async for chunk in response.aiter_bytes():
                unread += len(chunk)
                for event in parser.feed(chunk):
                    unread = 0
                    failure = failure or _take(event, assembly, notes, watch.now())
                if max(unread, assembly.size) > LONGEST_REPLY:
                    raise AgentError(f"the reply is longer than {LONGEST_REPLY >> 20} MiB", kind="protocol")
                if (assembly.finished or failure) and not ended:
                    ended = True
                    watch.receive()
                    limit.reschedule(asyncio.get_running_loop().time() + FINAL_GRACE_S)
            for event in parser.end():
                failure = failure or _take(event, assembly, notes, watch.now())
    except (TimeoutError, httpx.HTTPError):
        if not ended:
            raise
    finally:
        await response.aclose()
    if not ended:
        watch.receive()
    return failure


def _take(event: ServerEvent, assembly: ReplyAssembly, notes: StreamNotes, now: float) -> Json | None:
    """Take up an event; the JSON-RPC error, if it is one."""
    try:
        value = json.loads(event.data)
    except (ValueError, RecursionError):
        return {"code": -32603, "message": event.data} if event.name == "error" else None
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("error"), dict):
        found: Json = value["error"]
        return found
    result = value.get("result", value)
    if notes.first_text is None:
        text, said = text_of(result)
        if text and said:
            notes.first_text = text, now
        elif text:
            notes.first_status = notes.first_status or (text, now)
    assembly.add(result, len(event.data))
    notes.task_id = assembly.task_id or notes.task_id
    return None


def _question(request: httpx.Request) -> _Question | None:
    """What a request of the SDK asks for; None where its reply needs no mending."""
    generation: Generation = "0.3" if request.headers.get("a2a-version", "").startswith("0.") else "1.0"
    path = request.url.path
    if request.method == "GET":
        return _Question("task", generation, None) if "/tasks/" in path else None
    if path.endswith("/message:send") and not request.content.startswith(b'{"method"'):
        return _Question("message", generation, None)
    call = json.loads(request.content)
    if call.get("method") in STREAMING_METHODS:
        return _Question("message", generation, call)
    return _Question("task", generation, call) if call.get("method") in TASK_METHODS else None


def _streaming_request(request: httpx.Request, question: _Question) -> httpx.Request:
    """The same message, to be answered by a stream."""
    if question.call is None:
        url = request.url.copy_with(path=request.url.path.removesuffix(":send") + ":stream")
        return _request(request, url, request.content)
    call = question.call | {"method": STREAMING_METHODS[question.call["method"]]}
    return _request(request, request.url, json.dumps(call).encode())


def _resubscription(request: httpx.Request, question: _Question, task_id: str) -> httpx.Request | None:
    """The request to hear the rest of a task's events; over REST the client asks for the task at once."""
    if question.call is None:
        return None
    call = question.call | {"method": RESUBSCRIBE[question.generation], "params": {"id": task_id}}
    return _request(request, request.url, json.dumps(call).encode())


def _request(request: httpx.Request, url: httpx.URL, content: bytes) -> httpx.Request:
    headers = request.headers.copy()
    headers.update({"accept": STREAM, "cache-control": "no-store", "content-length": str(len(content))})
    return httpx.Request(request.method, url, headers=headers, content=content, extensions=request.extensions)


def _is_refused(response: httpx.Response) -> bool:
    """Whether a message was refused without a stream, too, so that it says nothing about streams."""
    value = response.json() if isinstance(response, _JsonResponse) else {"error": response.status_code}
    return isinstance(value, dict) and bool(value.get("error"))


async def _refuses_to_stream(response: httpx.Response) -> bool:
    """Whether an agent whose card offers streaming does not know the method."""
    if _media_type(response) == STREAM and response.is_success:
        return False
    body = await response.aread()
    try:
        error = json.loads(body).get("error")
        code, words = (error.get("code"), str(error.get("message"))) if isinstance(error, dict) else (None, "")
    except (ValueError, AttributeError, RecursionError):
        code, words = None, ""
    refused = response.status_code in NO_STREAM_STATUSES or code in NO_STREAM_CODES
    return refused or words.lower().startswith(NO_STREAM_WORDS)


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _json_of(response: httpx.Response, body: bytes) -> Any:
    """The JSON of a reply, in the encoding that it names where it is not UTF-8.

    Raises:
        UnreadableReplyError: it is none.
    """
    try:
        return json.loads(body)
    except ValueError:
        text = _text(body, response.charset_encoding)
    with suppress(ValueError):
        return json.loads(text)
    came = f"HTTP {response.status_code}, {_media_type(response) or 'without a media type'}"
    if not text.strip():
        raise UnreadableReplyError(f"the reply is empty ({came})")
    raise UnreadableReplyError(f"the reply is not JSON ({came}): {' '.join(text[: 4 * SHOWN].split())[:SHOWN]}")


def _text(body: bytes, encoding: str | None) -> str:
    try:
        return body.decode(encoding or "utf-8", errors="replace" if encoding is None else "strict")
    except (LookupError, UnicodeDecodeError):
        return body.decode("latin-1")


def _mended(value: Any, question: _Question, big_integers: bool) -> Any:
    mender = ReplyMender(question.generation, big_integers)
    mend = mender.reply if question.about == "message" else mender.task
    if question.call is None:
        return _rest_form(mend(value), question)
    if not isinstance(value, dict):
        raise UnreadableReplyError(f"the reply is a JSON {type(value).__name__} in place of an object")
    if isinstance(value.get("error"), dict):
        return _with_data(value)
    reply = {name: item for name, item in value.items() if name != "error" or item is not None}
    return reply | {"result": mend(reply["result"])} if "result" in reply else reply


def _rest_form(reply: Any, question: _Question) -> Any:
    """A reply as REST has it: in 0.3 that is another form than that of JSON-RPC."""
    if question.generation == "1.0" or not isinstance(reply, dict) or "kind" not in reply:
        return reply
    from a2a.compat.v0_3 import types
    from a2a.compat.v0_3.proto_utils import ToProto

    if reply["kind"] == "message":
        message = ToProto.message(types.Message.model_validate(reply))
        return {} if message is None else {"message": MessageToDict(message)}
    task = MessageToDict(ToProto.task(types.Task.model_validate(reply)))
    return {"task": task} if question.about == "message" else task


def _with_data(reply: Json) -> Json:
    """A JSON-RPC error with what its `data` says in its message, since the SDK shows nothing else."""
    error: Json = reply["error"]
    code = error.get("code")
    if isinstance(code, str) and re.fullmatch(r"-?\d{1,9}", code, re.ASCII):
        code = int(code)
    return reply | {"error": error | {"message": told_data(error), "code": code}}
