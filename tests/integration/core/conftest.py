"""What tests of the log and of the scripts share."""

from typing import Any

import asyncpg
import pytest
from integration.core.log_builder import LogWorld
from integration.core.queue_builder import Queue
from redis.asyncio import Redis

from sred_email_core.queue.keys import QueueKeys


@pytest.fixture
def world_of_log(pool: "asyncpg.Pool[Any]") -> LogWorld:
    """An empty log."""
    return LogWorld(pool)


@pytest.fixture(params=["sred:email", "{sred:email}"])
async def queue(request: pytest.FixtureRequest, redis: Redis) -> Queue:
    """A queue whose groups exist; under the default prefix, and under one with the hash tag of Redis Cluster."""
    queue = Queue(redis, QueueKeys(request.param))
    await queue.runner.ensure_groups()
    return queue
