"""The log as the reconciler uses it: what is open, what has ended, and what must expire."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import structlog
from google.protobuf.message import DecodeError

from sred_email_core import postgres
from sred_email_core.email_send_log.records import SCHEDULED_IN_REDIS
from sred_email_core.email_send_log.sql import query
from sred_email_core.queue.codec import INLINE_LIMIT_BYTES, QueuedEmail
from sred_email_core.queue.keys import Lane
from sred_email_core.queue.recovery_scripts import OpenEmail

log = structlog.get_logger(__name__)

FIRST_ID = uuid.UUID(int=0)
LAST_ID = uuid.UUID(int=(1 << 128) - 1)

LOAD_EMAILS = 100
"""Emails loaded at once: of none more than 64 kB are read, so never more than 6.4 MB together."""

_NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class OpenPage:
    """Some of the open emails.

    Attributes:
        emails: Those that must have a place.
        last_id: Of the last one looked at; None: there are no more.
    """

    emails: list[OpenEmail]
    last_id: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class OpenSend:
    """An open send.

    Attributes:
        email_ids: Its emails that must have a place, in order; it is repeated under the first one's id.
        delay: Until its lease is free and its next attempt is due.
    """

    email_ids: tuple[str, ...]
    delay: timedelta


class RecoveryLog:
    """Reads what is open and ends what has expired.

    Every method raises LogUnavailableError when PostgreSQL does not answer.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def open_page(
        self,
        *,
        after: uuid.UUID = FIRST_ID,
        until: uuid.UUID = LAST_ID,
        older_than: timedelta = timedelta(),
        size: int,
    ) -> OpenPage:
        """Open emails in the order of their ids, without their contents.

        Args:
            after: The last one seen.
            until: The last one wanted.
            older_than: Those that changed since then are left to whoever changed them.
            size: The most to look at.
        """
        rows = await self._fetch("find_open", after, until, older_than, size)
        emails = [OpenEmail(row["id"], row["first_of_open_send"] or "") for row in rows if row["settled"]]
        return OpenPage(emails, uuid.UUID(rows[-1]["id"]) if len(rows) == size else None)

    async def load(self, email_ids: Sequence[str]) -> tuple[list[QueuedEmail], list[OpenSend]]:
        """What is needed to give emails a place, as it is now: the emails of no send, and the sends of the others.

        Args:
            email_ids: At most LOAD_EMAILS. Those that have ended meanwhile are left out, and so are those that are
                scheduled for later than ``SCHEDULED_IN_REDIS`` ahead.
        """
        rows = await self._fetch("load_open", list(email_ids), INLINE_LIMIT_BYTES, SCHEDULED_IN_REDIS)
        alone = [_queued(row) for row in rows if row["open_send_id"] is None]
        send_ids = {row["open_send_id"] for row in rows} - {None}
        sends = await self._fetch("load_open_sends", sorted(send_ids)) if send_ids else []
        return alone, [OpenSend(tuple(str(i) for i in row["email_ids"]), row["delay"]) for row in sends]

    async def gone(self, email_ids: Sequence[str], *, older_than: timedelta) -> list[str]:
        """Those emails that need no place: they have ended, or there is no such email.

        Args:
            email_ids: Any.
            older_than: Those that ended since then are left to whoever ended them.
        """
        return [row["id"] for row in await self._fetch("find_gone", list(email_ids), older_than)]

    async def expire(self, *, size: int) -> tuple[list[str], bool]:
        """End open emails that have expired and are in no open send.

        Args:
            size: The most to look at.

        Returns:
            Those that were ended, and whether there may be more.
        """
        overdue = await self._fetch("find_overdue", size)
        ended = await self._fetch("record_expired", [row["id"] for row in overdue], None) if overdue else []
        return [str(row["id"]) for row in ended], len(overdue) == size

    async def count_open(self) -> int:
        """How many emails are open and due within ``SCHEDULED_IN_REDIS``: with many of them not for nothing."""
        (row,) = await self._fetch("count_open", _NO_LIMIT, SCHEDULED_IN_REDIS)
        return int(row["emails"])

    async def _fetch(self, name: str, *args: object) -> "list[asyncpg.Record]":
        return await postgres.run(lambda: self._pool.fetch(query(name), *args))


def _queued(row: asyncpg.Record) -> QueuedEmail:
    try:
        return queued_email(dict(row), delay=row["delay"])
    except DecodeError:  # the consumer that takes it gives it up
        log.error("content_unreadable", email_id=str(row["id"]))  # noqa: TRY400 - a traceback would quote it
        return queued_email({**row, "message": None, "alone": True}, delay=row["delay"])


def queued_email(
    row: Mapping[str, Any], *, email_id: uuid.UUID | None = None, delay: timedelta = timedelta()
) -> QueuedEmail:
    """An email as it travels; where its content was not read, it says that the log has it.

    Args:
        row: With the columns of load_open.sql.
        email_id: Where the row's id is another's; None: it is the email's.
        delay: Until it is due.

    Raises:
        DecodeError: The content is none.
    """
    text_id = str(email_id or row["id"])
    if row["message"] is not None:
        return QueuedEmail.of_content(
            email_id=text_id,
            kind=row["kind"],
            priority=row["priority"],
            accepted_at=row["created_at"],
            expire_at=row["expire_at"],
            content=row["message"],
            alone=row["alone"],
            delay=delay,
            send_at=row.get("send_at"),
            traceparent=row.get("traceparent"),
        )
    return QueuedEmail(
        email_id=text_id,
        kind=row["kind"],
        lane=Lane[row["priority"]],
        accepted_at=row["created_at"],
        expire_at=row["expire_at"],
        content=None,
        alone=row["alone"],
        size_bytes=row["size_bytes"],
        delay=delay,
        send_at=row.get("send_at"),
        traceparent=row.get("traceparent"),
    )
