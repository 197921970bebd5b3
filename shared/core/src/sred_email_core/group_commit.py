"""Calls that arrive together share one round trip; a lone call does not wait."""

import asyncio
import contextvars
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class GroupCommit(Generic[ItemT, ResultT]):
    """Gathers items while earlier groups are under way, and flushes them as one group.

    A call that is cancelled before its group is flushed takes its item back; afterwards the flush runs on without it:
    one caller's cancellation never touches its neighbours. Nor is an item flushed whose deadline has passed by then.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT | BaseException]]],
        *,
        max_items: int,
        max_groups: int,
        weigh: Callable[[ItemT], int] = lambda _: 0,
        max_weight: int = 1,
        further_weight: int = 0,
    ) -> None:
        """Prepare; nothing runs until the first item.

        Args:
            flush: Carries out a group and gives each item's result, or its error, in order. An exception that it raises
                is every item's.
            max_items: The most items in one group.
            max_groups: The most groups under way at once.
            weigh: Weight of an item, for example its bytes.
            max_weight: The most weight in one group of more than one item.
            further_weight: Waiting weight from which on another group is begun beside those under way: below it, the
                items are better off together, since each group has its price.
        """
        self._flush = flush
        self._max_items = max_items
        self._max_groups = max_groups
        self._weigh = weigh
        self._max_weight = max_weight
        self._further_weight = further_weight
        self._waiting_weight = 0
        self._waiting: OrderedDict[asyncio.Future[ResultT], tuple[ItemT, float | None]] = OrderedDict()
        self._under_way: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._context = contextvars.copy_context()  # a group is none of its calls': it has nothing of the first one's

    async def submit(self, item: ItemT, *, deadline_s: float | None = None) -> ResultT:
        """Carry out one item in the next group; its result, or its error raised.

        Args:
            item: To be carried out.
            deadline_s: On the loop's clock; None: it may wait.

        Raises:
            TimeoutError: The deadline passed before the flush began: the item was left out.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()
        self._waiting[future] = (item, deadline_s)
        self._waiting_weight += self._weigh(item)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._start_groups, context=self._context)  # items of this same turn of the loop join in
        try:
            return await future
        finally:
            if self._waiting.pop(future, None) is not None:  # of a call that was cancelled: its item may be large
                self._waiting_weight -= self._weigh(item)

    async def drain(self) -> None:
        """Wait until nothing is waiting or under way."""
        while self._waiting or self._under_way:
            await asyncio.wait(self._under_way) if self._under_way else await asyncio.sleep(0)

    def _start_groups(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._under_way) < self._max_groups:
            if self._under_way and self._waiting_weight < self._further_weight:
                return
            group = self._next_group()
            if group:
                task = asyncio.get_running_loop().create_task(self._run(group))
                self._under_way.add(task)
                task.add_done_callback(self._ended)

    def _next_group(self) -> list[tuple[ItemT, asyncio.Future[ResultT]]]:
        group: list[tuple[ItemT, asyncio.Future[ResultT]]] = []
        weight = 0
        now_s = asyncio.get_running_loop().time()
        while self._waiting and len(group) < self._max_items:
            future, (item, deadline_s) = next(iter(self._waiting.items()))
            if deadline_s is not None and deadline_s <= now_s and not future.done():
                future.set_exception(TimeoutError("the deadline passed before the flush began"))
            its_weight = self._weigh(item)
            if not future.done():
                weight += its_weight
                if group and weight > self._max_weight:
                    break
                group.append((item, future))
            del self._waiting[future]
            self._waiting_weight -= its_weight
        return group

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._start_groups()

    async def _run(self, group: list[tuple[ItemT, asyncio.Future[ResultT]]]) -> None:
        results: Sequence[ResultT | BaseException]
        try:
            results = await self._flush([item for item, _ in group])
            if len(results) != len(group):
                raise RuntimeError(f"a flush of {len(group)} items gave {len(results)} results")  # noqa: TRY301
        except Exception as e:  # noqa: BLE001 - it is raised again in every caller
            results = [e] * len(group)
        for (_, future), result in zip(group, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
