"""A Redis that takes nothing more: no new email, but whatever drains it goes on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from integration.core.queue_builder import (
    HOUR,
    ME,
    NOW,
    OTHER,
    Queue,
    entries_of,
    id_of,
    ids_of,
    queued,
    requests_of,
)
from redis.exceptions import OutOfMemoryError

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.keys import Lane, QueueKeys
from sred_email_core.queue.scripts import Entry
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer


@dataclass(frozen=True)
class FullRedis:
    """A queue with emails in every state."""

    queue: Queue
    in_flight: list[Entry]
    waiting: list[str]
    parked: str
    orphan: str


@pytest.fixture(scope="module")
def small_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A server that evicts nothing."""
    server = ValkeyServer(tmp_path_factory.mktemp("small-valkey"), extra_args=["--maxmemory-policy", "noeviction"])
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def full(small_valkey: ValkeyServer) -> AsyncIterator[FullRedis]:
    """Fill the queue, then let the memory be too small for what is there."""
    async with open_redis(small_valkey.url, timeout=timedelta(seconds=5)) as client:
        await client.config_set("maxmemory", 0)
        await client.flushall()
        queue = Queue(client, QueueKeys())
        await queue.runner.ensure_groups()
        orphan, *in_flight, parked = await queue.taken(Lane.HIGH, *Lane, Lane.LOW)
        await queue.park([parked], HOUR)
        await queue.redis.zadd(queue.keys.retry, {id_of(parked): 0})
        await queue.orphan(orphan)
        waiting = await queue.publish(Lane.NORMAL, Lane.NORMAL)
        await client.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            await client.set("more", "x")
        yield FullRedis(queue, in_flight, waiting, id_of(parked), id_of(orphan))


async def test_hazard_12_a_full_redis_takes_no_new_email(full: FullRedis) -> None:
    for delay in (NOW, HOUR):
        with pytest.raises(QueueUnavailableError):
            await full.queue.scripts.publish([queued(delay=delay)])


async def test_hazard_5_in_a_full_redis_emails_are_finished(full: FullRedis) -> None:
    assert await full.queue.finish(full.in_flight) == 3


@pytest.mark.parametrize("delay", [NOW, HOUR])
async def test_hazard_5_in_a_full_redis_emails_are_parked(full: FullRedis, delay: timedelta) -> None:
    assert await full.queue.park(full.in_flight, delay, alone=True) == 3
    assert await full.queue.redis.zcard(full.queue.keys.retry) == (4 if delay else 1)
    assert await full.queue.lengths() == ([1, 2, 0] if delay else [2, 3, 1])


async def test_hazard_5_in_a_full_redis_entries_of_dead_consumers_are_orphaned(full: FullRedis) -> None:
    assert await full.queue.scripts.reclaim(OTHER, Lane.NORMAL, idle=NOW, start="", most=10) == ("", 1)
    assert ids_of(entries_of(await full.queue.take()))[1:2] == [id_of(full.in_flight[1])]


async def test_hazard_22_in_a_full_redis_entries_are_handed_back(full: FullRedis) -> None:
    assert await full.queue.scripts.hand_back(ME, [(e.lane, e.entry_id) for e in full.in_flight]) == 3
    assert await full.queue.scripts.own_pending(ME) == set()


async def test_hazard_5_in_a_full_redis_parked_emails_go_back_to_their_streams(full: FullRedis) -> None:
    assert (await full.queue.scripts.promote(most=10, passing_over=0)).moved == 1
    place = await full.queue.place(full.parked)
    assert place is not None
    assert place.startswith("stream:3:")


@pytest.mark.parametrize("entitled", [True, False])
async def test_hazard_5_in_a_full_redis_sends_are_parked_postponed_and_finished(
    full: FullRedis, entitled: bool
) -> None:
    entry = full.in_flight[0]
    email_id = id_of(entry)
    await full.queue.park_send(email_id, entry, entitled=entitled)
    await full.queue.scripts.postpone(email_id, HOUR)
    assert (await full.queue.take()).repeats == []
    assert await full.queue.place(email_id) == f"send:{email_id}"
    await full.queue.scripts.finish_sends([(email_id, email_id)])
    assert await full.queue.place(email_id) is None


async def test_hazard_5_in_a_full_redis_letters_are_shown_and_taken_out(full: FullRedis) -> None:
    entry = full.in_flight[0]
    await full.queue.scripts.bury(
        ME, dead_letter_id="l", fields={b"a": b"b"}, email_id=id_of(entry), source=(entry.lane, entry.entry_id)
    )
    assert await full.queue.redis.xlen(full.queue.keys.dlq) == 1
    await full.queue.scripts.unbury(["l"])
    assert await full.queue.redis.xlen(full.queue.keys.dlq) == 0


async def test_in_a_full_redis_emails_are_cancelled(full: FullRedis) -> None:
    assert await full.queue.scripts.cancel([*full.waiting, full.parked]) == 3


async def test_in_a_full_redis_delivery_is_held_and_consumers_leave(full: FullRedis) -> None:
    await full.queue.dispatch.hold("limited", HOUR)
    assert (await full.queue.take()).held
    assert await full.queue.scripts.leave(OTHER)


@pytest.mark.parametrize("rate", [0, 1000])
async def test_hazard_12_in_a_full_redis_work_is_taken_so_that_it_drains(full: FullRedis, rate: float) -> None:
    assert ids_of(entries_of(await full.queue.take(rate=rate))) == [full.orphan, *full.waiting]


async def test_hazard_12_in_a_full_redis_batches_are_taken_so_that_it_drains(full: FullRedis) -> None:
    taken = await full.queue.take(1, rate=1000, batch_size=100)
    assert requests_of(taken) == [[full.orphan, *full.waiting]]


@pytest.mark.parametrize("rate", [0, 1000])
async def test_hazard_12_in_a_full_redis_repeats_are_taken_so_that_it_drains(full: FullRedis, rate: float) -> None:
    entry = full.in_flight[0]
    await full.queue.park_send(id_of(entry), entry)
    taken = await full.queue.take(rate=rate)
    assert taken.repeats == [id_of(entry)]
    assert ids_of(entries_of(taken)) == [full.orphan, *full.waiting]
