"""The agent under test over A2A: one card resolution, one set of HTTP clients and of SDK clients for a whole run.

Made by `testbench/run.py` and used by `testbench.execution`. A reply holds the whole task, whether it was
streamed or not (`testbench.a2a_protocol.reply_transport`); a task that has not finished is asked for until it has.

One HTTP client serves all scenarios; `testbench.net.transport` says over what.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import uuid4

os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")  # read when a2a is imported

import aiohttp
import httpx
from a2a.client import Client, ClientConfig, ClientFactory
from a2a.types import AgentCard, GetTaskRequest, Message, Part, Role, SendMessageRequest, Task, TaskState

from testbench import __version__, defaults
from testbench.a2a_protocol.card import BINDINGS, agent_address, describe, resolve_card, usable_cards
from testbench.a2a_protocol.errors import TRANSPORT_FAULTS, agent_error, refusal_of, shown
from testbench.a2a_protocol.parts import plain
from testbench.a2a_protocol.reply import Said, read_message, read_task, state_name, status_text
from testbench.a2a_protocol.reply_transport import ReplyTransport, Streaming, StreamNotes, stream_notes
from testbench.a2a_protocol.tolerance import UNKNOWN, state_as_sent
from testbench.errors import AgentError
from testbench.net.clock import Clock, SystemClock
from testbench.net.transport import AiohttpTransport, LeanHttpClient, Stopwatch, stopwatch
from testbench.safe_text import find_secrets, printable
from testbench.schema.agent import AgentDescription, AgentReply, Conversation, Outstanding

__all__ = [
    "A2AStepClient",
    "ClientSettings",
]

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 10.0
FIRST_POLL_S: Final = 0.1
SLOWEST_POLL_S: Final = 2.0
POLL_GROWTH: Final = 1.5

UNFINISHED: Final = (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING)
PAUSED: Final = (TaskState.TASK_STATE_INPUT_REQUIRED, TaskState.TASK_STATE_AUTH_REQUIRED)
FAILURES: Final = {
    TaskState.TASK_STATE_FAILED: "failed",
    TaskState.TASK_STATE_REJECTED: "rejected",
    TaskState.TASK_STATE_CANCELED: "canceled",
    TaskState.TASK_STATE_AUTH_REQUIRED: "auth_required",
}
OUTPUT_MODES: Final = ("text/plain", "application/json")
"""What we can read, beside what an agent's card offers; some agents do not answer a client that names nothing."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClientSettings:
    """How to reach the agent. Headers go with every request, and are shown nowhere."""

    agent_url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout_s: float = defaults.AGENT_TIMEOUT_S
    """Seconds that one message, or one question for a task, may take."""
    concurrency: int = 1
    streaming: Streaming = "auto"
    """`auto`: where the agent's card offers it."""


def _as_it_is(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    return transport


class A2AStepClient:
    """Implements `AgentClient`. `instrument` may put something around the transport that every request takes."""

    def __init__(
        self,
        settings: ClientSettings,
        *,
        clock: Clock | None = None,
        instrument: Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] = _as_it_is,
    ) -> None:
        self._settings = settings
        self._url, self._auth, self._query = _split_secrets(settings.agent_url)
        self._secrets = find_secrets(settings.agent_url, [*settings.headers, ("authorization", self._auth or "")])
        self._clock = clock or SystemClock()
        self._instrument = instrument
        self._http: httpx.AsyncClient | None = None
        self._clients: dict[int, Client] = {}
        """By the place of their card."""
        self._cards: tuple[AgentCard, ...] = ()
        self._card = 0
        self._understood = False
        self._replies: ReplyTransport | None = None
        self._made_contexts = True
        self._warned = False

    async def connect(self) -> AgentDescription:
        await self.close()
        self._http = http = self._open_http()
        try:
            async with asyncio.timeout(min(CONNECT_TIMEOUT_S, self._settings.timeout_s)):
                card = await resolve_card(http, self._url, self._secrets)
        except TimeoutError as error:
            raise AgentError(f"{self._url} does not answer in time", kind="unreachable", retryable=True) from error
        except AgentError as error:
            error.message = f"{self._url}: {error.message}"
            raise
        self._cards = usable_cards(card, self._url)
        if self._replies is not None:
            self._replies.offer(card is not None and card.capabilities.streaming)
        return describe(card)

    async def send_step(self, text: str, conversation: Conversation) -> AgentReply:
        outstanding = conversation.outstanding = conversation.outstanding or Outstanding(uuid4().hex)
        continued = conversation.task_id is not None
        with stopwatch() as watch, stream_notes() as notes:
            reply = await self._deliver(text, conversation, outstanding, notes)
            if isinstance(reply, Task):
                reply = await self._finished(reply, outstanding)
        conversation.outstanding = None
        self._keep_context(conversation, reply.context_id)
        task = reply if isinstance(reply, Task) else None
        waits = task is not None and task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        conversation.task_id = task.id if task is not None and waits else None
        try:
            if isinstance(reply, Message):
                said = read_message(reply)
            else:
                said = read_task(reply, outstanding.message_id, conversation.seen, continued=continued)
        except ValueError as error:  # it holds what JSON has no word for, as an infinite number
            raise agent_error(error, self._secrets) from error
        if task is not None and task.status.state in FAILURES:
            raise self._failure(task)
        if task is not None and not said.answered and task.status.state == TaskState.TASK_STATE_UNSPECIFIED:
            raise AgentError(self._unknown_state(task), kind="protocol")
        return _reply(said, conversation, task.id if task is not None else None, watch, notes)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
        self._http, self._clients = None, {}

    async def _deliver(
        self, text: str, conversation: Conversation, outstanding: Outstanding, notes: StreamNotes
    ) -> Task | Message:
        """The agent's reply to a message; one that may have arrived before is asked about first."""
        if outstanding.task_id is not None:
            return await self._ask(outstanding.task_id)
        if outstanding.delivered and conversation.task_id is not None:
            task = await self._ask(conversation.task_id)
            arrived = any(message.message_id == outstanding.message_id for message in task.history)
            if arrived or task.status.state not in PAUSED:
                return task
        made = conversation.context_id is None and self._made_contexts
        if made:
            conversation.context_id = str(uuid4())
        try:
            return await self._call(lambda client: _send(client, _message(text, conversation, outstanding)))
        except AgentError as error:
            if made and refusal_of(error.__cause__) and "context" in error.message.lower():
                self._made_contexts, conversation.context_id = False, None
                return await self._deliver(text, conversation, outstanding, notes)
            outstanding.delivered = outstanding.delivered or error.delivered
            lost = error.kind in ("timeout", "unreachable")
            if lost:
                outstanding.task_id = notes.task_id
            known = conversation.task_id is not None or outstanding.task_id is not None
            error.retryable = error.retryable or (lost and known)
            raise

    def _keep_context(self, conversation: Conversation, answered: str) -> None:
        """Go on in the context in which the agent answered, which should be the one that it was given."""
        given = conversation.context_id
        if given and answered and answered != given and not self._warned:
            self._warned = True
            log.warning(
                "the agent answers in a context of its own (%s) and not in that of the message: whether it remembers "
                "a conversation is up to it",
                printable(answered, 60),
            )
        conversation.context_id = answered or given

    async def _finished(self, task: Task, outstanding: Outstanding) -> Task:
        """The task once it has ended or waits; asked for as long as it works."""
        pause = FIRST_POLL_S
        while task.status.state in UNFINISHED:
            outstanding.task_id = task.id
            await self._clock.sleep(pause)
            pause = min(pause * POLL_GROWTH, SLOWEST_POLL_S)
            task = await self._ask(task.id)
        return task

    async def _ask(self, task_id: str) -> Task:
        try:
            return await self._call(lambda client: client.get_task(GetTaskRequest(id=task_id)))
        except AgentError as error:
            error.retryable = error.kind in ("timeout", "unreachable", "rate_limited", "http_error")
            raise

    async def _call(self, request: Callable[[Client], Awaitable[T]]) -> T:
        """Make a request in the protocol generation that the agent understands.

        Until it answered once, a request that it refuses as none is made in the other generation, too: nothing can
        have been delivered.
        """
        card = self._card
        try:
            result = await self._ask_as(card, request)
        except AgentError as error:
            other, refusal = self._other(card), refusal_of(error.__cause__)
            if other is None or refusal is None:
                raise
            try:
                result = await self._ask_as(other, request)
            except AgentError as second:
                refused_too = refusal_of(second.__cause__)
                if refused_too is None:
                    self._card = other
                if refused_too is None or (refusal, refused_too) == ("unknown", "invalid"):
                    raise
                raise error from error.__cause__
            card = other
        self._card, self._understood = card, True
        return result

    async def _ask_as(self, card: int, request: Callable[[Client], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await request(self._client(card))
        except TRANSPORT_FAULTS as error:
            raise agent_error(error, self._secrets) from error

    def _other(self, card: int) -> int | None:
        """The place of the card to try where this one is refused; requests in flight together find the same one."""
        if self._card != card:
            return self._card
        return None if self._understood or len(self._cards) == 1 else (card + 1) % len(self._cards)

    def _failure(self, task: Task) -> AgentError:
        without = f"the task ended as {state_name(task)}, without a reason"
        reason = shown(status_text(task), self._secrets) or without
        return AgentError(reason, kind=FAILURES[task.status.state], hint="The agent's own log says more.")

    def _unknown_state(self, task: Task) -> str:
        sent = state_as_sent(plain(task.metadata))
        if sent is None:
            sent = UNKNOWN if task.HasField("status") else ""
        named = shown(sent, self._secrets, 100)
        return f"the task's state is not known: {named}" if named else "the task has no state"

    def _client(self, card: int) -> Client:
        if self._http is None:
            raise RuntimeError("connect first")
        if card not in self._clients:
            config = ClientConfig(
                streaming=False,
                httpx_client=self._http,
                supported_protocol_bindings=list(BINDINGS),
                use_client_preference=True,
                accepted_output_modes=list(dict.fromkeys([*OUTPUT_MODES, *self._cards[card].default_output_modes])),
            )
            self._clients[card] = ClientFactory(config).create(self._cards[card])
        return self._clients[card]

    def _open_http(self) -> httpx.AsyncClient:
        timeout = self._settings.timeout_s
        headers = httpx.Headers([("user-agent", f"testbench/{__version__}"), *self._settings.headers])
        if self._auth is not None:
            headers.setdefault("authorization", self._auth)
        self._replies = ReplyTransport(self._instrument(AiohttpTransport(self._url)), self._settings.streaming)
        return LeanHttpClient(
            self._replies,
            headers=headers,
            params=self._query,
            timeout=httpx.Timeout(timeout, connect=min(CONNECT_TIMEOUT_S, timeout)),
        )


def _message(text: str, conversation: Conversation, outstanding: Outstanding) -> Message:
    return Message(
        message_id=outstanding.message_id,
        role=Role.ROLE_USER,
        parts=[Part(text=text)],
        context_id=conversation.context_id or "",
        task_id=conversation.task_id or "",
    )


async def _send(client: Client, message: Message) -> Task | Message:
    async for event in client.send_message(SendMessageRequest(message=message)):
        if event.HasField("message"):
            return event.message
        if event.HasField("task"):
            return event.task
    raise ValueError("neither a message nor a task")


def _reply(
    said: Said, conversation: Conversation, task_id: str | None, watch: Stopwatch, notes: StreamNotes
) -> AgentReply:
    if not said.answered:
        raise AgentError("the agent answered without a text, a file or a tool call", kind="no_answer")
    begun = notes.first_token(said.turns[-1].content)
    return AgentReply(
        turns=said.turns,
        context_id=conversation.context_id,
        task_id=task_id,
        usage=said.usage,
        seconds=watch.seconds,
        time_to_first_token_ms=None if begun is None or watch.sent is None else round(1000 * (begun - watch.sent), 3),
    )


def _split_secrets(url: str) -> tuple[str, str | None, httpx.QueryParams]:
    """The address as it may be shown, and what else it carried: the `Authorization`, and the query of every request."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    auth = aiohttp.encode_basic_auth(unquote(user), unquote(password)) if at else None
    return agent_address(urlunsplit((parts.scheme, host, parts.path, "", ""))), auth, httpx.QueryParams(parts.query)
