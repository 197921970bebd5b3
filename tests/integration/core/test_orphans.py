"""What a consumer did not finish becomes an orphan, and whoever takes next adopts it."""

import asyncio
from datetime import timedelta

import pytest
from integration.core.queue_builder import (
    HOUR,
    ME,
    MINUTE,
    OTHER,
    Queue,
    entries_of,
    id_of,
    ids_of,
)

from sred_email_core.queue.keys import ORPHANS, Lane
from sred_email_core.queue.scripts import Entry
from sred_email_core.queue.stats import QueueInspector

DEAD = "dead"


async def reclaim(
    queue: Queue, *, idle: timedelta = MINUTE, start: str = "", most: int = 100, lane: Lane = Lane.NORMAL
) -> tuple[str, int]:
    return await queue.scripts.reclaim(OTHER, lane, idle=idle, start=start, most=most)


async def left_behind(queue: Queue, *lanes: Lane) -> list[Entry]:
    """Entries whose consumer died two minutes ago, right after it had taken them."""
    entries = await queue.taken(*lanes, consumer=DEAD)
    await queue.fall_silent(DEAD, 2 * MINUTE)
    await queue.fall_silent(OTHER, timedelta())  # somebody was heard all the time
    await queue.grow_old(*entries, by=2 * MINUTE)
    return entries


# Becoming an orphan


async def test_hazard_6_what_a_dead_consumer_did_not_finish_is_orphaned_and_taken_again(queue: Queue) -> None:
    (entry,) = await left_behind(queue, Lane.NORMAL)
    await queue.rings()
    assert await reclaim(queue) == ("", 1)
    assert await queue.rings()
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: ORPHANS}
    assert await queue.place(id_of(entry)) == f"stream:2:{entry.entry_id}"
    (again,) = entries_of(await queue.take())
    assert again == Entry(entry.lane, entry.entry_id, entry.pairs, deaths=1)
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: ME}
    assert await queue.lengths() == [0, 1, 0]


async def test_hazard_9_a_consumer_that_is_alive_keeps_what_it_has_however_long_it_waits(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.grow_old(entry, by=9 * MINUTE)
    assert await reclaim(queue) == ("", 0)
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: ME}
    assert await queue.deaths(entry) == 0


async def test_what_was_taken_a_moment_ago_is_left_to_its_consumer_though_it_is_silent(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL, consumer=DEAD)
    await queue.fall_silent(DEAD, HOUR)
    assert await reclaim(queue) == ("", 0)
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: DEAD}


async def test_hazard_9_after_an_outage_of_redis_consumers_get_a_moment_to_be_heard_again(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.grow_old(entry, by=2 * MINUTE)
    for consumer in (ME, OTHER):
        await queue.fall_silent(consumer, 2 * MINUTE)
    assert await reclaim(queue) == ("", 0)
    await queue.take()  # a sign of life
    await queue.redis.hincrby(queue.keys.dispatch, "served_since", -10_000)
    assert await reclaim(queue) == ("", 0)
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: ME}


async def test_hazard_9_who_is_not_heard_again_after_an_outage_of_redis_has_died(queue: Queue) -> None:
    (entry,) = await left_behind(queue, Lane.NORMAL)
    await queue.fall_silent(OTHER, 2 * MINUTE)
    assert await reclaim(queue) == ("", 0)
    await queue.redis.hincrby(queue.keys.dispatch, "served_since", -10_000)
    assert await reclaim(queue) == ("", 1)
    assert await queue.deaths(entry) == 1


async def test_an_owner_that_never_gave_a_sign_of_life_is_dead(queue: Queue) -> None:
    (entry,) = await left_behind(queue, Lane.NORMAL)
    await queue.redis.delete(queue.keys.consumers)
    assert await reclaim(queue) == ("", 1)
    assert await queue.deaths(entry) == 1


async def test_hazard_9_an_entry_that_its_living_owner_forgot_is_orphaned_without_counting_a_death(
    queue: Queue,
) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.grow_old(entry, by=11 * MINUTE)
    assert await reclaim(queue) == ("", 1)
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: ORPHANS}
    assert await queue.deaths(entry) == 0


async def test_taking_and_reclaiming_are_signs_of_life(queue: Queue) -> None:
    mine, others = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    await queue.steal(others)
    await queue.grow_old(mine, others, by=2 * MINUTE)
    for consumer in (ME, OTHER):
        await queue.fall_silent(consumer, 2 * MINUTE)
    await queue.take()
    assert await reclaim(queue) == ("", 0)


async def test_hazard_9_each_death_counts_once(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL, consumer="c0")
    await queue.fall_silent(OTHER, timedelta())  # somebody was heard all the time
    for deaths in range(1, 4):
        await queue.fall_silent(f"c{deaths - 1}", HOUR)
        await queue.grow_old(entry, by=2 * MINUTE)
        await asyncio.gather(*(reclaim(queue) for _ in range(5)))
        assert await queue.deaths(entry) == deaths
        await queue.grow_old(entry, by=HOUR)
        assert await reclaim(queue) == ("", 0)  # an orphan is nobody's who could die
        (entry,) = entries_of(await queue.take(consumer=f"c{deaths}"))
        assert entry.deaths == deaths


async def test_one_lane_is_reclaimed_at_a_time(queue: Queue) -> None:
    high, low = await left_behind(queue, Lane.HIGH, Lane.LOW)
    assert await reclaim(queue, lane=Lane.LOW) == ("", 1)
    assert await queue.pending(Lane.HIGH) == {high.entry_id: DEAD}
    assert await queue.pending(Lane.LOW) == {low.entry_id: ORPHANS}


async def test_hazard_6_one_call_looks_at_a_bounded_number_and_the_next_goes_on(queue: Queue) -> None:
    alive = await queue.taken(*[Lane.NORMAL] * 12)
    await queue.grow_old(*alive, by=2 * MINUTE)
    dead = await left_behind(queue, *[Lane.NORMAL] * 13)
    start, moved = await reclaim(queue, most=10)
    assert moved == 0
    calls = 1
    while start:
        start, in_this_call = await reclaim(queue, start=start, most=10)
        assert in_this_call <= 10
        moved += in_this_call
        calls += 1
    assert (moved, calls) == (13, 3)
    assert sorted(ids_of(entries_of(await queue.take(100)))) == sorted(ids_of(dead))


async def test_replicas_that_reclaim_at_once_lose_and_double_nothing(queue: Queue) -> None:
    entries = await left_behind(queue, *[Lane.NORMAL] * 30)
    answers = await asyncio.gather(*(reclaim(queue) for _ in range(10)))
    assert sum(moved for _, moved in answers) == 30
    adopted = entries_of(await queue.take(100))
    assert sorted(ids_of(adopted)) == sorted(ids_of(entries))
    assert {entry.deaths for entry in adopted} == {1}


async def test_an_entry_that_was_deleted_under_its_dead_consumer_is_no_obstacle(queue: Queue) -> None:
    gone, there = await left_behind(queue, Lane.NORMAL, Lane.NORMAL)
    await queue.redis.xdel(queue.keys.stream(Lane.NORMAL), gone.entry_id)
    await reclaim(queue)
    assert ids_of(entries_of(await queue.take())) == [id_of(there)]
    assert await queue.pending(Lane.NORMAL) == {there.entry_id: ME}
    await queue.finish([there])
    assert await queue.scripts.leave(DEAD)


async def test_an_entry_with_very_many_fields_is_orphaned_and_adopted_as_it_is(queue: Queue) -> None:
    fields = {f"f{n}".encode(): b"x" for n in range(5000)}
    await queue.redis.xadd(queue.keys.stream(Lane.NORMAL), fields)
    (entry,) = await left_behind(queue)
    assert await reclaim(queue) == ("", 1)
    (again,) = entries_of(await queue.take())
    assert again.fields == entry.fields == fields


async def test_an_adopted_entry_is_as_young_as_one_that_was_just_taken(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.orphan(entry)
    await queue.grow_old(entry, by=HOUR)
    await queue.take()
    await queue.fall_silent(ME, HOUR)
    assert await reclaim(queue) == ("", 0)


# Handing back


@pytest.mark.parametrize("died", [False, True])
async def test_hazard_22_what_is_handed_back_is_taken_by_another_at_once(queue: Queue, died: bool) -> None:
    entries = await queue.taken(*Lane)
    await queue.rings()
    assert await queue.scripts.hand_back(ME, [(e.lane, e.entry_id) for e in entries], died=died) == 3
    assert await queue.rings()
    adopted = entries_of(await queue.take(consumer=OTHER))
    assert ids_of(adopted) == ids_of(entries)
    assert [entry.deaths for entry in adopted] == [int(died)] * 3
    assert await queue.scripts.leave(ME)


async def test_hazard_9_handing_back_keeps_the_deaths_that_were_counted_before(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    for deaths in (1, 2):
        await queue.scripts.hand_back(ME, [(entry.lane, entry.entry_id)], died=True)
        assert entries_of(await queue.take())[0].deaths == deaths
        await queue.scripts.hand_back(ME, [(entry.lane, entry.entry_id)])
        assert entries_of(await queue.take())[0].deaths == deaths


async def test_hazard_8_only_the_owner_of_a_pending_entry_may_hand_it_back(queue: Queue) -> None:
    mine, stolen, finished = await queue.taken(*[Lane.NORMAL] * 3)
    await queue.steal(stolen)
    await queue.finish([finished])
    given = [(e.lane, e.entry_id) for e in (mine, stolen, finished)]
    assert await queue.scripts.hand_back(ME, given, died=True) == 1
    assert await queue.pending(Lane.NORMAL) == {mine.entry_id: ORPHANS, stolen.entry_id: OTHER}
    assert await queue.deaths(stolen) == 0
    await queue.rings()
    assert await queue.scripts.hand_back(ME, given) == 0
    assert await queue.scripts.hand_back(ME, []) == 0
    assert not await queue.rings()


async def test_hazard_6_what_is_pending_for_a_consumer_is_told_on_every_lane(queue: Queue) -> None:
    entries = await queue.taken(*Lane)
    theirs = await queue.taken(Lane.HIGH, consumer=OTHER)
    orphans = await queue.taken(Lane.HIGH)
    await queue.orphan(*orphans)
    await queue.publish(Lane.LOW)
    assert await queue.scripts.own_pending(ME) == {(e.lane, e.entry_id) for e in entries}
    assert await queue.scripts.own_pending(OTHER) == {(e.lane, e.entry_id) for e in theirs}
    assert await queue.scripts.own_pending("nobody") == set()
    await queue.redis.flushall()
    assert await queue.scripts.own_pending(ME) == set()


# What is told of consumers


async def test_consumers_are_told_with_the_sign_of_life_that_recovery_goes_by_also_idle_and_dead_ones(
    queue: Queue,
) -> None:
    await left_behind(queue, Lane.NORMAL)
    await queue.taken(Lane.HIGH)
    await queue.fall_silent(ME, timedelta(seconds=3))
    await reclaim(queue, lane=Lane.LOW)  # whoever does it is alive, although it has taken nothing yet
    told = (await QueueInspector(queue.redis, queue.keys).read()).consumers
    assert [(each.name, each.in_flight, round(each.idle.total_seconds())) for each in told] == [
        (DEAD, 1, 120),
        (ME, 1, 3),
        (OTHER, 0, 0),
    ]
