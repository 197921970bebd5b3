"""The log as operators use it: dead letters that are looked at one by one, resolved or discarded."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log import audit
from sred_email_core.email_send_log.audit import Deed
from sred_email_core.email_send_log.records import DeadLetterRecord
from sred_email_core.email_send_log.sql import query


class HandledLetterLog:
    """Ends dead letters without sending anything.

    Every method raises LogUnavailableError when PostgreSQL does not answer; repeating it is safe.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", *, horizon: timedelta) -> None:
        self._pool = pool
        self._horizon = horizon

    async def get(self, dead_letter_id: uuid.UUID) -> DeadLetterRecord | None:
        """One open dead letter; None: there is none."""
        row = await postgres.run(lambda: self._pool.fetchrow(query("get_dead_letter"), dead_letter_id))
        return None if row is None else DeadLetterRecord(**row)

    async def give_up(
        self, ids: Sequence[uuid.UUID], resolution: str, *, note: str | None = None, deed: Deed | None = None
    ) -> list[str]:
        """Close letters whose emails were not delivered; they lose their content. Those that were open.

        Args:
            ids: Of the letters.
            resolution: NOT_DELIVERED or DISCARDED.
            note: What a person says of it.
            deed: What the audit says.
        """

        async def once() -> list[str]:
            async with self._pool.acquire() as connection, connection.transaction():
                await _lock(connection, ids)
                closed = await self._close(connection, ids, resolution, note)
                await audit.record(connection, deed, len(closed))
                return closed

        return await postgres.run(once)

    async def resolve_delivered(
        self, ids: Sequence[uuid.UUID], *, note: str | None = None, deed: Deed | None = None
    ) -> list[str]:
        """Close letters whose emails the recipients have: these end as SUCCESS. Those that were open."""

        async def once() -> list[str]:
            async with self._pool.acquire() as connection, connection.transaction():
                emails = await _lock(connection, ids)
                told = [emails, ["DELIVERED"] * len(emails), [None] * len(emails), [note] * len(emails)]
                rows = await connection.fetch(query("record_deliveries"), *told)
                closed = [str(row["dead_letter_id"]) for row in rows if row["dead_letter_id"] is not None]
                if note is not None:
                    await connection.execute(query("note_dead_letters"), [uuid.UUID(letter) for letter in closed], note)
                closed += await self._close(connection, ids, "DELIVERED", note)  # of those that are no emails
                await audit.record(connection, deed, len(closed))
                return closed

        return await postgres.run(once)

    async def _close(
        self,
        connection: Any,  # noqa: ANN401 - the pool's proxy
        ids: Sequence[uuid.UUID],
        resolution: str,
        note: str | None,
    ) -> list[str]:
        rows = await connection.fetch(query("give_up_dead_letters"), list(ids), resolution, note, self._horizon)
        return [row["dead_letter_id"] for row in rows]


async def _lock(connection: Any, ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:  # noqa: ANN401 - the pool's proxy
    """Lock the emails of letters that are open, those that share a send with them, and their sends."""
    emails = [row["email_id"] for row in await connection.fetch(query("emails_of_open_letters"), list(ids))]
    await connection.fetch(query("lock_emails_and_siblings"), emails)
    await connection.fetch(query("lock_sends_of"), emails)
    rows = await connection.fetch(query("emails_of_open_letters"), list(ids))  # as they are, now that nobody else may
    still_open = {row["email_id"] for row in rows}
    return [email_id for email_id in emails if email_id in still_open]
