"""docs/postgresql.md: the role of the services has what they need, and no more."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from sred_email_core.email_send_log.migrate import migrate
from sred_email_local.engines import PostgresServer

ROOT = Path(__file__).resolve().parents[3]
QUERIES = sorted((ROOT / "shared/core/src/sred_email_core/email_send_log/queries").glob("*.sql"))
SERVICE, MIGRATE = "sred_email", "sred_email_migrate"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(postgres: PostgresServer) -> AsyncIterator[str]:
    """A database with the roles of the page, migrated by the one that may."""
    assert postgres.port  # roles are of a whole server: not of one that is somebody else's
    name = "with_roles"
    server = await asyncpg.connect(postgres.dsn)
    await server.execute(f"CREATE DATABASE {name}")
    (block,) = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "postgresql.md").read_text(), re.DOTALL)
    owner = await asyncpg.connect(_dsn(postgres, "postgres", name))
    await owner.execute(block)
    await owner.close()
    await migrate(_dsn(postgres, MIGRATE, name))
    yield name
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.execute(f"DROP ROLE {SERVICE}; DROP ROLE {MIGRATE}")
    await server.close()


@pytest_asyncio.fixture(loop_scope="module")
async def service(postgres: PostgresServer, database: str) -> "AsyncIterator[asyncpg.Connection[Any]]":
    """As the services connect."""
    connection = await asyncpg.connect(_dsn(postgres, SERVICE, database))
    yield connection
    await connection.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_service_role_may_run_every_statement(service: "asyncpg.Connection[Any]") -> None:
    for file in QUERIES:
        text = file.read_text()
        await service.execute(f"PREPARE it AS {text}")
        count = max([0, *(int(number) for number in re.findall(r"\$(\d+)", text))])
        values = f"({', '.join(['NULL'] * count)})" if count else ""
        await service.execute(f"EXPLAIN EXECUTE it{values}")  # asks for the privileges, and changes nothing
        await service.execute("DEALLOCATE it")
    assert await service.fetchval("SELECT count(*) FROM email_schema_migrations")


async def test_the_service_role_commits_durably_and_gives_up_what_hangs(service: "asyncpg.Connection[Any]") -> None:
    shown = [
        await service.fetchval(f"SHOW {name}") for name in ("synchronous_commit", "statement_timeout", "lock_timeout")
    ]
    assert shown == ["on", "40s", "20s"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (a integer)",
        "ALTER TABLE email_send_log ADD COLUMN a integer",
        "DROP TABLE email_audit",
        "TRUNCATE email_audit",
        "CREATE INDEX ON email_send_log (subject)",
    ],
)
async def test_the_service_role_changes_no_table(service: "asyncpg.Connection[Any]", statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service.execute(statement)


def _dsn(server: PostgresServer, role: str, database: str) -> str:
    return f"{server.dsn.rsplit('/', 1)[0]}/{database}".replace("postgres@", f"{role}@")
