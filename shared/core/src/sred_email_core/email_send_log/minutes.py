"""The log as a flow: how many emails were accepted, sent and given up in each minute, and how long they took."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log.sql import query

COUNTED = 500
"""Transactions whose events one statement counts: a fraction of a second, though each holds many."""
_BUCKETS_PER_DOUBLING = 3


@dataclass(frozen=True, slots=True)
class Minute:
    """What happened in one minute.

    Attributes:
        at: When it began.
        accepted: Emails that were.
        sent: Emails that the provider took.
        given_up: Emails that became dead letters.
        took: From when they were to be sent until the provider took them: how many, by bucket.
    """

    at: datetime
    accepted: int
    sent: int
    given_up: int
    took: Mapping[int, int]

    def within(self, share: float) -> timedelta | None:
        """How long that share of the emails took at most, to about an eighth.

        Args:
            share: 0.5 for the median.

        Returns:
            None: no email was sent.
        """
        left = share * sum(self.took.values())
        for bucket in sorted(self.took):
            left -= self.took[bucket]
            if left <= 0:
                return timedelta(milliseconds=2 ** (max(0.0, bucket - 0.5) / _BUCKETS_PER_DOUBLING))
        return None


class MinuteLog:
    """Counts and reads. Every method raises LogUnavailableError when PostgreSQL does not answer."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def count(self, *, at_most: int = COUNTED) -> bool:
        """Count the events that came since anybody did, of so many transactions; whether there are more."""
        return bool(await postgres.run(lambda: self._pool.fetchval(query("count_minutes"), at_most)))

    async def latest(self, minutes: int) -> list[Minute]:
        """The last minutes in which anything happened, the earliest first.

        Args:
            minutes: How far back.
        """
        rows = await postgres.run(lambda: self._pool.fetch(query("read_minutes"), minutes))
        found: dict[datetime, dict[str, Counter[int]]] = {}
        for row in rows:
            found.setdefault(row["minute"], {}).setdefault(row["what"], Counter())[row["bucket"]] += row["count"]
        return [
            Minute(
                at=at,
                accepted=what.get("ACCEPTED", Counter()).total(),
                sent=what.get("SENT", Counter()).total(),
                given_up=what.get("FAILED", Counter()).total(),
                took=what.get("SENT", Counter()),
            )
            for at, what in found.items()
        ]
