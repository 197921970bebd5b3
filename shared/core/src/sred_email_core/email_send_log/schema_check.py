"""Whether the log can be written now, as this version needs it."""

import asyncio
from typing import Any

import asyncpg

from sred_email_core.email_send_log.sql import migrations
from sred_email_core.errors import LogUnavailableError

_STATE = (
    "SELECT current_setting('transaction_read_only') AS read_only, current_setting('synchronous_commit') AS commits"
)
_DURABLE = ("on", "remote_write", "remote_apply")


class SchemaCheck:
    """A health check: PostgreSQL takes writes, commits them durably, and has every migration that this version needs.

    A schema that is newer will do: migrations leave in place what the version before needs.

    Attributes:
        complete: Set once every migration was seen. Until then nothing is to be done with the log: a version that was
            started before its migration would find half of what it does impossible, and leave the other half behind.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self.complete = asyncio.Event()
        self._pool = pool
        self._lacks = "PostgreSQL has not answered since this process was started"

    def require(self) -> None:
        """Return once every migration was seen.

        Raises:
            LogUnavailableError: They were not; repeat the call.
        """
        if not self.complete.is_set():
            raise LogUnavailableError(self._lacks)

    async def __call__(self) -> None:
        """Return if so.

        Raises:
            RuntimeError: It does not, with the remedy.
            Exception: The driver's, when PostgreSQL does not answer.
        """
        (state,) = await self._pool.fetch(_STATE)
        if not self.complete.is_set():
            await self._look_for_migrations()
        if state["read_only"] == "on":
            raise RuntimeError("PostgreSQL takes no writes: this is a standby, or default_transaction_read_only is on")
        if state["commits"] not in _DURABLE:
            raise RuntimeError(
                f"synchronous_commit is {state['commits']}, which may lose what was accepted: behind a pooler the role"
                " has to bring it (ALTER ROLE … SET synchronous_commit = on)"
            )

    async def _look_for_migrations(self) -> None:
        have: set[int] = set()
        if await self._pool.fetchval("SELECT to_regclass('email_schema_migrations')") is not None:
            have = {row["version"] for row in await self._pool.fetch("SELECT version FROM email_schema_migrations")}
        missing = [name for version, name, _ in migrations() if version not in have]
        if missing:
            self._lacks = f"the schema lacks {', '.join(missing)}: run sred-email-ingress migrate"
            raise RuntimeError(self._lacks)
        self.complete.set()
