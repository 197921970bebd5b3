"""Sends that wait in the retry set for their repeat: who may move them, and who only adds what is missing."""

from datetime import timedelta

import pytest
from integration.core.queue_builder import (
    HOUR,
    ME,
    MINUTE,
    NOW,
    OTHER,
    Queue,
    id_of,
    in_send,
    new_id,
)

from sred_email_core.queue.keys import Lane
from sred_email_core.queue.scripts import Finished, ParkedInSend

SECONDS_30 = timedelta(seconds=30)


async def test_a_send_waits_as_one_member_and_its_emails_have_their_place_in_it(queue: Queue) -> None:
    entries = await queue.taken(*Lane)
    first = id_of(entries[0])
    await queue.park_send(first, *entries, delay=SECONDS_30)
    assert await queue.redis.zrange(queue.keys.retry, 0, -1) == [first.encode()]
    due = await queue.due_in(first)
    assert due is not None
    assert timedelta(seconds=25) < due <= SECONDS_30
    assert [await queue.place(id_of(entry)) for entry in entries] == [f"send:{first}"] * 3
    assert await queue.lengths() == [0, 0, 0]
    assert [await queue.pending(lane) for lane in Lane] == [{}, {}, {}]
    assert await queue.redis.hlen(queue.keys.parked) == 0


async def test_a_send_larger_than_one_call_may_move_still_waits_as_one(queue: Queue) -> None:
    entries = await queue.taken(*[Lane.NORMAL] * 100)
    first = id_of(entries[0])
    others = [ParkedInSend(first, new_id(), NOW) for _ in range(50)]
    await queue.scripts.park_sends(ME, in_send(first, *entries) + others, entitled=True)
    assert (await queue.take(100)).repeats == [first]
    assert await queue.redis.hlen(queue.keys.places) == 150


async def test_whoever_holds_the_lease_moves_the_due_time_of_a_send(queue: Queue) -> None:
    first = new_id()
    await queue.park_send(first)
    await queue.park_send(first, delay=HOUR)
    assert (await queue.take()).repeats == []
    await queue.park_send(first)
    assert (await queue.take()).repeats == [first]
    assert await queue.redis.zcard(queue.keys.retry) == 1


async def test_whoever_only_found_a_send_in_the_log_leaves_its_due_time(queue: Queue) -> None:
    for delay, again in ((HOUR, NOW), (NOW, HOUR)):
        first = new_id()
        await queue.park_send(first, delay=delay)
        before = await queue.redis.zscore(queue.keys.retry, first)
        await queue.park_send(first, delay=again, entitled=False)
        assert await queue.redis.zscore(queue.keys.retry, first) == before


async def test_whoever_only_found_a_send_in_the_log_adds_what_is_missing(queue: Queue) -> None:
    first, second = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    await queue.redis.hdel(queue.keys.places, id_of(second))
    await queue.park_send(id_of(first), first, second, entitled=False)
    assert (await queue.take()).repeats == [id_of(first)]
    assert [await queue.place(id_of(entry)) for entry in (first, second)] == [f"send:{id_of(first)}"] * 2
    assert await queue.lengths() == [0, 0, 0]


async def test_whoever_only_found_a_send_in_the_log_leaves_an_email_that_is_elsewhere(queue: Queue) -> None:
    here, elsewhere = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    await queue.park([elsewhere], HOUR)
    place = await queue.place(id_of(elsewhere))
    await queue.redis.hset(queue.keys.places, id_of(here), "stream:2:1-1")
    await queue.park_send(id_of(here), here, elsewhere, entitled=False)
    assert await queue.place(id_of(elsewhere)) == place == "retry:2"
    assert await queue.place(id_of(here)) == "stream:2:1-1"
    assert await queue.pending(Lane.NORMAL) == {}  # the entry is done with all the same
    assert (await queue.take()).repeats == []


@pytest.mark.parametrize("entitled", [True, False])
async def test_hazard_8_an_entry_that_another_has_claimed_is_left_to_it_when_its_send_is_parked(
    queue: Queue, entitled: bool
) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    email_id = id_of(entry)
    await queue.steal(entry)
    await queue.park_send(email_id, entry, delay=HOUR, entitled=entitled)
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: OTHER}
    assert await queue.place(email_id) == f"send:{email_id}"
    assert await queue.finish([entry], consumer=OTHER) == 1
    assert await queue.place(email_id) == f"send:{email_id}"


async def test_a_parked_send_rings(queue: Queue) -> None:
    await queue.park_send("a")
    assert await queue.rings()


async def test_a_finished_send_leaves_nothing_behind(queue: Queue) -> None:
    await queue.scripts.park_sends(ME, [ParkedInSend("a", email_id, NOW) for email_id in ("a", "b")], entitled=True)
    await queue.scripts.finish_sends([("a", "a"), ("b", "a")])
    assert await queue.redis.exists(queue.keys.retry, queue.keys.places) == 0


async def test_forgetting_a_send_leaves_emails_that_are_elsewhere(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    email_id = id_of(entry)
    await queue.park_send("a", delay=HOUR)
    await queue.park([entry], HOUR)
    before = await queue.snapshot()
    await queue.scripts.finish_sends([(email_id, email_id), ("a", "b"), ("unknown", "unknown")])
    assert await queue.snapshot() == before


async def test_finishing_forgets_the_send_that_another_owner_has_parked_meanwhile_and_leaves_it_its_entry(
    queue: Queue,
) -> None:
    mine, stolen, elsewhere = await queue.taken(Lane.NORMAL, Lane.NORMAL, Lane.NORMAL)
    first = id_of(mine)
    await queue.steal(stolen)
    await queue.scripts.park_sends(OTHER, [ParkedInSend(first, id_of(e), HOUR) for e in (mine, stolen)], entitled=True)
    emails = [Finished(e.lane, e.entry_id, id_of(e), first) for e in (mine, stolen, elsewhere)]
    assert await queue.scripts.finish(ME, emails) == 2
    assert await queue.pending(Lane.NORMAL) == {stolen.entry_id: OTHER}
    assert await queue.redis.exists(queue.keys.retry, queue.keys.places) == 0


# postpone


async def test_a_send_that_can_not_be_repeated_yet_is_due_later_or_sooner(queue: Queue) -> None:
    first = new_id()
    await queue.park_send(first)
    assert (await queue.take()).repeats == [first]
    await queue.scripts.postpone(first, SECONDS_30)
    due = await queue.due_in(first)
    assert due is not None
    assert timedelta(seconds=25) < due <= SECONDS_30
    await queue.scripts.postpone(first, NOW)
    assert (await queue.take()).repeats == [first]


async def test_postponing_changes_nothing_of_what_is_no_waiting_send(queue: Queue) -> None:
    on_stream, waits_alone = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    await queue.park([waits_alone], HOUR)
    await queue.redis.hset(queue.keys.places, "no member", "send:no member")
    await queue.redis.zadd(queue.keys.retry, {"no place": 1})
    before = await queue.snapshot()
    for email_id in (id_of(on_stream), id_of(waits_alone), "no member", "no place", "unknown"):
        await queue.scripts.postpone(email_id, MINUTE)
    assert await queue.snapshot() == before
