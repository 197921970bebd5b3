"""The retry set: emails that wait alone, sends that wait for their repeat, and their ways back."""

import asyncio
from datetime import timedelta

import pytest
from integration.core.queue_builder import (
    HOUR,
    MINUTE,
    NOW,
    OTHER,
    Queue,
    entries_of,
    id_of,
    ids_of,
    new_id,
    queued,
    requests_of,
)

from sred_email_core.queue.keys import Lane
from sred_email_core.queue.scripts import Entry, Promoted

SECONDS_30 = timedelta(seconds=30)


async def promote(queue: Queue, most: int = 100, *, passing_over: int = 0) -> Promoted:
    return await queue.scripts.promote(most=most, passing_over=passing_over)


async def parked(queue: Queue, *lanes: Lane) -> list[Entry]:
    """Emails that wait alone and are due; the entries that they had."""
    entries = await queue.taken(*lanes)
    await queue.park(entries, HOUR)
    await queue.redis.zadd(queue.keys.retry, {id_of(entry): n for n, entry in enumerate(entries)})
    return entries


# park


async def test_parking_moves_an_email_from_its_stream_to_the_retry_set(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.LOW)
    email_id = id_of(entry)
    assert await queue.park([entry], SECONDS_30) == 1
    assert await queue.lengths() == [0, 0, 0]
    assert await queue.pending(Lane.LOW) == {}
    assert await queue.place(email_id) == "retry:3"
    kept = entry.fields[b"hints"] + b"\n" + entry.fields[b"message"]
    assert await queue.redis.hget(queue.keys.parked, email_id) == kept
    due = await queue.due_in(email_id)
    assert due is not None
    assert timedelta(seconds=25) < due <= SECONDS_30


async def test_hazard_8_only_the_owner_of_a_pending_entry_may_park_it(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.steal(entry)
    before = await queue.snapshot()
    assert await queue.park([entry], HOUR) == 0
    assert await queue.park([entry], NOW) == 0
    assert await queue.snapshot() == before
    assert await queue.park([entry], HOUR, consumer=OTHER) == 1


async def test_parking_twice_is_the_same_as_once(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    assert await queue.park([entry], HOUR) == 1
    before = await queue.snapshot()
    assert await queue.park([entry], MINUTE) == 0
    assert await queue.park([entry], NOW) == 0
    assert await queue.snapshot() == before


async def test_an_email_that_need_not_wait_goes_to_the_end_of_its_stream_at_once(queue: Queue) -> None:
    entry, _ = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    (waiting,) = await queue.publish(Lane.NORMAL)
    await queue.rings()
    assert await queue.park([entry], NOW) == 1
    assert await queue.rings()
    assert await queue.redis.exists(queue.keys.retry, queue.keys.parked) == 0
    next_, again = entries_of(await queue.take())
    assert (id_of(next_), again.fields) == (waiting, entry.fields)
    assert again.entry_id != entry.entry_id
    assert await queue.place(id_of(entry)) == f"stream:2:{again.entry_id}"
    assert await queue.lengths() == [0, 3, 0]


@pytest.mark.parametrize("delay", [NOW, HOUR])
async def test_hazard_18_an_email_that_is_to_go_alone_shares_no_request_any_more(
    queue: Queue, delay: timedelta
) -> None:
    entries = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    await queue.park(entries[:1], delay, alone=True)
    await queue.park(entries[1:], delay)
    await queue.redis.zadd(queue.keys.retry, {id_of(entry): 0 for entry in entries}, xx=True)
    await promote(queue)
    new = await queue.publish(*[Lane.NORMAL] * 2)
    alone, other = ids_of(entries)
    assert requests_of(await queue.take(2, batch_size=100)) in ([[alone], [other, *new]], [[other, *new], [alone]])


async def test_an_email_stays_alone_over_many_rounds(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.park([entry], NOW, alone=True)
    for _ in range(3):
        (entry,) = entries_of(await queue.take())
        assert entry.fields[b"hints"] == b"100 1 0"
        await queue.park([entry], NOW)


async def test_an_entry_without_hints_goes_alone_when_it_comes_back(queue: Queue) -> None:
    await queue.redis.xadd(queue.keys.stream(Lane.HIGH), {"email_id": "a", "message": "m"})
    (entry,) = entries_of(await queue.take())
    await queue.park([entry], NOW)
    (again,) = entries_of(await queue.take())
    assert again.fields == {b"email_id": b"a", b"hints": b"0 1 0", b"message": b"m"}


@pytest.mark.parametrize("hints", ["1\n2", "\n", "no hints"])
async def test_strange_hints_do_not_damage_the_message(queue: Queue, hints: str) -> None:
    await queue.redis.xadd(queue.keys.stream(Lane.HIGH), {"email_id": "a", "hints": hints, "message": "m"})
    (entry,) = entries_of(await queue.take())
    await queue.park([entry], HOUR)
    await queue.redis.zadd(queue.keys.retry, {"a": 0})
    await promote(queue)
    (again,) = entries_of(await queue.take())
    assert again.fields[b"message"] == b"m"


async def test_an_entry_without_a_message_is_taken_off_its_stream_and_its_email_is_free(queue: Queue) -> None:
    email_id = new_id()
    entry_id = (await queue.redis.xadd(queue.keys.stream(Lane.NORMAL), {"email_id": email_id})).decode()
    await queue.redis.hset(queue.keys.places, email_id, f"stream:2:{entry_id}")
    (entry,) = entries_of(await queue.take())
    assert await queue.park([entry], HOUR) == 1
    assert await queue.lengths() == [0, 0, 0]
    assert await queue.redis.zcard(queue.keys.retry) == 0
    assert await queue.place(email_id) is None


# promote


@pytest.mark.parametrize("lane", Lane)
async def test_a_parked_email_comes_back_to_its_lane_with_its_message(queue: Queue, lane: Lane) -> None:
    (entry,) = await parked(queue, lane)
    assert await promote(queue) == Promoted(moved=1, staying=0, next_due=None)
    (again,) = entries_of(await queue.take())
    assert (again.lane, again.fields, again.deaths) == (lane, entry.fields, 0)
    assert again.entry_id != entry.entry_id
    assert await queue.place(id_of(entry)) == f"stream:{int(lane)}:{again.entry_id}"
    assert await queue.redis.zcard(queue.keys.retry) == 0
    assert await queue.redis.hlen(queue.keys.parked) == 0


async def test_a_parked_email_keeps_its_lane_and_message_over_many_rounds(queue: Queue) -> None:
    (first,) = await queue.taken(Lane.HIGH)
    entry = first
    for _ in range(5):
        await queue.park([entry], HOUR)
        await queue.redis.zadd(queue.keys.retry, {id_of(entry): 0})
        await promote(queue)
        (entry,) = entries_of(await queue.take())
    assert (entry.lane, entry.fields) == (Lane.HIGH, first.fields)


async def test_what_is_not_due_stays_parked_and_the_wait_for_it_is_told(queue: Queue) -> None:
    entries = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    await queue.park(entries[:1], SECONDS_30)
    await queue.park(entries[1:], HOUR)
    promoted = await promote(queue)
    assert (promoted.moved, promoted.staying) == (0, 0)
    assert promoted.next_due is not None
    assert timedelta(seconds=25) < promoted.next_due <= SECONDS_30


async def test_promoting_moves_a_bounded_number_the_longest_due_first(queue: Queue) -> None:
    entries = await parked(queue, *[Lane.NORMAL] * 5)
    for age, entry in enumerate(entries):
        await queue.redis.zadd(queue.keys.retry, {id_of(entry): 1000 - age})
    assert [(await promote(queue, 3)).moved for _ in range(3)] == [3, 2, 0]
    assert ids_of(entries_of(await queue.take())) == ids_of(entries)[::-1]


async def test_replicas_that_promote_at_once_move_each_email_once(queue: Queue) -> None:
    entries = await parked(queue, *[Lane.NORMAL] * 50)
    promoted = await asyncio.gather(*(promote(queue, 20) for _ in range(10)))
    assert sum(p.moved for p in promoted) == 50
    assert sorted(ids_of(entries_of(await queue.take(100)))) == sorted(ids_of(entries))


async def test_promoting_rings_and_promoting_nothing_does_not(queue: Queue) -> None:
    await parked(queue, Lane.NORMAL)
    await queue.rings()
    await promote(queue)
    assert await queue.rings()
    await promote(queue)
    assert not await queue.rings()


async def test_promoting_leaves_sends_where_they_are_and_tells_of_them(queue: Queue) -> None:
    first, second = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    await queue.park_send(id_of(first), first, second)
    before = await queue.snapshot()
    assert await promote(queue) == Promoted(moved=0, staying=1, next_due=None)
    assert await queue.snapshot() == before


async def test_emails_behind_more_sends_than_one_call_looks_at_are_promoted_by_passing_over(queue: Queue) -> None:
    emails = await parked(queue, Lane.NORMAL, Lane.NORMAL)
    for number in range(4):
        await queue.park_send(f"send-{number}")
    await queue.redis.zadd(queue.keys.retry, {f"send-{number}": -number for number in range(4)})
    assert await promote(queue, 3) == Promoted(moved=0, staying=3, next_due=None)
    assert await promote(queue, 3, passing_over=3) == Promoted(moved=2, staying=1, next_due=None)
    assert ids_of(entries_of(await queue.take(100))) == ids_of(emails)


async def test_promoting_removes_members_that_are_no_emails_of_ours(queue: Queue) -> None:
    (waiting_alone,) = await parked(queue, Lane.NORMAL)
    (on_stream,) = await queue.publish(Lane.HIGH)
    without_message = new_id()
    await queue.redis.hset(queue.keys.places, without_message, "retry:1")
    await queue.redis.hset(queue.keys.places, "odd", "retry:9")
    strangers: dict[str | bytes, float] = {
        "stranger": 0,
        b"\xff\xfe": 0,
        "": 0,
        "odd": 0,
        on_stream: 0,
        without_message: 0,
    }
    await queue.redis.zadd(queue.keys.retry, strangers)
    await queue.redis.hset(queue.keys.parked, "stranger", b"m")
    assert (await promote(queue)).moved == 1
    assert await queue.redis.zcard(queue.keys.retry) == 0
    assert await queue.redis.hlen(queue.keys.parked) == 0
    assert await queue.place(without_message) is None
    place = await queue.place(on_stream)
    assert place is not None
    assert place.startswith("stream:1:")
    assert ids_of(entries_of(await queue.take())) == [on_stream, id_of(waiting_alone)]


async def test_an_email_whose_message_was_lost_is_free_to_be_published_again(queue: Queue) -> None:
    (entry,) = await parked(queue, Lane.NORMAL)
    await queue.redis.delete(queue.keys.parked)
    assert (await promote(queue)).moved == 0
    assert await queue.scripts.publish([queued(Lane.NORMAL, id_of(entry))]) == 1
