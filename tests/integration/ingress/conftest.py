"""What tests of the ingress share."""

from typing import Any

import asyncpg
import pytest
from integration.ingress.ingress_world import IngressWorld
from integration.ingress.recovery_world import RecoveryWorld
from redis.asyncio import Redis


@pytest.fixture
def ingress(pool: "asyncpg.Pool[Any]", redis: Redis) -> IngressWorld:
    """An ingress with an empty log and an empty Redis."""
    return IngressWorld(pool, redis)


@pytest.fixture
async def recovery(pool: "asyncpg.Pool[Any]", redis: Redis) -> RecoveryWorld:
    """A reconciler that has seen an empty log and an empty Redis."""
    recovery = RecoveryWorld(pool, redis)
    await recovery.queue.runner.ensure_groups()
    await recovery.begin()
    return recovery
