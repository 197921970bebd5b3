"""Publishes again what Redis has forgotten, or was never told."""

import asyncio
import uuid
from datetime import timedelta

import structlog

from sred_email_core.email_send_log.recovery import RecoveryLog
from sred_email_core.errors import LogUnavailableError, QueueUnavailableError
from sred_email_core.lifecycle import wait_for
from sred_email_core.postgres import is_unavailable
from sred_email_core.queue.codec import encode
from sred_email_core.queue.scripts import ParkedInSend, QueueScripts
from sred_email_ingress.metrics import IngressMetrics

log = structlog.get_logger(__name__)

_PAGE = 500


class Reconciler:
    """Moves open emails from the log to the streams, and open sends to the retry set, where Redis has lost them.

    One replica does it at a time, by a lock that dies with its owner. Publishing adds an email only if it has no place,
    so that doing it again, or while others publish, adds nothing.
    """

    def __init__(
        self,
        recovery_log: RecoveryLog,
        scripts: QueueScripts,
        metrics: IngressMetrics,
        *,
        interval: timedelta,
        after: timedelta,
    ) -> None:
        """Prepare.

        Args:
            recovery_log: What is open.
            scripts: The queue.
            metrics: Where to count.
            interval: Between rounds.
            after: How long an email is left to whoever changed it last.
        """
        self._log = recovery_log
        self._scripts = scripts
        self._metrics = metrics
        self._interval_s = interval.total_seconds()
        self._after = after

    async def run(self, stop: asyncio.Event) -> None:
        """Reconcile until ``stop`` is set."""
        while not await wait_for(stop, self._interval_s):
            try:
                await self.run_once()
            except (LogUnavailableError, QueueUnavailableError) as e:
                log.debug("reconciliation_postponed", reason=str(e))
            except Exception:
                log.exception("reconciliation_failed")  # a bug; accepting goes on without it, and it tries again

    async def run_once(self) -> int:
        """Go through everything that is open, if no other replica does; how many emails were published.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
            QueueUnavailableError: Redis does not answer.
        """
        try:
            async with self._log.only_one() as mine:
                return await self._reconcile() if mine else 0
        except Exception as e:
            if is_unavailable(e):
                raise LogUnavailableError(f"PostgreSQL: {str(e) or type(e).__name__}") from e
            raise

    async def _reconcile(self) -> int:
        published = 0
        after: uuid.UUID | None = None
        while True:
            page = await self._log.waiting(after=after, older_than=self._after, size=_PAGE)
            published += await self._scripts.publish([(e.lane, e.email_id, encode(e)) for e in page.emails])
            if page.next_id is None:
                break
            after = page.next_id
        for emails in await self._log.due_sends(older_than=self._after, size=_PAGE):
            await self._scripts.park_sends("", [ParkedInSend(emails[0], e, timedelta()) for e in emails])
            published += len(emails)
        if published:
            self._metrics.republished.inc(published)
            log.warning("republished", emails=published, meaning="open in the log, without a place in Redis")
        return published
