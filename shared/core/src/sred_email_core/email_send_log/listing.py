"""The log as lists of emails."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log.records import EmailRecord
from sred_email_core.email_send_log.sql import query

LOOKED_AT = 20_000
"""Emails that one statement looks at, of those that no index of their own finds: some milliseconds."""
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


class Place(NamedTuple):
    """Where a list goes on: after the email of this time and id."""

    created_at: datetime
    id: uuid.UUID


class EmailList:
    """Lists emails. Raises LogUnavailableError when PostgreSQL does not answer."""

    def __init__(self, pool: "asyncpg.Pool[Any]", *, looked_at: int = LOOKED_AT) -> None:
        """Prepare.

        Args:
            pool: The log's.
            looked_at: The most emails that one statement looks at, of those that no index of their own finds.
        """
        self._pool = pool
        self._looked_at = looked_at

    async def page(
        self, wanted: EmailFilter, *, size: int, before: Place | None = None
    ) -> tuple[list[EmailRecord], Place | None]:
        """Emails, the newest first.

        Args:
            wanted: Which.
            size: The most to return.
            before: The last one seen; None: from the newest.

        Returns:
            The emails; and where to go on to look for more, if that is not after the last of them, because those that
            were looked at were few of this kind.
        """
        name, *more = _statement(wanted, self._looked_at)
        created_at, last_id = before or (_NEVER, _LAST_ID)
        args = [
            *(list(wanted.kinds), None if wanted.statuses is None else list(wanted.statuses)),
            *(wanted.created_from or _LONG_AGO, wanted.created_until or _NEVER, created_at, last_id, size),
        ]
        rows = [dict(row) for row in await postgres.run(lambda: self._pool.fetch(query(name), *args, *more))]
        looked = [(row.pop("looked_at", None), row.pop("looked_id", None)) for row in rows]
        go_on = Place(*looked[0]) if looked and looked[0][1] is not None else None
        return [EmailRecord(**row) for row in rows if row["id"] is not None], go_on


def _statement(wanted: EmailFilter, looked_at: int) -> tuple[Any, ...]:
    """The statement that finds them by an index, and its further parameters."""
    if wanted.recipient is not None:
        return "list_by_recipient", wanted.recipient
    if wanted.statuses is None or _SENT in wanted.statuses:
        return "list_emails", looked_at
    is_open = [status in _OPEN for status in wanted.statuses]
    return "list_unsent", any(is_open), not all(is_open)
