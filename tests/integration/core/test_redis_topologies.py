"""Connections to a real cluster and through real Sentinels: to the server in charge, and to nobody else."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from integration.core.queue_builder import Queue
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, ReadOnlyError  # noqa: A004 - as it is named there

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.capacity import QueueCapacity
from sred_email_core.queue.doorbell import Doorbell
from sred_email_core.queue.keys import Lane, QueueKeys
from sred_email_core.queue.permissions import CONSUMER_COMMANDS, Permissions
from sred_email_core.queue.stats import QueueInspector
from sred_email_core.redis_connection import open_redis
from sred_email_core.redis_fitness import RedisFitness
from sred_email_local.engines import ValkeyServer
from sred_email_local.ports import LOOPBACK
from support.redis_cluster import PREFIX, SLOT, RedisCluster
from support.redis_sentinels import RedisSentinels
from support.world import until

PATIENCE = timedelta(seconds=2)
KEYS = QueueKeys(PREFIX)


@pytest.fixture
async def on_cluster(cluster: RedisCluster) -> AsyncIterator[Queue]:
    async with open_redis(cluster.url, timeout=PATIENCE, prefix=PREFIX) as redis:
        await redis.flushall()
        queue = Queue(redis, KEYS)
        await queue.runner.ensure_groups()
        yield queue


async def test_every_kind_of_command_goes_to_the_node_that_has_the_slot(
    cluster: RedisCluster, on_cluster: Queue
) -> None:
    owner = await cluster.in_charge()
    assert (await on_cluster.redis.info("server"))["tcp_port"] == owner.port
    (email_id,) = await on_cluster.publish(Lane.HIGH)
    assert (await QueueCapacity(on_cluster.redis, KEYS).read()).in_flight == 1
    assert (await QueueInspector(on_cluster.redis, KEYS).read()).lanes[0].waiting == 1
    assert await Doorbell(on_cluster.redis, KEYS).wait(1)
    assert not await Doorbell(on_cluster.redis, KEYS).wait(0.01)
    (entry,) = (await on_cluster.take()).requests[0]
    assert entry.fields[b"email_id"].decode() == email_id
    assert await Permissions(on_cluster.redis, KEYS, CONSUMER_COMMANDS).lacking() == []
    for node in cluster.others:
        assert await cluster.command(node, "DBSIZE") == 0


async def test_scripts_are_brought_where_they_are_not_known_yet(on_cluster: Queue) -> None:
    await on_cluster.publish(Lane.HIGH)
    await on_cluster.redis.script_flush()
    await on_cluster.publish(Lane.HIGH)
    assert await on_cluster.lengths() == [2, 0, 0]


async def test_a_primary_that_hands_over_is_left_for_the_new_one_within_the_next_attempts(
    cluster: RedisCluster, on_cluster: Queue
) -> None:
    before = await cluster.in_charge()
    after = next(node for node in cluster.pair if node is not before)
    waiting = asyncio.create_task(Doorbell(on_cluster.redis, KEYS).wait(1))  # blocked while it happens
    await cluster.command(after, "CLUSTER FAILOVER")

    async def handed_over() -> bool:
        return (await cluster.command(after, "ROLE"))[0] == b"master" and await cluster.in_charge() is after

    await until(handed_over, "the replica is in charge")
    await waiting
    assert await until(lambda: published(on_cluster), "an email is published")
    assert (await on_cluster.redis.info("server"))["tcp_port"] == after.port
    assert (await on_cluster.lengths())[0] == 1
    await cluster.restore()


async def test_while_the_slot_is_being_moved_nothing_is_done_and_nothing_is_lost(
    cluster: RedisCluster, on_cluster: Queue
) -> None:
    await on_cluster.publish(Lane.HIGH)
    owner, target = await cluster.in_charge(), cluster.others[0]
    ids = {node: (await cluster.command(node, "CLUSTER MYID")).decode() for node in (owner, target)}
    await cluster.command(target, "CLUSTER SETSLOT", SLOT, "IMPORTING", ids[owner])
    await cluster.command(owner, "CLUSTER SETSLOT", SLOT, "MIGRATING", ids[target])
    try:
        with pytest.raises(QueueUnavailableError, match="being moved"):
            await on_cluster.publish(Lane.HIGH)
        with pytest.raises(QueueUnavailableError, match="not in charge"):
            await QueueInspector(on_cluster.redis, KEYS).count_letters()
    finally:
        for node in (owner, target):
            await cluster.command(node, "CLUSTER SETSLOT", SLOT, "STABLE")
    await on_cluster.publish(Lane.HIGH)
    assert await on_cluster.lengths() == [2, 0, 0]


async def test_nothing_is_read_from_a_replica(cluster: RedisCluster) -> None:
    in_charge = await cluster.in_charge()
    replica = next(node for node in cluster.pair if node is not in_charge)
    async with open_redis(replica.url, timeout=PATIENCE) as redis:
        with pytest.raises(ConnectionError, match="is a replica"):
            await redis.ping()


async def test_a_primary_that_became_a_replica_is_not_read_from_again(redis: Redis, valkey: ValkeyServer) -> None:
    async with open_redis(valkey.url, timeout=PATIENCE) as client:
        await client.ping()
        await redis.replicaof(LOOPBACK, "1")
        try:
            with pytest.raises(ConnectionError, match=ReadOnlyError.__name__):
                await client.set("key", "value")
            with pytest.raises(ConnectionError, match="is a replica"):
                await client.get("key")
        finally:
            await redis.replicaof("NO", "ONE")
        assert await client.get("key") is None


@pytest.mark.parametrize(
    ("which", "remedy"), [("node", "write redis+cluster://"), ("sentinel", "write redis+sentinel://")]
)
async def test_a_url_that_says_something_else_than_is_there_is_refused_with_the_remedy(
    cluster: RedisCluster, sentinels: RedisSentinels, capsys: pytest.CaptureFixture[str], which: str, remedy: str
) -> None:
    port = (await cluster.in_charge()).port if which == "node" else sentinels.ports[0]
    async with open_redis(f"redis://{LOOPBACK}:{port}", timeout=PATIENCE) as redis:
        with pytest.raises(SystemExit):
            await RedisFitness(redis, Permissions(redis, KEYS, CONSUMER_COMMANDS)).refuse_to_start()
    assert remedy in capsys.readouterr().err


async def test_sentinels_lead_to_the_primary_also_when_the_first_of_them_hangs(sentinels: RedisSentinels) -> None:
    sentinels.pause(0)
    try:
        async with open_redis(sentinels.url, timeout=PATIENCE) as redis:
            # Who gives up after 250 ms, as calls do, leaves the asking to go on: the next finds the answer.
            answered = await until(lambda: pinged(redis, within_s=0.25), "the primary is found")
            assert answered
            assert (await redis.info("server"))["tcp_port"] == (await sentinels.in_charge(asking=1)).port
    finally:
        sentinels.resume(0)


async def published(queue: Queue) -> bool:
    try:
        await queue.publish(Lane.HIGH)
    except QueueUnavailableError:
        return False
    return True


async def pinged(redis: Any, *, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            return bool(await redis.ping())
    except TimeoutError:
        return False
