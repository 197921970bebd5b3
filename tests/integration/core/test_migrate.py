"""Migrations on a real PostgreSQL."""

import asyncio
import itertools
import re
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from sred_email_core.email_send_log.migrate import SchemaIsBusyError, migrate
from sred_email_core.email_send_log.schema_check import SchemaCheck
from sred_email_core.email_send_log.sql import Migration, migrations
from sred_email_core.postgres import open_pool
from sred_email_core.postgres_connection import connect_alone
from sred_email_local.engines import PostgresServer

NAMES = [name for _, name, _ in migrations()]
LAST_BEFORE_CARE = 9
"""The first release comes with these: nothing runs while they are applied."""
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


async def test_a_long_transaction_delays_a_migration_and_nobody_else(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for a table holds up everybody behind it: so it gives up, again and again, until the table is free."""
    await _migrate_up_to(10, empty, monkeypatch)
    told: list[str] = []
    async with open_pool(empty, max_size=3) as pool, pool.acquire() as long:
        transaction = long.transaction()
        await transaction.start()
        await long.fetch("SELECT * FROM email_dead_letters")
        migrating = asyncio.create_task(migrate(empty, say=told.append))
        while not told:
            started = asyncio.get_running_loop().time()
            await pool.fetch("SELECT * FROM email_dead_letters")
            assert asyncio.get_running_loop().time() - started < 5
        await transaction.rollback()
        assert await migrating == NAMES[10:]
    assert "0011_retention" in told[0]


async def test_a_migration_that_never_gets_its_table_says_so(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await _migrate_up_to(10, empty, monkeypatch)
    async with open_pool(empty, max_size=1) as pool, pool.acquire() as long, long.transaction():
        await long.fetch("SELECT * FROM email_dead_letters")
        with pytest.raises(SchemaIsBusyError, match="0011_retention: a table is locked by a long transaction"):
            await migrate(empty, patience=timedelta())
    assert await migrate(empty) == NAMES[10:]


async def test_an_autovacuum_is_told_to_yield(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL does so for whoever waits as long as ``deadlock_timeout``: who gives up before waits for all of it."""
    await _migrate_up_to(10, empty, monkeypatch)
    async with open_pool(empty, max_size=1) as pool:
        await pool.execute("ALTER TABLE email_dead_letters SET (autovacuum_enabled = off)")
        await pool.execute(
            "INSERT INTO email_dead_letters (id, reason, error)"
            " SELECT gen_random_uuid(), 'MALFORMED', repeat('x', 1000) FROM generate_series(1, 5000)"
        )
        await pool.execute(f"ALTER DATABASE {empty.rsplit('/', 1)[1]} SET deadlock_timeout = '1500ms'")
        await pool.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        await pool.execute("SELECT pg_reload_conf()")
        try:
            await pool.execute(
                "ALTER TABLE email_dead_letters SET (autovacuum_enabled = on, autovacuum_vacuum_insert_threshold = 1,"
                " autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_cost_delay = 100,"
                " autovacuum_vacuum_cost_limit = 1)"
            )
            while not await pool.fetchval(
                "SELECT 1 FROM pg_stat_progress_vacuum WHERE relid = 'email_dead_letters'::regclass"
            ):
                await asyncio.sleep(0.05)
            assert await migrate(empty, patience=timedelta(seconds=10)) == NAMES[10:]
        finally:
            await pool.execute("ALTER SYSTEM RESET autovacuum_naptime")
            await pool.execute("SELECT pg_reload_conf()")


async def test_an_index_takes_as_long_as_it_takes_whatever_the_timeouts_of_the_role_and_who_comes_second_waits(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _migrate_up_to(11, empty, monkeypatch)
    name = empty.rsplit("/", 1)[1]
    timeouts = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"]
    async with open_pool(empty, max_size=2) as pool:
        for row in await pool.fetch("SELECT name FROM pg_settings WHERE name = ANY ($1)", timeouts):
            await pool.execute(f"ALTER DATABASE {name} SET {row['name']} = '300ms'")
        writer = await connect_alone(empty)
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute("LOCK TABLE email_dead_letters IN ROW EXCLUSIVE MODE")
        migrating = asyncio.create_task(migrate(empty))
        while not migrating.done() and not await pool.fetchval(
            "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND query LIKE '%INDEX CONCURRENTLY%'"
            " AND pid <> pg_backend_pid() AND clock_timestamp() - query_start > interval '1 s'",
            name,
        ):
            await asyncio.sleep(0.05)
        second = asyncio.create_task(migrate(empty, patience=timedelta(seconds=0.1)))
        assert await asyncio.wait({migrating, second}, timeout=1.5) == (set(), {migrating, second})
        second.cancel()
        await asyncio.wait({second})
        await transaction.rollback()
        await writer.close()
        assert await migrating == NAMES[11:]


async def test_who_migrates_beside_another_says_so_and_waits_no_longer_than_its_patience(empty: str) -> None:
    told: list[str] = []
    await migrate(empty)
    async with open_pool(empty, max_size=1) as pool, pool.acquire() as other, other.transaction():
        await other.fetchval("SELECT pg_advisory_xact_lock($1)", 7_275_083_917_205_581_921)
        with pytest.raises(SchemaIsBusyError, match="another process migrates"):
            await migrate(empty, patience=timedelta(seconds=1), say=told.append)
    assert told == [f"{NAMES[0]} waits for another process that migrates"]


async def test_a_network_in_between_forgets_no_session_that_waits(empty: str) -> None:
    connection = await connect_alone(empty)
    assert await connection.fetchval("SHOW tcp_keepalives_idle") == "60"
    await connection.close()


async def test_an_index_is_built_while_others_write_and_again_where_that_was_broken_off(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _migrate_up_to(11, empty, monkeypatch)
    async with open_pool(empty, max_size=2) as pool:
        await pool.execute("CREATE INDEX email_dead_letters_handled ON email_dead_letters (failed_at)")
        await pool.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'email_dead_letters_handled'::regclass"
        )
        async with pool.acquire() as writer, writer.transaction():
            await writer.execute("LOCK TABLE email_leases IN ROW EXCLUSIVE MODE")  # another table: no matter
            assert await migrate(empty) == NAMES[11:]
        definition = await pool.fetchval("SELECT pg_get_indexdef('email_dead_letters_handled'::regclass)")
        assert "(resolved_at)" in definition


async def test_pods_that_build_an_index_at_once_wait_for_each_other_and_not_in_a_circle(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _migrate_up_to(11, empty, monkeypatch)
    applied = await asyncio.gather(*(migrate(empty) for _ in range(4)))
    assert sorted(name for names in applied for name in names) == sorted(NAMES[11:])


@pytest.mark.parametrize("migration", [m for m in migrations() if m.version > LAST_BEFORE_CARE], ids=lambda m: m.name)
def test_no_migration_locks_a_table_for_long(migration: Migration) -> None:
    """Tables may be large, and the version before still works on them: CONTRIBUTING.md says how it is done instead."""
    for statement in migration.statements:
        words = " ".join(statement.upper().split())
        made = set(re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", migration.text))
        table = re.search(r"\bON (\w+)", statement)
        if words.startswith(("CREATE INDEX", "CREATE UNIQUE INDEX")) and (table is None or table[1] not in made):
            assert "CONCURRENTLY" in words
        assert not re.search(
            r"\b(DROP COLUMN|RENAME|DROP TABLE|ALTER COLUMN \w+ (SET DATA )?TYPE|SET NOT NULL)\b", words
        )
        assert not re.search(r"ADD CONSTRAINT(?!.*NOT VALID)", words)
        assert migration.concurrently == ("CONCURRENTLY" in words or words.startswith("CALL "))


async def test_letters_of_before_get_their_groups_and_the_version_before_writes_them_too(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _migrate_up_to(14, empty, monkeypatch)
    insert = "INSERT INTO email_dead_letters (id, reason, error) VALUES (gen_random_uuid(), 'MALFORMED', $1)"
    connection = await asyncpg.connect(empty)
    await connection.execute(insert, "no room for ada@example.com")
    await migrate(empty)
    await connection.execute(insert, "no room for bob@example.com")
    groups = await connection.fetch("SELECT error_group, count(*) FROM email_dead_letters GROUP BY 1")
    await connection.close()
    assert [tuple(row) for row in groups] == [("no room for …", 2)]


async def test_letters_of_before_are_locked_in_the_order_of_services(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _migrate_up_to(14, empty, monkeypatch)
    letters = [uuid.UUID(int=number) for number in range(50)]
    lock = "SELECT FROM email_dead_letters WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE"
    async with open_pool(empty, max_size=3) as pool, pool.acquire() as service:
        insert = "INSERT INTO email_dead_letters (id, reason, error) VALUES ($1, 'MALFORMED', 'none')"
        await pool.executemany(insert, [(letter,) for letter in reversed(letters)])
        await _migrate_up_to(15, empty, monkeypatch)
        async with service.transaction():
            await service.execute(lock, letters[:1])
            grouping = asyncio.create_task(pool.execute("CALL email_dead_letters_group_old()"))
            while not await pool.fetchval("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"):
                await asyncio.sleep(0.02)
            await service.execute(lock, letters)
        await grouping
        assert await pool.fetchval("SELECT count(*) FROM email_dead_letters WHERE error_group = 'none'") == len(letters)


async def _migrate_up_to(version: int, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sred_email_core.email_send_log.migrate.migrations", lambda: migrations()[:version])
        await migrate(dsn)


def test_each_migration_has_a_number_of_its_own() -> None:
    numbers = [migration.version for migration in migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
