"""The primary of PostgreSQL dies, and its synchronous standby takes its place."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from sred_email_core.email_send_log.migrate import migrate
from sred_email_local.engines import ValkeyServer
from sred_email_local.sandbox.server import SandboxServer
from support.postgres_standby import PrimaryAndStandby
from support.steady_caller import SteadyCaller
from support.world import World, until

PATIENCE_S = 90.0


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[PrimaryAndStandby]:
    async with PrimaryAndStandby(tmp_path) as pair:
        await migrate(pair.dsn)
        yield pair


@pytest.fixture
async def world(
    tmp_path: Path, pair: PrimaryAndStandby, valkey: ValkeyServer, redis: Redis, sandbox: SandboxServer
) -> AsyncIterator[World]:
    async with World(tmp_path, pair.dsn, valkey.url, redis, sandbox) as system:
        yield system


@pytest.mark.timeout(400)
async def test_a_failover_to_a_synchronous_standby_loses_and_doubles_nothing(
    world: World, pair: PrimaryAndStandby
) -> None:
    ingress, _ = await world.start_pair(timeout_s=PATIENCE_S)
    caller = SteadyCaller(world, [ingress], rate=20)

    async def accepted(count: int) -> bool:
        return len(caller.email_ids) >= count

    await until(lambda: accepted(40), "emails are sent", timeout_s=PATIENCE_S)
    before = len(caller.email_ids)
    await pair.fail_over()
    await until(lambda: accepted(before + 40), "emails are sent again", timeout_s=PATIENCE_S)
    await caller.stop()
    await ingress.ready(timeout_s=PATIENCE_S)
    await caller.assert_each_is_delivered_once(timeout_s=PATIENCE_S)
