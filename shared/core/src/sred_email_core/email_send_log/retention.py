"""The log as it lets go of what ended long ago."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log.sql import query

EVENTS_FOR = timedelta(hours=24)
"""So long events are there for watchers that come back."""
HORIZON = timedelta(hours=24)
"""So long a provider knows an Idempotency-Key: no send is repeated later than that."""
LEAST_KEPT = timedelta(days=1)
"""Longer than any horizon, and at least as long as events."""


class Place(NamedTuple):
    """An email in the order of acceptance."""

    created_at: datetime
    email_id: uuid.UUID


BEGINNING = Place(datetime(1970, 1, 1, tzinfo=UTC), uuid.UUID(int=0))


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What left with one page.

    Attributes:
        emails: How many.
        page_end: The last one looked at; None: there are no more that are old enough.
    """

    emails: int
    page_end: Place | None


class RetentionLog:
    """Removes emails that ended long ago, with everything of theirs; several processes may do it at once.

    Every method raises LogUnavailableError when PostgreSQL does not answer; repeating it is safe. What was removed is
    unknown from then on: its key is free.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def forget_emails(self, *, older_than: timedelta, after: Place, size: int) -> Forgotten:
        """Remove what may leave of the next page of the log, in one transaction.

        Args:
            older_than: At least LEAST_KEPT; for so long emails stay after their end.
            after: The last email looked at; BEGINNING: from the oldest.
            size: Of the page.
        """

        async def once() -> Forgotten:
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(query("find_leaving"), older_than, *after, size)
                ends = [Place(row["page_ends_at"], row["id"]) for row in rows if row["page_ends_at"] is not None]
                ids = [row["id"] for row in rows if row["page_ends_at"] is None]
                left: list[uuid.UUID] = []
                if ids:
                    gone = await connection.fetch(query("forget_emails"), ids, HORIZON, EVENTS_FOR)
                    left = [row["id"] for row in gone]
                if left:
                    await connection.execute(query("prune_events"), left, EVENTS_FOR)
                return Forgotten(len(left), ends[0] if ends else None)

        return await postgres.run(once)

    async def forget_contents(self, *, older_than: timedelta, size: int) -> list[str]:
        """Forget what the oldest open letters hold; their ids, until ``note_contents_left`` is told of them.

        Args:
            older_than: At least LEAST_KEPT; so old are the letters.
            size: The most.
        """
        rows = await postgres.run(lambda: self._pool.fetch(query("forget_contents"), older_than, size))
        return [row["dead_letter_id"] for row in rows]

    async def note_contents_left(self, dead_letter_ids: Sequence[str]) -> None:
        """Note that Redis, too, has forgotten what these letters held."""
        ids = [uuid.UUID(letter) for letter in dead_letter_ids]
        await postgres.run(lambda: self._pool.execute(query("note_contents_left"), ids))

    async def forget_handled_letters(self, *, older_than: timedelta, size: int) -> int:
        """Remove letters of entries that were no emails, handled as long ago; how many."""
        return len(await postgres.run(lambda: self._pool.fetch(query("forget_handled_letters"), older_than, size)))

    async def forget_webhook_events(self, *, older_than: timedelta, size: int) -> int:
        """Forget events of the provider that were worked as long ago; how many."""
        return len(await postgres.run(lambda: self._pool.fetch(query("prune_webhook_events"), older_than, size)))
