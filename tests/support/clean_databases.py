"""Empty, migrated databases for tests: each is emptied and lent again, since a new one takes ten times as long."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from sred_email_core.email_send_log.migrate import migrate

_TEMPLATE = "migrated"
_MOST_LOANS = 40
"""Of one database: what is deleted leaves room behind, and nobody waits for a vacuum."""

_END_OTHERS = """
WITH others AS MATERIALIZED (
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
)
SELECT count(pg_terminate_backend(pid, 2000)) FROM others
"""
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
_SEQUENCES_START = """
SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
FROM pg_sequences WHERE last_value IS NOT NULL
"""
_SHAPE = """
SELECT md5(string_agg(part, E'\n' ORDER BY part)) FROM (
    SELECT 'namespace ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
    UNION ALL
    SELECT concat_ws(' ', relname, relkind, reloptions, relowner::regrole, relacl) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws(' ', attrelid::regclass, attname, atttypid, attnotnull, attisdropped) FROM pg_attribute
    WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
    UNION ALL
    SELECT concat_ws(' ', indexrelid::regclass, indisvalid) FROM pg_index
    WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
    UNION ALL
    SELECT concat_ws(' ', conrelid::regclass, conname, convalidated) FROM pg_constraint
    UNION ALL
    SELECT concat_ws(' ', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger
    UNION ALL
    SELECT concat_ws(' ', oid::regprocedure, md5(prosrc)) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'settings ' || array_to_string(setconfig, ',') FROM pg_db_role_setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS parts (part)
"""


class CleanDatabases:
    """Databases of one server, each lent to one test at a time.

    What a test did to the tables, types or settings of its database is noticed: such a database is dropped.
    """

    def __init__(self, server_dsn: str) -> None:
        self._server_dsn = server_dsn
        self._shape = ""
        self._rows: dict[str, str] = {}
        self._clean: list[str] = []
        self._loans: dict[str, int] = {}

    async def prepare(self) -> None:
        """Make the database that others are copies of, and remember what is in it."""
        await self._on_server(f"CREATE DATABASE {_TEMPLATE}")
        await migrate(self.dsn(_TEMPLATE))
        connection = await asyncpg.connect(self.dsn(_TEMPLATE))
        self._shape = await connection.fetchval(_SHAPE)
        for (table,) in await connection.fetch(_TABLES):
            rows = await connection.fetchval(f"SELECT jsonb_agg(t) FROM {table} AS t")  # noqa: S608 - of the catalogue
            if rows is not None:
                self._rows[table] = rows
        await connection.close()

    def dsn(self, name: str) -> str:
        """Of a database."""
        return urlunsplit(urlsplit(self._server_dsn)._replace(path=f"/{name}"))

    async def lend(self) -> str:
        """The name of an empty, migrated database."""
        if self._clean:
            return self._clean.pop()
        name = f"test_{len(self._loans) + 1}"
        self._loans[name] = 0
        await self._on_server(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return name

    async def take_back(self, name: str) -> None:
        """Empty a database for the next test, or drop it."""
        self._loans[name] += 1
        try:
            clean = self._loans[name] < _MOST_LOANS and await self._emptied(name)
        except (asyncpg.PostgresError, OSError):
            clean = False
        if clean:
            self._clean.append(name)
        else:
            await self._on_server(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def _emptied(self, name: str) -> bool:
        """Empty a database; whether it is as it was copied."""
        connection = await asyncpg.connect(self.dsn(name), timeout=5)
        try:
            await connection.execute(_END_OTHERS)
            if await connection.fetchval(_END_OTHERS) or await connection.fetchval(_SHAPE) != self._shape:
                return False
            await self._empty(connection)
        finally:
            connection.terminate()
        return True

    async def _empty(self, connection: "asyncpg.Connection[Any]") -> None:
        tables = [row["tablename"] for row in await connection.fetch(_TABLES)]
        statements = [f"DELETE FROM {table}" for table in tables]  # noqa: S608 - names of the catalogue
        await connection.execute(";".join([*statements, _SEQUENCES_START]))
        for table, rows in self._rows.items():
            await connection.execute(
                f"INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::{table}, $1)",  # noqa: S608 - the same
                rows,
            )

    async def _on_server(self, statement: str) -> None:
        connection = await asyncpg.connect(self._server_dsn)
        await connection.execute(statement)
        await connection.close()
