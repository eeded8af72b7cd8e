"""An agent behind the reference system's WebSocket: JSON frames, one connection for each conversation.

    server: connected            client: message
    server: chunk … tool_call    client: tool_result    server: chunk … done | error

A connection that broke between two steps, or on which more came of an answer that was over, is made again with the same
session. One that breaks while an answer is awaited is not: the message may have been delivered, nobody can be asked
what became of it, and so it is not sent twice. The connection is closed as soon as nobody holds its conversation.
"""

from __future__ import annotations

import asyncio
import json
import weakref
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from websockets import exceptions
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.protocol import State

from testbench import __version__
from testbench.arena.targets.target import WebSocketTarget
from testbench.arena.targets.tool_calls import ERROR_CHARS, record_call
from testbench.arena.targets.tools import ToolBox
from testbench.errors import AgentError, InputError
from testbench.net.clock import AnswerTimer, Clock, SystemClock
from testbench.net.endpoint import CONNECT_TIMEOUT_S, NO_ACCESS, NOT_TAKEN
from testbench.safe_text import redact_line, redact_url
from testbench.schema.agent import AgentDescription, AgentReply, Conversation, Outstanding
from testbench.schema.models import Turn


class UnreadableFrameError(Exception):
    """A frame that is not a JSON object with a type."""


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
    """Return the meaning of a frame; a binary one carries media and means nothing.

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
        raise UnreadableFrameError("not an object with a type")
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


def make_result_frame(session_id: str, call_id: str, result: str) -> dict[str, Any]:
    """Return what a tool said, as the client answers a call; a tool's own error is named as one."""
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


PING_S: Final = 20.0
CLOSE_S: Final = 1.0
MAX_ANSWER_CHARS: Final = 4 * 1024 * 1024
MAX_CALLS: Final = 64
"""Tool calls of one step."""
ANSWERING: Final = frozenset({"chunk", "done", "tool_call", "tool_result", "error"})
"""Frames that are part of an answer; others may come at any time."""
REFUSED: Final = {"RATE_LIMITED": "rate_limited", "AGENT_UNAVAILABLE": "unreachable"}
"""Error codes of messages that nobody has worked on."""
HINT: Final = "Check the agent's address, that it runs, and its own log."
CREDENTIAL_HINT: Final = "Check the token that the agent asks for."


@dataclass
class AgentSession:
    """The connection of one conversation, and the session that outlives it."""

    socket: ClientConnection | None = None
    session_id: str = ""


@dataclass
class PartialAnswer:
    """An answer as it arrives on a connection."""

    socket: ClientConnection
    session_id: str
    text: str = ""
    turns: list[Turn] = field(default_factory=list)
    calls: int = 0


class WebSocketClient:
    """Implements `AgentClient` for a `WebSocketTarget`; made inside the event loop."""

    def __init__(self, target: WebSocketTarget, tools: ToolBox | None = None, *, clock: Clock | None = None) -> None:
        """The client closes `tools` with itself.

        Raises:
            InputError: the address is not that of a WebSocket.
        """
        self._target = target
        self._url = _websocket_url(target.url)
        self._tools = tools
        self._clock = clock or SystemClock()
        self._sockets: set[ClientConnection] = set()
        self._closing: set[asyncio.Task[None]] = set()

    async def connect(self) -> AgentDescription:
        line = AgentSession()
        await self._open(line)
        self._drop(line)
        return AgentDescription()

    async def send_step(self, text: str, conversation: Conversation) -> AgentReply:
        outstanding = conversation.outstanding = conversation.outstanding or Outstanding(uuid4().hex)
        if outstanding.delivered:
            raise self._error("the message may have been delivered and is not sent twice", "unreachable")
        line = self._line(conversation)
        socket = line.socket
        if socket is None or socket.state is not State.OPEN or await self._goes_on(socket):
            self._drop(line)
            socket = await self._open(line)
            conversation.context_id = line.session_id
        timer, heard = AnswerTimer(self._clock), PartialAnswer(socket, line.session_id)
        whole = False
        try:
            outstanding.delivered = True
            await self._send(socket, {"type": "message", "session_id": line.session_id, "content": text})
            while not whole:
                whole = await self._take(await self._frame(socket), heard, timer)
        except AgentError as error:
            outstanding.delivered = error.delivered
            raise
        finally:
            if not whole:  # what still comes must not be taken for the next answer
                self._drop(line)
        if not heard.text.strip():
            raise self._error("the agent answered without a text", "no_answer")
        conversation.outstanding = None
        return AgentReply(
            turns=(*heard.turns, Turn(type="agent", content=heard.text)),
            context_id=conversation.context_id,
            seconds=timer.seconds,
            time_to_first_token_ms=timer.first_text_ms,
        )

    async def close(self) -> None:
        for socket in tuple(self._sockets):
            self._close(socket)
        await asyncio.gather(*self._closing)
        if self._tools is not None:
            await self._tools.close()

    async def _take(self, frame: Frame, heard: PartialAnswer, timer: AnswerTimer) -> bool:
        """Take in a frame; whether it was the last one of the answer."""
        match frame.type:
            case "chunk" if frame.role != "user":
                heard.text += frame.text
                if frame.text:
                    timer.mark_text()
                if len(heard.text) > MAX_ANSWER_CHARS:
                    raise self._error(f"the answer has more than {MAX_ANSWER_CHARS} characters", "protocol")
            case "done":
                # some send the whole answer once more, some only here
                heard.text = frame.text if frame.text.startswith(heard.text) else heard.text
                if frame.text:
                    timer.mark_text()
                return True
            case "tool_call":
                await self._answer_call(frame, heard)
            case "tool_result":
                heard.turns.append(Turn(type="tool", content=frame.result))
            case "error":
                raise self._of_error_frame(frame)
        return False

    async def _answer_call(self, frame: Frame, heard: PartialAnswer) -> None:
        heard.calls += 1
        if heard.calls > MAX_CALLS:
            raise self._error(f"the agent still calls tools after {MAX_CALLS} calls", "no_answer")
        call = record_call(frame.call_name, frame.call_arguments)
        heard.turns.append(Turn(type="agent", content=heard.text, tool_calls=(call,)))
        heard.text = ""
        result = await (self._tools or ToolBox(())).call(frame.call_name, frame.call_arguments)
        heard.turns.append(Turn(type="tool", content=result))
        await self._send(heard.socket, make_result_frame(heard.session_id, frame.call_id, result))

    async def _open(self, line: AgentSession) -> ClientConnection:
        """Connect and be greeted.

        Raises:
            AgentError: nobody is there, or nobody who speaks this protocol; nothing was delivered.
        """
        try:
            socket = await open_websocket(
                self._url,
                additional_headers=list(self._target.headers),
                user_agent_header=f"testbench/{__version__}",
                open_timeout=min(CONNECT_TIMEOUT_S, self._target.timeout_s),
                ping_interval=PING_S,
                close_timeout=CLOSE_S,
                max_size=self._target.max_frame_bytes,
            )
        except exceptions.InvalidStatus as error:
            raise self._of_status(error.response.status_code) from error
        except (OSError, TimeoutError, exceptions.WebSocketException) as error:
            said = "no connection in time" if isinstance(error, TimeoutError) else str(error)
            raise self._error(said, "unreachable", retryable=True, delivered=False) from error
        line.socket = socket
        self._sockets.add(socket)
        try:
            greeting = await self._frame(socket)
            if greeting.type == "error":
                raise self._of_error_frame(greeting)
            if greeting.type != "connected" or not greeting.session_id:
                raise self._error("no greeting with a session", "protocol", delivered=False)
        except BaseException as error:
            self._drop(line)
            if isinstance(error, AgentError):
                error.delivered = False
                error.retryable = error.retryable or error.kind in ("unreachable", "timeout")
            raise
        line.session_id = line.session_id or greeting.session_id
        return socket

    async def _goes_on(self, socket: ClientConnection) -> bool:
        """Whether an answer that was over has gone on since: what came, or comes, is none to the next message."""
        while True:
            try:
                async with asyncio.timeout(0):
                    frame = read_frame(await socket.recv())
            except TimeoutError:
                return False
            except (exceptions.ConnectionClosed, UnreadableFrameError):
                return True
            if frame.type in ANSWERING:
                return True

    async def _send(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._target.timeout_s):
                await socket.send(json.dumps(frame, ensure_ascii=False))
        except exceptions.ConnectionClosed as error:
            raise self._error("the connection was cut", "unreachable") from error
        except TimeoutError as error:
            raise self._error("the agent takes no message", "timeout") from error

    async def _frame(self, socket: ClientConnection) -> Frame:
        try:
            async with asyncio.timeout(self._target.timeout_s):
                return read_frame(await socket.recv())
        except exceptions.ConnectionClosed as error:
            if error.sent is not None and error.sent.code == 1009:
                raise self._error(f"a frame of more than {self._target.max_frame_bytes} bytes", "protocol") from error
            raise self._error("the connection was cut before the answer was complete", "unreachable") from error
        except TimeoutError as error:
            raise self._error(f"no frame within {self._target.timeout_s:g} s", "timeout") from error
        except UnreadableFrameError as error:
            raise self._error(f"a frame that is not of the protocol: {error}", "protocol") from error

    def _line(self, conversation: Conversation) -> AgentSession:
        if conversation.memory is None:
            conversation.memory = line = AgentSession()
            weakref.finalize(conversation, self._drop, line).atexit = False
        found: AgentSession = conversation.memory
        return found

    def _drop(self, line: AgentSession) -> None:
        if line.socket is not None:
            self._close(line.socket)
            line.socket = None

    def _close(self, socket: ClientConnection) -> None:
        if socket in self._sockets:
            self._sockets.discard(socket)
            if not socket.loop.is_closed():
                task = socket.loop.create_task(socket.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _of_status(self, status: int) -> AgentError:
        message = f"HTTP {status} instead of a WebSocket"
        if status in NO_ACCESS:
            return self._error(message, "auth_required", delivered=False, hint=CREDENTIAL_HINT)
        kind = "rate_limited" if status == 429 else "http_error"
        passes = status in NOT_TAKEN or status >= 500
        return self._error(message, kind, retryable=passes, delivered=False)

    def _of_error_frame(self, frame: Frame) -> AgentError:
        refused = frame.error_code in REFUSED
        said = f"{frame.error_code}: {frame.error_message}" if frame.error_message else frame.error_code
        return self._error(
            said or "an error without a reason",
            REFUSED.get(frame.error_code, "failed"),
            retryable=refused,
            delivered=not refused,
        )

    def _error(
        self, what: str, kind: str, *, retryable: bool = False, delivered: bool = True, hint: str = HINT
    ) -> AgentError:
        message = redact_line(f"{redact_url(self._url)}: {what}", self._target.secrets, ERROR_CHARS)
        return AgentError(message, kind=kind, retryable=retryable, delivered=delivered, hint=hint)


def _websocket_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        if scheme in ("ws", "wss") and parts.hostname:
            return urlunsplit((scheme, parts.netloc, parts.path or "/", parts.query, ""))
    except ValueError:
        pass
    raise InputError(f"{redact_url(url)!r} is not the address of a WebSocket", hint="Write it as ws(s)://host[:port]/…")
