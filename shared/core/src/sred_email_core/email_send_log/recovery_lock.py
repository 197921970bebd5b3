"""Who reconciles: one process at a time, by a lock that PostgreSQL takes back from whoever dies."""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import asyncpg
import structlog

from sred_email_core.errors import LogUnavailableError
from sred_email_core.postgres import is_unavailable

log = structlog.get_logger(__name__)

_LOCK = 7_275_083_917_205_581_922
"""Key of the advisory lock of the reconciler."""
_PATIENCE_S = 5.0
_TRUSTED_S = 5.0
"""For so long nobody is asked again whether the lock is still held: it only saves work, and its loss breaks nothing."""


class RecoveryLock:
    """An advisory lock on a session of its own, a connection that is kept out of the pool for as long as it is held.

    It belongs to the session, not to a transaction: a sweep may take long, and an open transaction would be ended by
    idle_in_transaction_session_timeout where it is set, and alarm whoever watches for such. The session ends with the
    process that has it. A process that is stopped, hangs, or is cut off does not end its session: then the server does,
    when it has not been heard of for the idle time.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", *, idle: timedelta) -> None:
        """Prepare.

        Args:
            pool: Where the connection comes from; given back, it is unlocked.
            idle: After which the server gives up a holder that says nothing; longer than the time between two calls.
        """
        self._pool = pool
        self._idle_ms = round(idle.total_seconds() * 1000)
        self._stack = AsyncExitStack()
        self._connection: Any = None
        self._mine = False
        self._asked_s = 0.0

    async def hold(self) -> bool:
        """Take the lock, or see that it is still held; whether this process has it.

        Raises:
            LogUnavailableError: PostgreSQL does not answer; the lock is not held then.
        """
        if self._is_lost():
            await self.release()
        if self._mine and time.monotonic() - self._asked_s < _TRUSTED_S:
            return True
        try:
            if self._connection is None:
                await self._connect()
            asked = "SELECT true" if self._mine else f"SELECT pg_try_advisory_lock({_LOCK})"
            self._mine = bool(await self._connection.fetchval(asked, timeout=_PATIENCE_S))
            self._asked_s = time.monotonic()
        except Exception as e:
            await self.release()
            if is_unavailable(e):
                raise LogUnavailableError(f"PostgreSQL: {str(e) or type(e).__name__}") from e
            raise
        return self._mine

    async def release(self) -> None:
        """Give the lock back, if it is held."""
        self._connection, self._mine = None, False
        stack, self._stack = self._stack, AsyncExitStack()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await stack.aclose()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as e:
            log.debug("connection_of_the_lock_lost", reason=str(e))

    def _is_lost(self) -> bool:
        try:
            return self._connection is not None and bool(self._connection.is_closed())
        except asyncpg.InterfaceError:  # the pool has noticed before
            return True

    async def _connect(self) -> None:
        self._connection = await self._stack.enter_async_context(self._pool.acquire(timeout=_PATIENCE_S))
        self._stack.push_async_callback(_give_back, self._connection)
        setting = "SELECT set_config('idle_session_timeout', $1, false)"
        await self._connection.fetchval(setting, str(self._idle_ms), timeout=_PATIENCE_S)


async def _give_back(connection: Any) -> None:  # noqa: ANN401 - a connection of the pool
    """Let a connection be as it was, unlocked; one of which that is not sure is ended."""
    try:
        await connection.reset(timeout=_PATIENCE_S)
    except BaseException:
        connection.terminate()
        raise
