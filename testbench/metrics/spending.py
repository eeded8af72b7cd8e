"""What one evaluation spends on the judge, counted where the requests are made and read where the result is written.

`MetricEvaluator` opens a `track()` around each evaluation; the judge records into whichever is open in its context, so
that nothing has to be passed through a framework and concurrent evaluations are told apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

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
