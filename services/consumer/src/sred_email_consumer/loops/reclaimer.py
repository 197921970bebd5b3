"""Puts back on the streams what a consumer has taken and not finished."""

import asyncio
from datetime import timedelta

import structlog

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.lifecycle import wait_for
from sred_email_core.queue.keys import Lane
from sred_email_core.queue.scripts import QueueScripts

log = structlog.get_logger(__name__)

_MOST_AT_ONCE = 100


class Reclaimer:
    """Moves pending entries of dead consumers back to their streams, as new entries. Any replica may do it.

    An entry whose email was claimed before its consumer died is not sent anew when it is taken again: the email's open
    send is repeated.
    """

    def __init__(self, name: str, scripts: QueueScripts, *, claim_idle: timedelta) -> None:
        self._name = name
        self._scripts = scripts
        self._claim_idle = claim_idle

    async def run(self, stop: asyncio.Event) -> None:
        """Reclaim until ``stop`` is set."""
        pause_s = min(1.0, self._claim_idle.total_seconds() / 4)
        while not await wait_for(stop, pause_s):
            try:
                await self.run_once()
            except QueueUnavailableError as e:
                log.debug("reclaim_failed", reason=str(e))

    async def run_once(self) -> int:
        """Go once through what is pending on each stream; how many entries were put back.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        reclaimed = 0
        for lane in Lane:
            cursor = "0-0"
            while True:
                cursor, moved = await self._scripts.reclaim(
                    self._name, lane, idle=self._claim_idle, cursor=cursor, most=_MOST_AT_ONCE
                )
                reclaimed += moved
                if cursor == "0-0":
                    break
        if reclaimed:
            log.warning("reclaimed", entries=reclaimed)
        return reclaimed
