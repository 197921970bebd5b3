"""Lets emails that ended long ago leave the log, a few at a time."""

import asyncio
import time
from datetime import timedelta

import structlog

from sred_email_consumer.dead_letters import DeadLetterService
from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_core.email_send_log.leases import Lease
from sred_email_core.email_send_log.retention import BEGINNING, RetentionLog
from sred_email_core.email_send_log.webhook_events import REMEMBERED
from sred_email_core.errors import LogUnavailableError, QueueUnavailableError
from sred_email_core.lifecycle import wait_for

log = structlog.get_logger(__name__)

_FIRST_S, _INTERVAL_S = 5.0, 60.0
"""Until the first way through what is old enough, and between two."""
_PAGE = 500
_REST = 1
"""Times as long as a page took nothing is done: half of one connection's time at the most goes into it."""
_LEAST_REST_S = 0.02


class Retention:
    """Goes through the log from the oldest email on, in the one replica that has the lease."""

    def __init__(
        self,
        retention_log: RetentionLog,
        letters: DeadLetterService,
        lease: Lease,
        metrics: ConsumerMetrics,
        *,
        kept: timedelta,
    ) -> None:
        """Prepare.

        Args:
            retention_log: What forgets.
            letters: Redis' copies of dead letters.
            lease: Who may: one at a time, so that the pace is that of one.
            metrics: Where to count.
            kept: How long emails stay after their end; nothing: for ever.
        """
        self._log = retention_log
        self._letters = letters
        self._lease = lease
        self._metrics = metrics
        self._kept = kept

    async def run(self, stop: asyncio.Event) -> None:
        """Let what is old enough leave until ``stop`` is set."""
        rest_s = _FIRST_S
        try:
            while not await wait_for(stop, rest_s):
                rest_s = _INTERVAL_S
                try:
                    await self.run_once(stop)
                except (LogUnavailableError, QueueUnavailableError) as e:
                    log.debug("retention_postponed", reason=str(e))
                except Exception:
                    log.exception("retention_failed")  # a bug; delivery goes on without it, and it tries again
        finally:
            await self._lease.release()

    async def run_once(self, stop: asyncio.Event) -> int:
        """Go once through all that is old enough; how many emails left.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
            QueueUnavailableError: Redis does not answer; only contents of open letters wait for it.
        """
        emails = 0
        try:
            if self._kept and await self._lease.hold():
                emails = await self._forget_emails(stop)
                await self._forget_letters(stop)
            if await self._lease.hold():
                await self._forget_webhook_events(stop)
        finally:
            if emails:
                log.info("emails_left_the_log", emails=emails)
        return emails

    async def _forget_emails(self, stop: asyncio.Event) -> int:
        after, emails = BEGINNING, 0
        while not stop.is_set() and await self._lease.hold():
            began_s = time.monotonic()
            forgotten = await self._log.forget_emails(older_than=self._kept, after=after, size=_PAGE)
            emails += forgotten.emails
            self._metrics.emails_left.inc(forgotten.emails)
            if forgotten.page_end is None:
                break
            after = forgotten.page_end
            await _rest(stop, began_s)
        return emails

    async def _forget_letters(self, stop: asyncio.Event) -> None:
        while not stop.is_set() and await self._lease.hold():
            began_s = time.monotonic()
            handled = await self._log.forget_handled_letters(older_than=self._kept, size=_PAGE)
            letters = await self._log.forget_contents(older_than=self._kept, size=_PAGE)
            if letters:
                await self._letters.withdraw(letters)  # the reconciler shows them again, as the log has them then
                await self._log.note_contents_left(letters)
                log.warning("letters_lost_their_content", letters=len(letters), meaning="nobody handled them in time")
            if max(handled, len(letters)) < _PAGE:
                break
            await _rest(stop, began_s)

    async def _forget_webhook_events(self, stop: asyncio.Event) -> None:
        kept = min(REMEMBERED, self._kept or REMEMBERED)
        while not stop.is_set() and await self._lease.hold():
            began_s = time.monotonic()
            if await self._log.forget_webhook_events(older_than=kept, size=_PAGE) < _PAGE:
                break
            await _rest(stop, began_s)


async def _rest(stop: asyncio.Event, since_s: float) -> None:
    await wait_for(stop, max(_LEAST_REST_S, _REST * (time.monotonic() - since_s)))
