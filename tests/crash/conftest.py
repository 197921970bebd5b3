"""The stage on which interleavings are played."""

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from crash.interleavings.stage import Stage
from sred_email_core.email_send_log.migrate import migrate
from sred_email_core.postgres import open_pool
from sred_email_local.engines import PostgresServer
from sred_email_local.sandbox.server import SandboxServer
from support.time_passes import Clock

_DATABASE = "stage"
_EMPTY = """
DO $$ BEGIN
    EXECUTE (SELECT string_agg(format('DELETE FROM %I', tablename), '; ') FROM pg_tables
             WHERE schemaname = 'public' AND tablename <> 'email_schema_migrations');
END $$
"""


@pytest.fixture(scope="session")
def stage_dsn(postgres: PostgresServer) -> str:
    """A database for all that is played: to empty it is quicker than to make one."""
    dsn = postgres.dsn.rsplit("/", 1)[0] + f"/{_DATABASE}"

    async def prepare() -> None:
        connection = await asyncpg.connect(postgres.dsn)
        await connection.execute(f"CREATE DATABASE {_DATABASE}")
        await connection.close()
        await migrate(dsn)

    asyncio.run(prepare())
    return dsn


@pytest.fixture
async def stage(
    stage_dsn: str, redis: Redis, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    """Consumers inside the test; a bug that one of them has logged fails the test."""
    clock = Clock()
    monkeypatch.setattr(time, "clock_gettime", clock.gettime)
    with capture_logs() as logs:
        async with open_pool(stage_dsn, max_size=5) as pool:
            await pool.execute(_EMPTY)
            async with Stage.open(pool, redis, sandbox, clock) as opened:
                yield opened
    bugs = [entry for entry in logs if entry["log_level"] in {"error", "critical"}]
    assert not bugs, f"bugs were logged: {bugs}"
