"""Who does what one process at a time should do: a lease in PostgreSQL, which runs out when its holder is silent."""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from datetime import timedelta
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log.sql import query
from sred_email_core.errors import LogUnavailableError

_PATIENCE_S = 5.0
_TRUSTED_SHARE = 1 / 3
"""Of its span: for so long nobody is asked again whether the lease is still held."""


class Lease:
    """The right to do some work, which only saves work: two that do it at once do no harm.

    A row, not a lock of a session: it holds through a pooler that lends connections for a transaction, keeps no
    connection, and is no open transaction that holds back vacuum. A holder that died, hangs or is cut off has it until
    it runs out, by PostgreSQL's clock.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", name: str, *, span: timedelta) -> None:
        """Prepare.

        Args:
            pool: Of the log.
            name: Of the work.
            span: For which it is held unless it is renewed; longer than the time between two calls.
        """
        self._pool = pool
        self._name = name
        self._span = span
        self._holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._mine = False
        self._maybe_mine = False
        """So it is too where the answer was lost."""
        self._asked_s = 0.0

    async def hold(self) -> bool:
        """Take the lease, or renew it; whether this process has it.

        Raises:
            LogUnavailableError: PostgreSQL does not answer; the lease is not held then.
        """
        asked_s = time.monotonic()
        if self._mine and asked_s - self._asked_s < self._span.total_seconds() * _TRUSTED_SHARE:
            return True
        self._mine, self._maybe_mine = False, True
        asked = (query("take_lease"), self._name, self._holder, self._span)
        self._mine = bool(await postgres.run(lambda: self._pool.fetchval(*asked, timeout=_PATIENCE_S)))
        self._maybe_mine = self._mine
        self._asked_s = asked_s
        return self._mine

    async def release(self) -> None:
        """Give the lease back, if it is held; where PostgreSQL does not answer, it runs out."""
        if not self._maybe_mine:
            return
        self._mine = self._maybe_mine = False
        asked = (query("give_back_lease"), self._name, self._holder)
        with contextlib.suppress(LogUnavailableError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await postgres.run(lambda: self._pool.execute(*asked))
