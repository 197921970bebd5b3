"""The log as the ingress uses it."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log.audit import Deed, record
from sred_email_core.email_send_log.records import SCHEDULED_IN_REDIS, EmailRecord, HeldKey, NewEmail, WrittenEmail
from sred_email_core.email_send_log.sql import query
from sred_email_core.errors import CancelObstacle, EmailNotFoundError, NotCancellableError

_RECIPIENTS = NewEmail._fields.index("recipients")


class AcceptanceLog:
    """Accepts emails, looks them up and cancels them.

    Every method raises LogUnavailableError when PostgreSQL does not answer.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def accept(self, emails: Sequence[NewEmail]) -> dict[uuid.UUID, WrittenEmail]:
        """Write emails whose keys are free, in one statement, durably.

        Args:
            emails: Keys may repeat; the first in key order wins.

        Returns:
            What was written, for the id of each that was; the keys of the others are held.

        Raises:
            UnstorableError: One of the emails can't be stored; nothing was written.
        """
        if not emails:
            return {}
        columns: list[Sequence[object]] = list(zip(*emails, strict=True))
        columns[_RECIPIENTS] = ["\n".join(e.recipients) for e in emails]
        rows = await postgres.run(lambda: self._pool.fetch(query("accept_emails"), *columns))
        return {row["id"]: WrittenEmail(row["created_at"], row["expire_at"], row["delay"]) for row in rows}

    async def find_by_keys(self, keys: Sequence[str]) -> dict[str, HeldKey]:
        """The emails that hold these keys, by key."""
        rows = await postgres.run(lambda: self._pool.fetch(query("find_by_keys"), list(keys), SCHEDULED_IN_REDIS))
        return {row["idempotency_key"]: HeldKey(**row) for row in rows}

    async def get(self, *, email_id: uuid.UUID | None = None, idempotency_key: str | None = None) -> EmailRecord | None:
        """One email by its id or its key; None: there is none."""
        row = await postgres.run(lambda: self._pool.fetchrow(query("get_email"), email_id, idempotency_key))
        return EmailRecord(**row) if row is not None else None

    async def cancel(self, email_id: uuid.UUID, deed: Deed | None = None) -> EmailRecord:
        """Cancel an email that nothing can have been sent of, durably; its content is erased.

        Args:
            email_id: Of the email.
            deed: What the audit says of it; None: nothing.

        Returns:
            The email as it is from then on.

        Raises:
            EmailNotFoundError: There is no such email.
            NotCancellableError: It is being sent, may have been accepted, or has ended; nothing was changed.
        """
        seen, email = await postgres.run(lambda: self._cancel(email_id, deed))
        if seen is None:
            raise EmailNotFoundError("there is no email with this id")
        if email is None:
            raise NotCancellableError(str(email_id), seen["status"], _obstacle(seen))
        return EmailRecord(**email)

    async def count_open(self, *, at_most: int) -> int:
        """How many emails are open and due, counted no further than ``at_most``; Redis knows which others it holds."""
        return int(await postgres.run(lambda: self._pool.fetchval(query("count_open"), at_most, timedelta())))

    async def _cancel(
        self, email_id: uuid.UUID, deed: Deed | None
    ) -> tuple[asyncpg.Record | None, asyncpg.Record | None]:
        """What was seen of the email (None: there is none), and the email if that cancelled it."""
        # Two statements, so that the second one sees a send that was committed while the first waited for the lock.
        async with self._pool.acquire() as connection, connection.transaction(isolation="read_committed"):
            if await connection.fetchrow(query("lock_email"), email_id) is None:
                return None, None
            seen = await connection.fetchrow(query("cancel_email"), email_id)
            if seen is None or not seen["cancelled"]:
                return seen, None
            await record(connection, deed, 1)
            return seen, await connection.fetchrow(query("get_email"), email_id, None)


def _obstacle(seen: asyncpg.Record) -> CancelObstacle:
    if seen["ended"]:
        return CancelObstacle.HAS_ENDED
    return CancelObstacle.BEING_SENT if seen["leased"] else CancelObstacle.MAY_HAVE_BEEN_ACCEPTED
