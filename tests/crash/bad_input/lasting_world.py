"""The system as real processes, for all tests of a module: what one of them leaves behind, the next one meets."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg

from sred_email_core.email_send_log.migrate import migrate
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import PostgresServer, ValkeyServer
from sred_email_local.sandbox.provider import Options
from sred_email_local.sandbox.server import SandboxServer
from support.world import Service, World

RUNS_INTO_WHAT_WE_PUT_THERE = frozenset({"redis_refuses"})
"""Errors that are no bugs: somebody has to mend Redis."""


@asynccontextmanager
async def lasting_world(folder: Path, name: str, postgres: PostgresServer, valkey: ValkeyServer) -> AsyncIterator[World]:
    """A database of this name, an empty Redis, a provider; no process is started yet."""
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute(f"CREATE DATABASE {name}")
    dsn = postgres.dsn.rsplit("/", 1)[0] + f"/{name}"
    await migrate(dsn)
    async with (
        open_redis(valkey.url, timeout=timedelta(seconds=5)) as redis,
        SandboxServer(options=Options(requests_per_second=0)) as sandbox,
    ):
        await redis.flushall()
        async with World(folder, dsn, valkey.url, redis, sandbox) as world:
            yield world
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


def logged(service: Service, *levels: str) -> list[dict[str, Any]]:
    """What a service has logged at these levels."""
    lines = [json.loads(line) for line in service.process.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["level"] in levels]


def assert_well(*services: Service) -> None:
    """These services live, and have met no bug."""
    for service in services:
        assert service.process.alive, service.process.log_tail()
        bugs = [line for line in logged(service, "error", "critical") if line["event"] not in RUNS_INTO_WHAT_WE_PUT_THERE]
        assert not bugs, bugs
