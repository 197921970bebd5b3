"""Engines that the tests did not bring along: an external Redis and PostgreSQL, or another server program.

* ``SRED_EMAIL_TEST_REDIS_SERVER``: the program of the Redis servers that tests start, instead of the Valkey that comes
  along.
* ``SRED_EMAIL_TEST_POSTGRES_BINARIES``: the folder with the programs of the PostgreSQL that tests start, instead of the
  one that comes along.
* ``SRED_EMAIL_TEST_REDIS_URL``: a Redis to use as it is. It must be empty, since tests flush it; tests that stop or
  break their Redis start their own, or are skipped.
* ``SRED_EMAIL_TEST_POSTGRES_DSN``: a PostgreSQL whose user may create databases. Tests make databases of their own
  there, which go afterwards; nothing else is touched.

Tests that share such an engine run in one process: ``make test WORKERS=0``.
"""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import asyncpg
import pytest

from sred_email_core.redis_address import Topology, parse_redis_url
from sred_email_core.redis_connection import open_redis
from sred_email_local import engines

REDIS_SERVER, REDIS_URL = "SRED_EMAIL_TEST_REDIS_SERVER", "SRED_EMAIL_TEST_REDIS_URL"
POSTGRES_DSN = "SRED_EMAIL_TEST_POSTGRES_DSN"
_DATABASES = re.compile(r"migrated|test_\d+")
"""What tests call their databases."""


class _Outside:
    """Stands where the tests' own server would; who would do something to that is skipped."""

    def __init__(self, variable: str) -> None:
        self._variable = variable
        self._address = os.environ[variable]

    async def start(self) -> None:
        """It runs."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        pytest.skip(f"needs a server of its own ({name}), and {self._variable} is set")


class OutsideRedis(_Outside):
    """The Redis of ``SRED_EMAIL_TEST_REDIS_URL``."""

    def __init__(self) -> None:
        super().__init__(REDIS_URL)
        self.url = self._address

    async def start(self) -> None:
        """Return if tests may flush it.

        Raises:
            UsageError: It holds something, or is none that tests can flush.
        """
        if parse_redis_url(self.url).topology is Topology.CLUSTER:
            raise pytest.UsageError(f"{REDIS_URL}: name one server, or Sentinels; tests of a cluster start their own")
        async with open_redis(self.url, timeout=timedelta(seconds=5)) as redis:
            held = await redis.info("keyspace")
        if held:
            raise pytest.UsageError(f"{REDIS_URL}: it holds keys ({', '.join(held)}), and tests would delete them")

    async def finish(self) -> None:
        """Leave it as it was: empty."""
        async with open_redis(self.url, timeout=timedelta(seconds=5)) as redis:
            await redis.flushall()


class OutsidePostgres(_Outside):
    """The PostgreSQL of ``SRED_EMAIL_TEST_POSTGRES_DSN``."""

    def __init__(self) -> None:
        super().__init__(POSTGRES_DSN)
        self.dsn = self._address

    async def start(self) -> None:
        """Return if no database there has a name that tests use.

        Raises:
            UsageError: One has.
        """
        if found := await self._databases():
            raise pytest.UsageError(f"{POSTGRES_DSN}: it has databases called as those of tests: {', '.join(found)}")

    async def finish(self) -> None:
        """Drop what tests made."""
        connection = await asyncpg.connect(self.dsn)
        for name in await self._databases():
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()

    async def _databases(self) -> list[str]:
        connection = await asyncpg.connect(self.dsn)
        names = [row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")]
        await connection.close()
        return [name for name in names if _DATABASES.fullmatch(name)]


def choose_engines(config: pytest.Config) -> None:
    """Let another program be started, where one is named.

    Raises:
        UsageError: It is no program; or several processes would share an engine.
    """
    program = os.environ.get(REDIS_SERVER)
    if program:
        if not os.access(program, os.X_OK):
            raise pytest.UsageError(f"{REDIS_SERVER}: {program} is no program")
        chosen: Any = engines
        chosen.valkey_binary = lambda: Path(program)
    shared = [variable for variable in (REDIS_URL, POSTGRES_DSN) if os.environ.get(variable)]
    if shared and (getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput")):
        raise pytest.UsageError(f"{shared[0]}: tests that share an engine run in one process: make test WORKERS=0")
