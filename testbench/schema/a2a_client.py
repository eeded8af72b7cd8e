"""The agent under test over A2A: one card resolution, one set of HTTP clients and of SDK clients for a whole run.

Made by `testbench/run.py` and used by `testbench.execution`. Messages are sent without streaming: every agent must
offer that, and the reply holds the whole task. A task that is not finished by then is asked for until it is.

One HTTP client serves all scenarios; `testbench.net.transport` says over what.
"""

from __future__ import annotations

import asyncio
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
from a2a.utils.errors import MethodNotFoundError, VersionNotSupportedError

from testbench import __version__, defaults
from testbench.a2a_protocol.card import BINDINGS, describe, resolve_card, usable_cards
from testbench.a2a_protocol.errors import TRANSPORT_FAULTS, agent_error, shown
from testbench.a2a_protocol.reply import Said, read_message, read_task, state_name, status_text
from testbench.errors import AgentError
from testbench.net.clock import Clock, SystemClock
from testbench.net.transport import AgentHttp, AgentTransport, Stopwatch, stopwatch
from testbench.safe_text import find_secrets
from testbench.schema.agent import AgentDescription, AgentReply, Conversation, Outstanding

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 10.0
FIRST_POLL_S: Final = 0.1
SLOWEST_POLL_S: Final = 2.0
POLL_GROWTH: Final = 1.5

UNFINISHED: Final = (
    TaskState.TASK_STATE_UNSPECIFIED,
    TaskState.TASK_STATE_SUBMITTED,
    TaskState.TASK_STATE_WORKING,
)
PAUSED: Final = (TaskState.TASK_STATE_INPUT_REQUIRED, TaskState.TASK_STATE_AUTH_REQUIRED)
FAILURES: Final = {
    TaskState.TASK_STATE_FAILED: "failed",
    TaskState.TASK_STATE_REJECTED: "rejected",
    TaskState.TASK_STATE_CANCELED: "canceled",
    TaskState.TASK_STATE_AUTH_REQUIRED: "auth_required",
}


@dataclass(frozen=True)
class ClientSettings:
    """How to reach the agent. Headers go with every request, and are shown nowhere."""

    agent_url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout_s: float = defaults.AGENT_TIMEOUT_S
    """Seconds that one message, or one question for a task, may take."""
    concurrency: int = 1


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
        return describe(card)

    async def send_step(self, text: str, conversation: Conversation) -> AgentReply:
        outstanding = conversation.outstanding = conversation.outstanding or Outstanding(uuid4().hex)
        continued = conversation.task_id is not None
        with stopwatch() as watch:
            reply = await self._deliver(text, conversation, outstanding)
            if isinstance(reply, Task):
                reply = await self._finished(reply, outstanding)
        conversation.outstanding = None
        conversation.context_id = reply.context_id or conversation.context_id
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
        return _reply(said, conversation, task.id if task is not None else None, watch)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
        self._http, self._clients = None, {}

    async def _deliver(self, text: str, conversation: Conversation, outstanding: Outstanding) -> Task | Message:
        """The agent's reply to a message; one that may have arrived before is asked about first."""
        if outstanding.task_id is not None:
            return await self._ask(outstanding.task_id)
        if outstanding.delivered and conversation.task_id is not None:
            task = await self._ask(conversation.task_id)
            arrived = any(message.message_id == outstanding.message_id for message in task.history)
            if arrived or task.status.state not in PAUSED:
                return task
        message = Message(
            message_id=outstanding.message_id,
            role=Role.ROLE_USER,
            parts=[Part(text=text)],
            context_id=conversation.context_id or "",
            task_id=conversation.task_id or "",
        )
        try:
            return await self._call(lambda client: _send(client, message))
        except AgentError as error:
            outstanding.delivered = outstanding.delivered or error.delivered
            lost = error.kind in ("timeout", "unreachable")
            error.retryable = error.retryable or (lost and conversation.task_id is not None)
            raise

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
        """Make a request in the protocol generation that the agent understands."""
        while True:
            card = self._card
            try:
                async with asyncio.timeout(self._settings.timeout_s):
                    result = await request(self._client(card))
            except (MethodNotFoundError, VersionNotSupportedError) as error:
                if not self._next_card(after=card):
                    raise agent_error(error, self._secrets) from error
            except TRANSPORT_FAULTS as error:
                raise agent_error(error, self._secrets) from error
            else:
                self._understood = True
                return result

    def _failure(self, task: Task) -> AgentError:
        without = f"the task ended as {state_name(task)}, without a reason"
        reason = shown(status_text(task), self._secrets) or without
        return AgentError(reason, kind=FAILURES[task.status.state], hint="The agent's own log says more.")

    def _next_card(self, *, after: int) -> bool:
        """Whether there is another card to try; requests in flight together move on only once."""
        if self._card == after and not self._understood and after + 1 < len(self._cards):
            self._card += 1
        return self._card != after

    def _client(self, card: int) -> Client:
        if self._http is None:
            raise RuntimeError("connect first")
        if card not in self._clients:
            config = ClientConfig(
                streaming=False,
                httpx_client=self._http,
                supported_protocol_bindings=list(BINDINGS),
                use_client_preference=True,
            )
            self._clients[card] = ClientFactory(config).create(self._cards[card])
        return self._clients[card]

    def _open_http(self) -> httpx.AsyncClient:
        timeout = self._settings.timeout_s
        headers = httpx.Headers([("user-agent", f"testbench/{__version__}"), *self._settings.headers])
        if self._auth is not None:
            headers.setdefault("authorization", self._auth)
        return AgentHttp(
            self._instrument(AgentTransport(self._url)),
            headers=headers,
            params=self._query,
            timeout=httpx.Timeout(timeout, connect=min(CONNECT_TIMEOUT_S, timeout)),
        )


async def _send(client: Client, message: Message) -> Task | Message:
    async for event in client.send_message(SendMessageRequest(message=message)):
        if event.HasField("message"):
            return event.message
        if event.HasField("task"):
            return event.task
    raise ValueError("neither a message nor a task")


def _reply(said: Said, conversation: Conversation, task_id: str | None, watch: Stopwatch) -> AgentReply:
    if not said.answered:
        raise AgentError("the agent answered without a text, a file or a tool call", kind="no_answer")
    return AgentReply(
        turns=said.turns,
        context_id=conversation.context_id,
        task_id=task_id,
        usage=said.usage,
        seconds=watch.seconds,
    )


def _split_secrets(url: str) -> tuple[str, str | None, httpx.QueryParams]:
    """The address as it may be shown, and what else it carried: the `Authorization`, and the query of every request."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    auth = aiohttp.encode_basic_auth(unquote(user), unquote(password)) if at else None
    return urlunsplit((parts.scheme, host, parts.path, "", "")), auth, httpx.QueryParams(parts.query)
