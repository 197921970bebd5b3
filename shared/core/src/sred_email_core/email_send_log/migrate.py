"""Bring a database to the newest schema, while services of the version before and of this one work on it.

Plain SQL files under an advisory lock: the schema is small, needs what only PostgreSQL's own SQL says, and a migration
tool would bring a second database driver into the image.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import asyncpg

from sred_email_core.email_send_log.sql import Migration, migrations
from sred_email_core.postgres_connection import MIGRATING, connect_alone

_LOCK = 7_275_083_917_205_581_921
"""Key of the advisory lock; any number that nobody else in this database uses."""
_LOCK_WAIT = (
    "SELECT set_config('lock_timeout', (setting::int + 500)::text, true)"
    " FROM pg_settings WHERE name = 'deadlock_timeout'"
)
"""Of a migration for a table: short, as everybody who comes after it waits, too; long enough for PostgreSQL to tell an
autovacuum to yield, which it does for whoever has waited as long as ``deadlock_timeout``."""
_NO_TIMEOUTS = (
    "SELECT set_config(name, '0', true) FROM pg_settings"
    " WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')"
)
"""Through a pooler, which refuses to be told so at the start; servers before 17 have no ``transaction_timeout``."""
_ANOTHER_WORKS = (
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()"
    " AND pid <> pg_backend_pid() AND state = 'active' AND query_start < clock_timestamp() - interval '1 second')"
)
"""A statement of another process that migrates takes its time, as the building of an index does."""
_BUSY = (
    "a table is locked by a long transaction, or by a vacuum (pg_stat_activity shows which; an autovacuum yields,"
    " unless it prevents wraparound): run this again when it has ended"
)
_PAUSE_S = 0.5
PATIENCE = timedelta(minutes=10)
"""With tables that are locked. The Job of deploy/kubernetes has time for as many runs as it makes."""


class SchemaIsBusyError(Exception):
    """A table could not be locked in time; the migrations before stay, and it may be run again."""


async def migrate(
    dsn: str, *, patience: timedelta = PATIENCE, say: Callable[[str], object] = lambda _: None
) -> list[str]:
    """Apply the migrations that are missing, each on its own; safe from several processes at once, and under load.

    A migration that has to wait for a table soon gives up, so that it never holds up traffic behind a long transaction,
    and is tried again. Another process that migrates is waited for while a statement of its own runs.

    Args:
        dsn: Connection URI of the database.
        patience: How long each migration is tried, not counting the work of another process.
        say: Told, in words, what is waited for.

    Returns:
        Names of the migrations that this call applied; empty: the schema was new already.

    Raises:
        asyncpg.PostgresError: A migration failed and was rolled back; those before it stay.
        SchemaIsBusyError: It had no success within the patience.
        ServerTooOldError: The server's version will not do.
    """
    connection = await connect_alone(dsn)
    try:
        return [m.name for m in migrations() if await _apply_within(patience, connection, dsn, m, say)]
    finally:
        await connection.close()


async def _apply_within(
    patience: timedelta,
    connection: "asyncpg.Connection[Any]",
    dsn: str,
    migration: Migration,
    say: Callable[[str], object],
) -> bool:
    """Apply a migration as soon as nobody is in the way; whether it was missing."""
    deadline_s = time.monotonic() + patience.total_seconds()
    told: str | None = None
    while True:
        cause: asyncpg.LockNotAvailableError | None = None
        try:
            missing = await _apply(connection, dsn, migration)
            if missing is not None:
                return missing
            waits, why = "another process that migrates", "another process migrates: run this again when it has ended"
            if await connection.fetchval(_ANOTHER_WORKS, MIGRATING):
                deadline_s = time.monotonic() + patience.total_seconds()
        except asyncpg.LockNotAvailableError as e:
            waits, why, cause = "a table that a transaction or a vacuum holds", _BUSY, e
        if time.monotonic() > deadline_s:
            raise SchemaIsBusyError(f"{migration.name}: {why}") from cause
        if waits != told:
            say(f"{migration.name} waits for {waits}")
            told = waits
        await asyncio.sleep(_PAUSE_S)


async def _apply(connection: "asyncpg.Connection[Any]", dsn: str, migration: Migration) -> bool | None:
    """Apply a migration; whether it was missing. None: another process migrates just now."""
    async with connection.transaction():
        # Asked for and not waited for: who waits has a snapshot, and an index that is built concurrently waits for its
        # end in turn. Of the transaction, so that it also holds through a pooler in transaction mode.
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
            return None
        await connection.execute(_LOCK_WAIT)
        await connection.execute(_NO_TIMEOUTS)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS email_schema_migrations"
            " (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        if await connection.fetchval("SELECT 1 FROM email_schema_migrations WHERE version = $1", migration.version):
            return False
        if migration.concurrently:
            # Lets go of what was read above: an open portal has a snapshot, for whose end the index would wait.
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            await _run_beside(dsn, migration)
        else:
            await connection.execute(migration.text)
        await connection.execute(
            "INSERT INTO email_schema_migrations (version, name) VALUES ($1, $2)", migration.version, migration.name
        )
        return True


async def _run_beside(dsn: str, migration: Migration) -> None:
    """Run statements that can't be in a transaction, one after the other; another connection holds the lock."""
    beside = await connect_alone(dsn)
    try:
        for statement in migration.statements:
            await beside.execute(statement, timeout=None)
    finally:
        await beside.close()
