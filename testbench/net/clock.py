"""Time as something that is handed in, so that waits and deadlines can be tested without waiting."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall time for records, a steady count of seconds for durations, and waiting."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class AnswerTimer:
    """What the user of a step waits for: the first character of the answer, and the last.

    Begins when it is made, at the first request of a step; a step that is tried again gets another.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun = clock.monotonic()
        self.first_text_ms: float | None = None

    def mark_text(self) -> None:
        """Take note of a piece of the answer; the first one counts."""
        if self.first_text_ms is None:
            self.first_text_ms = round(self.seconds * 1000, 3)

    @property
    def seconds(self) -> float:
        """Until now."""
        return self._clock.monotonic() - self._begun


class FakeClock:
    """A clock that moves only when somebody sleeps; it remembers every sleep in seconds."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self.sleeps: list[float] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self._elapsed += seconds
        await asyncio.sleep(0)
