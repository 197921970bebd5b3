"""A PgBouncer in transaction mode: sessions are everybody's, and nothing here needs one of its own."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from integration.core.log_builder import LogWorld, accepted

from sred_email_core.email_send_log.leases import Lease
from sred_email_core.email_send_log.migrate import migrate
from sred_email_core.email_send_log.schema_check import SchemaCheck
from sred_email_core.postgres import open_pool
from sred_email_local.engines import PostgresServer
from support.pgbouncer import PgBouncer, needs_pgbouncer

pytestmark = needs_pgbouncer


@pytest.fixture(autouse=True)
def own_server(postgres: PostgresServer) -> None:
    """One that trusts the pooler: not one that is somebody else's."""
    assert postgres.port


@pytest.fixture
async def pooler(tmp_path: Path, dsn: str) -> AsyncIterator[PgBouncer]:
    async with PgBouncer(tmp_path, dsn, sessions=2) as pooler:
        yield pooler


@pytest.fixture
async def pooled(pooler: PgBouncer) -> "AsyncIterator[asyncpg.Pool[Any]]":
    """Connections through it: more than there are sessions."""
    async with open_pool(pooler.dsn, max_size=8) as pool:
        yield pool


async def test_statements_of_clients_that_share_sessions_are_never_mixed_up(pooler: PgBouncer) -> None:
    """The driver counts names of prepared statements for each process: two processes use the same ones."""
    async with open_pool(pooler.dsn, max_size=4) as one, open_pool(pooler.dsn, max_size=4) as other:
        for number in range(30):
            asked = [pool.fetchval(f"SELECT $1::int + {number}", number) for pool in (one, other, one, other)]
            assert await asyncio.gather(*asked) == [2 * number] * 4
        prepared = await asyncio.gather(
            *(one.fetchval("SELECT count(*) FROM pg_prepared_statements") for _ in range(4))
        )
    assert prepared == [0] * 4


async def test_emails_live_their_life_through_it(pooled: "asyncpg.Pool[Any]") -> None:
    world = LogWorld(pooled)
    ids = [i for part in await asyncio.gather(*(world.accept(5) for _ in range(8))) for i in part]
    claims = await asyncio.gather(*(world.claimed(i) for i in ids))
    await asyncio.gather(
        *(world.log.record_answers([accepted(c.send_id, i)]) for c, i in zip(claims, ids, strict=True))
    )
    assert {(await world.email(i))["status"] for i in ids} == {"SUCCESS"}


async def test_one_process_at_a_time_has_a_lease_through_it(pooled: "asyncpg.Pool[Any]") -> None:
    leases = [Lease(pooled, "work", span=timedelta(minutes=1)) for _ in range(6)]
    held = await asyncio.gather(*(lease.hold() for lease in leases))
    assert sum(held) == 1
    await leases[held.index(True)].release()
    assert sum(await asyncio.gather(*(lease.hold() for lease in leases))) == 1


async def test_migrations_run_through_it_from_several_pods_at_once(
    pooler: PgBouncer, pool: "asyncpg.Pool[Any]"
) -> None:
    await pool.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    applied = await asyncio.gather(*(migrate(pooler.dsn) for _ in range(3)))
    names = [name for each in applied for name in each]
    assert names
    assert len(names) == len({*names})
    await SchemaCheck(pool)()


@pytest.mark.parametrize(("commits", "ready"), [("off", False), ("local", False), ("on", True), ("remote_apply", True)])
async def test_a_service_whose_commits_are_not_durable_is_not_ready(
    tmp_path: Path, dsn: str, pool: "asyncpg.Pool[Any]", commits: str, *, ready: bool
) -> None:
    """Durability can't be asked for through a pooler, which refuses settings of a session: the role has to bring it."""
    await pool.execute(f"ALTER DATABASE {dsn.rsplit('/', 1)[1]} SET synchronous_commit = {commits}")
    async with PgBouncer(tmp_path, dsn) as pooler, open_pool(pooler.dsn, max_size=1) as pooled:
        if ready:
            await SchemaCheck(pooled)()
        else:
            with pytest.raises(RuntimeError, match=rf"synchronous_commit is {commits}.*ALTER ROLE"):
                await SchemaCheck(pooled)()


async def test_a_pooler_that_ignores_our_settings_is_known_by_its_process(tmp_path: Path, dsn: str) -> None:
    ours = "jit, synchronous_commit, statement_timeout, lock_timeout, idle_in_transaction_session_timeout"
    async with PgBouncer(tmp_path, dsn, ignored=ours) as pooler, open_pool(pooler.dsn, max_size=1) as pool:
        assert await pool.fetchval("SELECT count(*) FROM pg_prepared_statements") == 0
        assert await pool.fetchval("SELECT current_setting('jit')") == "on"
