"""Counts what happened in each minute, from the events in the log."""

import asyncio

import structlog

from sred_email_core.email_send_log.minutes import MinuteLog
from sred_email_core.errors import LogUnavailableError
from sred_email_core.lifecycle import wait_for

log = structlog.get_logger(__name__)

_INTERVAL_S = 5.0


class MinuteCounter:
    """Moves events to the counts of their minutes. Every replica tries, one at a time does."""

    def __init__(self, minutes: MinuteLog) -> None:
        self._minutes = minutes

    async def run(self, stop: asyncio.Event) -> None:
        """Count until ``stop`` is set."""
        more = False
        while more or not await wait_for(stop, _INTERVAL_S):
            if stop.is_set():
                return
            try:
                more = await self.run_once()
            except LogUnavailableError as e:
                more = False
                log.debug("minutes_not_counted", reason=str(e))

    async def run_once(self) -> bool:
        """Count what there is, a bounded number of events; whether there is more.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
        """
        return await self._minutes.count()
