"""Brings emails into line with what the provider told of them."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import structlog
from opentelemetry.trace import SpanKind

from sred_email_core.email_send_log.webhook_events import WebhookLog, Worked
from sred_email_core.errors import QueueUnavailableError, RetryLaterError
from sred_email_core.queue.scripts import QueueScripts
from sred_email_core.queue.suppression_copy import SuppressionCopy
from sred_email_core.tracing import Attributes, Tracing, context_of, trace_ids_of
from sred_email_ingress.webhooks.metrics import WebhookMetrics

log = structlog.get_logger(__name__)

_PAGE = 100
_POLL = timedelta(seconds=2)
"""Between looks for events that another replica stored and did not come to work."""
_REDIS_PATIENCE_S = 1.0


class WebhookWorker:
    """Moves events from where they were stored to the emails that they are about, then brings Redis into line.

    Every replica works; an event is worked once. What a crash leaves is found by any of them. Redis may be away: what
    an event ended is dropped by whoever comes to it, and the reconciler renews the list of suppressions.
    """

    def __init__(
        self,
        webhook_log: WebhookLog,
        scripts: QueueScripts,
        suppressions: SuppressionCopy,
        metrics: WebhookMetrics,
        arrived: asyncio.Event,
        tracing: Tracing,
    ) -> None:
        self._tracing = tracing
        self._log = webhook_log
        self._scripts = scripts
        self._suppressions = suppressions
        self._metrics = metrics
        self._arrived = arrived
        self._size = _PAGE
        self._next_look_s = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; a page that is under way ends."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._arrived.clear()
                try:
                    more = await self.run_once()
                except RetryLaterError as e:
                    log.debug("webhooks_postponed", reason=str(e))
                    more = False
                except Exception:
                    log.exception("webhooks_not_worked")  # a bug; accepting goes on without it, and it tries again
                    more = False
                if not more:
                    arrived = asyncio.create_task(self._arrived.wait())
                    await asyncio.wait(
                        [stopping, arrived], timeout=_POLL.total_seconds(), return_when=asyncio.FIRST_COMPLETED
                    )
                    arrived.cancel()
        finally:
            stopping.cancel()

    async def run_once(self) -> bool:
        """Work a page of events; whether there may be more.

        Raises:
            LogUnavailableError: PostgreSQL does not answer; nothing was worked, or the answer was lost.
        """
        try:
            worked = await self._log.work(size=self._size)
        except RetryLaterError:
            raise
        except Exception:
            # A bug, or an event that no statement can take. One at a time, it holds up no other.
            log.exception("webhooks_failed", events=self._size)
            if self._size > 1:
                self._size = 1
            else:
                self._tell_given_up(await self._log.postpone_first())
            return True
        more = worked.taken == self._size
        self._size = _PAGE if not more else self._size
        await self._tell(worked)
        await self._bring_redis_into_line(worked)
        now_s = time.monotonic()
        if not more or now_s >= self._next_look_s:  # when there is always more, the lag is what tells
            self._next_look_s = now_s + _POLL.total_seconds()
            self._metrics.lag.set((await self._log.lag()).total_seconds())
        return more

    async def _tell(self, worked: Worked) -> None:
        traceparents: dict[str, str] = {}
        if self._tracing.on and worked.told:
            with suppress(RetryLaterError):  # they are worked, whether a trace shows it or not
                traceparents = await self._log.traceparents([email_id for email_id, _ in worked.told])
        for email_id, delivery in worked.told:
            if email_id in traceparents:
                attributes: Attributes = {"messaging.message.id": email_id, "sred.email.delivery": delivery}
                parent = context_of(traceparents[email_id])
                self._tracing.begin("process webhook", SpanKind.CONSUMER, attributes, parent).end()
        self._metrics.worked.labels("known").inc(worked.taken - worked.unknown)
        self._metrics.worked.labels("unknown").inc(worked.unknown - len(worked.given_up))
        self._metrics.closed.inc(len(worked.closed))
        self._tell_given_up(worked.given_up)
        if worked.closed:
            traces = trace_ids_of([traceparents.get(email_id) for email_id in worked.closed])
            log.info("emails_closed_by_webhooks", email_ids=worked.closed, **traces)

    def _tell_given_up(self, given_up: Sequence[str]) -> None:
        self._metrics.worked.labels("given_up").inc(len(given_up))
        if given_up:
            log.warning("webhooks_given_up", svix_ids=given_up)

    async def _bring_redis_into_line(self, worked: Worked) -> None:
        try:
            async with asyncio.timeout(_REDIS_PATIENCE_S):
                if worked.suppressed:
                    await self._suppressions.renew()
                if worked.letters:
                    await self._scripts.unbury(worked.letters)
                if worked.finished:
                    await self._scripts.cancel([email.email_id for email in worked.finished])
                    sends = [(e.email_id, e.first_of_send) for e in worked.finished if e.first_of_send is not None]
                    await self._scripts.finish_sends(sends)
        except (QueueUnavailableError, TimeoutError) as e:
            log.warning("redis_not_told", reason=str(e) or "no answer in time")
