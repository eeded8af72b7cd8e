"""When requests really left and when their replies were there, whoever waits in this process before and after.

Told by `testbench.schema.a2a_transport`; read by the A2A client, and by the generator of load tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Stopwatch:
    """From just before the first request until the last whole reply was read: their time, without our own.

    `outer` is the watch of the block around this one, which sees the same.
    """

    sent: float | None = None
    received: float | None = None
    now: Callable[[], float] = time.monotonic
    outer: Stopwatch | None = None

    @property
    def seconds(self) -> float | None:
        """None before the first reply."""
        return None if self.sent is None or self.received is None else self.received - self.sent

    def send(self) -> None:
        """A request leaves now."""
        if self.sent is None:
            self.sent = self.now()
        if self.outer is not None:
            self.outer.send()

    def receive(self) -> None:
        """A whole reply is here now."""
        self.received = self.now()
        if self.outer is not None:
            self.outer.receive()


_WATCH: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


def current() -> Stopwatch:
    """The watch of the block that this task is in; one that nobody looks at where there is none."""
    return _WATCH.get() or Stopwatch()


@contextmanager
def stopwatch(now: Callable[[], float] = time.monotonic) -> Iterator[Stopwatch]:
    """Time the requests that this task makes inside the block."""
    watch = Stopwatch(now=now, outer=_WATCH.get())
    token = _WATCH.set(watch)
    try:
        yield watch
    finally:
        _WATCH.reset(token)
