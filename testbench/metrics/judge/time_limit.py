"""How long one evaluation may take: its own work and the judge's answers count, waiting for a turn does not.

`MetricEvaluator` opens a `limited()` around each evaluation; whoever lets it wait says so with `not_counted()`. A
gateway that takes one request at a time makes hundreds of evaluations wait, and none of them is late for that. The
judge bounds each of its waits itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar


class _Watch:
    """A limit that stands still while anything inside it waits."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit = limit
        self._waiting = 0
        self._left = 0.0
        self.over = False

    def stop(self) -> None:
        when = self._limit.when()
        if not self._waiting and when is not None and self._runs():
            self._left = when - asyncio.get_running_loop().time()
            self._limit.reschedule(None)
        self._waiting += 1

    def go_on(self) -> None:
        self._waiting -= 1
        if not self._waiting and self._runs():
            self._limit.reschedule(asyncio.get_running_loop().time() + self._left)

    def _runs(self) -> bool:
        return not self.over and not self._limit.expired()


_open: ContextVar[_Watch | None] = ContextVar("testbench_patience", default=None)


@asynccontextmanager
async def limited(seconds: float) -> AsyncIterator[None]:
    """Raises `TimeoutError` when the block, waits that are not counted left out, takes longer."""
    async with asyncio.timeout(seconds) as limit:
        watch = _Watch(limit)
        token = _open.set(watch)
        try:
            yield
        finally:
            watch.over = True
            _open.reset(token)


@contextmanager
def not_counted() -> Iterator[None]:
    """The time inside the block is not that of the evaluation which is under way, if one is."""
    watch = _open.get()
    if watch is None:
        yield
        return
    watch.stop()
    try:
        yield
    finally:
        watch.go_on()
