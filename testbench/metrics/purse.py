"""A limit to what the judge may cost, kept before each request and not found out after it.

    the most that a request can cost -> reserved, or refused -> settled with what it did cost

Used by `testbench.metrics.openai_judge`. Once a request is refused every later one is refused too: what is left over is
less than one request can cost, and whatever was not judged is `skipped`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from testbench.errors import JudgeError

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
