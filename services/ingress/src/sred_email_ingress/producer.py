"""Puts accepted emails on their streams."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.codec import QueuedEmail
from sred_email_core.queue.scripts import QueueScripts
from sred_email_core.tracing import trace_ids_of
from sred_email_ingress.metrics import IngressMetrics

log = structlog.get_logger(__name__)


class RedisEmailStreamProducer:
    """Publishes emails that have no place in Redis yet.

    Publishing may fail or take too long: the email is accepted all the same, and stays open in the log.
    """

    def __init__(self, scripts: QueueScripts, metrics: IngressMetrics, *, patience: timedelta) -> None:
        """Prepare.

        Args:
            scripts: The queue.
            metrics: Where to count.
            patience: How long callers wait for Redis before they are answered without.
        """
        self._scripts = scripts
        self._metrics = metrics
        self._patience_s = patience.total_seconds()
        self._under_way: set[asyncio.Task[int]] = set()

    async def publish(self, emails: Sequence[QueuedEmail]) -> bool:
        """Put emails on their streams; whether that is known to have worked in time. What has begun goes on."""
        task = asyncio.create_task(self._scripts.publish(emails))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait([task], timeout=self._patience_s)
        reason = "no answer in time"
        try:
            if task.done():
                task.result()
                return True
        except QueueUnavailableError as e:
            reason = str(e)
        self._metrics.publish_failures.inc(len(emails))
        traces = trace_ids_of([e.traceparent for e in emails])
        log.warning("publish_postponed", email_ids=[e.email_id for e in emails], reason=reason, **traces)
        return False

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    def _ended(self, task: "asyncio.Task[int]") -> None:
        self._under_way.discard(task)
        if not task.cancelled() and task.exception() is None:
            self._metrics.published.inc(task.result())
