"""The judge behind an OpenAI-compatible gateway: patient with what passes, quick to give up on what does not.

    question -> messages -> request (pace, budget, retries, deadline) -> reply -> answer, repaired once if unfit

Built by `testbench.metrics.evaluation`. A judge that is down is found out once, not by every evaluation again: when a
question has used up all its retries and nobody else was answered meanwhile, every later question fails at once.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from pydantic import BaseModel

from testbench.errors import JudgeError, RemoteError
from testbench.metrics.judge.answer import Message, UnfitAnswerError, make_messages, read_answer
from testbench.metrics.judge.cost import CostBudget, Reservation, most_tokens, record_paid
from testbench.metrics.judge.judge import AnswerT, JudgeSettings, Question
from testbench.net.clock import Clock, SystemClock
from testbench.net.endpoint import Instrument, no_instrument
from testbench.net.pacing import Pacer, Slot, automatic_pace, fixed_pace
from testbench.net.retry import RetryPolicy, Succeeded, call_with_retries
from testbench.net.time_limit import not_counted
from testbench.openai_api.completion import Completion
from testbench.openai_api.faults import SAID_LENGTH, GatewayError
from testbench.openai_api.gateway import Gateway, GatewaySettings
from testbench.openai_api.options import ALL_OPTIONS, format_text, strictest_format
from testbench.safe_text import printable, redact_url
from testbench.schema.models import Usage

logger = logging.getLogger(__name__)

T = TypeVar("T")
Request: TypeAlias = Callable[[], Awaitable[tuple[T, Usage]]]
"""Makes a request; returns the reply and what it cost."""

RETRIES_BEFORE_FIRST_ANSWER: Final = 2
"""Where nobody ever answered, the address is more likely wrong than the judge busy."""
RAW_LIMIT: Final = 4000
"""Characters of a judge's words that an error keeps."""


@dataclass(frozen=True)
class JudgeRetries(RetryPolicy):
    """Patient with a judge that was heard of before, and quick to give up on an address where nobody ever answered.

    A rate limit says when to come back: only the deadline ends it. A wait is never below half of the back-off: a
    server may ask to be asked again at once.
    """

    patient: bool = True
    jitter: float = 0.5
    role: str = "judge"
    has_answered: Callable[[], bool] = lambda: True

    def retries_after(self, error: RemoteError) -> int:
        if error.kind == "unreachable" and not self.has_answered():
            return min(self.retries, RETRIES_BEFORE_FIRST_ANSWER)
        return self.retries

    def is_lasting(self, errors: Sequence[RemoteError]) -> bool:
        return False

    def deadline_error(self) -> RemoteError:
        message = f"the {self.role} gave no answer within {self.deadline_s:g} s, retries included"
        return JudgeError(message, kind="timeout")


class OpenAIJudge:
    """Asks a chat model at `settings.base_url`; one for a run, made inside its event loop."""

    def __init__(
        self, settings: JudgeSettings, clock: Clock | None = None, instrument: Instrument = no_instrument
    ) -> None:
        """`instrument` puts something around the HTTP transport, e.g. a trace."""
        self._settings = settings
        self._clock = clock or SystemClock()
        self._answered = 0
        self._down: RemoteError | None = None
        self._retries = JudgeRetries(
            retries=settings.retries,
            deadline_s=settings.deadline_s,
            role=settings.role,
            has_answered=lambda: self._answered > 0,
        )
        self._budget = None if settings.max_cost is None else CostBudget(settings.max_cost)
        gateway = GatewaySettings(
            settings.base_url,
            settings.api_key,
            settings.headers,
            settings.timeout_s,
            compressed=True,
            droppable=ALL_OPTIONS,
        )
        self._gateway = Gateway(gateway, self._clock, instrument)
        pace = automatic_pace if settings.adaptive else fixed_pace
        self._pacer = Pacer(pace(settings.concurrency))

    async def ask(self, question: Question[AnswerT]) -> AnswerT:
        """See `Judge.ask`; an answer that does not fit is asked for once more, with what was wrong with it."""
        messages = make_messages(question)
        said = await self._chat(messages, question.answer)
        try:
            return read_answer(said, question)
        except UnfitAnswerError as error:
            repair = f"Your answer could not be used: {error}. Answer again, with one JSON object and nothing else."
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": repair}]
        said = await self._chat(messages, question.answer)
        try:
            return read_answer(said, question)
        except UnfitAnswerError as error:
            wanted = question.answer.__name__
            message = f"the {self._settings.role}'s answer does not fit {wanted}, asked twice: {error}"
            hint = "Use a model that follows a JSON schema, or look at what it said: `raw` of the error."
            raise JudgeError(message, kind="malformed", raw=said[:RAW_LIMIT], attempts=2, hint=hint) from error

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """See `Judge.embed`."""
        model = self._settings.embedding_model

        async def request() -> tuple[dict[int, list[float]], Usage]:
            reply = await self._gateway.embed({"model": model, "input": list(texts), "encoding_format": "float"})
            return reply.vectors, self._record(model, reply.usage)

        vectors = await self._call(request, self._most(model, list(texts), answer_tokens=0))
        if sorted(vectors) != list(range(len(texts))):
            raise JudgeError(f"asked for {len(texts)} embeddings, got {len(vectors)}", kind="malformed")
        return [vectors[position] for position in range(len(texts))]

    async def close(self) -> None:
        """Close the connections."""
        await self._gateway.close()

    async def _chat(self, messages: list[Message], answer: type[BaseModel]) -> str:
        """Return what the judge says to these messages.

        Raises:
            JudgeError: also where it was cut short or filtered.
        """
        settings, role = self._settings, self._settings.role
        body = {
            "model": settings.model,
            "messages": messages,
            "max_tokens": settings.max_tokens,
            "temperature": settings.temperature,
            "response_format": strictest_format(answer),
        }

        async def request() -> tuple[Completion, Usage]:
            reply = await self._gateway.complete(body)
            return reply, self._record(settings.model, reply.usage)

        texts = [*(message["content"] for message in messages), format_text(answer)]
        reply = await self._call(request, self._most(settings.model, texts, settings.max_tokens))
        raw = reply.text[:RAW_LIMIT]
        if reply.finish_reason == "length":
            message = f"the {role}'s answer was cut off at {settings.max_tokens} tokens"
            raise JudgeError(message, kind="truncated", raw=raw)
        if reply.finish_reason == "content_filter":
            raise JudgeError(f"the {role}'s answer was filtered", kind="content_filter", raw=raw)
        if reply.refusal:
            words = reply.refusal[:RAW_LIMIT]
            message = f"the {role} refused to answer: {printable(words, SAID_LENGTH)}"
            raise JudgeError(message, kind="content_filter", raw=words)
        return reply.text

    def _most(self, model: str | None, texts: list[str], answer_tokens: int) -> float:
        """Return the most that a request can cost, in US dollars; infinite for a model without a price."""
        price = self._settings.prices.of(model)
        return math.inf if price is None else price.of(most_tokens(texts), answer_tokens)

    async def _call(self, request: Request[T], most: float) -> T:
        """Return the reply to a request that can cost `most`, made again for as long as that makes sense.

        Raises:
            JudgeError: it does not any more.
        """
        if self._down:
            raise JudgeError(self._down.message, kind=self._down.kind, hint=self._down.hint, attempts=0)
        answered_before, reservation = self._answered, Reservation(0.0)

        @asynccontextmanager
        async def take_slot(again: bool) -> AsyncIterator[Slot]:
            """Take a slot under the pace, before those who are new, and the money for it."""
            nonlocal reservation
            async with AsyncExitStack() as stack:
                with not_counted():
                    slot = await stack.enter_async_context(self._pacer.take_slot(ahead=again))
                    reservation = await stack.enter_async_context(self._reserve(most))
                yield slot

        async def call() -> T:
            try:
                reply, usage = await request()
            except GatewayError as fault:
                if not fault.charged:
                    reservation.charge(0.0)
                raise judge_error(fault, self._settings) from fault
            reservation.charge(usage.cost_usd)
            return reply

        outcome = await call_with_retries(call, self._retries, self._clock, random.random, take_slot)
        if isinstance(outcome, Succeeded):
            self._answered += 1
            return outcome.value
        self._give_up(outcome.error, answered_before)
        raise outcome.error

    def _reserve(self, most: float) -> AbstractAsyncContextManager[Reservation]:
        return nullcontext(Reservation(0.0)) if self._budget is None else self._budget.reserve(most)

    def _record(self, model: str | None, stated: Usage | None) -> Usage:
        """Count what a reply cost: as the gateway says, else by the price list."""
        usage = self._settings.prices.add_cost(stated or Usage(), model)
        record_paid(usage)
        return usage

    def _give_up(self, error: RemoteError, answered_before: int) -> None:
        passes = error.retryable or error.kind == "timeout"
        lasting = error.kind == "auth" or (passes and self._answered == answered_before)
        if lasting and self._down is None:
            self._down = error
            message = "the %s is down (%s); what is left to ask it is not tried any more"
            logger.warning(message, self._settings.role, printable(error.message))


def judge_error(fault: GatewayError, settings: JudgeSettings) -> JudgeError:
    """Return what the fault of a gateway means to a judge.

    A timeout counts as a pushback: of a server that queues what it cannot do, it is the only sign of too much.
    """
    role, kind = settings.role, "http_error" if fault.kind == "unreadable" else fault.kind
    match fault.kind:
        case "unreachable":
            why = fault.said.removeprefix("cannot be reached: ")
            message = f"the {role} at {redact_url(settings.base_url)} cannot be reached: {why}"
        case "timeout":
            message = f"the {role} gave no answer within {settings.timeout_s:g} s"
        case "unreadable":
            message = f"the {role}'s gateway sent a reply that cannot be read: {fault.said}"
        case _:
            message = f"the {role}'s gateway {fault.answered}: {fault.said}"
    retryable = fault.retryable or fault.kind == "unreadable"
    error = JudgeError(message, kind=kind, retryable=retryable)
    if fault.kind == "auth":
        error.hint = "Check the key in OPENAI_API_KEY and what it may use."
    error.retry_after = fault.retry_after
    error.overloaded = fault.overloaded or fault.kind == "timeout"
    return error
