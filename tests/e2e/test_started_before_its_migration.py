"""A version that is started before its migration: refuses, does nothing by halves, and goes on by itself afterwards."""

import asyncio

import grpc
import pytest

from sred.email.v1 import operations_service_pb2 as ops
from sred_email_core.email_send_log.migrate import migrate
from sred_email_core.email_send_log.sql import migrations
from sred_email_core.queue.keys import GROUP
from support.world import World, until


@pytest.fixture
async def behind(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The log as the version before left it: without the columns of the last migrations."""
    await world.pool.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    with monkeypatch.context() as patch:
        patch.setattr("sred_email_core.email_send_log.migrate.migrations", lambda: migrations()[:12])
        await migrate(world.env["SRED_EMAIL_POSTGRES_DSN"])
    return world


async def test_nothing_is_done_before_the_migration_and_everything_after_it(behind: World) -> None:
    world = behind
    ingress, consumer = world.launch("ingress"), world.launch("consumer")
    for service in (ingress, consumer):
        told = await service.ready(503)
        assert migrations()[-1].name in str(told)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.send("early")
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "run sred-email-ingress migrate" in (refused.value.details() or "")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.operations().GetQueueStats(ops.GetQueueStatsRequest(), timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE

    # What the version before accepts and publishes meanwhile is not touched: it may still be serving.
    await world.redis.xadd(world.keys.streams[0], {"email_id": "of the version before"})
    await world.redis.xgroup_create(world.keys.streams[0], GROUP, id="0")
    await asyncio.sleep(1)
    assert await world.redis.xinfo_consumers(world.keys.streams[0], GROUP) == []

    assert await migrate(world.env["SRED_EMAIL_POSTGRES_DSN"]) == [m.name for m in migrations()[12:]]
    await ingress.ready()
    await consumer.ready()
    sent = await world.send("early")
    assert await world.wait_for(sent.email_id) == "SUCCESS"

    async def letter() -> bool:
        return bool(await world.pool.fetchval("SELECT count(*) FROM email_dead_letters WHERE reason = 'MALFORMED'"))

    await until(letter, "the entry that is no email is a dead letter")
    assert world.logged_errors() == []


async def test_a_process_that_waits_for_its_migration_stops_when_it_is_asked(behind: World) -> None:
    services = [behind.launch("ingress"), behind.launch("consumer")]
    for service in services:
        await service.ready(503)
        assert await service.process.stop(grace_s=10) == 0, service.process.log_tail()
