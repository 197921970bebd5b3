"""Puts parked emails back on their streams when they are due."""

import asyncio

import structlog

from sred_email_consumer.retry_service import MOST_PER_PROMOTION, RedisEmailRetryService
from sred_email_core.errors import QueueUnavailableError
from sred_email_core.lifecycle import wait_for
from sred_email_core.queue.scripts import Promoted

log = structlog.get_logger(__name__)

_LONGEST_WAIT_S = 0.5
"""Until the retry set is asked again: what is parked meanwhile may be due sooner than what was known."""


class RetryPromoter:
    """Moves emails from the retry set to their streams. Any replica may do it, several at once too."""

    def __init__(self, retries: RedisEmailRetryService) -> None:
        self._retries = retries

    async def run(self, stop: asyncio.Event) -> None:
        """Promote until ``stop`` is set."""
        staying = 0  # due sends that an earlier call has seen: emails may stand behind them
        while not stop.is_set():
            wait_s = _LONGEST_WAIT_S
            try:
                promoted = await self.run_once(passing_over=staying)
            except QueueUnavailableError as e:
                log.debug("promotion_failed", reason=str(e))
            else:
                full = promoted.moved + promoted.staying == MOST_PER_PROMOTION
                staying = staying + promoted.staying if full else 0
                if full or promoted.moved:
                    continue
                if promoted.next_due is not None:
                    wait_s = min(wait_s, promoted.next_due.total_seconds())
            await wait_for(stop, wait_s)

    async def run_once(self, *, passing_over: int = 0) -> Promoted:
        """Move what is due now, a bounded number; the first ``passing_over`` due members are sends, and stay.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        promoted = await self._retries.promote(passing_over=passing_over)
        if promoted.moved:
            log.info("promoted", emails=promoted.moved)
        return promoted
