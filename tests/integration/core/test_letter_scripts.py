"""The scripts that hold the DLQ to the log, against a real server."""

import pytest
from integration.core.queue_builder import ME, Queue, new_id

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.letter_scripts import LetterScripts


@pytest.fixture
def dlq(queue: Queue) -> LetterScripts:
    """The scripts."""
    return LetterScripts(queue.runner, queue.keys)


def fields_of(letter_id: str) -> dict[bytes, bytes]:
    return {b"message": b"\x00\xff", b"dead_letter_id": letter_id.encode()}


async def bury(queue: Queue, count: int = 1) -> list[str]:
    """Letters that the consumer has shown; their ids."""
    ids = [new_id() for _ in range(count)]
    for letter_id in ids:
        await queue.scripts.bury(ME, dead_letter_id=letter_id, fields=fields_of(letter_id))
    return ids


async def shown(queue: Queue) -> list[str]:
    """The letters in the DLQ, in its order; the index must agree with it."""
    entries = await queue.redis.xrange(queue.keys.dlq)
    index = await queue.redis.hgetall(queue.keys.letters)
    assert index == {fields[b"dead_letter_id"]: entry for entry, fields in entries}
    return [fields[b"dead_letter_id"].decode() for _, fields in entries]


async def adopt_all(dlq: LetterScripts, count: int = 10) -> int:
    """Go through the whole DLQ; how many did not agree."""
    after, total = await dlq.adopt("", count=count)
    while after:
        after, more = await dlq.adopt(after, count=count)
        total += more
    return total


async def test_letters_that_are_shown_are_left_alone(queue: Queue, dlq: LetterScripts) -> None:
    ids = await bury(queue, 250)
    before = await queue.snapshot()
    assert await dlq.not_shown(ids) == []
    assert await dlq.show([(letter_id, fields_of(letter_id)) for letter_id in ids[:3]]) == 0
    assert await adopt_all(dlq) == 0
    assert await queue.snapshot() == before


async def test_letters_that_are_missing_are_found_and_shown_in_their_order(queue: Queue, dlq: LetterScripts) -> None:
    ids = [new_id() for _ in range(250)]
    assert await dlq.not_shown(ids) == ids
    assert await dlq.show([(letter_id, fields_of(letter_id)) for letter_id in ids]) == 250
    assert await shown(queue) == ids
    ((_, fields),) = await queue.redis.xrange(queue.keys.dlq, count=1)
    assert fields == fields_of(ids[0])
    assert await dlq.show([]) == 0


async def test_a_letter_is_shown_once_however_often_it_is_told(queue: Queue, dlq: LetterScripts) -> None:
    letter_id = new_id()
    assert await dlq.show([(letter_id, fields_of(letter_id))] * 2) == 1
    await queue.scripts.bury(ME, dead_letter_id=letter_id, fields=fields_of(letter_id))
    assert await shown(queue) == [letter_id]


async def test_letters_are_missing_when_the_stream_was_deleted_and_the_index_is_still_there(
    queue: Queue, dlq: LetterScripts
) -> None:
    ids = await bury(queue, 3)
    await queue.redis.delete(queue.keys.dlq)
    assert await dlq.not_shown(ids) == ids
    await dlq.show([(letter_id, fields_of(letter_id)) for letter_id in ids])
    assert await shown(queue) == ids


async def test_a_letter_is_missing_when_its_entry_was_deleted_or_its_index_says_nonsense(
    queue: Queue, dlq: LetterScripts
) -> None:
    ids = await bury(queue, 3)
    ((entry, _),) = await queue.redis.xrange(queue.keys.dlq, count=1)
    await queue.redis.xdel(queue.keys.dlq, entry)
    await queue.redis.hset(queue.keys.letters, ids[1], "nonsense")
    assert await dlq.not_shown(ids) == ids[:2]


async def test_entries_that_the_index_has_forgotten_are_put_into_it_again(queue: Queue, dlq: LetterScripts) -> None:
    ids = await bury(queue, 25)
    await queue.redis.delete(queue.keys.letters)
    assert await adopt_all(dlq) == 25
    assert await shown(queue) == ids
    assert await dlq.not_shown(ids) == []


async def test_whether_the_dlq_agrees_with_its_index_is_told_by_their_numbers(queue: Queue, dlq: LetterScripts) -> None:
    assert await dlq.agrees()
    (letter_id,) = await bury(queue)
    assert await dlq.agrees()
    await queue.redis.hdel(queue.keys.letters, letter_id)
    assert not await dlq.agrees()


async def test_a_second_entry_of_a_letter_is_deleted(queue: Queue, dlq: LetterScripts) -> None:
    (letter_id,) = await bury(queue)
    await queue.redis.delete(queue.keys.letters)
    await queue.scripts.bury(ME, dead_letter_id=letter_id, fields=fields_of(letter_id))
    assert await queue.redis.xlen(queue.keys.dlq) == 2
    assert await adopt_all(dlq) == 1
    assert await shown(queue) == [letter_id]


async def test_an_index_that_names_an_entry_that_is_gone_is_set_right(queue: Queue, dlq: LetterScripts) -> None:
    (letter_id,) = await bury(queue)
    await queue.redis.hset(queue.keys.letters, letter_id, "1-1")
    assert await adopt_all(dlq) == 1
    assert await shown(queue) == [letter_id]


async def test_what_is_no_letter_leaves_the_dlq(queue: Queue, dlq: LetterScripts) -> None:
    (letter_id,) = await bury(queue)
    for fields in ({b"": b""}, {b"\xff\x00": b"\xfe"}, {f"field-{n}": b"x" * 10 for n in range(5000)}):
        await queue.redis.xadd(queue.keys.dlq, fields)
    assert await adopt_all(dlq) == 3
    assert await shown(queue) == [letter_id]


async def test_letters_are_removed_with_their_index(queue: Queue, dlq: LetterScripts) -> None:
    ids = await bury(queue, 150)
    assert await dlq.remove([*ids[1:], new_id(), b"\xff"]) == 149
    assert await shown(queue) == ids[:1]


async def test_going_through_the_index_shows_all_of_it(queue: Queue, dlq: LetterScripts) -> None:
    ids = await bury(queue, 20)
    await queue.redis.hset(queue.keys.letters, b"\xff", b"1-1")
    page = await dlq.scan("0", count=1000)
    assert (page.cursor, sorted(page.ids), page.others) == ("0", sorted(ids), [b"\xff"])


async def test_hazard_12_in_a_full_redis_no_letter_is_added_and_letters_can_leave(
    queue: Queue, dlq: LetterScripts
) -> None:
    ids = await bury(queue, 2)
    await queue.redis.hdel(queue.keys.letters, ids[1])
    await queue.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(QueueUnavailableError):
            await dlq.show([(new_id(), fields_of("a"))])
        assert await dlq.not_shown([ids[0]]) == []
        assert await adopt_all(dlq) == 1
        assert await dlq.remove(ids) == 2
    finally:
        await queue.redis.config_set("maxmemory", 0)
