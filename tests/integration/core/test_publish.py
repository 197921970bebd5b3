"""Emails come onto their streams once, and leave them when they need nothing more."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from integration.core.queue_builder import (
    HOUR,
    ME,
    MINUTE,
    NOW,
    OTHER,
    Queue,
    entries_of,
    id_of,
    ids_of,
    message_of,
    queued,
)

from sred_email_core.queue.codec import decode
from sred_email_core.queue.keys import GROUP, Lane
from sred_email_core.queue.scripts import Entry

# publish


@pytest.mark.parametrize("lane", Lane)
async def test_publishing_puts_an_email_on_its_lane_and_says_where_it_is(queue: Queue, lane: Lane) -> None:
    email = queued(lane, expire_at=datetime(2026, 1, 3, tzinfo=UTC))
    assert await queue.scripts.publish([email]) == 1
    ((entry_id, fields),) = await queue.redis.xrange(queue.keys.stream(lane))
    assert fields == message_of(email)
    assert decode(fields, lane) == email
    assert await queue.place(email.email_id) == f"stream:{int(lane)}:{entry_id.decode()}"


async def test_hazard_2_publishing_twice_adds_an_email_once(queue: Queue) -> None:
    email = queued(Lane.NORMAL)
    assert await queue.scripts.publish([email]) == 1
    assert await queue.scripts.publish([email]) == 0
    assert await queue.scripts.publish([queued(Lane.HIGH, email.email_id)]) == 0
    assert await queue.scripts.publish([queued(Lane.HIGH, email.email_id, delay=HOUR)]) == 0
    assert await queue.lengths() == [0, 1, 0]
    assert await queue.redis.exists(queue.keys.retry, queue.keys.parked) == 0


async def test_publishing_an_email_twice_in_one_call_adds_it_once(queue: Queue) -> None:
    email = queued(Lane.LOW)
    assert await queue.scripts.publish([email, email]) == 1


async def test_hazard_2_publishers_that_race_add_each_email_once(queue: Queue) -> None:
    emails = [queued(Lane.NORMAL) for _ in range(50)]
    published = await asyncio.gather(*(queue.scripts.publish(emails) for _ in range(10)))
    assert sum(published) == 50
    assert await queue.lengths() == [0, 50, 0]


async def test_publishing_more_than_one_call_may_move_keeps_their_order(queue: Queue) -> None:
    ids = await queue.publish(*[Lane.LOW] * 250)
    assert ids_of(entries_of(await queue.take(1000))) == ids


async def test_hazard_2_an_email_that_waits_anywhere_is_not_published_again(queue: Queue) -> None:
    in_flight, parked, sent = await queue.taken(Lane.HIGH, Lane.NORMAL, Lane.LOW)
    await queue.park([parked], HOUR)
    await queue.park_send(id_of(sent), sent, delay=HOUR)
    (delayed,) = await queue.publish(Lane.LOW, delay=HOUR)
    before = await queue.snapshot()
    for email_id in (*ids_of([in_flight, parked, sent]), delayed):
        assert await queue.scripts.publish([queued(Lane.NORMAL, email_id)]) == 0
    assert await queue.snapshot() == before


async def test_publishing_rings_once_and_publishing_nothing_does_not(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 5)
    await queue.publish(Lane.HIGH)
    assert await queue.redis.llen(queue.keys.doorbell) == 1
    assert await queue.rings()
    assert await queue.scripts.publish([]) == 0
    assert not await queue.rings()


@pytest.mark.parametrize("lane", Lane)
async def test_an_email_with_a_delay_waits_in_the_retry_set_and_comes_to_its_lane_when_due(
    queue: Queue, lane: Lane
) -> None:
    email = queued(lane, delay=timedelta(seconds=30), alone=True, size_bytes=7)
    assert await queue.scripts.publish([email]) == 1
    assert not await queue.rings()
    assert await queue.lengths() == [0, 0, 0]
    assert await queue.place(email.email_id) == f"retry:{int(lane)}"
    due = await queue.due_in(email.email_id)
    assert due is not None
    assert timedelta(seconds=25) < due <= timedelta(seconds=30)
    await queue.redis.zadd(queue.keys.retry, {email.email_id: 0})
    assert (await queue.scripts.promote(most=10, passing_over=0)).moved == 1
    (entry,) = entries_of(await queue.take())
    assert (entry.lane, entry.fields) == (lane, message_of(email))


async def test_emails_that_are_due_and_emails_that_are_not_may_be_published_in_one_call(queue: Queue) -> None:
    now, later = queued(Lane.HIGH), queued(Lane.HIGH, delay=MINUTE)
    assert await queue.scripts.publish([later, now]) == 2
    assert ids_of(entries_of(await queue.take())) == [now.email_id]
    assert await queue.redis.zrange(queue.keys.retry, 0, -1) == [later.email_id.encode()]


# finish


async def test_hazard_12_finishing_leaves_nothing_of_an_email(queue: Queue) -> None:
    entries = await queue.taken(*Lane)
    assert await queue.finish(entries) == 3
    assert await queue.lengths() == [0, 0, 0]
    assert [await queue.pending(lane) for lane in Lane] == [{}, {}, {}]
    assert await queue.redis.hlen(queue.keys.places) == 0


async def test_finishing_twice_is_the_same_as_once(queue: Queue) -> None:
    entries = await queue.taken(Lane.NORMAL)
    assert await queue.finish(entries) == 1
    assert await queue.finish(entries) == 0


async def test_hazard_8_only_the_owner_of_a_pending_entry_may_finish_it(queue: Queue) -> None:
    mine, stolen = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    await queue.steal(stolen)
    assert await queue.finish([mine, stolen]) == 1
    assert await queue.pending(Lane.NORMAL) == {stolen.entry_id: OTHER}
    assert await queue.place(id_of(stolen)) == f"stream:2:{stolen.entry_id}"
    before = await queue.snapshot()
    assert await queue.finish([stolen]) == 0
    assert await queue.snapshot() == before
    assert await queue.finish([stolen], consumer=OTHER) == 1


async def test_hazard_8_an_entry_that_became_an_orphan_is_its_first_owners_no_longer(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.orphan(entry, deaths=1)
    before = await queue.snapshot()
    assert await queue.finish([entry]) == 0
    assert await queue.park([entry], NOW) == 0
    assert await queue.scripts.hand_back(ME, [(entry.lane, entry.entry_id)], died=True) == 0
    assert await queue.snapshot() == before


async def test_an_entry_that_was_never_taken_can_not_be_finished(queue: Queue) -> None:
    await queue.publish(Lane.NORMAL)
    ((entry_id, fields),) = await queue.redis.xrange(queue.keys.stream(Lane.NORMAL))
    assert await queue.finish([Entry(Lane.NORMAL, entry_id.decode(), tuple(fields.items()))]) == 0
    assert await queue.lengths() == [0, 1, 0]


async def test_finishing_an_entry_leaves_a_place_that_is_elsewhere(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.redis.hset(queue.keys.places, id_of(entry), "send:first")
    assert await queue.finish([entry]) == 1
    assert await queue.place(id_of(entry)) == "send:first"


async def test_finishing_when_the_group_is_gone_touches_nothing(queue: Queue) -> None:
    entries = await queue.taken(Lane.NORMAL)
    await queue.redis.xgroup_destroy(queue.keys.stream(Lane.NORMAL), GROUP)
    assert await queue.finish(entries) == 0
    assert await queue.lengths() == [0, 1, 0]
