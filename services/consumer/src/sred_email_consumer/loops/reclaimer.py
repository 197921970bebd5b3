"""Sets free what consumers had taken when they died, and takes their names off the group."""

import asyncio
from datetime import timedelta

import structlog

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.lifecycle import wait_for
from sred_email_core.queue.keys import Lane
from sred_email_core.queue.scripts import QueueScripts

log = structlog.get_logger(__name__)

_MOST_AT_ONCE = 500
_LONG_DEAD = 10
"""A name leaves the group after so many times the claim idle without a sign of life."""


class Reclaimer:
    """Moves pending entries of dead consumers to the orphans, from where `take` adopts them. Any replica may do it.

    Each round is this consumer's own sign of life, too. An entry whose email was claimed before its consumer died is
    not sent anew when it is taken again: the email's open send is repeated.
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
        """Go once through what is pending on each stream; how many entries were set free.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        reclaimed = 0
        for lane in Lane:
            start = ""
            while True:
                start, moved = await self._scripts.reclaim(
                    self._name, lane, idle=self._claim_idle, start=start, most=_MOST_AT_ONCE
                )
                reclaimed += moved
                if not start:
                    break
        if reclaimed:
            log.warning("reclaimed", entries=reclaimed)
        for name in await self._scripts.dead_consumers(self._claim_idle * _LONG_DEAD):
            if await self._scripts.leave(name):
                log.info("dead_consumer_removed", dead=name.encode("utf-8", "replace").decode())
        return reclaimed
