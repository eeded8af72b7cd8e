"""A model behind an OpenAI-compatible gateway as an agent: it has a memory (kept here) and may call tools.

    message -> request -> completion -> tool calls, answered -> request -> … -> answer

Opened by `runs.target_clients`. The history belongs to the `Conversation` and ends with it; a step that failed for good
is left out of it, as if it had not been said. A step that is tried again goes on where it failed: what a tool has
answered before is not asked of it again.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import uuid4

from testbench.arena.targets.target import ChatTarget
from testbench.arena.targets.tool_calls import ArgumentFault, parse_arguments, record_call
from testbench.arena.targets.tools import ToolBox
from testbench.errors import AgentError
from testbench.net.clock import AnswerTimer, Clock, SystemClock
from testbench.net.endpoint import Instrument, no_instrument
from testbench.openai_api.completion import Completion, RequestedCall, total_usage
from testbench.openai_api.faults import SAID_LENGTH, GatewayError
from testbench.openai_api.gateway import Gateway, GatewaySettings
from testbench.openai_api.options import Json
from testbench.safe_text import printable, redact_url
from testbench.schema.agent import AgentDescription, AgentReply, Conversation, Outstanding
from testbench.schema.models import Turn, Usage

BROKEN_OFF: Final = frozenset({"error", "abort", "aborted", "cancelled", "canceled"})
"""Reasons to end that are the gateway's or the server's, and not the model's."""
NOT_READY: Final = (502, 503, 504)

GATEWAY_HINT: Final = "Check the base URL, the model's name and the gateway's own log."
CREDENTIAL_HINT: Final = "Check the credential of the Provider, and what it may use."
LOAD_HINT: Final = "The gateway asks for fewer requests: lower the concurrency or the rate."
LENGTH_HINT: Final = "Raise the Provider's max_tokens: a cut answer says nothing about the model."
FILTER_HINT: Final = "The gateway's own policy refused the conversation, or withheld the answer."

OnSpent = Callable[[Usage], None]
"""Told of every completion, those of failed steps included: an answer that was cut costs as much."""


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
        instrument: Instrument = no_instrument,
        on_spent: OnSpent | None = None,
    ) -> None:
        """The client closes `tools` with itself.

        Raises:
            InputError: the base URL is not the address of a web server.
        """
        self._target = target
        self._tools = tools
        self._clock = clock or SystemClock()
        self._on_spent = on_spent
        self._options = _options(target, tools)
        self._system = _system(target.system_prompt)
        settings = GatewaySettings(target.base_url, target.api_key, target.headers, target.timeout_s)
        self._gateway = Gateway(settings, self._clock, instrument)

    async def connect(self) -> AgentDescription:
        """See that the gateway answers and takes the credential; no completion is asked for."""
        try:
            status = await self._gateway.models_status()
        except GatewayError as fault:
            raise model_error(fault, self._target) from fault
        where = redact_url(self._target.base_url)
        if status == 401:
            message = f"{where} does not take the credential (HTTP 401)"
            raise AgentError(message, kind="auth_required", delivered=False, hint=CREDENTIAL_HINT)
        if status in NOT_READY:
            message = f"{where} is not ready (HTTP {status})"
            raise AgentError(message, kind="unreachable", retryable=True, delivered=False, hint=GATEWAY_HINT)
        return AgentDescription(name=self._target.model)

    async def send_step(self, text: str, conversation: Conversation) -> AgentReply:
        memory = _memory(conversation)
        exchange = memory.exchange
        if conversation.outstanding is None or exchange is None:
            conversation.outstanding = Outstanding(uuid4().hex)
            exchange = memory.exchange = Exchange([{"role": "user", "content": text}])
        timer = AnswerTimer(self._clock)
        try:
            answer = await self._answer(memory.said, exchange, timer)
        except AgentError as error:
            conversation.outstanding.delivered |= error.delivered
            raise
        memory.said += exchange.messages
        memory.exchange = conversation.outstanding = None
        return AgentReply(
            turns=(*exchange.turns, Turn(type="agent", content=answer)),
            context_id=conversation.context_id,
            usage=total_usage(exchange.usages),
            seconds=timer.seconds,
            time_to_first_token_ms=timer.first_text_ms,
        )

    def prompted(self, system_prompt: str) -> ChatClient:
        """The same model on the same connections, under another system prompt. Only the original is to be closed."""
        other = copy(self)
        other._system = _system(system_prompt)
        return other

    async def close(self) -> None:
        await self._gateway.close()
        if self._tools is not None:
            await self._tools.close()

    async def _answer(self, said: list[Json], exchange: Exchange, timer: AnswerTimer) -> str:
        """What the model says in the end, its tool calls answered."""
        while True:
            await self._answer_calls(exchange)
            completion = await self._complete([*self._system, *said, *exchange.messages], timer)
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
            calls = tuple(record_call(call.name, call.arguments) for call in completion.calls)
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

    async def _complete(self, messages: list[Json], timer: AnswerTimer) -> Completion:
        """Return what the model says, with its cost: as the gateway says, else by the Provider's prices."""
        try:
            completion = await self._gateway.complete({**self._options, "messages": messages}, timer.mark_text)
        except GatewayError as fault:
            raise model_error(fault, self._target) from fault
        usage = completion.usage if self._target.prices is None else self._target.prices.add_cost(completion.usage)
        if usage is not None and self._on_spent is not None:
            self._on_spent(usage)
        return replace(completion, usage=usage)


def model_error(fault: GatewayError, target: ChatTarget) -> AgentError:
    """Return what the fault of a gateway means to a model under test."""
    match fault.kind:
        case "unreachable" | "timeout":
            message = f"{redact_url(target.base_url)}: {fault.said}"
        case "unreadable":
            message = f"the reply is not a chat completion: {fault.said}"
        case _:
            stated = f"HTTP {fault.status}" if fault.status else "the reply says"
            message = f"{stated}: {fault.said}" if fault.said else stated
    hints = {"auth": CREDENTIAL_HINT, "content_filter": FILTER_HINT}
    error = AgentError(
        printable(message, SAID_LENGTH),
        kind={"auth": "auth_required", "unreadable": "protocol"}.get(fault.kind, fault.kind),
        retryable=fault.retryable,
        retry_after=fault.retry_after,
        delivered=fault.delivered,
        hint=hints.get(fault.kind, LOAD_HINT if fault.overloaded else GATEWAY_HINT),
    )
    error.overloaded = fault.overloaded
    return error


def check_finished(completion: Completion) -> None:
    """Check that the model itself came to an end.

    Raises:
        AgentError: `truncated`, `content_filter` or `failed`: what there is of an answer is not one.
    """
    if completion.finish_reason in BROKEN_OFF:
        message = f"the gateway ended the answer: {completion.finish_reason}"
        raise AgentError(message, kind="failed", retryable=True, hint=GATEWAY_HINT)
    if completion.finish_reason == "length":
        raise AgentError("the answer was cut at the limit of tokens", kind="truncated", hint=LENGTH_HINT)
    if completion.finish_reason == "content_filter":
        raise AgentError("the answer was filtered", kind="content_filter", hint=FILTER_HINT)


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
    return arguments if arguments and not isinstance(parse_arguments(arguments), ArgumentFault) else "{}"
