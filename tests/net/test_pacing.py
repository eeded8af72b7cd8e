"""How many requests are in flight: fewer after a pushback, more after success, and never more than the ceiling."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.net.pacing import CEILING, Outcome, Pace, Pacer, automatic_pace, fixed_pace

OUTCOMES = st.lists(st.sampled_from(["done", "pushback", "failed"]), max_size=200)


@given(OUTCOMES, st.integers(1, CEILING))
def test_it_stays_between_one_and_the_ceiling(outcomes: list[Outcome], ceiling: int) -> None:
    pace = automatic_pace(ceiling)
    for outcome in outcomes:
        pace = pace.after(outcome, epoch=pace.epoch, in_flight=pace.slots)
        assert 1 <= pace.slots <= ceiling


def test_a_pushback_halves_and_a_round_of_success_adds_one() -> None:
    pace = Pace(limit=8, ceiling=64)
    pushed = pace.after("pushback", epoch=0, in_flight=8)
    assert (pushed.slots, pushed.epoch) == (4, 1)
    for _ in range(4):
        pushed = pushed.after("done", epoch=1, in_flight=4)
    assert pushed.limit == pytest.approx(5.0)


def test_before_the_first_pushback_a_round_doubles_it() -> None:
    pace = automatic_pace(64)
    for _ in range(8):
        pace = pace.after("done", epoch=0, in_flight=64)
    assert pace.slots == 16


def test_only_the_first_pushback_of_a_round_counts() -> None:
    pace = Pace(limit=32, ceiling=64)
    for _ in range(32):
        pace = pace.after("pushback", epoch=0, in_flight=32)
    assert pace.slots == 16


def test_a_pace_that_is_not_used_up_does_not_grow_and_a_fault_says_nothing() -> None:
    pace = Pace(limit=8, ceiling=64)
    assert pace.after("done", epoch=0, in_flight=3) == pace
    assert pace.after("failed", epoch=0, in_flight=8) == pace


@given(OUTCOMES)
def test_a_fixed_pace_stays(outcomes: list[Outcome]) -> None:
    pace = fixed_pace(5)
    for outcome in outcomes:
        pace = pace.after(outcome, epoch=0, in_flight=5)
    assert pace.slots == 5


async def test_no_more_go_on_than_the_pace_says_and_all_do() -> None:
    pacer = Pacer(fixed_pace(3))
    most = done = 0

    async def work() -> None:
        nonlocal most, done
        async with pacer.take_slot() as slot:
            most = max(most, pacer.in_flight)
            await asyncio.sleep(0)
            slot.outcome = "done"
        done += 1

    await asyncio.gather(*(work() for _ in range(20)))
    assert (most, done, pacer.in_flight) == (3, 20, 0)


async def test_who_is_cancelled_while_waiting_leaves_no_hole() -> None:
    pacer = Pacer(fixed_pace(1))
    begun: list[int] = []

    async def work(number: int) -> None:
        async with pacer.take_slot():
            begun.append(number)
            await asyncio.sleep(0)

    async with pacer.take_slot():
        waiting = [asyncio.create_task(work(number)) for number in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    waiting[1].cancel()  # it has been given the place, or is about to be
    await asyncio.gather(*waiting, return_exceptions=True)
    assert 2 in begun
    assert pacer.in_flight == 0


async def test_a_pushback_lets_fewer_go_on() -> None:
    pacer = Pacer(Pace(limit=4, ceiling=8))
    async with pacer.take_slot() as slot:
        slot.outcome = "pushback"
    assert pacer.pace.slots == 2
