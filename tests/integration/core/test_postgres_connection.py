"""Connections to real servers: what their sessions are set to, read-only servers, servers that are too old."""

from typing import Any

import asyncpg
import pytest
from integration.core.log_builder import LogWorld

from sred_email_core.email_send_log.migrate import migrate
from sred_email_core.email_send_log.schema_check import SchemaCheck
from sred_email_core.errors import LogUnavailableError
from sred_email_core.postgres import open_pool, run
from sred_email_core.postgres_connection import ServerTooOldError, refuse_old_server
from support.old_postgres import GreetingServer


def database(dsn: str) -> str:
    return dsn.rsplit("/", 1)[1]


@pytest.fixture
async def read_only(dsn: str, pool: "asyncpg.Pool[Any]") -> str:
    """The database as a standby shows it: new sessions may not write."""
    await pool.execute(f"ALTER DATABASE {database(dsn)} SET default_transaction_read_only = on")
    return dsn


async def test_a_session_ends_what_its_client_can_not(pool: "asyncpg.Pool[Any]") -> None:
    row = await pool.fetchrow(
        "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
        " current_setting('idle_in_transaction_session_timeout'), current_setting('jit'),"
        " current_setting('synchronous_commit')"
    )
    assert row is not None
    assert tuple(row) == ("40s", "20s", "1min", "off", "on")


async def test_statements_are_prepared_once_where_no_pooler_is_between(pool: "asyncpg.Pool[Any]") -> None:
    async with pool.acquire() as connection:
        await connection.fetch("SELECT 1 AS one")
        assert await connection.fetchval(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement = $1", "SELECT 1 AS one"
        )


async def test_a_lock_that_is_never_let_go_is_not_waited_for_for_ever(world_of_log: LogWorld) -> None:
    await world_of_log.accept()
    async with world_of_log.pool.acquire() as holder, holder.transaction():
        await holder.execute("SELECT FROM email_send_log FOR UPDATE")
        async with world_of_log.pool.acquire() as connection:
            await connection.execute("SET lock_timeout = '50ms'")  # for the test's sake
            with pytest.raises(LogUnavailableError):
                await run(lambda: connection.fetch("SELECT FROM email_send_log FOR UPDATE"))
            await connection.execute("RESET lock_timeout")


async def test_connections_to_a_server_that_takes_no_writes_are_thrown_away(read_only: str) -> None:
    async with open_pool(read_only, max_size=1) as pool:
        with pytest.raises(LogUnavailableError):
            await run(lambda: pool.execute("DELETE FROM email_leases"))
        assert pool.get_size() == 0
        async with pool.acquire() as other:  # as somebody promotes it
            await other.execute("SET default_transaction_read_only = off")
            await other.execute(f"ALTER DATABASE {database(read_only)} RESET default_transaction_read_only")
        assert await pool.execute("DELETE FROM email_leases") == "DELETE 0"


async def test_a_session_that_becomes_read_only_is_left_for_a_new_one(dsn: str) -> None:
    """As after a failover that cut no connection: the old primary answers on, and the name leads to another."""
    process = "SELECT pg_backend_pid()"
    async with open_pool(dsn, max_size=1) as pool:
        before = await pool.fetchval(process)
        await pool.execute("SET default_transaction_read_only = on")  # the driver hears of it as of a standby
        assert await pool.fetchval(process) != before
        assert await pool.execute("DELETE FROM email_leases") == "DELETE 0"


async def test_a_service_on_a_read_only_server_is_not_ready_and_says_why(read_only: str) -> None:
    async with open_pool(read_only, max_size=1) as pool:
        with pytest.raises(RuntimeError, match="takes no writes"):
            await SchemaCheck(pool)()


async def test_a_server_that_is_too_old_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    async with GreetingServer("13.14") as server, open_pool(server.dsn, max_size=1) as pool:
        with pytest.raises(LogUnavailableError, match=r"PostgreSQL 13\.14: at least 14 is needed"):
            await run(lambda: pool.fetch("SELECT 1"))
        with pytest.raises(SystemExit) as ended:
            await refuse_old_server(pool)
        assert ended.value.code == 2
        assert capsys.readouterr().err == "SRED_EMAIL_POSTGRES_DSN: this is PostgreSQL 13.14: at least 14 is needed\n"
        with pytest.raises(ServerTooOldError):
            await migrate(server.dsn)


async def test_a_server_that_will_do_and_one_that_is_away_are_not_refused(pool: "asyncpg.Pool[Any]") -> None:
    await refuse_old_server(pool)
    async with open_pool("postgresql://nobody@127.0.0.1:1/none", max_size=1) as away:
        await refuse_old_server(away)
