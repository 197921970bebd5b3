"""Group commit: calls that arrive together share a flush, and nothing else."""

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sred_email_core.group_commit import GroupCommit


class Flushes:
    """A flush that a test opens: until then groups are under way."""

    def __init__(self, *, open_: bool = True) -> None:
        self.groups: list[list[Any]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        if open_:
            self.gate.set()

    async def __call__(self, items: Sequence[Any]) -> list[Any]:
        self.groups.append(list(items))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            return [answer(item) for item in items]
        finally:
            self.at_once -= 1


def answer(item: Any) -> Any:
    return item if isinstance(item, BaseException) else f"done {item}"


async def turns(count: int = 5) -> None:
    """Let the loop go round a few times; no time passes."""
    for _ in range(count):
        await asyncio.sleep(0)


def submit(group: GroupCommit[Any, Any], *items: Any) -> list["asyncio.Task[Any]"]:
    return [asyncio.create_task(group.submit(item)) for item in items]


async def test_a_lone_call_does_not_wait() -> None:
    flushes = Flushes(open_=False)
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=100, max_groups=1)
    (call,) = submit(group, "a")
    await turns()
    assert flushes.groups == [["a"]]
    flushes.gate.set()
    assert await call == "done a"


async def test_calls_in_one_turn_of_the_loop_share_a_flush() -> None:
    flushes = Flushes()
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=100, max_groups=1)
    assert await asyncio.gather(*submit(group, "a", "b", "c")) == ["done a", "done b", "done c"]
    assert flushes.groups == [["a", "b", "c"]]


async def test_calls_that_come_while_a_group_is_under_way_share_the_next() -> None:
    flushes = Flushes(open_=False)
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=100, max_groups=1)
    calls = submit(group, "a")
    await turns()
    for item in ("b", "c"):
        calls += submit(group, item)
        await turns()
    assert flushes.groups == [["a"]]
    flushes.gate.set()
    assert await asyncio.gather(*calls) == ["done a", "done b", "done c"]
    assert flushes.groups == [["a"], ["b", "c"]]


async def test_a_group_has_no_more_than_the_most_items() -> None:
    flushes = Flushes()
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=3, max_groups=1)
    await asyncio.gather(*submit(group, *range(8)))
    assert flushes.groups == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_no_more_than_the_most_groups_are_under_way_at_once() -> None:
    flushes = Flushes(open_=False)
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=1, max_groups=2)
    calls = submit(group, *range(5))
    await turns()
    assert flushes.groups == [[0], [1]]
    flushes.gate.set()
    await asyncio.gather(*calls)
    assert flushes.groups == [[0], [1], [2], [3], [4]]
    assert flushes.most_at_once == 2


async def test_a_group_has_no_more_than_the_most_weight() -> None:
    flushes = Flushes()
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=100, max_groups=1, weigh=int, max_weight=10)
    await asyncio.gather(*submit(group, 4, 6, 1, 9, 1))
    assert flushes.groups == [[4, 6], [1, 9], [1]]


async def test_an_item_heavier_than_a_group_goes_alone() -> None:
    flushes = Flushes()
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=100, max_groups=1, weigh=int, max_weight=10)
    await asyncio.gather(*submit(group, 3, 50, 3, 60, 70))
    assert flushes.groups == [[3], [50], [3], [60], [70]]


async def test_a_call_cancelled_before_its_flush_takes_its_item_back() -> None:
    flushes = Flushes(open_=False)
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=100, max_groups=1)
    (under_way,) = submit(group, "a")
    await turns()
    one, cancelled, other = submit(group, "b", "c", "d")
    await turns()
    cancelled.cancel()
    flushes.gate.set()
    assert list(await asyncio.gather(under_way, one, other)) == ["done a", "done b", "done d"]
    assert flushes.groups == [["a"], ["b", "d"]]
    assert cancelled.cancelled()


async def test_what_a_cancelled_call_handed_in_is_let_go_at_once() -> None:
    class Payload:
        """What weak references can point to."""

    flushes = Flushes(open_=False)
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=100, max_groups=1)
    (under_way,) = submit(group, "a")
    await turns()
    payloads = [Payload() for _ in range(100)]
    left = [weakref.ref(payload) for payload in payloads]
    calls = submit(group, *payloads)
    del payloads
    await turns()
    assert all(reference() is not None for reference in left)
    for call in calls[:99]:
        call.cancel()
    await turns()
    kept = calls[99]
    del calls, call
    gc.collect()
    assert [reference() is not None for reference in left] == [False] * 99 + [True]
    flushes.gate.set()
    await asyncio.gather(under_way, kept)
    assert len(flushes.groups[1]) == 1


async def test_a_call_cancelled_in_the_turn_it_came_takes_its_item_back() -> None:
    flushes = Flushes()
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=100, max_groups=1)
    cancelled, neighbour = submit(group, "a", "b")
    await asyncio.sleep(0)  # both have handed in their items; the flush is scheduled behind us
    cancelled.cancel()
    assert await neighbour == "done b"
    assert flushes.groups == [["b"]]
    assert cancelled.cancelled()


async def test_a_cancelled_item_weighs_nothing() -> None:
    flushes = Flushes(open_=False)
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=2, max_groups=1, weigh=int, max_weight=10)
    calls = submit(group, 1)
    await turns()
    calls += submit(group, 9, 5, 5)
    await turns()
    calls[1].cancel()
    flushes.gate.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert flushes.groups == [[1], [5, 5]]


async def test_a_call_cancelled_after_its_flush_began_changes_nothing_for_its_neighbours() -> None:
    flushes = Flushes(open_=False)
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=100, max_groups=1)
    one, cancelled, other = submit(group, "a", "b", "c")
    await turns()
    cancelled.cancel()
    await turns()
    flushes.gate.set()
    assert list(await asyncio.gather(one, other)) == ["done a", "done c"]
    assert flushes.groups == [["a", "b", "c"]]
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_a_call_whose_deadline_passed_while_it_waited_is_told_so_and_not_flushed() -> None:
    flushes = Flushes(open_=False)
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=100, max_groups=1)
    (under_way,) = submit(group, "a")
    await turns()
    now_s = asyncio.get_running_loop().time()
    late = asyncio.create_task(group.submit("late", deadline_s=now_s))
    in_time = asyncio.create_task(group.submit("in time", deadline_s=now_s + 60))
    await turns()
    flushes.gate.set()
    assert list(await asyncio.gather(under_way, in_time)) == ["done a", "done in time"]
    with pytest.raises(TimeoutError):
        await late
    assert flushes.groups == [["a"], ["in time"]]


async def test_a_deadline_that_passes_after_the_flush_began_changes_nothing() -> None:
    flushes = Flushes(open_=False)
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=100, max_groups=1)
    deadline_s = asyncio.get_running_loop().time() + 0.05
    call = asyncio.create_task(group.submit("a", deadline_s=deadline_s))
    await turns()
    passed = asyncio.Event()
    asyncio.get_running_loop().call_at(deadline_s + 0.01, passed.set)
    await passed.wait()
    flushes.gate.set()
    assert await call == "done a"


async def test_when_every_call_of_a_group_is_cancelled_the_flush_runs_on_to_its_end() -> None:
    flushes = Flushes(open_=False)
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=100, max_groups=1)
    calls = submit(group, "a", "b")
    await turns()
    for call in calls:
        call.cancel()
    await turns()
    assert flushes.at_once == 1
    flushes.gate.set()
    await group.drain()
    assert flushes.at_once == 0
    assert await group.submit("c") == "done c"


async def test_when_every_waiting_call_is_cancelled_nothing_is_flushed_for_them() -> None:
    flushes = Flushes(open_=False)
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=1, max_groups=1)
    (first,) = submit(group, "a")
    await turns()
    waiting = submit(group, "b", "c", "d")
    await turns()
    for call in waiting:
        call.cancel()
    flushes.gate.set()
    assert await first == "done a"
    await group.drain()
    assert flushes.groups == [["a"]]


async def test_an_error_of_one_item_is_raised_in_its_own_call_only() -> None:
    group: GroupCommit[Any, Any] = GroupCommit(Flushes(), max_items=100, max_groups=1)
    results = await asyncio.gather(*submit(group, "a", KeyError("b"), "c"), return_exceptions=True)
    assert results[0] == "done a"
    assert isinstance(results[1], KeyError)
    assert results[2] == "done c"


async def test_an_error_of_the_flush_is_raised_in_every_call_of_its_group_and_no_other() -> None:
    async def flush(items: Sequence[str]) -> list[str]:
        if "bad" in items:
            raise ConnectionError("away")
        return list(items)

    group: GroupCommit[str, str] = GroupCommit(flush, max_items=2, max_groups=1)
    results = await asyncio.gather(*submit(group, "a", "bad", "c", "d"), return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionError, ConnectionError, str, str]


async def test_after_a_failed_group_the_next_calls_are_served() -> None:
    flushes = Flushes()
    failing = True

    async def flush(items: Sequence[str]) -> list[Any]:
        if failing:
            raise ConnectionError("away")
        return await flushes(items)

    group: GroupCommit[str, Any] = GroupCommit(flush, max_items=2, max_groups=1)
    with pytest.raises(ConnectionError):
        await group.submit("a")
    failing = False
    assert await group.submit("a") == "done a"


@pytest.mark.parametrize("results", [[], ["only one"], ["one", "two", "one too many"]])
async def test_a_flush_that_answers_for_too_few_or_too_many_leaves_no_call_hanging(results: list[str]) -> None:
    async def flush(_: Sequence[str]) -> list[str]:
        return results

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # whether it is told is another question
    group: GroupCommit[str, str] = GroupCommit(flush, max_items=2, max_groups=1)
    calls = submit(group, "a", "b")
    await turns(10)
    ended = [call.done() for call in calls]
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert ended == [True, True]


async def test_drain_waits_for_what_is_under_way_and_for_what_waits() -> None:
    flushes = Flushes(open_=False)
    group: GroupCommit[Any, Any] = GroupCommit(flushes, max_items=1, max_groups=1)
    calls = submit(group, "a", "b", "c")
    await turns()
    draining = asyncio.create_task(group.drain())
    await turns()
    assert not draining.done()
    flushes.gate.set()
    await draining
    assert flushes.groups == [["a"], ["b"], ["c"]]
    assert await asyncio.gather(*calls) == ["done a", "done b", "done c"]


async def test_drain_with_nothing_to_do_returns_at_once() -> None:
    group: GroupCommit[Any, Any] = GroupCommit(Flushes(), max_items=1, max_groups=1)
    await group.drain()
    await group.submit("a")
    await group.drain()


async def test_drain_survives_a_failing_group() -> None:
    async def flush(_: Sequence[str]) -> list[str]:
        raise ConnectionError("away")

    group: GroupCommit[str, str] = GroupCommit(flush, max_items=1, max_groups=1)
    calls = submit(group, "a", "b")
    await turns(1)
    await group.drain()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionError, ConnectionError]


@given(
    items=st.lists(st.integers(0, 20), min_size=1, max_size=40),
    max_items=st.integers(1, 5),
    max_groups=st.integers(1, 3),
    cancelled=st.sets(st.integers(0, 39)),
    chance=st.randoms(),
)
def test_whatever_is_cancelled_the_others_get_their_own_results(
    items: list[int], max_items: int, max_groups: int, cancelled: set[int], chance: Any
) -> None:
    async def scenario() -> None:
        flushes = Flushes()
        group: GroupCommit[Any, Any] = GroupCommit(
            flushes, max_items=max_items, max_groups=max_groups, weigh=lambda item: item[1], max_weight=20
        )
        numbered = list(enumerate(items))
        calls = submit(group, *numbered)
        for index in cancelled:
            if index < len(calls):
                await turns(chance.randrange(3))
                calls[index].cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        for item, result in zip(numbered, results, strict=True):
            assert result == f"done {item}" or (item[0] in cancelled and isinstance(result, asyncio.CancelledError))
        flushed = [item for flushed in flushes.groups for item in flushed]
        assert len(set(flushed)) == len(flushed)
        assert flushed == sorted(flushed)
        assert {item for item in numbered if item[0] not in cancelled} <= set(flushed)
        assert all(len(g) <= max_items for g in flushes.groups)
        assert all(len(g) == 1 or sum(weight for _, weight in g) <= 20 for g in flushes.groups)
        assert flushes.most_at_once <= max_groups

    asyncio.run(scenario())


async def test_a_group_belongs_to_none_of_its_calls_and_has_nothing_of_the_context_of_the_first() -> None:
    whose: contextvars.ContextVar[str] = contextvars.ContextVar("whose", default="nobody's")
    whose.set("the process'")
    seen = []

    async def flush(items: Sequence[str]) -> list[str]:
        seen.append(whose.get())
        return list(items)

    group: GroupCommit[str, str] = GroupCommit(flush, max_items=1, max_groups=1)

    async def call(name: str) -> str:
        whose.set(name)
        return await group.submit(name)

    await asyncio.gather(call("a"), call("b"))
    assert seen == ["the process'"] * 2
