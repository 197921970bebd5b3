"""The DLQ shows each dead letter once, and an entry leaves its stream only for its owner."""

import pytest
from integration.core.queue_builder import ME, OTHER, Queue, entries_of, id_of, new_id

from sred_email_core.queue.keys import Lane


async def test_burying_shows_a_letter_once_and_takes_its_email_off_the_stream(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    fields = {b"email_id": id_of(entry).encode(), b"message": b"\x00\xff", b"reason": b"REJECTED"}
    for _ in range(3):
        await queue.scripts.bury(
            ME,
            dead_letter_id="letter",
            fields=fields,
            email_id=id_of(entry),
            source=(entry.lane, entry.entry_id),
        )
    ((_, shown),) = await queue.redis.xrange(queue.keys.dlq)
    assert shown == fields
    assert await queue.lengths() == [0, 0, 0]
    assert await queue.pending(Lane.NORMAL) == {}
    assert await queue.place(id_of(entry)) is None


async def test_hazard_8_an_entry_that_another_has_claimed_is_left_to_it_when_its_letter_is_shown(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.steal(entry)
    source = (entry.lane, entry.entry_id)
    await queue.scripts.bury(ME, dead_letter_id="l", fields={b"a": b"b"}, email_id=id_of(entry), source=source)
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: OTHER}
    assert await queue.place(id_of(entry)) == f"stream:2:{entry.entry_id}"
    assert await queue.redis.xlen(queue.keys.dlq) == 1
    await queue.scripts.bury(OTHER, dead_letter_id="l", fields={b"a": b"b"}, email_id=id_of(entry), source=source)
    assert await queue.pending(Lane.NORMAL) == {}
    assert await queue.redis.xlen(queue.keys.dlq) == 1


async def test_a_letter_without_an_entry_can_be_shown(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.HIGH)
    await queue.scripts.bury(ME, dead_letter_id="l", fields={b"a": b"b"}, email_id=new_id())
    assert await queue.redis.xlen(queue.keys.dlq) == 1
    assert await queue.pending(Lane.HIGH) == {entry.entry_id: ME}


async def test_hazard_9_a_letter_of_an_entry_that_is_no_email_takes_the_entry_off_the_stream(queue: Queue) -> None:
    entry_id = (await queue.redis.xadd(queue.keys.stream(Lane.LOW), {b"\xff": b"\x00"})).decode()
    (entry,) = entries_of(await queue.take())
    await queue.scripts.bury(ME, dead_letter_id="l", fields={b"raw:\xff": b"\x00"}, source=(Lane.LOW, entry_id))
    assert entry.fields == {b"\xff": b"\x00"}
    assert await queue.lengths() == [0, 0, 0]
    ((_, shown),) = await queue.redis.xrange(queue.keys.dlq)
    assert shown == {b"raw:\xff": b"\x00"}


@pytest.mark.parametrize("count", [100, 1000])
async def test_a_letter_with_very_many_fields_is_shown_like_any_other(queue: Queue, count: int) -> None:
    fields = {f"raw:{n}".encode(): b"x" for n in range(count)}
    await queue.scripts.bury(ME, dead_letter_id="l", fields=fields)
    ((_, shown),) = await queue.redis.xrange(queue.keys.dlq)
    assert shown == fields


async def test_taking_a_letter_out_of_the_dlq_leaves_the_others(queue: Queue) -> None:
    for letter in ("a", "b", "c"):
        await queue.scripts.bury(ME, dead_letter_id=letter, fields={b"dead_letter_id": letter.encode()})
    await queue.scripts.unbury(["a", "c", "unknown"])
    await queue.scripts.unbury(["a"])
    assert [fields for _, fields in await queue.redis.xrange(queue.keys.dlq)] == [{b"dead_letter_id": b"b"}]
    assert await queue.redis.hkeys(queue.keys.letters) == [b"b"]


async def test_a_letter_that_was_taken_out_can_be_shown_again(queue: Queue) -> None:
    for _ in range(2):
        await queue.scripts.bury(ME, dead_letter_id="a", fields={b"a": b"b"})
        assert await queue.redis.xlen(queue.keys.dlq) == 1
        await queue.scripts.unbury(["a"])
        assert await queue.redis.xlen(queue.keys.dlq) == 0
