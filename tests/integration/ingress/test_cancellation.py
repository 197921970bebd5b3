"""CancelEmail from its call to Redis: the log decides, and Redis is freed of the email where it answers."""

import asyncio
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from integration.ingress.ingress_world import IngressWorld

from sred_email_core.errors import (
    CancelObstacle,
    EmailNotFoundError,
    InvalidRequestError,
    LogUnavailableError,
    NotCancellableError,
)
from sred_email_core.postgres import open_pool
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer
from sred_email_local.ports import free_port


async def test_a_cancelled_email_is_in_the_log_as_such_and_nowhere_in_redis(ingress: IngressWorld) -> None:
    email_id = (await ingress.send("a")).email_id
    cancelled = await ingress.parts.cancellation.cancel(email_id)
    assert (str(cancelled.id), cancelled.status, cancelled.subject) == (email_id, "CANCELLED", "a")
    row = await ingress.row(email_id)
    assert (row["status"], row["message"]) == ("CANCELLED", None)
    assert await ingress.place(email_id) is None
    assert await ingress.published() == 0
    assert ingress.registry.get_sample_value("sred_email_ingress_cancelled_total") == 1


async def test_many_are_cancelled_at_once(ingress: IngressWorld) -> None:
    emails = [(await ingress.send(str(n))).email_id for n in range(30)]
    await asyncio.gather(*(ingress.parts.cancellation.cancel(email_id) for email_id in emails))
    assert await ingress.published() == 0
    assert await ingress.pool.fetchval("SELECT count(*) FROM email_send_log WHERE status = 'CANCELLED'") == 30


@pytest.mark.parametrize("email_id", ["", "nonsense", "01a20c67-0c09-71bc-82df", "\0", "é" * 32])
async def test_an_id_that_is_none_is_named(ingress: IngressWorld, email_id: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await ingress.parts.cancellation.cancel(email_id)
    assert [violation.field for violation in refused.value.violations] == ["email_id"]


async def test_an_email_that_does_not_exist_is_not_found(ingress: IngressWorld) -> None:
    with pytest.raises(EmailNotFoundError):
        await ingress.parts.cancellation.cancel(str(uuid.uuid4()))


async def test_a_retry_of_the_call_that_made_a_cancelled_email_is_answered_with_it_and_publishes_nothing(
    ingress: IngressWorld,
) -> None:
    email_id = (await ingress.send("a")).email_id
    await ingress.parts.cancellation.cancel(email_id)
    again = await ingress.send("a")
    assert (again.email_id, again.status, again.deduplicated) == (email_id, "CANCELLED", True)
    assert await ingress.published() == 0


async def test_a_cancellation_that_died_before_it_came_to_redis_is_finished_by_its_repeat(
    ingress: IngressWorld,
) -> None:
    email_id = (await ingress.send("a")).email_id
    await ingress.pool.execute("UPDATE email_send_log SET status = 'CANCELLED', message = NULL, ended_at = now()")
    with pytest.raises(NotCancellableError, match="already ended as CANCELLED") as refused:
        await ingress.parts.cancellation.cancel(email_id)
    assert refused.value.obstacle is CancelObstacle.HAS_ENDED
    assert await ingress.published() == 0
    assert await ingress.place(email_id) is None


async def test_redis_is_not_needed_and_one_that_hangs_holds_no_call(pool: "asyncpg.Pool[Any]", tmp_path: Path) -> None:
    async with ValkeyServer(tmp_path) as valkey, open_redis(valkey.url, timeout=timedelta(seconds=2)) as redis:
        ingress = IngressWorld(pool, redis)
        hanging, away = [(await ingress.send(subject)).email_id for subject in ("hanging", "away")]
        valkey.pause()
        try:
            began = time.monotonic()
            assert (await ingress.parts.cancellation.cancel(hanging)).status == "CANCELLED"
            assert 0.25 <= time.monotonic() - began < 1
        finally:
            valkey.resume()
        await ingress.parts.drain()
        valkey.kill()
        assert (await ingress.parts.cancellation.cancel(away)).status == "CANCELLED"
        await ingress.parts.drain()


async def test_without_the_log_nothing_is_cancelled_and_the_call_may_be_repeated(ingress: IngressWorld) -> None:
    email_id = (await ingress.send("a")).email_id
    async with open_pool(f"postgresql://postgres@127.0.0.1:{free_port()}/nothing", max_size=1) as nowhere:
        with pytest.raises(LogUnavailableError):
            await IngressWorld(nowhere, ingress.redis).parts.cancellation.cancel(email_id)
    assert await ingress.published() == 1
