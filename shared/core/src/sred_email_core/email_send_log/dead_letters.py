"""The log as operators use it: its dead letters."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log import audit
from sred_email_core.email_send_log.audit import Deed
from sred_email_core.email_send_log.records import DeadLetterRecord, LetterGroup, LetterSelection, ReplayedEmail
from sred_email_core.email_send_log.sql import query


class DeadLetterLog:
    """Lists and replays dead letters. Every method raises LogUnavailableError when PostgreSQL does not answer."""

    def __init__(self, pool: "asyncpg.Pool[Any]", *, horizon: timedelta) -> None:
        self._pool = pool
        self._horizon = horizon

    async def select(
        self, selection: LetterSelection, *, size: int, after: tuple[datetime, uuid.UUID] | None = None
    ) -> list[tuple[datetime, uuid.UUID]]:
        """``failed_at`` and id of letters to be worked on, the oldest first.

        Args:
            selection: Which.
            size: The most to return.
            after: The last one seen; None: from the start.
        """
        place = after if after is not None else (None, None)
        name, filters = _filters(selection, "select_dead_letters", "select_letters_of_group")
        rows = await postgres.run(lambda: self._pool.fetch(query(name), *filters, *place, size))
        return [(row["failed_at"], row["id"]) for row in rows]

    async def count_selected(self, selection: LetterSelection) -> tuple[int, int]:
        """How many letters are open, whatever a replay takes; and how many of them are to be worked on."""
        name, filters = _filters(selection, "count_dead_letters", "count_letters_of_group")
        (row,) = await postgres.run(lambda: self._pool.fetch(query(name), *filters))
        return row["dead_letters"], row["selected"]

    async def count(self, reason: str | None = None) -> int:
        """How many dead letters are open."""
        letters, _ = await self.count_selected(LetterSelection(reason=reason))
        return letters

    async def latest(
        self,
        *,
        size: int,
        before: tuple[datetime, uuid.UUID] | None = None,
        selection: LetterSelection | None = None,
        kind: str | None = None,
    ) -> list[DeadLetterRecord]:
        """Open dead letters, the latest first.

        Args:
            size: The most to return.
            before: ``failed_at`` and ``id`` of the last one seen; None: from the latest.
            selection: Of this reason, or of this group; None: any.
            kind: Name of an EmailKind; None: any.
        """
        place = before if before is not None else (None, None)
        wanted = selection or LetterSelection()
        if wanted.error_group is None:
            name, filters = "list_latest_dead_letters", [wanted.reason]
        else:
            name, filters = "list_latest_letters_of_group", _group(wanted)
        rows = await postgres.run(lambda: self._pool.fetch(query(name), *filters, kind, *place, size))
        return [DeadLetterRecord(**row) for row in rows]

    async def groups(self, *, most: int, most_counted: int) -> list[LetterGroup]:
        """Open dead letters in groups, the largest first.

        Args:
            most: The most groups; beyond them, those that come last by reason and error are left out.
            most_counted: The most letters to count in one group.
        """
        rows = await postgres.run(lambda: self._pool.fetch(query("list_letter_groups"), most, most_counted))
        return [LetterGroup(**row) for row in rows]

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
                traceparent=row["traceparent"],
            )
            for row in rows
        ]


def _group(selection: LetterSelection) -> list[str | None]:
    return [selection.reason, selection.error_group]


def _filters(selection: LetterSelection, of_all: str, of_group: str) -> tuple[str, list[object]]:
    """The statement for a selection, and its first parameters."""
    more = [selection.failed_until, selection.replay]
    if selection.error_group is None:
        return of_all, [selection.reason, *more]
    return of_group, [*_group(selection), *more]
