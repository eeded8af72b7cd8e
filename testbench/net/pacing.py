"""How many requests to have in flight, found out instead of guessed: additive increase, multiplicative decrease.

    what came of a request -> Pace -> the next Pace        pure, after D.-M. Chiu and R. Jain, 1989
    Pacer                                                   waits for a slot under the pace

Used where `--concurrency auto` is given: by the judge in evaluate, and for agents in run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal

Outcome = Literal["done", "pushback", "failed"]
"""`pushback`: the other side asks for less (429, 503). `failed`: anything else, which says nothing about the pace."""

START: Final = 8.0
CEILING: Final = 64
DECREASE: Final = 0.5


@dataclass(frozen=True)
class Pace:
    """How many may be in flight. `epoch` counts the decreases: an outcome of an earlier epoch says nothing new."""

    limit: float
    ceiling: int
    epoch: int = 0

    @property
    def slots(self) -> int:
        """How many whole requests, at least one."""
        return max(1, int(self.limit))

    def after(self, outcome: Outcome, *, epoch: int, in_flight: int) -> Pace:
        """Return the pace after a request that began in `epoch`; `in_flight` counted it.

        Half for a round in which one was pushed back, one more for each round that was answered; before the first
        pushback twice as many, as TCP's slow start does. All requests in flight are pushed back at once, so only the
        first one of an epoch counts. A pace that is not used up does not grow: nothing is known of what lies above it.
        """
        if outcome == "pushback" and epoch == self.epoch:
            return replace(self, limit=max(1.0, self.limit * DECREASE), epoch=self.epoch + 1)
        if outcome == "done" and in_flight >= self.slots and epoch == self.epoch:
            more = 1.0 if self.epoch == 0 else 1 / self.slots
            return replace(self, limit=min(float(self.ceiling), self.limit + more))
        return self


def fixed_pace(slots: int) -> Pace:
    """Return a pace that never changes."""
    return FixedPace(float(slots), slots)


def automatic_pace(ceiling: int = CEILING) -> Pace:
    """Return a pace that begins low and finds out."""
    return Pace(min(START, float(ceiling)), ceiling)


class FixedPace(Pace):
    """As many as were asked for, whatever comes of it."""

    def after(self, outcome: Outcome, *, epoch: int, in_flight: int) -> Pace:
        return self


@dataclass
class Slot:
    """The right to one request under way; whoever makes it says what came of it."""

    epoch: int
    outcome: Outcome = "failed"


class Pacer:
    """Lets as many go on at once as the pace says, each queue in the order of coming. For one event loop."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.in_flight = 0
        self._ahead: deque[asyncio.Future[None]] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def take_slot(self, *, ahead: bool = False) -> AsyncIterator[Slot]:
        """Wait for a slot and hold it inside the block.

        `ahead` is for what goes on with something that was begun: it comes before everything that is new, so that
        what is begun is ended, and not ever more begun.
        """
        await self._wait(self._ahead if ahead else self._waiting)
        slot = Slot(self.pace.epoch)
        try:
            yield slot
        finally:
            self.pace = self.pace.after(slot.outcome, epoch=slot.epoch, in_flight=self.in_flight)
            self.in_flight -= 1
            self._let_go_on()

    async def _wait(self, queue: deque[asyncio.Future[None]]) -> None:
        if self.in_flight < self.pace.slots and not self._ahead and not self._waiting:
            self.in_flight += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # it was given the slot and leaves without having used it
                self.in_flight -= 1
                self._let_go_on()
            raise

    def _let_go_on(self) -> None:
        while (queue := self._ahead or self._waiting) and self.in_flight < self.pace.slots:
            waiter = queue.popleft()
            if not waiter.done():
                self.in_flight += 1
                waiter.set_result(None)
