"""The connection to Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


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
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    try:
        yield client
    finally:
        await client.aclose()
