"""Who does what one process at a time should do, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from sred_email_core.email_send_log.leases import Lease
from sred_email_core.errors import LogUnavailableError
from sred_email_core.postgres import open_pool
from sred_email_local.ports import free_port
from support.world import until

MINUTE = timedelta(minutes=1)
MOMENT = timedelta(milliseconds=60)


@pytest.fixture
def lease(pool: "asyncpg.Pool[Any]") -> Lease:
    """Of one process."""
    return Lease(pool, "work", span=MINUTE)


@pytest.fixture
async def other(dsn: str) -> AsyncIterator[Lease]:
    """Of another process."""
    async with open_pool(dsn, max_size=2) as pool:
        yield Lease(pool, "work", span=MINUTE)


async def test_one_process_at_a_time_has_it(lease: Lease, other: Lease) -> None:
    assert await lease.hold()
    assert not await other.hold()
    assert await lease.hold()
    await lease.release()
    assert await other.hold()
    assert not await lease.hold()


async def test_of_processes_that_ask_at_once_one_gets_it(pool: "asyncpg.Pool[Any]") -> None:
    asked = await asyncio.gather(*(Lease(pool, "work", span=MINUTE).hold() for _ in range(20)))
    assert sum(asked) == 1


async def test_leases_on_other_work_are_others(lease: Lease, pool: "asyncpg.Pool[Any]") -> None:
    assert await lease.hold()
    assert await Lease(pool, "other work", span=MINUTE).hold()


async def test_a_holder_that_says_nothing_loses_it_when_it_has_run_out(pool: "asyncpg.Pool[Any]", other: Lease) -> None:
    silent = Lease(pool, "work", span=MOMENT)
    assert await silent.hold()
    assert not await other.hold()
    await until(other.hold, "the other one has it")
    assert not await silent.hold()
    await silent.release()
    assert await pool.fetchval("SELECT count(*) FROM email_leases WHERE expires_at > now()") == 1


async def test_a_holder_that_asks_again_keeps_it_beyond_its_span(
    lease: Lease, pool: "asyncpg.Pool[Any]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sred_email_core.email_send_log.leases._TRUSTED_SHARE", 0)
    assert await lease.hold()
    first = await pool.fetchval("SELECT expires_at FROM email_leases")
    assert await lease.hold()
    assert await pool.fetchval("SELECT expires_at FROM email_leases") > first


async def test_within_a_third_of_its_span_nobody_is_asked(lease: Lease, pool: "asyncpg.Pool[Any]") -> None:
    assert await lease.hold()
    await pool.execute("DELETE FROM email_leases")
    assert await lease.hold()
    assert await pool.fetchval("SELECT count(*) FROM email_leases") == 0


async def test_a_lease_whose_answer_was_lost_is_given_back_too(lease: Lease, other: Lease) -> None:
    assert await lease.hold()
    lease._mine, lease._maybe_mine = False, True  # noqa: SLF001 - as it is when the round was broken off meanwhile
    await lease.release()
    assert await other.hold()


async def test_holding_it_is_no_session_and_no_transaction(lease: Lease, pool: "asyncpg.Pool[Any]") -> None:
    assert await lease.hold()
    held = await pool.fetchrow(
        "SELECT count(*) FILTER (WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid()) AS transactions,"
        " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS locks"
        " FROM pg_stat_activity WHERE datname = current_database()"
    )
    assert held is not None
    assert tuple(held) == (0, 0)


async def test_a_postgres_that_does_not_answer_is_for_later() -> None:
    async with open_pool(f"postgresql://nobody@127.0.0.1:{free_port()}/none", max_size=1) as pool:
        lease = Lease(pool, "work", span=MINUTE)
        with pytest.raises(LogUnavailableError):
            await lease.hold()
        await lease.release()
