"""Migrations on a real PostgreSQL."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import asyncpg
import pytest

from sred_email_core.email_send_log.migrate import SchemaCheck, migrate
from sred_email_core.email_send_log.sql import migrations
from sred_email_core.postgres import open_pool
from sred_email_local.engines import PostgresServer

NAMES = [name for _, name, _ in migrations()]
_numbers = itertools.count(1)


@pytest.fixture
async def empty(postgres: PostgresServer) -> AsyncIterator[str]:
    """A database without any schema."""
    name = f"not_migrated_{next(_numbers)}"
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute(f"CREATE DATABASE {name}")
    yield f"{postgres.dsn.rsplit('/', 1)[0]}/{name}"
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


async def test_an_empty_database_gets_every_migration_in_order(empty: str) -> None:
    assert await migrate(empty) == NAMES
    async with open_pool(empty, max_size=1) as pool:
        rows = await pool.fetch("SELECT version, name FROM email_schema_migrations ORDER BY applied_at, version")
        assert [row["name"] for row in rows] == NAMES
        assert [row["version"] for row in rows] == [int(name[:4]) for name in NAMES]


async def test_migrating_twice_is_the_same_as_once(empty: str) -> None:
    await migrate(empty)
    assert await migrate(empty) == []


async def test_pods_that_migrate_at_once_apply_each_migration_once(empty: str) -> None:
    applied = await asyncio.gather(*(migrate(empty) for _ in range(5)))
    assert sorted(name for names in applied for name in names) == sorted(NAMES)


async def test_the_table_of_the_contract_has_its_columns(empty: str) -> None:
    await migrate(empty)
    async with open_pool(empty, max_size=1) as pool:
        rows = await pool.fetch(
            "SELECT column_name, udt_name FROM information_schema.columns WHERE table_name = 'email_send_log'"
        )
    types = {row["column_name"]: row["udt_name"] for row in rows}
    expected = {
        "id": "uuid",
        "idempotency_key": "text",
        "kind": "text",
        "status": "text",
        "recipients": "_text",
        "subject": "text",
        "attempts": "int4",
        "last_error": "text",
        "provider_message_id": "text",
        "created_at": "timestamptz",
        "updated_at": "timestamptz",
        "sent_at": "timestamptz",
    }
    assert expected.items() <= types.items()


async def test_a_migration_that_fails_is_rolled_back_and_can_be_tried_again(empty: str) -> None:
    async with open_pool(empty, max_size=1) as pool:
        await pool.execute("CREATE TABLE email_events (in_the_way integer)")
        with pytest.raises(asyncpg.DuplicateTableError):
            await migrate(empty)
        assert await pool.fetchval("SELECT to_regclass('email_send_log')") is None
        await pool.execute("DROP TABLE email_events")
    assert await migrate(empty) == NAMES


async def test_the_schema_check_names_what_is_missing_until_it_is_there(empty: str) -> None:
    async with open_pool(empty, max_size=1) as pool:
        check = SchemaCheck(pool)
        with pytest.raises(RuntimeError, match=NAMES[-1]):
            await check()
        await migrate(empty)
        await check()
        await check()


async def test_a_schema_newer_than_this_version_will_do(empty: str) -> None:
    await migrate(empty)
    async with open_pool(empty, max_size=1) as pool:
        await pool.execute("INSERT INTO email_schema_migrations (version, name) VALUES (9999, '9999_of_tomorrow')")
        await SchemaCheck(pool)()
    assert await migrate(empty) == []
