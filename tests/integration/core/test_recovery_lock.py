"""Who reconciles, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from sred_email_core.email_send_log.recovery_lock import RecoveryLock
from sred_email_core.errors import LogUnavailableError
from sred_email_core.postgres import open_pool
from sred_email_local.ports import free_port
from support.world import until

MINUTE = timedelta(minutes=1)
SESSIONS = (
    "SELECT a.* FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
    " WHERE l.locktype = 'advisory' AND a.datname = current_database()"
)


@pytest.fixture
async def lock(pool: "asyncpg.Pool[Any]") -> AsyncIterator[RecoveryLock]:
    """Of one process."""
    lock = RecoveryLock(pool, idle=MINUTE)
    yield lock
    await lock.release()


@pytest.fixture
async def other(dsn: str) -> AsyncIterator[RecoveryLock]:
    """Of another process."""
    async with open_pool(dsn, max_size=2) as pool:
        lock = RecoveryLock(pool, idle=MINUTE)
        yield lock
        await lock.release()


async def lost(lock: RecoveryLock) -> bool:
    return not await lock.hold()


async def test_one_process_at_a_time_has_it(lock: RecoveryLock, other: RecoveryLock) -> None:
    assert await lock.hold()
    assert not await other.hold()
    assert await lock.hold()
    await lock.release()
    assert await other.hold()
    assert not await lock.hold()


async def test_it_ends_with_its_session_whatever_ends_that(
    lock: RecoveryLock, other: RecoveryLock, pool: "asyncpg.Pool[Any]"
) -> None:
    assert await lock.hold()
    assert not await other.hold()
    await pool.execute(SESSIONS.replace("SELECT a.*", "SELECT pg_terminate_backend(a.pid)"))
    await until(other.hold, "the other one has it")
    await until(lambda: lost(lock), "the first one notices")


async def test_it_is_not_lost_and_not_shared_through_the_pool(
    lock: RecoveryLock, other: RecoveryLock, pool: "asyncpg.Pool[Any]"
) -> None:
    assert await lock.hold()
    for _ in range(20):
        await asyncio.gather(*(pool.fetchval("SELECT 1") for _ in range(4)))
    await pool.expire_connections()
    assert not await other.hold()
    await lock.release()
    assert await pool.fetch(SESSIONS) == []


async def test_holding_it_holds_back_no_vacuum(lock: RecoveryLock, pool: "asyncpg.Pool[Any]") -> None:
    assert await lock.hold()
    (session,) = await pool.fetch(SESSIONS)
    assert (session["state"], session["xact_start"], session["backend_xmin"]) == ("idle", None, None)


async def test_a_holder_that_says_nothing_loses_it(dsn: str, other: RecoveryLock) -> None:
    async with open_pool(dsn, max_size=1) as pool:
        stopped = RecoveryLock(pool, idle=timedelta(milliseconds=200))
        assert await stopped.hold()
        assert not await other.hold()
        await until(other.hold, "the other one has it")
        await until(lambda: lost(stopped), "the first one notices")
        await stopped.release()


async def test_a_connection_that_is_given_back_does_not_end_when_it_is_idle(
    dsn: str, pool: "asyncpg.Pool[Any]"
) -> None:
    async with open_pool(dsn, max_size=1) as one:
        lock = RecoveryLock(one, idle=MINUTE)
        assert await lock.hold()
        await lock.release()
        assert await one.fetchval("SHOW idle_session_timeout") == await pool.fetchval("SHOW idle_session_timeout")


async def test_a_postgres_that_does_not_answer_is_for_later() -> None:
    async with open_pool(f"postgresql://nobody@127.0.0.1:{free_port()}/none", max_size=1) as pool:
        lock = RecoveryLock(pool, idle=MINUTE)
        with pytest.raises(LogUnavailableError):
            await lock.hold()
        await lock.release()
