"""A time limit: what a block does itself counts, what it waits for does not."""

from __future__ import annotations

import asyncio

import pytest

from testbench.net.time_limit import limit_time, not_counted


async def turns_of_the_loop(number: int = 10) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_block_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(TimeoutError):
        async with limit_time(0):
            await turns_of_the_loop()


async def test_a_wait_is_not_counted_and_what_follows_is() -> None:
    waited = []

    async def work() -> None:
        async with limit_time(0):
            with not_counted():
                await turns_of_the_loop()
                with not_counted():
                    await turns_of_the_loop()
                await turns_of_the_loop()
                waited.append(True)
            await turns_of_the_loop()

    with pytest.raises(TimeoutError):
        await work()
    assert waited


async def test_a_wait_outside_of_any_limit_is_just_a_wait() -> None:
    with not_counted():
        await turns_of_the_loop()


async def test_what_goes_on_after_the_end_harms_nobody() -> None:
    done = asyncio.Event()

    async def left_behind() -> None:
        with not_counted():
            await done.wait()

    async with limit_time(60):
        task = asyncio.create_task(left_behind())
        await asyncio.sleep(0)
    done.set()
    await task
