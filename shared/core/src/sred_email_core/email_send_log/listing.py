"""The log as lists of emails."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log.records import EmailRecord
from sred_email_core.email_send_log.sql import query

_OPEN = ("QUEUED", "SCHEDULED", "SENDING", "RETRYING")
_SENT = "SUCCESS"
_LAST_ID = uuid.UUID(int=(1 << 128) - 1)
_LONG_AGO = datetime.min  # noqa: DTZ901 - see below
_NEVER = datetime.max  # noqa: DTZ901 - see below
"""asyncpg sends these two as -infinity and infinity."""


@dataclass(frozen=True, slots=True)
class EmailFilter:
    """Which emails; all must hold.

    Attributes:
        kinds: Names of kinds, one at least.
        statuses: Names of statuses; None: any.
        recipient: An address in "to", as the log has it; None: any.
        created_from: Accepted then or later; None: no bound.
        created_until: Accepted before that; None: no bound.
    """

    kinds: tuple[str, ...]
    statuses: tuple[str, ...] | None = None
    recipient: str | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None


class EmailList:
    """Lists emails. Raises LogUnavailableError when PostgreSQL does not answer."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def page(
        self, wanted: EmailFilter, *, size: int, before: tuple[datetime, uuid.UUID] | None = None
    ) -> list[EmailRecord]:
        """Emails, the newest first.

        Args:
            wanted: Which.
            size: The most to return.
            before: ``created_at`` and ``id`` of the last one seen; None: from the newest.
        """
        name, *more = _statement(wanted)
        created_at, last_id = before or (_NEVER, _LAST_ID)
        args = [
            *(list(wanted.kinds), None if wanted.statuses is None else list(wanted.statuses)),
            *(wanted.created_from or _LONG_AGO, wanted.created_until or _NEVER, created_at, last_id, size),
        ]
        rows = await postgres.run(lambda: self._pool.fetch(query(name), *args, *more))
        return [EmailRecord(**row) for row in rows]


def _statement(wanted: EmailFilter) -> tuple[Any, ...]:
    """The statement that finds them by an index, and its further parameters."""
    if wanted.recipient is not None:
        return "list_by_recipient", wanted.recipient
    if wanted.statuses is None or _SENT in wanted.statuses:
        return ("list_emails",)
    is_open = [status in _OPEN for status in wanted.statuses]
    return "list_unsent", any(is_open), not all(is_open)
