"""The judge behind an OpenAI-compatible gateway: patient with what passes, quick to give up on what does not.

    question -> messages -> request (pace, budget, retries, deadline) -> reply -> answer, repaired once if unfit

Built by `testbench.metrics.evaluation`. A judge that is down is found out once, not by every evaluation again: when a
question has used up all its patience and nobody else was answered meanwhile, every later question fails at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from pydantic import BaseModel

from testbench.errors import JudgeError, RemoteError
from testbench.metrics.judge.answer import Message, UnfitAnswerError, messages_of, read_answer
from testbench.metrics.judge.cost import CostBudget, Reservation, most_tokens, record_paid
from testbench.metrics.judge.failures import complaint_of, explain, is_free_of_charge
from testbench.metrics.judge.gateway import FAULTS, SAID_LIMIT, Chat, Gateway, Instrument, RefusedError, Tokens, Vectors
from testbench.metrics.judge.judge import AnswerT, JudgeSettings, Question
from testbench.metrics.judge.options import RequestOptions, format_text
from testbench.net.clock import Clock, SystemClock
from testbench.net.pacing import Pacer, Slot, automatic_pace, fixed_pace
from testbench.net.retry import RetryPolicy, Succeeded, call_with_retries
from testbench.net.time_limit import not_counted
from testbench.safe_text import printable
from testbench.schema.models import Usage

logger = logging.getLogger(__name__)

T = TypeVar("T")
Paid: TypeAlias = tuple[T, Usage]
"""A reply and what it cost."""
Request: TypeAlias = Callable[[], Awaitable[Paid[T]]]

_OPTION_REFUSED: Final = frozenset({400, 422})
COST_HEADER: Final = "x-litellm-response-cost"
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
        self, settings: JudgeSettings, clock: Clock | None = None, instrument: Instrument = lambda transport: transport
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
        self._options = RequestOptions(settings.max_tokens, settings.temperature)
        self._budget = None if settings.max_cost is None else CostBudget(settings.max_cost)
        self._gateway = Gateway(settings, instrument)
        self._pacer = Pacer(
            automatic_pace(settings.concurrency) if settings.adaptive else fixed_pace(settings.concurrency)
        )

    async def ask(self, question: Question[AnswerT]) -> AnswerT:
        """See `Judge.ask`; an answer that does not fit is asked for once more, with what was wrong with it."""
        messages = messages_of(question)
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

        async def request() -> Paid[Vectors]:
            body = {"model": model, "input": list(texts), "encoding_format": "float"}
            reply, headers = await self._gateway.post("embeddings", body, Vectors)
            tokens = reply.usage and reply.usage.model_copy(update={"completion_tokens": 0})
            return reply, self._record(model, tokens, headers)

        reply = await self._call(request, self._most(model, list(texts), answer_tokens=0))
        vectors = {vector.index: vector.embedding for vector in reply.data}
        if sorted(vectors) != list(range(len(texts))):
            raise JudgeError(f"asked for {len(texts)} embeddings, got {len(vectors)}", kind="malformed")
        return [vectors[position] for position in range(len(texts))]

    async def close(self) -> None:
        """Close the connections."""
        await self._gateway.close()

    async def _chat(self, messages: list[Message], answer: type[BaseModel]) -> str:
        """What the judge says to these messages.

        Raises:
            JudgeError: also where it was cut short or filtered.
        """
        texts = [*(message["content"] for message in messages), format_text(answer)]
        most = self._most(self._settings.model, texts, self._settings.max_tokens)
        reply = await self._call(lambda: self._request_chat(messages, answer), most)
        choice, role = reply.choices[0], self._settings.role
        said = choice.message.content or ""
        if choice.finish_reason == "length":
            limit = self._settings.max_tokens
            raise JudgeError(
                f"the {role}'s answer was cut off at {limit} tokens", kind="truncated", raw=said[:RAW_LIMIT]
            )
        if choice.finish_reason == "content_filter":
            raise JudgeError(f"the {role}'s answer was filtered", kind="content_filter", raw=said[:RAW_LIMIT])
        if choice.message.refusal:
            words = choice.message.refusal[:RAW_LIMIT]
            raise JudgeError(f"the {role} refused to answer: {words[:SAID_LIMIT]}", kind="content_filter", raw=words)
        return said

    async def _request_chat(self, messages: list[Message], answer: type[BaseModel]) -> Paid[Chat]:
        """One request; what the gateway does not understand is left out from then on."""
        options, model = self._options, self._settings.model
        try:
            body = {"model": model, "messages": messages} | options.parts(answer)
            reply, headers = await self._gateway.post("chat/completions", body, Chat)
        except RefusedError as error:
            simpler = options.without(complaint_of(error), answer) if error.status in _OPTION_REFUSED else None
            if simpler is None:
                raise
            if self._options is options:  # otherwise another request was faster
                self._options = simpler
                message = "the %s's gateway refuses an option (%s): going on without it"
                logger.info(message, self._settings.role, printable(complaint_of(error)))
            return await self._request_chat(messages, answer)
        return reply, self._record(model, reply.usage, headers)

    def _most(self, model: str | None, texts: list[str], answer_tokens: int) -> float:
        """The most that a request can cost, in US dollars; infinite for a model without a price."""
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
            """A slot under the pace, before those who are new, and the money for it."""
            nonlocal reservation
            async with AsyncExitStack() as stack:
                with not_counted():
                    slot = await stack.enter_async_context(self._pacer.take_slot(ahead=again))
                    reservation = await stack.enter_async_context(self._reserve(most))
                yield slot

        async def call() -> T:
            try:
                async with asyncio.timeout(self._settings.timeout_s):
                    reply, usage = await request()
            except FAULTS as error:
                if is_free_of_charge(error):
                    reservation.charge(0.0)
                raise explain(error, self._settings, self._clock.now()) from error
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

    def _record(self, model: str | None, tokens: Tokens | None, headers: Mapping[str, str]) -> Usage:
        """Count what a reply cost: as the gateway says, else by the price list."""
        tokens = tokens or Tokens()
        cost = _cost(headers.get(COST_HEADER))
        reported = Usage(input_tokens=tokens.prompt_tokens, output_tokens=tokens.completion_tokens, cost_usd=cost)
        usage = self._settings.prices.add_cost(reported, model)
        record_paid(usage)
        return usage

    def _give_up(self, error: RemoteError, answered_before: int) -> None:
        passes = error.retryable or error.kind == "timeout"
        lasting = error.kind == "auth" or (passes and self._answered == answered_before)
        if lasting and self._down is None:
            self._down = error
            message = "the %s is down (%s); what is left to ask it is not tried any more"
            logger.warning(message, self._settings.role, printable(error.message))


def _cost(header: str | None) -> float | None:
    try:
        return Usage(cost_usd=float(header)).cost_usd if header else None
    except ValueError:  # no number, or one that is no cost (pydantic's error is a ValueError)
        return None
