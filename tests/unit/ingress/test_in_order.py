"""Work on what comes in, with results in order."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sred_email_ingress.in_order import in_order


async def numbers(count: int, *, then: Exception | None = None) -> AsyncIterator[int]:
    """0, 1, …"""
    for number in range(count):
        yield number
    if then is not None:
        raise then


async def test_results_come_in_order_however_long_each_takes() -> None:
    done: dict[int, asyncio.Event] = {n: asyncio.Event() for n in range(5)}

    async def work(number: int) -> int:
        if number < 4:
            await done[number + 1].wait()  # each waits for the one after it
        done[number].set()
        return number * 10

    assert [pair async for pair in in_order(numbers(5), work, most=5)] == [(n, n * 10) for n in range(5)]


async def test_no_more_is_read_than_may_be_unanswered() -> None:
    read: list[int] = []
    go_on = asyncio.Event()

    async def work(number: int) -> int:
        read.append(number)
        await go_on.wait()
        return number

    results = in_order(numbers(100), work, most=3)
    first = asyncio.ensure_future(anext(results))
    for _ in range(50):
        await asyncio.sleep(0)
    assert read == [0, 1, 2]
    go_on.set()
    await first
    assert [n async for n, _ in results] == list(range(1, 100))


async def test_what_reading_raises_comes_after_the_results_before_it() -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0)
        return number

    results = in_order(numbers(3, then=ValueError("no more")), work, most=10)
    assert [(await anext(results))[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no more"):
        await anext(results)


async def test_a_reader_that_goes_away_cancels_what_is_under_way() -> None:
    cancelled = []

    async def work(number: int) -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    results = in_order(numbers(3), work, most=10)
    first = asyncio.ensure_future(anext(results))
    for _ in range(50):
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await results.aclose()
    for _ in range(10):
        await asyncio.sleep(0)
    assert sorted(cancelled) == [0, 1, 2]
