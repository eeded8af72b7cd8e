"""A time limit for which a task's own work and its requests count, and waiting for a turn does not.

`MetricEvaluator` opens `limit_time()` around each evaluation; whoever makes it wait says so with `not_counted()`. A
gateway that takes one request at a time makes hundreds of evaluations wait, and none of them is late for that. Whoever
waits bounds the wait itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar


class _PausableTimeout:
    """A timeout that stands still while anything inside it waits."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._waiting = 0
        self._left = 0.0
        self.over = False

    def pause(self) -> None:
        when = self._timeout.when()
        if not self._waiting and when is not None and self._runs():
            self._left = when - asyncio.get_running_loop().time()
            self._timeout.reschedule(None)
        self._waiting += 1

    def go_on(self) -> None:
        self._waiting -= 1
        if not self._waiting and self._runs():
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._left)

    def _runs(self) -> bool:
        return not self.over and not self._timeout.expired()


_timeout_under_way: ContextVar[_PausableTimeout | None] = ContextVar("testbench_time_limit", default=None)


@asynccontextmanager
async def limit_time(seconds: float) -> AsyncIterator[None]:
    """Limit the block, without its waits that are not counted.

    Raises:
        TimeoutError: the block took longer.
    """
    async with asyncio.timeout(seconds) as timeout:
        pausable = _PausableTimeout(timeout)
        token = _timeout_under_way.set(pausable)
        try:
            yield
        finally:
            pausable.over = True
            _timeout_under_way.reset(token)


@contextmanager
def not_counted() -> Iterator[None]:
    """Leave the time inside the block out of the limit that is under way, if one is."""
    timeout = _timeout_under_way.get()
    if timeout is None:
        yield
        return
    timeout.pause()
    try:
        yield
    finally:
        timeout.go_on()
