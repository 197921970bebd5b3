"""The dead letters as the reconciler uses them: which the DLQ must show, and what."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import structlog
from google.protobuf.message import DecodeError

from sred_email_core import postgres
from sred_email_core.email_send_log.recovery import queued_email
from sred_email_core.email_send_log.sql import query
from sred_email_core.queue.codec import INLINE_LIMIT_BYTES
from sred_email_core.queue.letters import letter_of_email, letter_of_entry

log = structlog.get_logger(__name__)

_MOST_LETTERS = 100
_MOST_BYTES = 8 * 1024 * 1024
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class OpenLetter:
    """An open dead letter.

    Attributes:
        id: Its id.
        email_id: Of its email; None: it has none.
        failed_at: When it was written.
        delivered: Its email was sent after all.
        size_bytes: What loading it costs.
    """

    id: uuid.UUID
    email_id: uuid.UUID | None
    failed_at: datetime
    delivered: bool
    size_bytes: int


class RecoveryLetterLog:
    """Reads dead letters, and resolves those that events have overtaken.

    Every method raises LogUnavailableError when PostgreSQL does not answer.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def open_page(self, after: OpenLetter | None, *, size: int) -> list[OpenLetter]:
        """Open letters, oldest first.

        Args:
            after: The last one seen; None: from the start.
            size: The most to return.
        """
        place = (after.failed_at, after.id) if after is not None else (None, None)
        return [OpenLetter(**row) for row in await self._fetch("find_open_letters", *place, size, INLINE_LIMIT_BYTES)]

    async def resolve_delivered(self, email_ids: Sequence[uuid.UUID]) -> list[str]:
        """Resolve the open letters of emails that were sent after all; their ids."""
        rows = await self._fetch("resolve_delivered", list(email_ids))
        return [str(row["dead_letter_id"]) for row in rows]

    async def load(self, letters: Sequence[OpenLetter]) -> list[tuple[str, dict[bytes, bytes]]]:
        """What the DLQ shows of letters, as (dead letter id, fields), oldest first; of those that are open now.

        Those of a kind that this version does not know are left out.
        """
        rows = await self._fetch("load_letters", [letter.id for letter in letters], INLINE_LIMIT_BYTES)
        shown: list[tuple[str, dict[bytes, bytes]]] = []
        unknown: list[str] = []
        for row in rows:
            try:
                shown.append((str(row["id"]), _fields(row)))
            except ValueError:  # another version wrote it
                unknown.append(str(row["id"]))
        if unknown:
            log.error("letters_not_showable", letters=len(unknown), dead_letter_ids=unknown[:_MOST_NAMED])
        return shown

    async def resolved(self, dead_letter_ids: Sequence[str]) -> list[str]:
        """Those letters that are not open any more, or were never there."""
        return [row["id"] for row in await self._fetch("find_resolved_letters", list(dead_letter_ids))]

    async def _fetch(self, name: str, *args: object) -> "list[asyncpg.Record]":
        return await postgres.run(lambda: self._pool.fetch(query(name), *args))


def in_loads(letters: Sequence[OpenLetter]) -> Iterator[list[OpenLetter]]:
    """Letters in groups of at most 100 and, unless one alone is larger, 8 MB."""
    group: list[OpenLetter] = []
    size_bytes = 0
    for letter in letters:
        if group and (len(group) == _MOST_LETTERS or size_bytes + letter.size_bytes > _MOST_BYTES):
            yield group
            group, size_bytes = [], 0
        group.append(letter)
        size_bytes += letter.size_bytes
    if group:
        yield group


def _fields(row: asyncpg.Record) -> dict[bytes, bytes]:
    """The DLQ entry; content that can't be read is said to be in the log."""
    letter_id, reason, error = str(row["id"]), row["reason"], row["error"]
    if row["kind"] is None:
        return letter_of_entry(row["raw_entry"] or b"", dead_letter_id=letter_id, reason=reason, error=error)
    try:
        email = queued_email(dict(row), email_id=row["email_id"])
    except DecodeError:
        log.error("content_unreadable", email_id=str(row["email_id"]))  # noqa: TRY400 - a traceback would quote it
        email = queued_email({**row, "message": None}, email_id=row["email_id"])
    return letter_of_email(email, dead_letter_id=letter_id, reason=reason, error=error, attempts=row["attempts"])
