"""The log as the reconciler uses it for what is scheduled."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log.records import SCHEDULED_IN_REDIS
from sred_email_core.email_send_log.sql import query


class ScheduledEmail(NamedTuple):
    """An open email, in the order in which emails come due."""

    send_at: datetime
    id: uuid.UUID


NONE_YET = ScheduledEmail(datetime(1, 1, 1, tzinfo=UTC), uuid.UUID(int=0))
"""Before all others."""


class ScheduleLog:
    """Reads what comes due.

    Every method raises LogUnavailableError when PostgreSQL does not answer.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def due(
        self, *, within: timedelta = SCHEDULED_IN_REDIS, after: ScheduledEmail = NONE_YET, size: int
    ) -> list[ScheduledEmail]:
        """Open emails whose scheduled time has come, or comes within a while, soonest first.

        Args:
            within: That while.
            after: The last one seen.
            size: The most to look at.
        """
        rows = await postgres.run(lambda: self._pool.fetch(query("find_due"), after.send_at, after.id, within, size))
        return [ScheduledEmail(row["send_at"], uuid.UUID(str(row["id"]))) for row in rows]

    async def count(self) -> int:
        """How many are scheduled for later than ``SCHEDULED_IN_REDIS`` ahead: PostgreSQL alone knows of them."""
        return int(await postgres.run(lambda: self._pool.fetchval(query("count_scheduled"), SCHEDULED_IN_REDIS)))
