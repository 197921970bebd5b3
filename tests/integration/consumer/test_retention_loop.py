"""What is old enough leaves by itself, from PostgreSQL and from Redis."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from integration.ingress.recovery_world import RecoveryWorld
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from sred_email_consumer.composition import Connections, compose
from sred_email_consumer.loops.retention import Retention
from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_consumer.settings import ConsumerSettings
from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.redis_connection import open_redis
from sred_email_local.ports import free_port
from support.in_process import settings_of

OLDER = (
    "UPDATE email_send_log SET created_at = created_at - interval '31 d', ended_at = ended_at - interval '31 d';"
    "UPDATE email_events SET at = at - interval '31 d';"
    "UPDATE email_dead_letters SET failed_at = failed_at - interval '31 d'"
)


class Consumer:
    """As much of it as forgets."""

    def __init__(self, pool: "asyncpg.Pool[Any]", redis: Redis, days: str = "30") -> None:
        self.registry = CollectorRegistry()
        connections: Any = Connections(pool, redis, ScriptRunner(redis, QueueKeys()), None)  # type: ignore[arg-type]
        settings = settings_of(ConsumerSettings, SRED_EMAIL_RETENTION_DAYS=days)
        self.retention: Retention = compose("me", settings, connections, ConsumerMetrics(self.registry)).retention

    async def forget(self) -> int:
        return await self.retention.run_once(asyncio.Event())


@pytest.fixture
async def world(pool: "asyncpg.Pool[Any]", redis: Redis) -> RecoveryWorld:
    world = RecoveryWorld(pool, redis)
    await world.queue.runner.ensure_groups()
    await world.begin()
    return world


async def test_emails_that_ended_long_ago_leave_and_are_counted(world: RecoveryWorld) -> None:
    ended, _ = await world.accept(2)
    await world.end(ended)
    await world.pool.execute(OLDER)
    consumer = Consumer(world.pool, world.redis)
    assert await consumer.forget() == 1
    assert consumer.registry.get_sample_value("sred_email_consumer_emails_left_total") == 1
    assert await world.log.count("email_send_log") == 1
    assert await world.round() == {"published": 1}


async def test_one_replica_forgets_at_a_time(world: RecoveryWorld) -> None:
    (ended,) = await world.accept()
    await world.end(ended)
    await world.pool.execute(OLDER)
    first, second = Consumer(world.pool, world.redis), Consumer(world.pool, world.redis)
    assert await first.retention._lease.hold()  # noqa: SLF001 - as between two pages
    assert await second.forget() == 0
    assert await first.forget() == 1


async def test_with_0_nothing_ever_leaves(world: RecoveryWorld) -> None:
    (ended,) = await world.accept()
    await world.end(ended)
    await world.pool.execute(OLDER)
    assert await Consumer(world.pool, world.redis, days="0").forget() == 0


async def test_a_letter_that_nobody_handled_is_shown_on_and_holds_nothing_any_more(world: RecoveryWorld) -> None:
    (email_id,) = await world.accept()
    _, letter = await world.log.rejected(email_id)
    await world.round()
    assert await world.shown() == [letter]
    ((_, before),) = await world.redis.xrange(world.keys.dlq)
    assert b"<p>x</p>" in before[b"message"]
    await world.pool.execute(OLDER)
    assert await Consumer(world.pool, world.redis).forget() == 0
    assert await world.shown() == []
    await world.round()
    ((_, after),) = await world.redis.xrange(world.keys.dlq)
    assert await world.shown() == [letter]
    assert b"<p>x</p>" not in after[b"message"]


async def test_with_redis_away_emails_leave_and_contents_of_letters_wait_for_it(world: RecoveryWorld) -> None:
    sent, given_up = await world.accept(2)
    await world.end(sent)
    _, letter = await world.log.rejected(given_up)
    await world.round()
    await world.pool.execute(OLDER)
    async with open_redis(f"redis://127.0.0.1:{free_port()}/0", timeout=timedelta(seconds=1)) as nowhere:
        with pytest.raises(QueueUnavailableError):
            await Consumer(world.pool, nowhere).forget()
    assert await world.log.count("email_send_log") == 1
    assert await world.shown() == [letter]
    await world.pool.execute("DELETE FROM email_leases")  # it stopped, and its lease ran out
    await Consumer(world.pool, world.redis).forget()
    assert await world.shown() == []
