"""What one evaluation spends on the judge, counted where the requests are made and read where the result is written.

`MetricEvaluator` opens a `track()` around each evaluation; the judge records into whichever is open in its context, so
that nothing has to be passed through a framework and concurrent evaluations are told apart.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from testbench.errors import InputError, JudgeError
from testbench.schema.files import describe, load_document, read_bytes
from testbench.schema.models import Usage


@dataclass
class Spending:
    """The judge's replies of one evaluation: those that were paid for, and how many came from the cache."""

    paid: list[Usage] = field(default_factory=list)
    cached: int = 0

    @property
    def usage(self) -> Usage | None:
        """The sum, or None where nothing was paid for. A number that one of the replies lacks is absent from it."""
        if not self.paid:
            return None
        tokens_in = [usage.input_tokens for usage in self.paid if usage.input_tokens is not None]
        tokens_out = [usage.output_tokens for usage in self.paid if usage.output_tokens is not None]
        costs = [usage.cost_usd for usage in self.paid if usage.cost_usd is not None]
        calls = len(self.paid)
        return Usage(
            input_tokens=sum(tokens_in) if len(tokens_in) == calls else None,
            output_tokens=sum(tokens_out) if len(tokens_out) == calls else None,
            cost_usd=math.fsum(costs) if len(costs) == calls else None,
        )

    @property
    def all_cached(self) -> bool:
        return bool(self.cached) and not self.paid


_open: ContextVar[Spending | None] = ContextVar("testbench_spending", default=None)


@contextmanager
def track() -> Iterator[Spending]:
    """Count what is spent inside the block, in this task and the tasks that it starts."""
    spending = Spending()
    token = _open.set(spending)
    try:
        yield spending
    finally:
        _open.reset(token)


def record_paid(usage: Usage) -> None:
    """Called by a judge for each reply, good or bad: a reply that had to be repaired was paid for as well."""
    if (spending := _open.get()) is not None:
        spending.paid.append(usage)


def record_cached() -> None:
    """Called for each answer that cost nothing because it was known."""
    if (spending := _open.get()) is not None:
        spending.cached += 1


KIND = "max_cost"
"""The kind of error that a refused request is."""


class Purse:
    """Holds `limit` US dollars for one run; used from one event loop."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._spent = 0.0
        self._reserved = 0.0
        self._refused = False
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def spent(self) -> float:
        """US dollars, with what may have been charged for requests that were not answered."""
        return self._spent

    @asynccontextmanager
    async def paying(self, most: float) -> AsyncIterator[Payment]:
        """The right to one request that costs at most so many dollars; waits where others may leave enough.

        The payment counts as `most` unless the block says otherwise.

        Raises:
            JudgeError: of kind `max_cost`, because it could cost more than is left.
        """
        while not self._refused and self._spent + most <= self._limit < self._spent + self._reserved + most:
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            await place
        if self._refused or self._spent + most > self._limit:
            self._refused = True
            self._wake_all()
            message = f"not asked: --max-cost {self._limit:g} USD could be exceeded ({self._spent:.4f} spent)"
            raise JudgeError(message, kind=KIND, attempts=0, hint="Evaluate again with more; what is known is free.")
        self._reserved += most
        payment = Payment(most)
        try:
            yield payment
        finally:
            self._reserved -= most
            self._spent += payment.cost
            self._wake_all()

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for place in waiting:
            if not place.done():
                place.set_result(None)


class Payment:
    """What one request costs: at first the most that it can."""

    def __init__(self, most: float) -> None:
        self.cost = most

    def settle(self, cost: float | None) -> None:
        """It cost so much; None: nobody knows, and it stays at the most."""
        if cost is not None:
            self.cost = cost


MILLION: Final = 1_000_000
TOKENS_OF_A_MESSAGE: Final = 16
"""More than any gateway adds to a message for roles and marks."""
_HINT: Final = "Write a line for each model, e.g. gpt-4o: {input: 2.50, output: 10.00}, in USD per million tokens."


class Price(BaseModel):
    """US dollars for a million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """The cost of so many tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / MILLION


_PRICES = TypeAdapter(dict[str, Price])


@dataclass(frozen=True)
class PriceList:
    """Prices by the name of the model, as it is asked for."""

    prices: Mapping[str, Price] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> PriceList:
        """The prices in a file.

        Raises:
            InputError: it is missing, or no price list.
        """
        document = load_document(path, read_bytes(path, hint=_HINT))
        try:
            return cls(_PRICES.validate_python(document))
        except ValidationError as error:
            raise InputError(f"{path}: no price list: {describe(error)}", hint=_HINT) from error

    def of(self, model: str | None) -> Price | None:
        """The price of a model, or None where the list does not name it."""
        return self.prices.get(model or "")

    def priced(self, usage: Usage, model: str | None) -> Usage:
        """The usage with its cost: as reported, else by this list, else unknown (and never 0)."""
        price = self.of(model)
        if usage.cost_usd is not None or price is None or usage.input_tokens is None:
            return usage
        if usage.output_tokens is None and price.output:
            return usage
        return usage.model_copy(update={"cost_usd": price.of(usage.input_tokens, usage.output_tokens or 0)})


def most_tokens(texts: list[str]) -> int:
    """More tokens than these messages can have: no tokenizer makes more tokens than there are bytes."""
    return sum(len(text.encode(errors="replace")) + TOKENS_OF_A_MESSAGE for text in texts)


def likely_tokens(texts: list[str]) -> int:
    """About as many tokens as these messages have: four characters of Latin script are one."""
    return sum(len(text) // 4 + TOKENS_OF_A_MESSAGE // 4 for text in texts)
