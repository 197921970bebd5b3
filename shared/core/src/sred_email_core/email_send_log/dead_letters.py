"""The log as operators use it: its dead letters."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log import audit
from sred_email_core.email_send_log.audit import Deed
from sred_email_core.email_send_log.records import DeadLetterRecord, ReplayedEmail
from sred_email_core.email_send_log.sql import query


class DeadLetterLog:
    """Lists and replays dead letters. Every method raises LogUnavailableError when PostgreSQL does not answer."""

    def __init__(self, pool: "asyncpg.Pool[Any]", *, horizon: timedelta) -> None:
        self._pool = pool
        self._horizon = horizon

    async def page(
        self,
        *,
        size: int,
        after: tuple[datetime, uuid.UUID] | None = None,
        reason: str | None = None,
        kind: str | None = None,
    ) -> list[DeadLetterRecord]:
        """Open dead letters, oldest first.

        Args:
            size: The most to return.
            after: ``failed_at`` and ``id`` of the last one seen; None: from the start.
            reason: Name of a DeadLetterReason; None: any.
            kind: Name of an EmailKind; None: any.
        """
        failed_at, last_id = after if after is not None else (None, None)
        rows = await postgres.run(
            lambda: self._pool.fetch(query("list_dead_letters"), reason, kind, failed_at, last_id, size)
        )
        return [DeadLetterRecord(**row) for row in rows]

    async def latest(
        self,
        *,
        size: int,
        before: tuple[datetime, uuid.UUID] | None = None,
        reason: str | None = None,
        kind: str | None = None,
    ) -> list[DeadLetterRecord]:
        """Open dead letters, the latest first; ``before`` is the last one seen, the rest as for page."""
        failed_at, last_id = before if before is not None else (None, None)
        rows = await postgres.run(
            lambda: self._pool.fetch(query("list_latest_dead_letters"), reason, kind, failed_at, last_id, size)
        )
        return [DeadLetterRecord(**row) for row in rows]

    async def count(self, reason: str | None = None) -> int:
        """How many dead letters are open."""
        return int(await postgres.run(lambda: self._pool.fetchval(query("count_dead_letters"), reason)))

    async def replay(
        self,
        ids: Sequence[uuid.UUID],
        *,
        include_outcome_unknown: bool,
        include_poison: bool,
        deed: Deed | None = None,
    ) -> list[ReplayedEmail]:
        """Reopen the emails of dead letters; see replay_dead_letters.sql for which may be.

        Returns:
            The emails to be sent again; with a send of many, also its other members.
        """
        asked = (list(ids), include_outcome_unknown, include_poison, self._horizon)
        rows = await audit.change(self._pool, "replay_dead_letters", *asked, deed=deed)
        return [
            ReplayedEmail(
                email_id=str(row["id"]),
                dead_letter_id=None if row["dead_letter_id"] is None else str(row["dead_letter_id"]),
                kind=row["kind"],
                priority=row["priority"],
                created_at=row["created_at"],
                expire_at=row["expire_at"],
                message=row["message"],
                alone=row["alone"],
                repeats=row["mode"] == "REPEAT",
                send_id=row["send_id"],
            )
            for row in rows
        ]
