"""The connection to Redis, and what a Redis must be like."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta

from redis.asyncio import Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError  # noqa: A004 - the library's

_ANSWER_S = 1.0
"""Shorter than what a health check may take: a Redis that hangs is another check's matter."""


class _Connection(Connection):
    """One connection, which also tells in the library's words that it was cut right before a write."""

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the library's signature
        """Send a command.

        Raises:
            ConnectionError: The connection is gone; uvloop says so by a RuntimeError.
        """
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as e:
            raise ConnectionError(str(e)) from e


@asynccontextmanager
async def open_redis(url: str, *, timeout: timedelta, max_connections: int | None = None) -> AsyncIterator[Redis]:
    """A client while the context is open; it connects when first used.

    The library repeats commands on its own by default, around both the sending and the answer. Here it does not: each
    caller knows whether a repeat is safe and how long it may take.

    Args:
        url: ``redis://…``
        timeout: For connecting and for each answer.
        max_connections: The most connections; None: no limit.
    """
    client: Redis = Redis.from_url(
        url,
        socket_timeout=timeout.total_seconds(),
        socket_connect_timeout=timeout.total_seconds(),
        socket_keepalive=True,
        max_connections=max_connections,
        connection_class=_Connection,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    try:
        yield client
    finally:
        await client.aclose()


class EvictionCheck:
    """A health check: Redis does not throw data away when its memory is full. While it is away, that can't be known."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def __call__(self) -> None:
        """Return if so, or if Redis does not say.

        Raises:
            RuntimeError: It evicts.
        """
        problem = await self._problem()
        if problem:
            raise RuntimeError(problem)

    async def refuse_to_start(self) -> None:
        """Return if so, or if Redis does not say.

        Raises:
            SystemExit: With code 2, after one line on standard error: it evicts.
        """
        problem = await self._problem()
        if problem:
            print(f"SRED_EMAIL_REDIS_URL: {problem}", file=sys.stderr)  # noqa: T201 - as bad settings are told
            raise SystemExit(2)

    async def _problem(self) -> str | None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                memory = await self._redis.info("memory")  # unlike CONFIG, it is allowed everywhere
        except (RedisError, OSError):  # TimeoutError is one
            return None
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy == "noeviction":
            return None
        return f"the maxmemory-policy of this Redis is {policy}, which throws emails away: set it to noeviction"
