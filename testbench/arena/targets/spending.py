"""What completions cost: as the gateway says, else by the Provider's prices, else unknown and never 0. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from testbench.arena.targets.target import Prices
from testbench.schema.models import Usage

NumberT = TypeVar("NumberT", int, float)


def priced(usage: Usage | None, cost: float | None, prices: Prices | None) -> Usage | None:
    """The tokens with their cost: what stands in the reply, in its header (`cost`), or follows from the prices."""
    if usage is None:
        return None if cost is None else Usage(cost_usd=cost)
    if usage.cost_usd is not None:
        return usage
    if cost is None and prices is not None:
        cost = prices.of(usage)
    return usage.model_copy(update={"cost_usd": cost})


def total(usages: Sequence[Usage | None]) -> Usage | None:
    """The sum over all requests of a step; a number that one of them lacks is unknown."""
    known = [usage for usage in usages if usage is not None]
    if not known or len(known) < len(usages):
        return None
    return Usage(
        input_tokens=_sum([usage.input_tokens for usage in known]),
        output_tokens=_sum([usage.output_tokens for usage in known]),
        cost_usd=_sum([usage.cost_usd for usage in known]),
    )


def cost_of_header(header: str | None) -> float | None:
    """US dollars as a header says, None where it says nothing that can be a cost."""
    try:
        return Usage(cost_usd=float(header)).cost_usd if header else None
    except ValueError:  # no number, or one that is no cost (pydantic's error is a ValueError)
        return None


def _sum(numbers: Sequence[NumberT | None]) -> NumberT | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
