"""Real engines for all tests: one PostgreSQL and one Valkey per run, an empty database and an empty Redis per test."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from sred_email_core.postgres import open_pool
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.scripts import QueueScripts
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import PostgresServer, ValkeyServer
from sred_email_local.sandbox.provider import Options
from sred_email_local.sandbox.server import SandboxServer
from support.clean_databases import CleanDatabases
from support.least_users import users
from support.outside_engines import POSTGRES_DSN, REDIS_URL, OutsidePostgres, OutsideRedis, choose_engines
from support.redis_cluster import RedisCluster
from support.redis_sentinels import RedisSentinels
from support.world import World


def pytest_configure(config: pytest.Config) -> None:
    choose_engines(config)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job in the background of a shell, whose children
        signal.signal(signal.SIGINT, signal.default_int_handler)  # would ignore it, too, when tests interrupt them


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer | OutsidePostgres]:
    """A PostgreSQL; shared, so tests that stop it start their own."""
    if os.environ.get(POSTGRES_DSN):
        outside = OutsidePostgres()
        asyncio.run(outside.start())
        yield outside
        asyncio.run(outside.finish())
        return
    # In a folder of its own: as root it runs as another user, and every run of pytest closes the folder of all runs.
    folder = tempfile.TemporaryDirectory(prefix="sred-email-postgres-", ignore_cleanup_errors=True)
    binaries = os.environ.get("SRED_EMAIL_TEST_POSTGRES_BINARIES")  # of another version; CONTRIBUTING.md
    server = PostgresServer(Path(folder.name), binaries=Path(binaries) if binaries else None, settings={"fsync": "off"})
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())
    folder.cleanup()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer | OutsideRedis]:
    """A Valkey that knows the users of the services; shared, so tests that stop it start their own."""
    if os.environ.get(REDIS_URL):
        outside = OutsideRedis()
        asyncio.run(outside.start())
        yield outside
        asyncio.run(outside.finish())
        return
    known = [part for name, rules in users().items() for part in ("--user", name, *rules)]
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"), extra_args=known)
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster; shared, so who lets a primary die brings it back."""
    servers = RedisCluster(tmp_path_factory.mktemp("cluster"))
    asyncio.run(servers.start())
    yield servers
    asyncio.run(servers.stop())


@pytest.fixture(scope="session")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSentinels]:
    """A primary, its replica and their Sentinels; shared, so who lets a server die brings it back."""
    servers = RedisSentinels(tmp_path_factory.mktemp("sentinels"))
    asyncio.run(servers.start())
    yield servers
    asyncio.run(servers.stop())


@pytest.fixture(scope="session")
def databases(postgres: PostgresServer) -> CleanDatabases:
    """Databases to lend to tests."""
    lent = CleanDatabases(postgres.dsn)
    asyncio.run(lent.prepare())
    return lent


@pytest.fixture
async def dsn(databases: CleanDatabases) -> AsyncIterator[str]:
    """An empty, migrated database."""
    name = await databases.lend()
    yield databases.dsn(name)
    await databases.take_back(name)


@pytest.fixture
async def pool(dsn: str) -> "AsyncIterator[asyncpg.Pool]":
    """Connections to it."""
    async with open_pool(dsn, max_size=5) as opened:
        yield opened


@pytest.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    """An empty Redis."""
    async with open_redis(valkey.url, timeout=timedelta(seconds=5)) as client:
        await client.flushall()
        yield client


@pytest.fixture
def keys() -> QueueKeys:
    """The names in it."""
    return QueueKeys()


@pytest.fixture
def scripts(redis: Redis, keys: QueueKeys) -> QueueScripts:
    """The scripts on it."""
    return QueueScripts(ScriptRunner(redis, keys), keys)


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxServer]:
    """A provider without a rate limit, in this process."""
    async with SandboxServer(options=Options(requests_per_second=0)) as server:
        yield server


@pytest.fixture
async def world(
    tmp_path: Path, dsn: str, valkey: ValkeyServer, redis: Redis, sandbox: SandboxServer
) -> AsyncIterator[World]:
    """The system as real processes, none of them started yet."""
    async with World(tmp_path, dsn, valkey.url, redis, sandbox) as system:
        system.least_users = not isinstance(valkey, OutsideRedis)
        if system.least_users:
            await redis.acl_log_reset()
        yield system
        if system.least_users:
            assert await redis.acl_log() == []  # nothing was done that docs/redis.md does not name
