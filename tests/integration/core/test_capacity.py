"""How full the queue is."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from integration.core.queue_builder import Queue
from redis.asyncio import Redis

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.capacity import QueueCapacity, QueueLoad, memory_share
from sred_email_core.queue.keys import Lane, QueueKeys
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer
from sred_email_local.ports import free_port


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    """A Valkey that a test may stop and reconfigure."""
    async with ValkeyServer(tmp_path) as server:
        yield server


@pytest.fixture
async def own_redis(own_valkey: ValkeyServer) -> AsyncIterator[Redis]:
    async with open_redis(own_valkey.url, timeout=timedelta(seconds=2)) as client:
        yield client


async def test_emails_in_flight_are_counted_wherever_they_are(queue: Queue) -> None:
    assert await QueueCapacity(queue.redis, queue.keys).read() == QueueLoad(0, None)
    taken = await queue.taken(Lane.HIGH, Lane.LOW)
    await queue.park(taken[:1], timedelta(hours=1))
    await queue.publish(Lane.NORMAL)
    assert (await QueueCapacity(queue.redis, queue.keys).read()).in_flight == 3


async def test_memory_is_told_as_a_share_of_the_limit_where_there_is_one(own_redis: Redis) -> None:
    capacity = QueueCapacity(own_redis, QueueKeys())
    assert (await capacity.read()).memory is None
    used = int((await own_redis.info("memory"))["used_memory"])
    await own_redis.config_set("maxmemory", used * 2)
    memory = (await capacity.read()).memory
    assert memory is not None
    assert 0.3 < memory < 0.7
    await own_redis.config_set("maxmemory", used // 2)
    full = (await capacity.read()).memory
    assert full is not None
    assert full > 1.3


def test_buffers_that_do_not_fill_redis_are_left_out() -> None:
    assert memory_share({"maxmemory": 100, "used_memory": 90, "mem_not_counted_for_evict": 40}) == 0.5
    assert memory_share({"maxmemory": 0, "used_memory": 90}) is None
    assert memory_share({}) is None


async def test_a_user_who_may_not_ask_for_the_memory_still_learns_what_is_in_flight(
    own_valkey: ValkeyServer, own_redis: Redis
) -> None:
    await own_redis.config_set("maxmemory", "1gb")
    await own_redis.hset(QueueKeys().places, "an email", "retry:1")
    await own_redis.execute_command("ACL", "SETUSER", "limited", "on", "nopass", "~*", "+@all", "-info")  # type: ignore[no-untyped-call]
    url = own_valkey.url.replace("redis://", "redis://limited:x@")
    async with open_redis(url, timeout=timedelta(seconds=2)) as limited:
        assert await QueueCapacity(limited, QueueKeys()).read() == QueueLoad(1, None)


async def test_a_redis_that_does_not_answer_tells_nothing() -> None:
    async with open_redis(f"redis://127.0.0.1:{free_port()}/0", timeout=timedelta(seconds=1)) as nobody:
        with pytest.raises(QueueUnavailableError):
            await QueueCapacity(nobody, QueueKeys()).read()


async def test_a_key_of_another_type_is_told_as_unavailable(redis: Redis) -> None:
    await redis.set(QueueKeys().places, "something else")
    with pytest.raises(QueueUnavailableError, match="WRONGTYPE"):
        await QueueCapacity(redis, QueueKeys()).read()
