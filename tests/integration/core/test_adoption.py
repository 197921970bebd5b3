"""Orphans are taken before new work, and those that owners died with are kept apart from the others."""

import asyncio

import pytest
from integration.core.queue_builder import (
    ME,
    Queue,
    entries_of,
    id_of,
    ids_of,
    requests_of,
)

from sred_email_core.queue.keys import ORPHANS, Lane

# Being adopted


async def test_orphans_are_adopted_before_new_entries_of_their_lane(queue: Queue) -> None:
    first, orphan = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    await queue.orphan(orphan)
    new = await queue.publish(Lane.NORMAL, Lane.NORMAL)
    assert ids_of(entries_of(await queue.take(2))) == [id_of(orphan), new[0]]
    assert (await queue.pending(Lane.NORMAL))[first.entry_id] == ME


async def test_hazard_19_orphans_do_not_go_before_a_higher_lane(queue: Queue) -> None:
    (orphan,) = await queue.taken(Lane.LOW)
    await queue.orphan(orphan)
    (high,) = await queue.publish(Lane.HIGH)
    assert ids_of(entries_of(await queue.take(1))) == [high]
    assert ids_of(entries_of(await queue.take(1))) == [id_of(orphan)]


async def test_consumers_that_race_adopt_each_orphan_once(queue: Queue) -> None:
    orphans = await queue.taken(*[Lane.NORMAL] * 40)
    await queue.orphan(*orphans)
    takes = await asyncio.gather(*(queue.take(5, consumer=f"c{n}") for n in range(10)))
    assert sorted(i for taken in takes for i in ids_of(entries_of(taken))) == sorted(ids_of(orphans))


async def test_an_orphan_that_was_deleted_meanwhile_is_dropped(queue: Queue) -> None:
    gone, there = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    await queue.orphan(gone, there)
    await queue.redis.xdel(queue.keys.stream(Lane.NORMAL), gone.entry_id)
    assert ids_of(entries_of(await queue.take())) == [id_of(there)]
    assert await queue.pending(Lane.NORMAL) == {there.entry_id: ME}


async def test_an_orphan_that_was_only_handed_back_shares_a_request_with_new_emails(queue: Queue) -> None:
    (orphan,) = await queue.taken(Lane.NORMAL)
    await queue.orphan(orphan)
    new = await queue.publish(*[Lane.NORMAL] * 4)
    assert requests_of(await queue.take(2, batch_size=100)) == [[id_of(orphan), *new]]


async def test_an_orphan_for_which_there_is_no_room_waits_on(queue: Queue) -> None:
    entries = await queue.taken(*[Lane.NORMAL] * 3)
    await queue.orphan(*entries)
    assert requests_of(await queue.take(1, batch_size=2)) == [ids_of(entries[:2])]
    assert await queue.pending(Lane.NORMAL) == {
        entries[0].entry_id: ME,
        entries[1].entry_id: ME,
        entries[2].entry_id: ORPHANS,
    }


# Entries that owners died with


async def test_hazard_9_entries_with_one_death_share_small_requests_apart_from_others(queue: Queue) -> None:
    shaken = await queue.taken(*[Lane.NORMAL] * 25)
    await queue.orphan(*shaken, deaths=1)
    new = await queue.publish(*[Lane.NORMAL] * 5)
    taken = await queue.take(10, batch_size=100)
    ids = ids_of(shaken)
    assert requests_of(taken) == [ids[:10], ids[10:20], ids[20:], new]
    assert [{entry.deaths for entry in request} for request in taken.requests] == [{1}, {1}, {1}, {0}]


async def test_hazard_9_a_request_of_entries_with_one_death_keeps_to_the_limits_of_a_batch(queue: Queue) -> None:
    shaken = await queue.taken(*[Lane.NORMAL] * 6, size_bytes=400)
    await queue.orphan(*shaken, deaths=1)
    taken = await queue.take(3, batch_size=100, batch_bytes=1000)
    assert [len(request) for request in taken.requests] == [2, 2, 2]


async def test_hazard_9_a_request_of_entries_with_one_death_is_no_larger_than_a_batch(queue: Queue) -> None:
    shaken = await queue.taken(*[Lane.NORMAL] * 6)
    await queue.orphan(*shaken, deaths=1)
    taken = await queue.take(3, batch_size=4)
    assert [len(request) for request in taken.requests] == [4, 2]


async def test_hazard_9_entries_with_two_deaths_go_alone_and_one_at_a_time(queue: Queue) -> None:
    suspects = await queue.taken(*[Lane.NORMAL] * 3)
    await queue.orphan(*suspects, deaths=2)
    new = await queue.publish(*[Lane.NORMAL] * 5)
    taken = await queue.take(4, batch_size=100)
    assert requests_of(taken) == [[id_of(suspects[0])], new]
    assert entries_of(taken)[0].deaths == 2
    assert list((await queue.pending(Lane.NORMAL)).values()).count(ORPHANS) == 2


async def test_hazard_9_a_consumer_that_has_a_suspect_entry_takes_no_other(queue: Queue) -> None:
    suspects = await queue.taken(Lane.HIGH, Lane.NORMAL)
    await queue.orphan(*suspects, deaths=4)
    (new,) = await queue.publish(Lane.NORMAL)
    assert requests_of(await queue.take(suspect=False)) == [[new]]
    assert requests_of(await queue.take(suspect=True)) == [[id_of(suspects[0])]]
    assert requests_of(await queue.take(suspect=True)) == [[id_of(suspects[1])]]


@pytest.mark.parametrize(("suspects", "batch_size"), [(1, 1), (100, 100)])
async def test_hazard_9_suspect_entries_that_must_wait_do_not_keep_the_others_waiting(
    queue: Queue, suspects: int, batch_size: int
) -> None:
    entries = await queue.taken(*[Lane.NORMAL] * suspects)
    await queue.orphan(*entries, deaths=2)
    new = await queue.publish(Lane.NORMAL, Lane.LOW)
    assert ids_of(entries_of(await queue.take(1, batch_size=batch_size, suspect=False)))[:1] == new[:1]


@pytest.mark.parametrize("deaths", [1, 2])
async def test_hazard_13_entries_that_owners_died_with_need_grants_like_any_other(queue: Queue, deaths: int) -> None:
    entries = await queue.taken(*[Lane.NORMAL] * 3)
    await queue.orphan(*entries, deaths=deaths)
    for _ in range(3):
        assert len((await queue.take(1, rate=3)).requests) == 1
    assert (await queue.take(rate=3)).held
