"""Whether Redis is another one than before, told by a real one."""

from datetime import timedelta
from pathlib import Path

import pytest
from integration.core.queue_builder import Queue

from sred_email_core.queue.epoch import Epoch
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer


@pytest.fixture
def epoch(queue: Queue) -> Epoch:
    """What remembers which Redis this is."""
    return Epoch(queue.runner, queue.keys)


async def test_an_empty_redis_is_another_one(epoch: Epoch) -> None:
    state = await epoch.look()
    assert state.changed
    assert state.held == ""
    assert [len(part) for part in state.redis_id.split(":")] == [40, 40]


async def test_a_sealed_redis_is_the_same_until_it_is_flushed(queue: Queue, epoch: Epoch) -> None:
    assert (await epoch.begin("one")).is_sweep("one")
    assert (await epoch.look()).changed
    assert not (await epoch.seal("one")).changed
    assert not (await epoch.look()).changed
    assert await queue.redis.get(queue.keys.epoch) == (await epoch.look()).redis_id.encode()
    await queue.redis.flushall()
    assert (await epoch.look()).changed


async def test_a_sweep_during_which_redis_was_flushed_seals_nothing(queue: Queue, epoch: Epoch) -> None:
    await epoch.begin("one")
    await queue.redis.flushall()
    assert (await epoch.seal("one")).changed
    assert (await epoch.look()).held == ""


async def test_a_sweep_seals_nothing_when_another_began_meanwhile(epoch: Epoch) -> None:
    await epoch.begin("one")
    state = await epoch.begin("two")
    assert not state.is_sweep("one")
    assert (await epoch.seal("one")).changed
    assert not (await epoch.seal("two")).changed


async def test_a_redis_that_was_restarted_is_another_one_and_so_is_a_sweep_from_before(
    keys: QueueKeys, tmp_path: Path
) -> None:
    async with ValkeyServer(tmp_path) as server, open_redis(server.url, timeout=timedelta(seconds=5)) as client:
        epoch = Epoch(ScriptRunner(client, keys), keys)
        await epoch.begin("one")
        await epoch.seal("one")
        assert not (await epoch.look()).changed
        await server.stop()
        await server.start()
        await client.connection_pool.disconnect()
        state = await epoch.look()
        assert state.changed
        assert state.held
        await epoch.begin("two")
        await server.stop()
        await server.start()
        await client.connection_pool.disconnect()
        assert not (await epoch.look()).is_sweep("two")
        assert (await epoch.seal("two")).changed


async def test_where_info_is_forbidden_a_missing_epoch_still_tells(queue: Queue, epoch: Epoch) -> None:
    await queue.redis.execute_command("ACL", "SETUSER", "default", "-info")
    try:
        assert (await epoch.look()).redis_id == "-:-"
        await epoch.begin("one")
        assert not (await epoch.seal("one")).changed
        await queue.redis.flushall()
        assert (await epoch.look()).changed
    finally:
        await queue.redis.execute_command("ACL", "SETUSER", "default", "+info")
