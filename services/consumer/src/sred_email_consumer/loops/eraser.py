"""Erases emails of people who are to be forgotten, once the sends that they waited for have ended."""

import asyncio

import structlog

from sred_email_consumer.erasure import RecipientErasure
from sred_email_core.errors import LogUnavailableError, QueueUnavailableError
from sred_email_core.lifecycle import wait_for

log = structlog.get_logger(__name__)

_INTERVAL_S = 10.0


class Eraser:
    """Looks at what waits to be erased. Any replica may do it, several at once too."""

    def __init__(self, erasure: RecipientErasure) -> None:
        self._erasure = erasure

    async def run(self, stop: asyncio.Event) -> None:
        """Erase until ``stop`` is set."""
        while not await wait_for(stop, _INTERVAL_S):
            try:
                await self.run_once()
            except (LogUnavailableError, QueueUnavailableError) as e:
                log.debug("erasure_postponed", reason=str(e))

    async def run_once(self) -> int:
        """Erase what need not wait any more, a bounded number; how many.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
            QueueUnavailableError: Redis does not answer.
        """
        erased = await self._erasure.finish()
        if erased:
            log.info("deferred_emails_erased", emails=erased)
        return erased
