"""Work on what comes in, several at once, with the results in the order in which it came."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


async def in_order(
    items: AsyncIterator[ItemT], work: Callable[[ItemT], Awaitable[ResultT]], *, most: int
) -> AsyncGenerator[tuple[ItemT, ResultT]]:
    """Begin work on each item as it comes, and give each with its result, in order.

    Args:
        items: What comes.
        work: What is done with each.
        most: Items that are worked on, or done and not given yet: no more is read meanwhile.

    Raises:
        Exception: What reading raised, after the results of all that came before; or what work raised.
    """
    begun: asyncio.Queue[tuple[ItemT, asyncio.Future[ResultT]] | None] = asyncio.Queue()
    room = asyncio.Semaphore(most)

    async def read() -> None:
        try:
            while True:
                await room.acquire()
                item = await anext(items, _END)
                if item is _END:
                    return
                begun.put_nowait((item, asyncio.ensure_future(work(item))))  # type: ignore[arg-type]
        finally:
            begun.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (pair := await begun.get()) is not None:
            yield pair[0], await pair[1]
            room.release()
        await reader
    finally:
        reader.cancel()
        while not begun.empty():
            left = begun.get_nowait()
            if left is not None:
                left[1].cancel()
        await asyncio.gather(reader, return_exceptions=True)


_END = object()
