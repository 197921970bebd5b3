"""What idle consumers wait on: whoever adds work rings, and one of them wakes."""

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError

from sred_email_core.queue.keys import QueueKeys


class Doorbell:
    """A blocking pop, on a connection of its own."""

    def __init__(self, redis: Redis, keys: QueueKeys) -> None:
        self._redis = redis
        self._key = keys.doorbell

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a ring, at most ``timeout_s``; whether it rang. While Redis is away nothing rings."""
        try:
            async with asyncio.timeout(timeout_s + 1):
                return await self._redis.blpop([self._key], timeout=max(timeout_s, 0.01)) is not None
        except (RedisError, OSError, TimeoutError):
            await asyncio.sleep(min(timeout_s, 0.25))
            return False
