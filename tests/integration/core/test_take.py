"""What one call of take gives, and in how many requests."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

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
    new_id,
    queued,
    requests_of,
)

from sred_email_core.queue.codec import QueuedEmail
from sred_email_core.queue.keys import Lane
from sred_email_core.queue.scripts import DispatchWeather, Taken

NOTHING = Taken(held=False, wait=None, repeats=[], requests=[], weather=DispatchWeather(limit_known=True))

# Which emails


async def test_taking_from_an_empty_queue_gives_nothing_and_knows_of_nothing(queue: Queue) -> None:
    assert await queue.take() == NOTHING
    assert not await queue.rings()


async def test_hazard_19_repeats_go_first_then_high_then_normal_then_low(queue: Queue) -> None:
    low, normal = await queue.publish(Lane.LOW, Lane.NORMAL)
    high = queued(Lane.HIGH)
    await queue.scripts.publish([high])
    repeat = new_id()
    await queue.park_send(repeat)
    taken = await queue.take()
    assert taken.repeats == [repeat]
    assert requests_of(taken) == [[high.email_id], [normal], [low]]
    entries = entries_of(taken)
    assert [entry.lane for entry in entries] == [Lane.HIGH, Lane.NORMAL, Lane.LOW]
    assert entries[0].fields == message_of(high)
    assert [entry.deaths for entry in entries] == [0, 0, 0]


async def test_within_a_lane_the_oldest_goes_first(queue: Queue) -> None:
    ids = await queue.publish(*[Lane.NORMAL] * 5)
    assert ids_of(entries_of(await queue.take(3))) == ids[:3]
    assert ids_of(entries_of(await queue.take(3))) == ids[3:]


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 7])
async def test_without_batches_no_more_is_taken_than_there_are_slots(queue: Queue, slots: int) -> None:
    await queue.publish(Lane.NORMAL, Lane.NORMAL, Lane.NORMAL, Lane.LOW)
    for _ in range(2):
        await queue.park_send(new_id())
    taken = await queue.take(slots)
    assert len(taken.repeats) + len(taken.requests) == min(slots, 6)
    assert len(taken.repeats) == min(slots, 2)
    assert all(len(request) == 1 for request in taken.requests)


async def test_what_is_taken_is_pending_for_its_taker_and_not_given_to_another(queue: Queue) -> None:
    mine = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    assert (await queue.take(consumer=OTHER)).requests == []
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: ME for entry in mine}
    assert [await queue.place(id_of(entry)) for entry in mine] == [f"stream:2:{entry.entry_id}" for entry in mine]


@pytest.mark.parametrize("batch_size", [1, 5, 100])
async def test_consumers_that_race_take_each_email_once(queue: Queue, batch_size: int) -> None:
    ids = await queue.publish(*[Lane.NORMAL] * 60)
    takes = await asyncio.gather(*(queue.take(7, consumer=f"c{n}", batch_size=batch_size) for n in range(20)))
    assert sorted(i for taken in takes for i in ids_of(entries_of(taken))) == sorted(ids)


async def test_a_field_that_stands_twice_in_an_entry_is_told_twice(queue: Queue) -> None:
    await queue.redis.execute_command("XADD", queue.keys.stream(Lane.LOW), "*", b"a", b"1", b"a", b"\xff")
    (entry,) = entries_of(await queue.take())
    assert entry.pairs == ((b"a", b"1"), (b"a", b"\xff"))


# Repeats


async def test_a_repeat_that_is_taken_is_due_again_after_the_claim_idle_time(queue: Queue) -> None:
    repeat = new_id()
    await queue.park_send(repeat)
    assert (await queue.take(claim_idle=MINUTE)).repeats == [repeat]
    due = await queue.due_in(repeat)
    assert due is not None
    assert timedelta(seconds=55) < due <= MINUTE
    taken = await queue.take(consumer=OTHER)
    assert taken.repeats == []
    assert taken.wait is not None
    assert timedelta(seconds=55) < taken.wait <= MINUTE


async def test_a_repeat_that_nobody_settled_is_given_again(queue: Queue) -> None:
    repeat = new_id()
    await queue.park_send(repeat)
    assert (await queue.take(claim_idle=NOW)).repeats == [repeat]
    assert (await queue.take(consumer=OTHER)).repeats == [repeat]


async def test_parked_emails_and_strangers_in_the_retry_set_are_no_repeats(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.park([entry], HOUR)
    await queue.redis.zadd(queue.keys.retry, {id_of(entry): 0, "stranger": 0, b"\xff\xfe": 0})
    taken = await queue.take()
    assert (taken.repeats, taken.requests) == ([], [])


async def test_many_due_parked_emails_do_not_hide_a_due_repeat_for_ever(queue: Queue) -> None:
    entries = await queue.taken(*[Lane.NORMAL] * 100)
    await queue.park(entries, HOUR)
    await queue.redis.zadd(queue.keys.retry, {id_of(entry): 0 for entry in entries})
    repeat = new_id()
    await queue.park_send(repeat)
    await queue.scripts.promote(most=1000, passing_over=0)
    assert (await queue.take(100)).repeats == [repeat]


async def test_taking_says_when_the_next_of_the_retry_set_is_due(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.park([entry], timedelta(seconds=30))
    taken = await queue.take()
    assert not taken.held
    assert taken.wait is not None
    assert timedelta(seconds=25) < taken.wait <= timedelta(seconds=30)


async def test_hazard_9_with_repeats_it_is_told_who_is_alive(queue: Queue) -> None:
    await queue.take(consumer="alive")
    await queue.take(consumer="silent")
    await queue.fall_silent("silent", MINUTE)
    assert (await queue.take(claim_idle=timedelta(seconds=30))).alive == frozenset()
    await queue.park_send(new_id())
    assert (await queue.take(claim_idle=timedelta(seconds=30))).alive == {ME, "alive"}
    await queue.park_send(new_id())
    assert (await queue.take(claim_idle=HOUR)).alive == {ME, "alive", "silent"}


# How many requests


async def test_emails_go_each_alone_when_no_more_wait_than_there_are_slots(queue: Queue) -> None:
    ids = await queue.publish(Lane.HIGH, Lane.NORMAL, Lane.NORMAL)
    assert requests_of(await queue.take(3, batch_size=100)) == [[email_id] for email_id in ids]


async def test_emails_share_one_request_when_more_wait_than_there_are_slots(queue: Queue) -> None:
    ids = await queue.publish(*[Lane.NORMAL] * 4)
    assert requests_of(await queue.take(3, batch_size=100)) == [ids]
    assert await queue.pending(Lane.NORMAL) == dict.fromkeys(await queue.pending(Lane.NORMAL), ME)
    assert len(await queue.pending(Lane.NORMAL)) == 4


async def test_a_request_carries_no_more_emails_than_a_batch_may(queue: Queue) -> None:
    ids = await queue.publish(*[Lane.NORMAL] * 130)
    assert requests_of(await queue.take(2, batch_size=100)) == [ids[:100]]
    assert requests_of(await queue.take(1, batch_size=100)) == [ids[100:]]
    assert await queue.take(2, batch_size=100) == NOTHING


@pytest.mark.parametrize(("slots", "batch_size"), [(4, 4), (5, 4), (100, 100)])
async def test_emails_share_a_request_also_where_there_are_as_many_slots_as_a_batch_has_emails(
    queue: Queue, slots: int, batch_size: int
) -> None:
    ids = await queue.publish(*[Lane.NORMAL] * (slots + 1))
    assert requests_of(await queue.take(slots, batch_size=batch_size)) == [ids[:batch_size]]


async def test_with_a_batch_size_of_one_nothing_is_ever_shared(queue: Queue) -> None:
    ids = await queue.publish(*[Lane.NORMAL] * 10)
    assert requests_of(await queue.take(3, batch_size=1)) == [[email_id] for email_id in ids[:3]]


async def test_hazard_19_a_batch_is_filled_from_the_highest_lane_down(queue: Queue) -> None:
    low = await queue.publish(*[Lane.LOW] * 5)
    normal = await queue.publish(*[Lane.NORMAL] * 2)
    high = await queue.publish(*[Lane.HIGH] * 2)
    assert requests_of(await queue.take(2, batch_size=6)) == [[*high, *normal, *low[:2]]]


async def test_repeats_leave_fewer_slots_for_new_work(queue: Queue) -> None:
    await queue.park_send(new_id())
    ids = await queue.publish(Lane.NORMAL, Lane.NORMAL)
    taken = await queue.take(2, batch_size=100)
    assert (len(taken.repeats), requests_of(taken)) == (1, [ids])


def expiring(minutes: float) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


@pytest.mark.parametrize(
    "fields",
    [{"alone": True}, {"expire_at": expiring(14)}, {"expire_at": expiring(-1)}, {"size_bytes": 1001}],
    ids=["alone", "expires soon", "expired", "large"],
)
async def test_an_email_that_must_not_share_a_request_goes_alone(queue: Queue, fields: dict[str, Any]) -> None:
    emails = [queued(), queued(**fields), queued(), queued()]
    await queue.scripts.publish(emails)
    ids = [email.email_id for email in emails]
    taken = await queue.take(3, batch_size=100, batch_bytes=1000)
    assert requests_of(taken) == [[ids[0], ids[2], ids[3]], [ids[1]]]


async def test_an_email_that_expires_later_or_is_as_large_as_a_batch_may_be_can_share(queue: Queue) -> None:
    late = await queue.publish(Lane.HIGH, Lane.HIGH, expire_at=expiring(16))
    assert requests_of(await queue.take(1, batch_size=100)) == [late]
    half = await queue.publish(Lane.HIGH, Lane.HIGH, size_bytes=500)
    assert requests_of(await queue.take(1, batch_size=100, batch_bytes=1000)) == [half]


@pytest.mark.parametrize("hints", [None, "", "100", "100 0", "100 2 0", "-1 0 0", "x 0 0", "100 0 0 ", "100\n0\n0"])
async def test_an_entry_without_usable_hints_goes_alone(queue: Queue, hints: str | None) -> None:
    fields = {"email_id": "odd", "message": "m"} | ({} if hints is None else {"hints": hints})
    await queue.redis.xadd(queue.keys.stream(Lane.NORMAL), fields)
    ids = await queue.publish(*[Lane.NORMAL] * 3)
    assert requests_of(await queue.take(3, batch_size=100)) == [["odd"], ids]


async def test_a_batch_is_no_larger_than_its_bytes(queue: Queue) -> None:
    sizes = [400, 400, 200, 1, 400]
    emails = [queued(size_bytes=size) for size in sizes]
    await queue.scripts.publish(emails)
    ids = [email.email_id for email in emails]
    assert requests_of(await queue.take(2, batch_size=100, batch_bytes=1000)) == [ids[:3]]
    assert requests_of(await queue.take(1, batch_size=100, batch_bytes=1000)) == [ids[3:]]


async def test_nothing_overtakes_an_email_of_its_lane_that_does_not_fit(queue: Queue) -> None:
    first, large, small = queued(size_bytes=600), queued(size_bytes=600), queued(size_bytes=1)
    await queue.scripts.publish([first, large, small])
    assert requests_of(await queue.take(1, batch_size=100, batch_bytes=1000)) == [[first.email_id]]
    assert requests_of(await queue.take(1, batch_size=100, batch_bytes=1000)) == [[large.email_id, small.email_id]]


async def test_nothing_overtakes_an_email_of_its_lane_for_whose_request_there_is_no_slot(queue: Queue) -> None:
    first, lone, last = queued(), queued(alone=True), queued()
    await queue.scripts.publish([first, lone, last])
    takes = [requests_of(await queue.take(1, batch_size=100)) for _ in range(3)]
    assert takes == [[[first.email_id]], [[lone.email_id]], [[last.email_id]]]


async def test_a_lower_lane_fills_what_a_higher_one_can_not(queue: Queue) -> None:
    first, lone, last = queued(Lane.HIGH), queued(Lane.HIGH, alone=True), queued(Lane.HIGH)
    await queue.scripts.publish([first, lone, last])
    (low,) = await queue.publish(Lane.LOW)
    assert requests_of(await queue.take(1, batch_size=100)) == [[first.email_id, low]]
    assert ids_of(entries_of(await queue.take(2))) == [lone.email_id, last.email_id]


async def test_whatever_waits_is_taken_once_in_order_and_within_its_limits(queue: Queue) -> None:
    draw = random.Random(7)  # noqa: S311 - a test
    emails = {
        email.email_id: email
        for email in (
            queued(draw.choice(list(Lane)), size_bytes=draw.choice([1, 300, 600, 2000]), alone=draw.random() < 0.2)
            for _ in range(300)
        )
    }
    await queue.scripts.publish(list(emails.values()))
    seen: list[str] = []
    while taken := requests_of(
        await queue.take(slots := draw.randint(1, 8), batch_size=draw.choice([2, 10, 100]), batch_bytes=1000)
    ):
        assert len(taken) <= slots
        for request in taken:
            together = [emails[email_id] for email_id in request]
            assert len(request) == 1 or not any(email.alone for email in together)
            assert len(request) == 1 or sum(email.size_bytes for email in together) <= 1000
        seen += sorted((i for request in taken for i in request), key=list(emails).index)
    assert sorted(seen) == sorted(emails)
    for lane in Lane:
        assert of_lane(seen, emails, lane) == of_lane(list(emails), emails, lane)


def of_lane(ids: list[str], emails: dict[str, QueuedEmail], lane: Lane) -> list[str]:
    return [email_id for email_id in ids if emails[email_id].lane is lane]


# Who else is woken


async def test_a_consumer_whose_slots_are_full_wakes_another(queue: Queue) -> None:
    await queue.publish(Lane.NORMAL, Lane.NORMAL)
    await queue.rings()
    await queue.take(3)
    assert not await queue.rings()
    await queue.publish(Lane.NORMAL, Lane.NORMAL)
    await queue.rings()
    await queue.take(1)
    assert await queue.rings()


async def test_a_consumer_that_found_more_than_it_has_slots_for_wakes_another(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 10)
    await queue.rings()
    assert len((await queue.take(3, batch_size=5)).requests) == 1
    assert await queue.rings()
