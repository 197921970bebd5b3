"""Taking cancelled emails out of Redis: at once where nobody works on them, and never out of a consumer's hands."""

from integration.core.queue_builder import HOUR, MINUTE, OTHER, Queue, id_of, new_id

from sred_email_core.queue.keys import GROUP, Lane


async def test_an_email_that_waits_on_its_stream_is_gone_at_once(queue: Queue) -> None:
    for lane in Lane:
        email_id, neighbour = await queue.publish(lane, lane)
        assert await queue.scripts.cancel([email_id]) == 1
        assert await queue.place(email_id) is None
        assert await queue.place(neighbour) is not None
    assert await queue.lengths() == [1, 1, 1]


async def test_an_email_that_waits_alone_for_its_retry_is_gone_at_once(queue: Queue) -> None:
    cancelled, neighbour = await queue.taken(Lane.LOW, Lane.LOW)
    await queue.park([cancelled, neighbour], HOUR)
    assert await queue.scripts.cancel([id_of(cancelled)]) == 1
    for gone in (await queue.place(id_of(cancelled)), await queue.due_in(id_of(cancelled))):
        assert gone is None
    assert await queue.redis.hkeys(queue.keys.parked) == [id_of(neighbour).encode()]
    assert await queue.place(id_of(neighbour)) == "retry:3"


async def test_an_entry_that_a_consumer_holds_is_left_to_it(queue: Queue) -> None:
    mine, orphaned, stolen = await queue.taken(Lane.HIGH, Lane.NORMAL, Lane.LOW)
    await queue.orphan(orphaned)
    await queue.steal(stolen, owner=OTHER)
    before = await queue.snapshot()
    assert await queue.scripts.cancel([id_of(entry) for entry in (mine, orphaned, stolen)]) == 0
    assert await queue.snapshot() == before
    assert await queue.finish([mine]) == 1


async def test_a_send_is_left_to_whoever_repeats_it(queue: Queue) -> None:
    first, second = await queue.taken(Lane.HIGH, Lane.HIGH)
    await queue.park_send(id_of(first), first, second, delay=MINUTE)
    before = await queue.snapshot()
    assert await queue.scripts.cancel([id_of(first), id_of(second)]) == 0
    assert await queue.snapshot() == before


async def test_an_email_that_is_nowhere_and_one_that_is_gone_already_are_nothing(queue: Queue) -> None:
    (email_id,) = await queue.publish(Lane.NORMAL)
    assert await queue.scripts.cancel([email_id]) == 1
    before = await queue.snapshot()
    assert await queue.scripts.cancel([email_id, new_id(), ""]) == 0
    assert await queue.scripts.cancel([]) == 0
    assert await queue.snapshot() == before


async def test_many_are_taken_out_in_one_call(queue: Queue) -> None:
    emails = await queue.publish(*[Lane.NORMAL] * 250)
    assert await queue.scripts.cancel(emails) == 250
    assert await queue.lengths() == [0, 0, 0]
    assert await queue.redis.hlen(queue.keys.places) == 0


async def test_without_a_group_nobody_holds_anything(queue: Queue) -> None:
    (email_id,) = await queue.publish(Lane.HIGH)
    await queue.redis.xgroup_destroy(queue.keys.stream(Lane.HIGH), GROUP)
    assert await queue.scripts.cancel([email_id]) == 1
    assert await queue.lengths() == [0, 0, 0]


async def test_a_place_whose_entry_is_gone_goes_too(queue: Queue) -> None:
    (email_id,) = await queue.publish(Lane.HIGH)
    await queue.redis.delete(queue.keys.stream(Lane.HIGH))
    assert await queue.scripts.cancel([email_id]) == 1
    assert await queue.place(email_id) is None


async def test_a_place_that_nobody_understands_is_left_alone(queue: Queue) -> None:
    places = ["", "retry:4", "retry:1x", "stream:1", "stream:0:1-1", "stream:1:1-1x", "stream:1:*", "elsewhere"]
    emails = {f"email {n}": place for n, place in enumerate(places)}
    await queue.redis.hset(queue.keys.places, mapping=emails)
    before = await queue.snapshot()
    assert await queue.scripts.cancel(list(emails)) == 0
    assert await queue.snapshot() == before


async def test_it_works_in_a_full_redis(queue: Queue) -> None:
    emails = await queue.publish(Lane.HIGH, Lane.LOW)
    (parked,) = [entry for entry in await queue.taken(Lane.NORMAL) if id_of(entry) not in emails]
    await queue.park([parked], HOUR)
    (waiting,) = await queue.publish(Lane.HIGH)
    await queue.redis.config_set("maxmemory", 1)
    try:
        assert await queue.scripts.cancel([waiting, id_of(parked)]) == 2
    finally:
        await queue.redis.config_set("maxmemory", 0)
