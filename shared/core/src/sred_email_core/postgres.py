"""The connection to PostgreSQL, and what its errors mean."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

import asyncpg

from sred_email_core.errors import LogUnavailableError, UnstorableError
from sred_email_core.postgres_connection import Connector, leave_read_only

T = TypeVar("T")

_NOT_NOW_CLASSES = frozenset({"08", "25", "26", "28", "3D", "3F", "53", "55", "57", "58"})
"""SQLSTATE classes of a server that can't serve now, until it is back or somebody has mended it: connection,
read-only standby, prepared statement, password, database, schema, resources, state, operator, system.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""
_NOT_NOW_STATES = frozenset({"42P01", "42501", "42P05"})
"""A table that a migration will bring, a privilege that is missing, a statement prepared by somebody else: the same."""
_CONFLICT_CLASS = "40"
"""Deadlock or serialization failure: the same statement, run again, settles it."""
_CUT = "the handler is closed"
_DATA_CLASSES = frozenset({"22", "23", "54"})
"""Values that the server refuses: malformed, against a constraint, over a limit."""


@asynccontextmanager
async def open_pool(
    dsn: str, *, max_size: int, command_timeout: timedelta = timedelta(seconds=30)
) -> "AsyncIterator[asyncpg.Pool[Any]]":
    """A pool while the context is open; it connects when first used, so that a service can start before its database.

    Args:
        dsn: Connection URI.
        max_size: The most connections.
        command_timeout: After which a statement is given up.
    """
    pool = asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=max_size,
        timeout=5,
        command_timeout=command_timeout.total_seconds(),
        connect=Connector(),
        # Nothing here changes a session, so what is given back stays as it is: a round trip less for each statement.
        reset=leave_read_only,
    )
    async with pool:
        try:
            yield pool
        finally:
            pool.terminate()  # whatever was to be finished is finished by now; a dead server must not hold us up


def is_unavailable(error: BaseException) -> bool:
    """Whether an exception of the driver means "not now", so that the same statement may succeed later."""
    if isinstance(error, asyncpg.PostgresError):
        return _class_of(error) in _NOT_NOW_CLASSES or error.sqlstate in _NOT_NOW_STATES
    if isinstance(error, RuntimeError):  # what uvloop raises for a write to a connection that was cut just now
        return _CUT in str(error)
    return isinstance(error, (OSError, TimeoutError, asyncpg.InterfaceError, EOFError))


def is_conflict(error: BaseException) -> bool:
    """Whether an exception of the driver means that transactions got in each other's way."""
    return isinstance(error, asyncpg.PostgresError) and _class_of(error) == _CONFLICT_CLASS


async def run(operation: Callable[[], Awaitable[T]]) -> T:
    """Run one statement or transaction; conflicts are settled by running it again.

    Raises:
        LogUnavailableError: PostgreSQL does not answer now. Whether a write took effect is unknown.
        UnstorableError: It refuses a value; nothing was written.
    """
    for attempt in range(1, 6):
        try:
            return await operation()
        except Exception as e:
            if is_unavailable(e):
                raise LogUnavailableError(f"PostgreSQL: {_words(e)}") from e
            if isinstance(e, asyncpg.PostgresError) and _class_of(e) in _DATA_CLASSES:
                raise UnstorableError(f"PostgreSQL refuses a value: {_words(e)}") from e
            if not is_conflict(e):
                raise
            if attempt == 5:  # noqa: PLR2004 - as in the range above
                raise LogUnavailableError(f"PostgreSQL: {_words(e)}") from e
    raise AssertionError("the loop returns or raises")


def _words(error: BaseException) -> str:
    """What an exception says, without its DETAIL: that may quote the row."""
    return (str(error).split("\n", 1)[0]) or type(error).__name__


def _class_of(error: asyncpg.PostgresError) -> str:
    return (getattr(error, "sqlstate", None) or "")[:2]
