"""Bring a database to the newest schema.

Plain SQL files under an advisory lock: the schema is small, needs what only PostgreSQL's own SQL says, and a migration
tool would bring a second database driver into the image.
"""

from typing import Any

import asyncpg

from sred_email_core.email_send_log.sql import migrations

_LOCK = 7_275_083_917_205_581_921
"""Key of the advisory lock; any number that nobody else in this database uses."""


async def migrate(dsn: str) -> list[str]:
    """Apply the migrations that are missing, each in a transaction of its own; safe from several processes at once.

    Args:
        dsn: Connection URI of the database.

    Returns:
        Names of the migrations that this call applied; empty: the schema was new already.

    Raises:
        asyncpg.PostgresError: A migration failed and was rolled back; those before it stay.
    """
    connection = await asyncpg.connect(dsn, timeout=10)
    applied = []
    try:
        for version, name, text in migrations():
            async with connection.transaction():
                # Transaction-level, so that it also holds through a pooler in transaction mode.
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                await connection.execute(
                    "CREATE TABLE IF NOT EXISTS email_schema_migrations"
                    " (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
                )
                if await connection.fetchval("SELECT 1 FROM email_schema_migrations WHERE version = $1", version):
                    continue
                await connection.execute(text)
                await connection.execute(
                    "INSERT INTO email_schema_migrations (version, name) VALUES ($1, $2)", version, name
                )
                applied.append(name)
    finally:
        await connection.close()
    return applied


class SchemaCheck:
    """A health check: PostgreSQL answers and has every migration that this version needs."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool
        self._complete = False

    async def __call__(self) -> None:
        """Return if so.

        Raises:
            RuntimeError: Migrations are missing.
            Exception: The driver's, when PostgreSQL does not answer.
        """
        if self._complete:
            await self._pool.execute("SELECT 1")
            return
        have: set[int] = set()
        if await self._pool.fetchval("SELECT to_regclass('email_schema_migrations')") is not None:
            have = {row["version"] for row in await self._pool.fetch("SELECT version FROM email_schema_migrations")}
        missing = [name for version, name, _ in migrations() if version not in have]
        if missing:
            raise RuntimeError(f"the schema lacks {', '.join(missing)}: run sred-email-ingress migrate")
        self._complete = True
