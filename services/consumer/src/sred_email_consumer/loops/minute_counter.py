"""Counts what happened in each minute, from the events in the log."""

import asyncio
import time

import structlog

from sred_email_core.email_send_log.minutes import COUNTED, MinuteLog
from sred_email_core.errors import LogUnavailableError
from sred_email_core.lifecycle import wait_for

log = structlog.get_logger(__name__)

_INTERVAL_S = 5.0
_LEAST_REST_S = 0.05


class MinuteCounter:
    """Moves events to the counts of their minutes. Every replica tries, one at a time does."""

    def __init__(self, minutes: MinuteLog) -> None:
        self._minutes = minutes
        self._at_most = COUNTED

    async def run(self, stop: asyncio.Event) -> None:
        """Count until ``stop`` is set; where much happens, half of the time, so that emails come first."""
        rest_s = _INTERVAL_S
        while not await wait_for(stop, rest_s):
            began_s, more = time.monotonic(), False
            try:
                more = await self.run_once()
            except LogUnavailableError as e:
                log.debug("minutes_not_counted", reason=str(e))
            except Exception:
                log.exception("minutes_failed")  # a bug; delivery goes on without it
            rest_s = max(_LEAST_REST_S, time.monotonic() - began_s) if more else _INTERVAL_S

    async def run_once(self) -> bool:
        """Count what there is, a bounded number of events; whether there is more.

        Raises:
            LogUnavailableError: PostgreSQL does not answer, or not in time: half as many are counted the next time.
        """
        at_most, self._at_most = self._at_most, max(1, self._at_most // 2)
        more = await self._minutes.count(at_most=at_most)
        self._at_most = COUNTED
        return more
