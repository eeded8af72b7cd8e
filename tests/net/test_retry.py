"""When a step is tried again: only what can be retried, not for ever, and never before the agent wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.errors import AgentError
from testbench.net.clock import FakeClock
from testbench.net.retry import GaveUp, RetryPolicy, Succeeded, call_with_retries, compute_backoff


def fault(
    message: str = "no connection", *, kind: str = "unreachable", retryable: bool = True, after: float | None = None
) -> AgentError:
    return AgentError(message, kind=kind, retryable=retryable, retry_after=after)


def failing(*errors: AgentError) -> Callable[[], Awaitable[str]]:
    """A call that fails with each of these in turn and then succeeds."""
    left = list(errors)

    async def call() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return call


async def attempt(policy: RetryPolicy, *errors: AgentError) -> tuple[Succeeded[str] | GaveUp, FakeClock]:
    clock = FakeClock()
    return await call_with_retries(failing(*errors), policy, clock, lambda: 1.0), clock


async def test_a_call_that_succeeds_is_made_once() -> None:
    outcome, clock = await attempt(RetryPolicy())
    assert outcome == Succeeded("answer", 1, 0.0)
    assert clock.sleeps == []


async def test_what_can_be_retried_is_tried_again_with_growing_waits() -> None:
    outcome, clock = await attempt(RetryPolicy(retries=3, base_s=1, cap_s=3), fault("a"), fault("b"), fault("c"))
    assert isinstance(outcome, Succeeded)
    assert outcome.attempts == 4
    assert clock.sleeps == [1, 2, 3]


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (2, 3)])
async def test_it_gives_up_after_so_many_retries(retries: int, attempts: int) -> None:
    outcome, _ = await attempt(RetryPolicy(retries=retries), *[fault(str(number)) for number in range(9)])
    assert isinstance(outcome, GaveUp)
    assert (outcome.attempts, outcome.error.message) == (attempts, str(attempts - 1))


async def test_what_cannot_be_retried_is_not() -> None:
    outcome, _ = await attempt(RetryPolicy(), fault(retryable=False))
    assert isinstance(outcome, GaveUp)
    assert outcome.attempts == 1


async def test_the_same_error_three_times_in_a_row_ends_it() -> None:
    outcome, _ = await attempt(RetryPolicy(retries=9), fault("x"), *[fault("same")] * 5)
    assert isinstance(outcome, GaveUp)
    assert outcome.attempts == 4


async def test_a_rate_limit_gets_three_times_the_patience() -> None:
    outcome, _ = await attempt(RetryPolicy(retries=2), *[fault("slow down", kind="rate_limited")] * 20)
    assert isinstance(outcome, GaveUp)
    assert outcome.attempts == 7


async def test_the_agents_own_wait_is_kept_and_chance_comes_on_top() -> None:
    _, clock = await attempt(RetryPolicy(base_s=1), fault(kind="rate_limited", after=7.0))
    assert clock.sleeps == [8.0]


async def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    outcome, clock = await attempt(RetryPolicy(deadline_s=60), fault(kind="rate_limited", after=60.0))
    assert isinstance(outcome, GaveUp)
    assert clock.sleeps == []


async def test_the_deadline_also_ends_a_call_that_never_returns() -> None:
    async def hang() -> str:
        await asyncio.Event().wait()
        return ""

    outcome = await call_with_retries(hang, RetryPolicy(deadline_s=0.01), FakeClock(), lambda: 1.0)
    assert isinstance(outcome, GaveUp)
    assert (outcome.error.kind, outcome.attempts) == ("timeout", 1)
    assert "0.01 s" in outcome.error.message


async def test_a_later_try_gets_only_what_is_left_of_the_deadline() -> None:
    clock, tried = FakeClock(), list[str]()

    async def slow_then_silent() -> str:
        tried.append("")
        if len(tried) == 1:
            await clock.sleep(59.99)
            raise fault()
        await asyncio.Event().wait()
        return ""

    async with asyncio.timeout(20):
        outcome = await call_with_retries(slow_then_silent, RetryPolicy(deadline_s=60), clock, lambda: 0.0)
    assert isinstance(outcome, GaveUp)
    assert (outcome.error.kind, outcome.attempts) == ("timeout", 2)


async def test_waits_count_for_the_deadline() -> None:
    asked = [fault(kind="rate_limited", after=25.0)] * 9
    outcome, clock = await attempt(RetryPolicy(retries=9, deadline_s=60, base_s=0), *asked)
    assert isinstance(outcome, GaveUp)
    assert clock.sleeps == [25.0, 25.0]


async def test_being_cancelled_is_no_fault_to_retry() -> None:
    async def cancelled() -> str:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await call_with_retries(cancelled, RetryPolicy(), FakeClock(), lambda: 1.0)


@given(
    st.lists(st.sampled_from(["unreachable", "rate_limited", "http_error"]), min_size=1, max_size=400),
    st.floats(0, 1),
    st.floats(0, 1000),
    st.none() | st.floats(0, 1e9),
)
def test_a_wait_is_never_shorter_than_asked_nor_longer_than_the_time_left(
    kinds: list[str], chance: float, elapsed: float, after: float | None
) -> None:
    policy = RetryPolicy(retries=1000, deadline_s=500, base_s=1, cap_s=30)
    errors = [fault(str(number), kind=kind, after=after) for number, kind in enumerate(kinds)]
    wait = policy.wait_after(errors, elapsed, chance)
    if wait is not None:
        assert (after or 0) <= wait <= (after or 0) + 30
        assert elapsed + wait < 500


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 1), st.none() | st.floats(0, 1e9))
def test_a_back_off_stays_between_its_jitter_and_its_cap_and_what_was_asked_for_comes_on_top(
    failures: int, chance: float, jitter: float, after: float | None
) -> None:
    wait = compute_backoff(failures, chance, base_s=2, cap_s=30, jitter=jitter, retry_after=after)
    longest = min(30, 2 ** min(failures, 5))
    assert (after or 0) + longest * (1 - jitter) - 1e-6 <= wait <= (after or 0) + longest + 1e-6


def test_a_back_off_doubles_up_to_its_cap() -> None:
    assert [compute_backoff(failures, 1.0, base_s=1, cap_s=5) for failures in range(1, 6)] == [1, 2, 4, 5, 5]
    assert compute_backoff(3, 0.0, base_s=1) == 0
    assert compute_backoff(3, 0.0, base_s=1, jitter=0.5) == 2
