"""How full the queue is, and whether Redis can be trusted to keep it."""

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from integration.core.queue_builder import Queue
from redis.asyncio import Redis

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.capacity import QueueCapacity, QueueLoad, memory_share
from sred_email_core.queue.keys import Lane, QueueKeys
from sred_email_core.redis_connection import EvictionCheck, open_redis
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
        await EvictionCheck(limited)()


async def test_a_redis_that_does_not_answer_tells_nothing() -> None:
    async with open_redis(f"redis://127.0.0.1:{free_port()}/0", timeout=timedelta(seconds=1)) as nobody:
        with pytest.raises(QueueUnavailableError):
            await QueueCapacity(nobody, QueueKeys()).read()


async def test_a_key_of_another_type_is_told_as_unavailable(redis: Redis) -> None:
    await redis.set(QueueKeys().places, "something else")
    with pytest.raises(QueueUnavailableError, match="WRONGTYPE"):
        await QueueCapacity(redis, QueueKeys()).read()


async def test_a_redis_that_does_not_evict_is_fine(redis: Redis, capsys: pytest.CaptureFixture[str]) -> None:
    check = EvictionCheck(redis)
    await check()
    await check.refuse_to_start()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"])
async def test_hazard_12_a_redis_that_evicts_is_refused_with_the_variable_the_policy_and_the_remedy(
    own_redis: Redis, capsys: pytest.CaptureFixture[str], policy: str
) -> None:
    await own_redis.config_set("maxmemory-policy", policy)
    check = EvictionCheck(own_redis)
    with pytest.raises(RuntimeError, match=policy):
        await check()
    with pytest.raises(SystemExit) as ended:
        await check.refuse_to_start()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("SRED_EMAIL_REDIS_URL: ")
    assert policy in line
    assert "noeviction" in line
    await own_redis.config_set("maxmemory-policy", "noeviction")
    await check()


async def test_whether_a_redis_evicts_that_is_away_or_hangs_is_not_known(
    own_valkey: ValkeyServer, own_redis: Redis
) -> None:
    await own_redis.config_set("maxmemory-policy", "allkeys-lru")
    check = EvictionCheck(own_redis)
    own_valkey.pause()
    try:
        began = time.monotonic()
        await check()
        assert time.monotonic() - began < 1.9  # before a health check is given up
    finally:
        own_valkey.resume()
    own_valkey.kill()
    await check()
    await check.refuse_to_start()
