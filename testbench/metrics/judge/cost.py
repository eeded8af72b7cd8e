"""What the judge costs: tokens and US dollars by evaluation, prices by model, and a budget that is never exceeded.

    replies -> JudgeUsage of the evaluation under way;  PriceList -> the cost of a reply that does not state its own
    the most that a request can cost -> CostBudget.reserve -> request -> Reservation.charge

`MetricEvaluator` opens `track_usage()` around each evaluation; the judge records into whichever is open in its context,
so that nothing has to be passed through a framework and concurrent evaluations are told apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from testbench.errors import InputError, JudgeError
from testbench.openai_api.completion import total_usage
from testbench.schema.files import describe, load_document, read_bytes
from testbench.schema.models import Usage

OVER_BUDGET: Final = "max_cost"
"""The kind of error that a request is which the budget refused."""
TOKENS_PER_PRICE: Final = 1_000_000
TOKENS_OF_A_MESSAGE: Final = 16
"""More than any gateway adds to a message for roles and marks."""
_PRICES_HINT: Final = (
    "Write a line for each model, e.g. gpt-4o: {input: 2.50, output: 10.00}, in USD per million tokens."
)


@dataclass
class JudgeUsage:
    """The judge's replies of one evaluation: those that were paid for, and how many came from the cache."""

    paid: list[Usage] = field(default_factory=list)
    cached: int = 0

    @property
    def total(self) -> Usage | None:
        """The sum, or None where nothing was paid for. A number that one of the replies lacks is absent from it."""
        return total_usage(self.paid)

    @property
    def all_cached(self) -> bool:
        return bool(self.cached) and not self.paid


class Price(BaseModel):
    """US dollars for a million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Return the cost of so many tokens in US dollars."""
        return (input_tokens * self.input + output_tokens * self.output) / TOKENS_PER_PRICE


_PRICES: Final = TypeAdapter(dict[str, Price])


@dataclass(frozen=True)
class PriceList:
    """Prices by the name of the model, as it is asked for."""

    prices: Mapping[str, Price] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> PriceList:
        """Return the prices in a YAML or JSON file.

        Raises:
            InputError: it is missing, or not a price list.
        """
        document = load_document(path, read_bytes(path, hint=_PRICES_HINT))
        try:
            return cls(_PRICES.validate_python(document))
        except ValidationError as error:
            raise InputError(f"{path}: not a price list: {describe(error)}", hint=_PRICES_HINT) from error

    def of(self, model: str | None) -> Price | None:
        """Return the price of a model, or None where the list does not name it."""
        return self.prices.get(model or "")

    def add_cost(self, usage: Usage, model: str | None) -> Usage:
        """Return the usage with its cost: as reported, else by this list, else unknown (and never 0)."""
        price = self.of(model)
        if usage.cost_usd is not None or price is None or usage.input_tokens is None:
            return usage
        if usage.output_tokens is None and price.output:
            return usage
        return usage.model_copy(update={"cost_usd": price.of(usage.input_tokens, usage.output_tokens or 0)})


class Reservation:
    """The money that is set aside for one request: the most that it can cost, until it is charged."""

    def __init__(self, most: float) -> None:
        self.cost = most

    def charge(self, cost: float | None) -> None:
        """Take what the request has cost; None leaves it at the most, because nobody knows."""
        if cost is not None:
            self.cost = cost


class CostBudget:
    """US dollars that the judge may cost in one run; used from one event loop."""

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
    async def reserve(self, most: float) -> AsyncIterator[Reservation]:
        """Set aside what one request can cost at most; wait where others may leave enough of theirs.

        The whole reservation counts as spent unless the block charges another cost.

        Raises:
            JudgeError: of kind `max_cost`, because the request could cost more than is left.
        """
        while not self._refused and self._spent + most <= self._limit < self._spent + self._reserved + most:
            released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(released)
            await released
        if self._refused or self._spent + most > self._limit:
            self._refused = True
            self._wake_all()
            message = f"not asked: --max-cost {self._limit:g} USD could be exceeded ({self._spent:.4f} spent)"
            hint = "Evaluate again with more; what is known is free."
            raise JudgeError(message, kind=OVER_BUDGET, attempts=0, hint=hint)
        self._reserved += most
        reservation = Reservation(most)
        try:
            yield reservation
        finally:
            self._reserved -= most
            self._spent += reservation.cost
            self._wake_all()

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for released in waiting:
            if not released.done():
                released.set_result(None)


_usage_under_way: ContextVar[JudgeUsage | None] = ContextVar("testbench_judge_usage", default=None)


@contextmanager
def track_usage() -> Iterator[JudgeUsage]:
    """Count what is spent inside the block, in this task and the tasks that it starts."""
    usage = JudgeUsage()
    token = _usage_under_way.set(usage)
    try:
        yield usage
    finally:
        _usage_under_way.reset(token)


def record_paid(reply: Usage) -> None:
    """Count a reply, good or bad: one that had to be repaired was paid for as well."""
    if (usage := _usage_under_way.get()) is not None:
        usage.paid.append(reply)


def record_cached() -> None:
    """Count an answer that cost nothing because it was known."""
    if (usage := _usage_under_way.get()) is not None:
        usage.cached += 1


def most_tokens(texts: list[str]) -> int:
    """Return more tokens than these messages can have: no tokenizer makes more tokens than there are bytes."""
    return sum(len(text.encode(errors="replace")) + TOKENS_OF_A_MESSAGE for text in texts)


def likely_tokens(texts: list[str]) -> int:
    """Return about as many tokens as these messages have: four characters of Latin script are one."""
    return sum(len(text) // 4 + TOKENS_OF_A_MESSAGE // 4 for text in texts)
