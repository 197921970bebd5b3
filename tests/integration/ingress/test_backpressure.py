"""New emails are refused before the queue is full, the lowest lane first; whatever was accepted stays accepted."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from integration.ingress.ingress_world import IngressWorld
from redis.asyncio import Redis

from sred.email.v1 import email_pb2
from sred_email_core.errors import OverloadedError
from sred_email_core.postgres import open_pool
from sred_email_core.queue.keys import Lane
from sred_email_core.redis_connection import open_redis
from sred_email_ingress.dispatch import Acceptance
from sred_email_local.engines import ValkeyServer
from sred_email_local.ports import free_port
from support.world import until

PRIORITY = {
    Lane.HIGH: email_pb2.PRIORITY_HIGH,
    Lane.NORMAL: email_pb2.PRIORITY_NORMAL,
    Lane.LOW: email_pb2.PRIORITY_LOW,
}


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    """A Valkey that a test may stop, fill and reconfigure."""
    async with ValkeyServer(tmp_path, extra_args=["--maxmemory-policy", "noeviction"]) as server:
        yield server


@pytest.fixture
async def own_redis(own_valkey: ValkeyServer) -> AsyncIterator[Redis]:
    async with open_redis(own_valkey.url, timeout=timedelta(seconds=2)) as client:
        yield client


async def offer(ingress: IngressWorld, lane: Lane, count: int, name: str) -> list[Acceptance | BaseException]:
    """Offer emails of a lane at the same time."""
    calls = (ingress.send(f"{name} {n}", priority=PRIORITY[lane]) for n in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


def accepted(results: list[Acceptance | BaseException]) -> int:
    """How many were; the others were refused for now, and told when to come again."""
    refusals = [result for result in results if isinstance(result, BaseException)]
    for refusal in refusals:
        assert isinstance(refusal, OverloadedError), refusal
        assert refusal.retry_after == timedelta(seconds=5)
    return len(results) - len(refusals)


async def refused_lanes(ingress: IngressWorld, name: str) -> set[Lane]:
    """The lanes of which a new email is refused now, asked highest last, so that asking changes little."""
    return {lane for lane in reversed(Lane) if not accepted(await offer(ingress, lane, 1, f"{name} {lane.name}"))}


async def until_pressure(ingress: IngressWorld, low: float, high: float) -> None:
    """Sample until the pressure is between two values."""

    async def reached() -> bool:
        await ingress.parts.backpressure.run_once()
        return low <= ingress.parts.backpressure.pressure <= high

    await until(reached, f"the pressure is between {low} and {high}")


async def test_hazard_12_a_burst_is_cut_off_at_the_bound_of_its_lane_and_high_has_a_reserve(
    pool: "asyncpg.Pool[Any]", redis: Redis
) -> None:
    ingress = IngressWorld(pool, redis, max_backlog=1000)
    assert accepted(await offer(ingress, Lane.LOW, 1500, "low")) == 800
    assert accepted(await offer(ingress, Lane.NORMAL, 300, "normal")) == 100
    assert accepted(await offer(ingress, Lane.HIGH, 300, "high")) == 100
    assert len(await ingress.subjects()) == await ingress.published() == 1000
    assert (ingress.count("accepted"), ingress.count("overloaded")) == (1000, 1100)
    await ingress.parts.backpressure.run_once()
    assert ingress.registry.get_sample_value("sred_email_ingress_pressure") == 1.0


async def test_hazard_12_what_is_refused_leaves_nothing_and_may_be_repeated_when_there_is_room(
    pool: "asyncpg.Pool[Any]", redis: Redis
) -> None:
    ingress = IngressWorld(pool, redis, max_backlog=10)
    await offer(ingress, Lane.HIGH, 10, "full")
    with pytest.raises(OverloadedError, match="priority NORMAL"):
        await ingress.send("more")
    assert len(await ingress.subjects()) == await ingress.published() == 10
    await pool.execute("UPDATE email_send_log SET status = 'SUCCESS', ended_at = now()")
    await redis.flushall()
    await ingress.parts.backpressure.run_once()
    assert not (await ingress.send("more")).deduplicated


async def test_hazard_12_a_retry_of_an_accepted_call_is_always_answered(
    pool: "asyncpg.Pool[Any]", redis: Redis
) -> None:
    ingress = IngressWorld(pool, redis, max_backlog=10)
    first = await offer(ingress, Lane.LOW, 10, "low")
    again = await offer(ingress, Lane.LOW, 10, "low")
    assert accepted(first) == accepted(again) == 8
    for one, other in zip(first, again, strict=True):
        if isinstance(one, Acceptance):
            assert isinstance(other, Acceptance)
            assert (other.email_id, other.deduplicated) == (one.email_id, True)


async def test_what_other_processes_have_accepted_counts_too(pool: "asyncpg.Pool[Any]", redis: Redis) -> None:
    one, other = IngressWorld(pool, redis, max_backlog=10), IngressWorld(pool, redis, max_backlog=10)
    await offer(one, Lane.LOW, 8, "low")
    await other.parts.backpressure.run_once()
    assert await refused_lanes(other, "other") == {Lane.LOW}


async def test_while_redis_is_away_the_open_emails_of_the_log_are_what_counts(
    pool: "asyncpg.Pool[Any]", own_valkey: ValkeyServer, own_redis: Redis
) -> None:
    one, other = (IngressWorld(pool, own_redis, max_backlog=10) for _ in range(2))
    own_valkey.kill()
    await offer(one, Lane.LOW, 8, "low")
    assert other.parts.backpressure.pressure == 0
    await other.parts.backpressure.run_once()
    assert await refused_lanes(other, "other") == {Lane.LOW}
    await pool.execute("UPDATE email_send_log SET status = 'SUCCESS', ended_at = now()")
    await until_pressure(other, 0, 0)


async def test_what_was_accepted_while_redis_was_away_counts_until_it_is_published(
    pool: "asyncpg.Pool[Any]", own_valkey: ValkeyServer, own_redis: Redis
) -> None:
    ingress = IngressWorld(pool, own_redis, max_backlog=10)
    own_valkey.kill()
    results = await offer(ingress, Lane.LOW, 8, "low")
    await own_valkey.start()
    await until_pressure(ingress, 0.8, 0.8)
    assert await refused_lanes(ingress, "back") == {Lane.LOW}
    await ingress.parts.backpressure.run_once()
    assert ingress.parts.backpressure.pressure == 1.0  # 8, and two of the three just asked for
    for n, result in enumerate(results):
        assert isinstance(result, Acceptance)
        await ingress.send(f"low {n}", priority=email_pb2.PRIORITY_LOW)  # a duplicate call publishes
    await until_pressure(ingress, 1.0, 1.0)
    await pool.execute("UPDATE email_send_log SET status = 'SUCCESS', ended_at = now()")
    await own_redis.flushall()
    await until_pressure(ingress, 0, 0)


async def test_after_a_flush_what_the_log_holds_counts(pool: "asyncpg.Pool[Any]", redis: Redis) -> None:
    ingress = IngressWorld(pool, redis, max_backlog=10)
    await offer(ingress, Lane.HIGH, 10, "high")
    await ingress.parts.backpressure.run_once()
    await redis.flushall()
    await until_pressure(ingress, 1, 1)
    fresh = IngressWorld(pool, redis, max_backlog=10)
    await fresh.parts.backpressure.run_once()
    assert fresh.parts.backpressure.pressure == 1


async def test_when_nothing_can_be_learned_what_was_known_last_holds_on(
    own_valkey: ValkeyServer, own_redis: Redis
) -> None:
    async with open_pool(f"postgresql://postgres@127.0.0.1:{free_port()}/nothing", max_size=1) as nowhere:
        ingress = IngressWorld(nowhere, own_redis, max_backlog=10)
        await own_redis.hset(ingress.keys.places, mapping={str(n): "stream:1:1-1" for n in range(9)})
        await ingress.parts.backpressure.run_once()
        assert ingress.parts.backpressure.pressure == 0.9
        own_valkey.kill()
        await ingress.parts.backpressure.run_once()
        assert ingress.parts.backpressure.pressure == 0.9


async def test_hazard_12_lanes_are_refused_before_redis_is_full(pool: "asyncpg.Pool[Any]", own_redis: Redis) -> None:
    ingress = IngressWorld(pool, own_redis, max_redis_memory=0.5)
    await own_redis.set("others", b"x" * (32 << 20))  # beside which a few emails weigh nothing
    for share, refused in (
        (0.3, set()),
        (0.42, {Lane.LOW}),
        (0.47, {Lane.LOW, Lane.NORMAL}),
        (0.55, {Lane.LOW, Lane.NORMAL, Lane.HIGH}),
        (0.3, set()),
    ):
        memory = await own_redis.info("memory")
        used = int(memory["used_memory"]) - int(memory["mem_not_counted_for_evict"])
        await own_redis.config_set("maxmemory", int(used / share))
        await ingress.parts.backpressure.run_once()
        assert await refused_lanes(ingress, str(share)) == refused, share


async def test_hazard_12_with_redis_full_calls_are_accepted_nothing_is_lost_and_it_resumes_by_itself(
    pool: "asyncpg.Pool[Any]", own_redis: Redis
) -> None:
    ingress = IngressWorld(pool, own_redis)
    before = await ingress.send("before")
    await own_redis.config_set("maxmemory", 1)
    full = await ingress.send("full")  # no sample has been taken since: what is accepted is accepted, published or not
    assert await ingress.place(full.email_id) is None
    assert (await ingress.row(full.email_id))["status"] == "QUEUED"
    await ingress.parts.backpressure.run_once()
    assert await refused_lanes(ingress, "full") == set(Lane)
    for email_id, subject in ((before.email_id, "before"), (full.email_id, "full")):
        again = await ingress.send(subject)
        assert (again.email_id, again.deduplicated) == (email_id, True)
    await own_redis.config_set("maxmemory", 0)
    await ingress.parts.backpressure.run_once()
    assert await refused_lanes(ingress, "freed") == set()
    await ingress.send("full")
    assert await ingress.place(full.email_id) is not None


async def test_the_loop_samples_by_itself_and_ends_when_it_is_stopped(pool: "asyncpg.Pool[Any]", redis: Redis) -> None:
    ingress = IngressWorld(pool, redis, max_backlog=10)
    stop = asyncio.Event()
    running = asyncio.create_task(ingress.parts.backpressure.run(stop))

    async def full() -> bool:
        return ingress.registry.get_sample_value("sred_email_ingress_pressure") == 1.0

    await redis.hset(ingress.keys.places, mapping={str(n): "stream:1:1-1" for n in range(10)})
    await until(full, "the pressure has been sampled", timeout_s=3)
    stop.set()
    async with asyncio.timeout(2):
        await running
