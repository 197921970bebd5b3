"""How a connection to PostgreSQL is made: settings of its session, whether a pooler stands in between, its version."""

import sys
from typing import Any

import asyncpg
import structlog

log = structlog.get_logger(__name__)

OLDEST_VERSION = 14

_ANYWHERE = {"application_name": "sred-email", "timezone": "UTC"}
"""Poolers keep these for each of their clients."""
_OURS = {
    # Acceptance means durable, whatever the server's default says. JIT costs more than our statements.
    "synchronous_commit": "on",
    "jit": "off",
    # The server ends what a client that hangs or is gone can't: longer than clients wait themselves.
    "statement_timeout": "40s",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "60s",
}
"""Poolers refuse or ignore these: they belong to a session. There the role has to bring them (docs/postgresql.md)."""
MIGRATING = "sred-email-migrate"
"""What sessions are called that change the schema."""
_ALONE = {
    "application_name": MIGRATING,
    # An index takes as long as it takes, whatever the role brings; while it is built, another session waits beside it,
    # which no network in between is to forget.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "tcp_keepalives_idle": "60",
}
_ALONE_FROM_17 = {**_ALONE, "transaction_timeout": "0"}
_ANSWER_S = 5.0


class ServerTooOldError(asyncpg.InterfaceError):
    """The server is of a version that lacks what the log needs."""

    def __init__(self, version: str) -> None:
        super().__init__(f"this is PostgreSQL {version}: at least {OLDEST_VERSION} is needed")


class Connector:
    """Makes the connections of a pool.

    A pooler in transaction mode lends a server's session to one client after the other: a statement that one has
    prepared there is unknown to the next, or is another one's of the same name. So nothing is prepared through a
    pooler. It is known by its answer: it refuses settings of a session, or the process it names is not the server's.
    """

    def __init__(self) -> None:
        self._pooled = False

    async def __call__(self, *args: Any, **options: Any) -> "asyncpg.Connection[Any]":  # noqa: ANN401 - the driver's
        """Connect as asyncpg.connect does.

        Raises:
            ServerTooOldError: The server's version will not do.
            Exception: The driver's.
        """
        if not self._pooled:
            connection = await self._connect_directly(*args, **options)
            if connection is not None:
                return _of_a_version_that_will_do(connection)
            self._pooled = True
            log.info("postgres_pooler_found", meaning="nothing is prepared, the role's settings hold")
        connection = await asyncpg.connect(*args, **options, server_settings=_ANYWHERE, statement_cache_size=0)
        return _of_a_version_that_will_do(connection)

    async def _connect_directly(self, *args: Any, **options: Any) -> "asyncpg.Connection[Any] | None":  # noqa: ANN401
        """A connection to the server itself; None: a pooler answered."""
        connection: asyncpg.Connection[Any]
        try:
            connection = await asyncpg.connect(*args, **options, server_settings={**_ANYWHERE, **_OURS})
        except asyncpg.ProtocolViolationError as e:
            if "startup parameter" not in str(e):
                raise
            return None
        try:
            process = connection.get_server_pid()
            await connection.execute(f"SELECT 1 / (pg_backend_pid() = {process})::int", timeout=_ANSWER_S)
        except asyncpg.DivisionByZeroError:
            connection.terminate()
            return None
        except BaseException:
            connection.terminate()
            raise
        return connection


async def connect_alone(dsn: str) -> "asyncpg.Connection[Any]":
    """A connection outside any pool, for what changes the schema or reads all of a table.

    To the server it is without the timeouts of the role; a pooler may refuse to be told so.

    Raises:
        ServerTooOldError: The server's version will not do.
        Exception: The driver's.
    """

    async def connect(settings: dict[str, str]) -> "asyncpg.Connection[Any]":
        return await asyncpg.connect(dsn, timeout=10, statement_cache_size=0, server_settings=settings)

    try:
        connection = await connect(_ALONE_FROM_17)
    except asyncpg.UndefinedObjectError:
        connection = await connect(_ALONE)
    except asyncpg.ProtocolViolationError as e:
        if "startup parameter" not in str(e):
            raise
        connection = await connect({"application_name": MIGRATING})
    return _of_a_version_that_will_do(connection)


async def leave_read_only(connection: "asyncpg.Connection[Any]") -> None:
    """End a connection that is given back by a server that takes no writes any more: the next may find one that does.

    Of a primary that became a standby, or was told to be read-only, the driver hears without asking.
    """
    settings = connection.get_settings()
    if "on" in (getattr(settings, "default_transaction_read_only", ""), getattr(settings, "in_hot_standby", "")):
        connection.terminate()


async def refuse_old_server(pool: "asyncpg.Pool[Any]") -> None:
    """Return if the server will do, or does not answer now.

    Raises:
        SystemExit: With code 2, after one line on standard error: its version will not do.
    """
    try:
        async with pool.acquire(timeout=_ANSWER_S):
            return
    except ServerTooOldError as e:
        print(f"SRED_EMAIL_POSTGRES_DSN: {e}", file=sys.stderr)  # noqa: T201 - as bad settings are told
        raise SystemExit(2) from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return  # it is waited for


def _of_a_version_that_will_do(connection: "asyncpg.Connection[Any]") -> "asyncpg.Connection[Any]":
    if connection.get_server_version().major < OLDEST_VERSION:
        version = connection.get_settings().server_version
        connection.terminate()
        raise ServerTooOldError(version)
    return connection
