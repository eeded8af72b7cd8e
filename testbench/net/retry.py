"""When a call is made again, and after how long: one formula, a pure policy, and the loop that follows it.

    failures in a row, chance, Retry-After -> compute_backoff -> seconds
    errors so far -> RetryPolicy -> seconds until the next try, or the end
    call_with_retries                       makes the call under a policy, with a clock and slots that are handed in

The agent's and the judge's clients call through `call_with_retries`; the export of telemetry and the operator, which
have loops of their own, take their waits from `compute_backoff`. Own code instead of tenacity, which has no notion of a
slot under a pace and would have to be taught the clock, the deadline and the tree of errors in about as many lines.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Generic, TypeVar

from testbench import defaults
from testbench.errors import AgentError, RemoteError
from testbench.net.clock import Clock
from testbench.net.pacing import Slot
from testbench.net.time_limit import not_counted

T = TypeVar("T")

SAME_ERROR_LIMIT: Final = 3
"""The same error so many times in a row will not go away."""
RATE_LIMITED_PATIENCE: Final = 3
"""How many times more tries a rate limit gets than a fault: the agent is well, it asks for time."""

TakeSlot = Callable[[bool], AbstractAsyncContextManager[Slot]]
"""Waits until a try may go out; told whether there was one before."""


def no_throttle(again: bool) -> AbstractAsyncContextManager[Slot]:
    """Return a slot for which nobody waits."""
    return nullcontext(Slot(epoch=0))


def compute_backoff(
    failures: int,
    chance: float,
    *,
    base_s: float = defaults.BACKOFF_BASE_S,
    cap_s: float = defaults.BACKOFF_CAP_S,
    jitter: float = 1.0,
    retry_after: float | None = None,
) -> float:
    """Return the seconds to wait after so many failures in a row, from 1 on.

    Doubles from `base_s` to `cap_s`. `jitter` is the share of it that `chance`, from 0 to 1, decides: 1 is the full
    jitter of "Exponential Backoff And Jitter" (M. Brooker, AWS, 2015), 0 is none. What the other side asked for comes
    on top: all who were refused at once would come back at once, and a server may well ask for 0 seconds.
    """
    longest = min(cap_s, base_s * 2.0 ** min(failures - 1, 60))
    return (retry_after or 0.0) + longest * (1.0 - jitter * (1.0 - chance))


@dataclass(frozen=True)
class RetryPolicy:
    """How often, how long and with which waits a call is made again; times in seconds."""

    retries: int = defaults.AGENT_RETRIES
    deadline_s: float = defaults.STEP_DEADLINE_S
    """Seconds that all tries together may take."""
    base_s: float = defaults.BACKOFF_BASE_S
    cap_s: float = defaults.BACKOFF_CAP_S
    jitter: float = 1.0
    patient: bool = False
    """A rate limit uses up no tries, only the deadline: for a pace that finds out what the agent can take."""

    def wait_after(self, errors: Sequence[RemoteError], elapsed_s: float, chance: float) -> float | None:
        """Return the seconds until the next try after these errors, or None to give up. `chance` is from 0 to 1."""
        last = errors[-1]
        if not last.retryable or self._is_exhausted(errors):
            return None
        wait = compute_backoff(
            len(errors),
            chance,
            base_s=self.base_s,
            cap_s=self.cap_s,
            jitter=self.jitter,
            retry_after=last.retry_after,
        )
        return wait if elapsed_s + wait < self.deadline_s else None

    def retries_after(self, error: RemoteError) -> int:
        """Return how many faults may be followed by another try, the last one being this error."""
        return self.retries

    def is_lasting(self, errors: Sequence[RemoteError]) -> bool:
        """Return whether the last errors show a fault that no further try will mend."""
        recent = [(error.kind, error.message) for error in errors[-SAME_ERROR_LIMIT:]]
        repeated = len(recent) == SAME_ERROR_LIMIT and len(set(recent)) == 1
        return repeated and not _asks_for_time(errors[-1])

    def deadline_error(self) -> RemoteError:
        """Return the error of a call that the deadline cut short."""
        return AgentError(f"no answer within {self.deadline_s:g} s, retries included", kind="timeout")

    def _is_exhausted(self, errors: Sequence[RemoteError]) -> bool:
        faults = [error for error in errors if not _asks_for_time(error)]
        limited = 0 if self.patient else len(errors) - len(faults)
        if len(faults) > self.retries_after(errors[-1]) or limited > self.retries * RATE_LIMITED_PATIENCE:
            return True
        return self.is_lasting(errors)


def _asks_for_time(error: RemoteError) -> bool:
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
    """The last error of a call that was tried as often as it says."""

    error: RemoteError

    @property
    def attempts(self) -> int:
        return self.error.attempts


async def call_with_retries(
    call: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    clock: Clock,
    chance: Callable[[], float],
    take_slot: TakeSlot = no_throttle,
) -> Succeeded[T] | GaveUp:
    """Call until it succeeds or the policy gives up; the deadline also cuts a call short.

    The wait for a slot is ours and not the other side's: it counts neither for the deadline nor as its latency. Of a
    time limit around the whole (`testbench.net.time_limit`) no wait is a part.
    """
    errors: list[RemoteError] = []
    spent = 0.0
    while True:
        async with take_slot(bool(errors)) as slot:
            begun = clock.monotonic()
            try:
                async with asyncio.timeout(policy.deadline_s - spent):
                    value = await call()
            except RemoteError as error:
                slot.outcome = "pushback" if error.overloaded else "failed"
                errors.append(error)
            except TimeoutError:
                errors.append(policy.deadline_error())
            else:
                slot.outcome = "done"
                return Succeeded(value, len(errors) + 1, clock.monotonic() - begun)
            spent += clock.monotonic() - begun
        wait = policy.wait_after(errors, spent, chance())
        if wait is None:
            errors[-1].attempts = len(errors)
            return GaveUp(errors[-1])
        with not_counted():
            await clock.sleep(wait)
        spent += wait


_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def read_retry_after(header: str | None, now: datetime) -> float | None:
    """Return the seconds that the header asks for, a number or a date (RFC 9110, section 10.2.3); None without any."""
    text = (header or "").strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
        return seconds if math.isfinite(seconds) else None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
