"""The log as the reconciler uses it: what is open, and who may look for it."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log.sql import query
from sred_email_core.queue.codec import QueuedEmail

_LOCK = 7_275_083_917_205_581_922
"""Key of the advisory lock of the reconciler."""


@dataclass(frozen=True, slots=True)
class WaitingEmails:
    """A page of emails that wait, and the id to go on from; None: this was the last page."""

    emails: list[QueuedEmail]
    next_id: uuid.UUID | None


class RecoveryLog:
    """Finds open emails. Every method raises LogUnavailableError when PostgreSQL does not answer."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    @asynccontextmanager
    async def only_one(self) -> AsyncIterator[bool]:
        """Whether this process is the one that may reconcile, for as long as the context is open.

        The lock is PostgreSQL's and belongs to a transaction: it ends with the process that holds it, whatever ends it.
        """
        async with self._pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield bool(await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK))
            finally:
                if not connection.is_closed():
                    await transaction.rollback()

    async def waiting(self, *, after: uuid.UUID | None, older_than: timedelta, size: int) -> WaitingEmails:
        """Emails that wait to be sent, in order of acceptance.

        Args:
            after: Id of the last one seen; None: from the start.
            older_than: Those that changed since then are left to whoever changed them.
            size: The most to return.
        """
        rows = await postgres.run(lambda: self._pool.fetch(query("find_waiting"), after, older_than, size))
        emails = [
            QueuedEmail.of_content(
                email_id=str(row["id"]),
                kind=row["kind"],
                priority=row["priority"],
                accepted_at=row["created_at"],
                expire_at=row["expire_at"],
                content=row["message"],
            )
            for row in rows
        ]
        return WaitingEmails(emails, rows[-1]["id"] if len(rows) == size else None)

    async def due_sends(self, *, older_than: timedelta, size: int) -> list[list[str]]:
        """Open sends that should have been repeated by now: the email ids of each, in order."""
        rows = await postgres.run(lambda: self._pool.fetch(query("find_due_sends"), older_than, size))
        sends: dict[str, list[str]] = {}
        for row in rows:
            sends.setdefault(row["send_id"], []).append(str(row["email_id"]))
        return list(sends.values())
