"""The stage on which interleavings are played."""

import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from crash.interleavings.stage import Stage
from sred_email_core.postgres import open_pool
from sred_email_local.sandbox.server import SandboxServer
from support.time_passes import Clock


@pytest.fixture
async def stage(
    dsn: str, redis: Redis, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    """Consumers inside the test; a bug that one of them has logged fails the test."""
    clock = Clock()
    monkeypatch.setattr(time, "clock_gettime", clock.gettime)
    with capture_logs() as logs:
        async with open_pool(dsn, max_size=5) as pool, Stage.open(pool, redis, sandbox, clock) as opened:
            yield opened
    bugs = [entry for entry in logs if entry["log_level"] in {"error", "critical"}]
    assert not bugs, f"bugs were logged: {bugs}"
