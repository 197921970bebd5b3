"""The log as it holds which lanes are paused."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log import audit
from sred_email_core.email_send_log.audit import Deed
from sred_email_core.email_send_log.sql import query
from sred_email_core.queue.keys import Lane


@dataclass(frozen=True, slots=True)
class Pauses:
    """Which lanes are paused.

    Attributes:
        version: Higher with each change.
        reasons: Why, for each paused lane.
    """

    version: int
    reasons: dict[Lane, str]


@dataclass(frozen=True, slots=True)
class Pause:
    """One paused lane: why, and since when."""

    reason: str
    since: datetime


class PauseLog:
    """Reads and writes the pauses.

    Every method raises LogUnavailableError when PostgreSQL does not answer; repeating it is safe.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def pause(self, lanes: Collection[Lane], reason: str, *, deed: Deed | None = None) -> None:
        """Pause lanes; of one that is paused, renew the reason."""
        names = [lane.name for lane in lanes]
        await audit.change(self._pool, "pause_lanes", names, reason, deed=deed, count=lambda _: len(names))

    async def resume(self, lanes: Collection[Lane], *, deed: Deed | None = None) -> None:
        """Resume lanes."""
        names = [lane.name for lane in lanes]
        await audit.change(self._pool, "resume_lanes", names, deed=deed, count=lambda _: len(names))

    async def count_beyond(self, version: int) -> None:
        """Let the next version be higher than one that a copy has."""
        await postgres.run(lambda: self._pool.fetch(query("count_pauses_beyond"), version))

    async def load(self) -> Pauses:
        """What is paused now."""
        rows = await postgres.run(lambda: self._pool.fetch(query("load_pauses")))
        reasons = {Lane[row["lane"]]: row["reason"] for row in rows if row["lane"] is not None}
        return Pauses(max((row["version"] for row in rows), default=0), reasons)

    async def standing(self) -> dict[Lane, Pause]:
        """What is paused now, for people."""
        rows = await postgres.run(lambda: self._pool.fetch(query("list_pauses")))
        return {Lane[row["lane"]]: Pause(row["reason"], row["paused_at"]) for row in rows}
