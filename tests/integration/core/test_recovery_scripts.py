"""The scripts that compare Redis with the log, against a real server: what they find, mend, and leave alone."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from integration.core.queue_builder import HOUR, NOW, Queue, id_of, new_id, queued

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.epoch import Epoch
from sred_email_core.queue.keys import Lane, QueueKeys
from sred_email_core.queue.recovery_scripts import LostSend, OpenEmail, QueueCounts, RecoveryScripts, WaitingIn
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer


@pytest.fixture
def recovery(queue: Queue) -> RecoveryScripts:
    """The scripts."""
    return RecoveryScripts(queue.runner, queue.keys)


@pytest.fixture
def epoch(queue: Queue) -> Epoch:
    """What remembers which Redis this is."""
    return Epoch(queue.runner, queue.keys)


async def parked(queue: Queue, delay: timedelta = HOUR) -> str:
    """An email that waits alone."""
    email = queued(delay=delay)
    assert await queue.scripts.publish([email]) == 1
    return email.email_id


async def say(queue: Queue, email_id: str, place: str) -> None:
    """Write down a place, whatever is there."""
    await queue.redis.hset(queue.keys.places, email_id, place)


async def lost(recovery: RecoveryScripts, *emails: OpenEmail, forget: bool = False) -> list[str]:
    return [email.email_id for email in await recovery.without_true_place(emails, forget=forget)]


# Places that are true


@pytest.mark.parametrize("forget", [False, True])
async def test_emails_that_are_where_they_are_said_to_be_are_left_alone(
    queue: Queue, recovery: RecoveryScripts, forget: bool
) -> None:
    waiting = await queue.publish(*Lane)
    taken = [id_of(entry) for entry in await queue.taken(*Lane)]
    alone = await parked(queue)
    (entry,) = await queue.taken(Lane.LOW)
    await queue.park_send(id_of(entry), entry)
    before = await queue.snapshot()
    emails = [OpenEmail(i) for i in (*waiting, *taken, alone)]
    assert await lost(recovery, *emails, OpenEmail(id_of(entry), id_of(entry)), forget=forget) == []
    assert await queue.snapshot() == before


async def test_an_email_of_a_send_that_is_on_its_stream_or_parked_is_left_to_whoever_takes_it(
    queue: Queue, recovery: RecoveryScripts
) -> None:
    (on_stream,) = await queue.publish(Lane.HIGH)
    alone = await parked(queue)
    assert await lost(recovery, OpenEmail(on_stream, new_id()), OpenEmail(alone, new_id())) == []


async def test_more_emails_than_one_call_may_carry_are_all_looked_at(queue: Queue, recovery: RecoveryScripts) -> None:
    there = await queue.publish(*[Lane.NORMAL] * 600)
    missing = [new_id() for _ in range(600)]
    mixed = [i for pair in zip(there, missing, strict=True) for i in pair]
    assert await lost(recovery, *map(OpenEmail, mixed)) == missing
    assert await lost(recovery) == []


# Places that are not


async def test_an_email_without_a_place_is_found(recovery: RecoveryScripts) -> None:
    email_id = new_id()
    assert await lost(recovery, OpenEmail(email_id), forget=True) == [email_id]


@pytest.mark.parametrize(
    "place",
    [
        "stream:2:1-1",
        "stream:2:99999999999999999999999-1",
        "stream:4:1-1",
        "stream:2:nonsense",
        "retry:2",
        "send:me",
        "nonsense",
        "",
    ],
)
async def test_a_place_where_nothing_is_is_found_and_only_forgotten_when_asked(
    queue: Queue, recovery: RecoveryScripts, place: str
) -> None:
    email_id = new_id()
    await say(queue, email_id, place)
    assert await lost(recovery, OpenEmail(email_id)) == [email_id]
    assert await queue.place(email_id) == place
    assert await lost(recovery, OpenEmail(email_id), forget=True) == [email_id]
    assert await queue.place(email_id) is None


async def test_an_entry_of_another_email_is_no_place(queue: Queue, recovery: RecoveryScripts) -> None:
    (other,) = await queue.publish(Lane.NORMAL)
    email_id = new_id()
    await say(queue, email_id, await queue.place(other) or "")
    assert await lost(recovery, OpenEmail(email_id), OpenEmail(other), forget=True) == [email_id]


async def test_an_entry_that_was_deleted_is_no_place(queue: Queue, recovery: RecoveryScripts) -> None:
    (entry,) = await queue.taken(Lane.HIGH)
    await queue.redis.xdel(queue.keys.stream(Lane.HIGH), entry.entry_id)
    assert await lost(recovery, OpenEmail(id_of(entry))) == [id_of(entry)]


async def test_a_parked_email_needs_its_message_and_its_time(queue: Queue, recovery: RecoveryScripts) -> None:
    no_message, no_time = await parked(queue), await parked(queue)
    await queue.redis.hdel(queue.keys.parked, no_message)
    await queue.redis.zrem(queue.keys.retry, no_time)
    emails = [OpenEmail(no_message), OpenEmail(no_time)]
    assert await lost(recovery, *emails, forget=True) == [no_message, no_time]
    for key in (queue.keys.retry, queue.keys.parked, queue.keys.places):
        assert not await queue.redis.exists(key), key


async def test_an_email_of_no_send_has_no_place_in_one(queue: Queue, recovery: RecoveryScripts) -> None:
    email_id = new_id()
    await queue.park_send(email_id)
    assert await lost(recovery, OpenEmail(email_id), forget=True) == [email_id]
    assert await queue.due_in(email_id) is None


async def test_an_email_of_a_send_has_no_place_in_another(queue: Queue, recovery: RecoveryScripts) -> None:
    first, other_first = await queue.taken(Lane.HIGH, Lane.HIGH)
    await queue.park_send(id_of(first), first)
    await queue.park_send(id_of(other_first), other_first)
    email = OpenEmail(id_of(first), id_of(other_first))
    assert await lost(recovery, email) == [id_of(first)]


async def test_a_send_that_is_not_in_the_retry_set_is_no_place(queue: Queue, recovery: RecoveryScripts) -> None:
    entries = await queue.taken(Lane.HIGH, Lane.HIGH)
    first, second = map(id_of, entries)
    await queue.park_send(first, *entries)
    assert await lost(recovery, OpenEmail(first, first), OpenEmail(second, first)) == []
    await queue.redis.zrem(queue.keys.retry, first)
    assert await lost(recovery, OpenEmail(first, first), OpenEmail(second, first)) == [first, second]


async def test_a_send_whose_first_email_is_not_placed_in_it_is_no_place(
    queue: Queue, recovery: RecoveryScripts
) -> None:
    entries = await queue.taken(Lane.HIGH, Lane.HIGH)
    first, second = map(id_of, entries)
    await queue.park_send(first, *entries)
    await queue.redis.hdel(queue.keys.places, first)  # take would pass over the member of the retry set
    assert await lost(recovery, OpenEmail(second, first)) == [second]


async def test_forgetting_an_email_of_a_send_leaves_the_time_of_the_send(
    queue: Queue, recovery: RecoveryScripts
) -> None:
    first = new_id()
    await queue.park_send(first, delay=HOUR)
    await queue.redis.hdel(queue.keys.places, first)
    assert await lost(recovery, OpenEmail(first, first), forget=True) == [first]
    assert await queue.due_in(first) is not None


# Sends


async def test_a_send_gets_its_place_back_with_all_its_emails_and_its_time(
    queue: Queue, recovery: RecoveryScripts
) -> None:
    first, second = new_id(), new_id()
    await queue.rings()
    assert await recovery.place_sends([LostSend(first, (first, second), HOUR)]) == 2
    assert [await queue.place(i) for i in (first, second)] == [f"send:{first}"] * 2
    due_in = await queue.due_in(first)
    assert due_in is not None
    assert timedelta(minutes=59) < due_in <= HOUR
    assert await queue.redis.zcard(queue.keys.retry) == 1
    assert await queue.rings()


async def test_a_send_that_is_placed_again_and_is_due_is_taken_once(queue: Queue, recovery: RecoveryScripts) -> None:
    first, second = new_id(), new_id()
    for _ in range(2):
        await recovery.place_sends([LostSend(first, (first, second), NOW)])
    assert (await queue.take()).repeats == [first]
    assert (await queue.take()).repeats == []


async def test_placing_a_send_moves_no_time_and_no_place_that_is_there(queue: Queue, recovery: RecoveryScripts) -> None:
    entries = await queue.taken(Lane.HIGH, Lane.HIGH)
    first, on_stream = map(id_of, entries)
    lost_one = new_id()
    await queue.park_send(first, entries[0], delay=HOUR)
    place = await queue.place(on_stream)
    assert await recovery.place_sends([LostSend(first, (lost_one, on_stream), NOW)]) == 1
    assert await queue.place(on_stream) == place
    assert await queue.place(lost_one) == f"send:{first}"
    due_in = await queue.due_in(first)
    assert due_in is not None
    assert due_in > timedelta(minutes=59)


async def test_a_first_email_that_is_parked_alone_stands_for_its_send_again(
    queue: Queue, recovery: RecoveryScripts
) -> None:
    first = await parked(queue, timedelta(milliseconds=1))
    await recovery.place_sends([LostSend(first, (new_id(),), NOW)])
    assert await queue.place(first) == f"send:{first}"
    assert not await queue.redis.exists(queue.keys.parked)


async def test_more_sends_than_one_call_may_carry_all_get_their_place(queue: Queue, recovery: RecoveryScripts) -> None:
    sends = [LostSend(first, (first, *(new_id() for _ in range(99))), NOW) for first in (new_id() for _ in range(7))]
    assert await recovery.place_sends(sends) == 700
    assert await queue.redis.zcard(queue.keys.retry) == 7
    assert await recovery.place_sends([]) == 0


# Places of emails that need none


async def scanned(recovery: RecoveryScripts) -> tuple[list[str], list[bytes]]:
    """Everything that going through the places shows."""
    ids: list[str] = []
    others: list[bytes] = []
    cursor = "0"
    while True:
        page = await recovery.scan_places(cursor, count=100)
        ids += page.ids
        others += page.others
        cursor = page.cursor
        if cursor == "0":
            return ids, others


async def test_going_through_the_places_shows_all_of_them(queue: Queue, recovery: RecoveryScripts) -> None:
    assert await scanned(recovery) == ([], [])
    published = await queue.publish(*[Lane.LOW] * 1000)
    strange = [b"", b"\xff\x00", b"two words", new_id().upper().encode(), b"{" + new_id().encode() + b"}"]
    for name in strange:
        await queue.redis.hset(queue.keys.places, name, "x")
    ids, others = await scanned(recovery)
    assert sorted(set(ids)) == sorted(published)
    assert sorted(set(others)) == sorted(strange)


async def forget(recovery: RecoveryScripts, *email_ids: str) -> int:
    """Forget emails where they are now."""
    return await recovery.forget(list(zip(email_ids, await recovery.places(email_ids), strict=True)))


async def test_places_that_are_forgotten_leave_nothing_behind(queue: Queue, recovery: RecoveryScripts) -> None:
    alone, sent = await parked(queue), new_id()
    await queue.park_send(sent)
    gone = new_id()
    await say(queue, gone, "stream:1:1-1")
    assert await forget(recovery, alone, sent, gone) == 3
    for key in (queue.keys.retry, queue.keys.parked, queue.keys.places):
        assert not await queue.redis.exists(key), key


async def test_an_entry_that_is_on_its_stream_keeps_its_place(queue: Queue, recovery: RecoveryScripts) -> None:
    waiting = await queue.publish(Lane.HIGH)
    taken = [id_of(entry) for entry in await queue.taken(Lane.LOW)]
    before = await queue.snapshot()
    assert await forget(recovery, *waiting, *taken, new_id()) == 0
    assert await queue.snapshot() == before


async def test_a_place_that_changed_meanwhile_is_not_forgotten(queue: Queue, recovery: RecoveryScripts) -> None:
    email_id = await parked(queue)
    before = await queue.snapshot()
    assert await recovery.forget([(email_id, b"send:" + email_id.encode())]) == 0
    assert await queue.snapshot() == before


async def test_what_is_no_id_is_forgotten_too(queue: Queue, recovery: RecoveryScripts) -> None:
    await queue.redis.hset(queue.keys.places, b"\xff", b"\xfe")
    assert await recovery.forget([(b"\xff", b"\xfe")]) == 1


# Leftovers


async def dropped(recovery: RecoveryScripts, where: WaitingIn) -> int:
    """Go through all; how many were dropped."""
    cursor, total = await recovery.drop_leftovers(where, "0", count=10)
    while cursor != "0":
        cursor, more = await recovery.drop_leftovers(where, cursor, count=10)
        total += more
    return total


async def test_members_and_messages_of_emails_whose_place_is_elsewhere_are_dropped(
    queue: Queue, recovery: RecoveryScripts
) -> None:
    stays = {(await parked(queue)).encode() for _ in range(300)}
    send = new_id()
    await queue.park_send(send)
    (on_stream,) = await queue.publish(Lane.HIGH)
    elsewhere = [on_stream, *(new_id() for _ in range(200))]
    await queue.redis.zadd(queue.keys.retry, dict.fromkeys(elsewhere, 2.0**53))
    await queue.redis.hset(queue.keys.parked, mapping=dict.fromkeys(elsewhere, "0 0 0\nmessage"))
    assert await dropped(recovery, WaitingIn.RETRY) == 201
    assert await dropped(recovery, WaitingIn.PARKED) == 201
    assert set(await queue.redis.zrange(queue.keys.retry, 0, -1)) == stays | {send.encode()}
    assert set(await queue.redis.hkeys(queue.keys.parked)) == stays


async def test_going_through_nothing_drops_nothing(recovery: RecoveryScripts) -> None:
    assert [await dropped(recovery, where) for where in WaitingIn] == [0, 0]


# Counts


async def test_the_queue_is_counted(queue: Queue, recovery: RecoveryScripts) -> None:
    assert await recovery.count() == QueueCounts(0, 0, 0, 0)
    await queue.publish(*Lane)
    await parked(queue)
    await queue.park_send(new_id())
    assert await recovery.count() == QueueCounts(entries=3, retry=2, places=5, parked=1)


# A Redis that is away or full


async def test_a_redis_that_does_not_answer_is_for_later(keys: QueueKeys, tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)  # never started
    async with open_redis(server.url, timeout=timedelta(seconds=1)) as client:
        runner = ScriptRunner(client, keys)
        for call in (RecoveryScripts(runner, keys).count(), Epoch(runner, keys).look()):
            with pytest.raises(QueueUnavailableError):
                await asyncio.wait_for(call, 10)


async def test_hazard_12_in_a_full_redis_places_are_checked_and_what_nothing_needs_leaves(
    queue: Queue, recovery: RecoveryScripts, epoch: Epoch
) -> None:
    alone = await parked(queue)
    (waiting,) = await queue.publish(Lane.LOW)
    untrue, leftover, send = new_id(), new_id(), new_id()
    await say(queue, untrue, "retry:1")
    await queue.redis.zadd(queue.keys.retry, {leftover: 1})
    await queue.redis.config_set("maxmemory", 1)
    try:
        assert await lost(recovery, OpenEmail(waiting), OpenEmail(untrue), forget=True) == [untrue]
        assert await forget(recovery, alone) == 1
        assert await dropped(recovery, WaitingIn.RETRY) == 1
        assert await recovery.place_sends([LostSend(send, (send,), NOW)]) == 1
        assert (await recovery.count()).retry == 1
        assert (await recovery.scan_places("0", count=10)).cursor == "0"
        await epoch.begin("one")
        assert not (await epoch.seal("one")).changed
    finally:
        await queue.redis.config_set("maxmemory", 0)
