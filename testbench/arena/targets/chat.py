"""A model behind an OpenAI-compatible gateway as an agent: it has a memory (kept here) and may call tools.

    message -> request -> completion -> tool calls, answered -> request -> … -> answer

Opened by `clients.client_of`. The history belongs to the `Conversation` and ends with it; a step that failed for good
is left out of it, as if it had not been said. A step that is tried again goes on where it failed: what a tool has
answered before is not asked of it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

import httpx

from testbench.arena.targets.completion import (
    Completion,
    EventError,
    EventStream,
    Json,
    Reading,
    RequestedCall,
    UnreadableError,
    whole,
)
from testbench.arena.targets.faults import (
    CREDENTIAL_HINT,
    GATEWAY_HINT,
    check_finished,
    of_status,
    of_transport,
    of_unreadable,
    understood,
)
from testbench.arena.targets.gateway import (
    CONNECT_TIMEOUT_S,
    Endpoint,
    HttpFaultError,
    Instrument,
    TooLongError,
    as_it_is,
    read,
)
from testbench.arena.targets.spending import cost_of_header, priced, total
from testbench.arena.targets.target import ChatTarget, place
from testbench.arena.targets.tool_calls import ArgumentFault, read_arguments, recorded
from testbench.arena.targets.tools import ToolBox
from testbench.arena.targets.watch import Watch
from testbench.errors import AgentError
from testbench.net.clock import Clock, SystemClock
from testbench.schema.agent import AgentDescription, AgentReply, Conversation, Outstanding
from testbench.schema.models import Turn, Usage

COST_HEADER: Final = "x-litellm-response-cost"
MAX_REPLY_BYTES: Final = 4 * 1024 * 1024
MAX_ERROR_BYTES: Final = 64 * 1024

OnSpent = Callable[[Usage], None]
"""Receives the usage of every completion, those of failed steps included: an answer that was cut costs as much."""


@dataclass
class Exchange:
    """A step under way: what was said in it so far, in the gateway's words and in ours."""

    messages: list[Json]
    turns: list[Turn] = field(default_factory=list)
    unanswered: list[RequestedCall] = field(default_factory=list)
    usages: list[Usage | None] = field(default_factory=list)
    rounds: int = 0


@dataclass
class Memory:
    """What the model has to be told again with every request."""

    said: list[Json] = field(default_factory=list)
    exchange: Exchange | None = None


class ChatClient:
    """Implements `AgentClient` for a `ChatTarget`; one for all its conversations, made inside the event loop."""

    def __init__(
        self,
        target: ChatTarget,
        tools: ToolBox | None = None,
        *,
        clock: Clock | None = None,
        instrument: Instrument = as_it_is,
        on_spent: OnSpent | None = None,
    ) -> None:
        """The client closes `tools` with itself.

        Raises:
            InputError: the base URL is none.
        """
        self._target = target
        self._tools = tools
        self._clock = clock or SystemClock()
        self._on_spent = on_spent
        self._options = _options(target, tools)
        self._system = _system(target.system_prompt)
        headers = target.headers
        if target.api_key is not None:
            headers = (("authorization", f"Bearer {target.api_key}"), *headers)
        self._endpoint = Endpoint(target.base_url, headers, instrument, below="/chat/completions")

    async def connect(self) -> AgentDescription:
        """See that the gateway answers and takes the credential; no completion is asked for."""
        try:
            status = await self._endpoint.status_of("../models", min(CONNECT_TIMEOUT_S, self._target.timeout_s))
        except HttpFaultError as fault:
            raise of_transport(fault, self._target) from fault
        where = place(self._target.base_url)
        if status == 401:
            message = f"{where} does not take the credential (HTTP 401)"
            raise AgentError(message, kind="auth_required", delivered=False, hint=CREDENTIAL_HINT)
        if status in (502, 503, 504):
            message = f"{where} is not ready (HTTP {status})"
            raise AgentError(message, kind="unreachable", retryable=True, delivered=False, hint=GATEWAY_HINT)
        return AgentDescription(name=self._target.model)

    async def send_step(self, text: str, conversation: Conversation) -> AgentReply:
        memory = _memory(conversation)
        exchange = memory.exchange
        if conversation.outstanding is None or exchange is None:
            conversation.outstanding = Outstanding(uuid4().hex)
            exchange = memory.exchange = Exchange([{"role": "user", "content": text}])
        watch = Watch(self._clock)
        try:
            answer = await self._answer(memory.said, exchange, watch)
        except AgentError as error:
            conversation.outstanding.delivered |= error.delivered
            raise
        memory.said += exchange.messages
        memory.exchange = conversation.outstanding = None
        return AgentReply(
            turns=(*exchange.turns, Turn(type="agent", content=answer)),
            context_id=conversation.context_id,
            usage=total(exchange.usages),
            seconds=watch.seconds,
            time_to_first_token_ms=watch.first_text_ms,
        )

    def prompted(self, system_prompt: str) -> ChatClient:
        """The same model on the same connections, under another system prompt. Only the original is to be closed."""
        other = copy(self)
        other._system = _system(system_prompt)
        return other

    async def close(self) -> None:
        await self._endpoint.close()
        if self._tools is not None:
            await self._tools.close()

    async def _answer(self, said: list[Json], exchange: Exchange, watch: Watch) -> str:
        """What the model says in the end, its tool calls answered."""
        while True:
            await self._answer_calls(exchange)
            completion = await self._complete([*self._system, *said, *exchange.messages], watch)
            exchange.usages.append(completion.usage)
            check_finished(completion)
            exchange.messages.append(_as_message(completion))
            if not completion.calls:
                if not completion.text.strip():
                    raise AgentError("the model answered without a text", kind="no_answer", hint=GATEWAY_HINT)
                return completion.text
            exchange.rounds += 1
            if exchange.rounds > self._target.max_tool_rounds:
                message = f"the model still calls tools after {self._target.max_tool_rounds} rounds"
                raise AgentError(message, kind="no_answer", hint="Raise max_tool_rounds, or look at what tools answer.")
            calls = tuple(recorded(call.name, call.arguments) for call in completion.calls)
            exchange.turns.append(Turn(type="agent", content=completion.text, tool_calls=calls))
            exchange.unanswered += completion.calls

    async def _answer_calls(self, exchange: Exchange) -> None:
        """Execute what the model asked for, one after the other; what was executed stays so whatever comes then."""
        while exchange.unanswered:
            call = exchange.unanswered[0]
            result = await (self._tools or ToolBox(())).call(call.name, call.arguments)
            exchange.messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
            exchange.turns.append(Turn(type="tool", content=result))
            del exchange.unanswered[0]

    async def _complete(self, messages: list[Json], watch: Watch) -> Completion:
        """One request; what the gateway calls by another name is called so from then on."""
        options = dict(self._options)
        content = json.dumps({**options, "messages": messages}).encode()
        try:
            async with self._endpoint.post(content, self._target.timeout_s) as response:
                if response.is_success:
                    return await self._read(response, watch)
                body = await read(response, MAX_ERROR_BYTES)
        except HttpFaultError as fault:
            raise of_transport(fault, self._target) from fault
        except EventError as error:
            raise of_status(error.status, error.body, {}, self._target, self._clock.now()) from error
        except (UnreadableError, TooLongError) as error:
            raise of_unreadable(error, self._target) from error
        simpler = understood(options, response.status_code, body)
        if simpler is None:
            raise of_status(response.status_code, body, response.headers, self._target, self._clock.now())
        self._options.clear()  # shared by all prompts: what one has learnt is known to all
        self._options.update(simpler)
        return await self._complete(messages, watch)

    async def _read(self, response: httpx.Response, watch: Watch) -> Completion:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            completion = whole(await read(response, MAX_REPLY_BYTES))
            return self._paid(completion, cost_of_header(response.headers.get(COST_HEADER)))
        reading, events, size = Reading(), EventStream(), 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > MAX_REPLY_BYTES:
                raise TooLongError(f"more than {MAX_REPLY_BYTES} bytes")
            for payload in events.feed(chunk):
                reading.add(payload)
            watch.see(reading.text_begun)
        for payload in events.end():
            reading.add(payload)
        return self._paid(reading.completion(), None)

    def _paid(self, completion: Completion, cost: float | None) -> Completion:
        """The completion with its cost: as the gateway says, else by the Provider's prices, else unknown."""
        usage = priced(completion.usage, cost, self._target.prices)
        if usage is not None and self._on_spent is not None:
            self._on_spent(usage)
        return Completion(completion.text, completion.calls, completion.finish_reason, usage)


def _memory(conversation: Conversation) -> Memory:
    if conversation.memory is None:
        conversation.memory = Memory()
        conversation.context_id = conversation.context_id or uuid4().hex
    memory: Memory = conversation.memory
    return memory


def _system(prompt: str) -> list[Json]:
    return [{"role": "system", "content": prompt}] if prompt else []


def _options(target: ChatTarget, tools: ToolBox | None) -> Json:
    options: Json = {
        "model": target.model,
        "temperature": target.temperature,
        "top_p": target.top_p,
        "max_tokens": target.max_tokens,
        "seed": target.seed,
        "tools": tools.offered if tools is not None and tools.offered else None,
    }
    if target.stream:
        options |= {"stream": True, "stream_options": {"include_usage": True}}
    return {name: value for name, value in options.items() if value is not None}


def _as_message(completion: Completion) -> Json:
    if not completion.calls:
        return {"role": "assistant", "content": completion.text}
    calls = [
        {
            "id": call.id,
            "type": "function",
            # a gateway that hands arguments on as an object fails on those that are none
            "function": {"name": call.name, "arguments": _sendable(call.arguments)},
        }
        for call in completion.calls
    ]
    return {"role": "assistant", "content": completion.text or None, "tool_calls": calls}


def _sendable(arguments: str) -> str:
    return arguments if arguments and not isinstance(read_arguments(arguments), ArgumentFault) else "{}"
