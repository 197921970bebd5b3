"""The system as real processes, for all tests of a module: what one of them leaves behind, the next one meets."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer
from sred_email_local.sandbox.provider import Options
from sred_email_local.sandbox.server import SandboxServer
from support.clean_databases import CleanDatabases
from support.world import World


@asynccontextmanager
async def lasting_world(folder: Path, databases: CleanDatabases, valkey: ValkeyServer) -> AsyncIterator[World]:
    """An empty database, an empty Redis, a provider; no process is started yet."""
    name = await databases.lend()
    async with (
        open_redis(valkey.url, timeout=timedelta(seconds=5)) as redis,
        SandboxServer(options=Options(requests_per_second=0)) as sandbox,
    ):
        await redis.flushall()
        async with World(folder, databases.dsn(name), valkey.url, redis, sandbox) as world:
            yield world
    await databases.take_back(name)


class Logs:
    """What the services of a world have logged as errors."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._read: dict[str, int] = {}

    def new_errors(self) -> list[dict[str, Any]]:
        """Those since the last time."""
        errors = []
        for service in self._world.services:
            lines = service.process.log.read_text().splitlines()
            new = lines[self._read.get(service.process.name, 0) :]
            self._read[service.process.name] = len(lines)
            errors += [
                line for line in map(json.loads, filter(_is_json, new)) if line["level"] in {"error", "critical"}
            ]
        return errors

    def assert_all_is_well(self) -> None:
        """The services live, and have met no bug since the last time."""
        for service in self._world.services:
            assert service.process.alive, service.process.log_tail()
        assert not (errors := self.new_errors()), errors


def _is_json(line: str) -> bool:
    return line.startswith("{")
