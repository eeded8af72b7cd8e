"""When a step is sent again, and after how long: a pure policy, and the loop that follows it.

Called by `testbench.execution.executor` for every step, and before the first one to reach the agent. Time and chance
are handed in.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Generic, TypeVar

from testbench import defaults
from testbench.errors import AgentError
from testbench.net.clock import Clock
from testbench.net.pacing import Turn

T = TypeVar("T")

SAME_ERROR_LIMIT: Final = 3
"""The same error so many times in a row will not go away."""
RATE_LIMITED_PATIENCE: Final = 3
"""How many times more tries a rate limit gets than a fault: the agent is well, it asks for time."""

TakeTurn = Callable[[bool], AbstractAsyncContextManager[Turn]]
"""Waits until a try may go out; told whether there was one before."""


def at_once(again: bool) -> AbstractAsyncContextManager[Turn]:
    """A turn for which nobody waits."""
    return nullcontext(Turn(epoch=0))


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with full jitter; the wait that the agent asked for is kept and the jitter comes on top."""

    retries: int = defaults.AGENT_RETRIES
    deadline_s: float = defaults.STEP_DEADLINE_S
    """Seconds that all tries together may take."""
    base_s: float = defaults.BACKOFF_BASE_S
    cap_s: float = defaults.BACKOFF_CAP_S
    patient: bool = False
    """A rate limit uses up no tries, only the deadline: for a pace that finds out what the agent can take."""

    def wait_after(self, errors: Sequence[AgentError], elapsed_s: float, chance: float) -> float | None:
        """Seconds until the next try after these errors, or None to give up. `chance` is from 0 to 1."""
        last = errors[-1]
        if not last.retryable or self._exhausted(errors):
            return None
        wait = chance * min(self.cap_s, self.base_s * 2.0 ** min(len(errors) - 1, 60)) + (last.retry_after or 0.0)
        return wait if elapsed_s + wait < self.deadline_s else None

    def _exhausted(self, errors: Sequence[AgentError]) -> bool:
        faults = [error for error in errors if not _asks_for_time(error)]
        limited = 0 if self.patient else len(errors) - len(faults)
        if len(faults) > self.retries or limited > self.retries * RATE_LIMITED_PATIENCE:
            return True
        recent = [(error.kind, error.message) for error in errors[-SAME_ERROR_LIMIT:]]
        repeated = len(recent) == SAME_ERROR_LIMIT and len(set(recent)) == 1
        return repeated and not _asks_for_time(errors[-1])


def _asks_for_time(error: AgentError) -> bool:
    """429, or 503 with a time to come back; without one it may as well be a gateway with nobody behind it."""
    return error.kind == "rate_limited" or (error.overloaded and error.retry_after is not None)


@dataclass(frozen=True)
class Succeeded(Generic[T]):
    """What a call returned, after how many tries, and how many seconds the last one took."""

    value: T
    attempts: int
    seconds: float


@dataclass(frozen=True)
class GaveUp:
    """The last error of a call that was tried `attempts` times."""

    error: AgentError
    attempts: int


async def persist(
    call: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    clock: Clock,
    chance: Callable[[], float],
    take_turn: TakeTurn = at_once,
) -> Succeeded[T] | GaveUp:
    """Call until it succeeds or the policy gives up; the deadline also cuts a call short.

    The wait for a turn is ours and not the agent's: it counts neither for the deadline nor as its latency.
    """
    errors: list[AgentError] = []
    spent = 0.0
    while True:
        async with take_turn(bool(errors)) as turn:
            tried = clock.monotonic()
            try:
                async with asyncio.timeout(policy.deadline_s - spent):
                    value = await call()
            except AgentError as error:
                turn.outcome = "pushback" if error.overloaded else "failed"
                errors.append(error)
            except TimeoutError:
                errors.append(AgentError(f"no answer within {policy.deadline_s:g} s, retries included", kind="timeout"))
            else:
                turn.outcome = "done"
                return Succeeded(value, len(errors) + 1, clock.monotonic() - tried)
            spent += clock.monotonic() - tried
        wait = policy.wait_after(errors, spent, chance())
        if wait is None:
            return GaveUp(errors[-1], len(errors))
        await clock.sleep(wait)
        spent += wait


_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait as the header says, a number or a date (RFC 9110, section 10.2.3); None if it says none."""
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
        return seconds if math.isfinite(seconds) else None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())


def wait_before(attempt: int, asked_for: float | None, draw: random.Random) -> float:
    """Seconds before the next try: what the server asked for, and exponential back-off with jitter on top.

    On top, because all who were refused at once would come back at once, and a server may well ask for 0 seconds.
    """
    ceiling = min(defaults.BACKOFF_CAP_S, defaults.BACKOFF_BASE_S * 2.0 ** min(attempt - 1, 60))
    return (asked_for or 0.0) + draw.uniform(ceiling / 2, ceiling)
