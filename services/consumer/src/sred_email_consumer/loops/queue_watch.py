"""Reads the queue for the metrics, every few seconds."""

import asyncio
from datetime import timedelta

import structlog

from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_core.errors import QueueUnavailableError
from sred_email_core.lifecycle import wait_for
from sred_email_core.queue.stats import QueueInspector

log = structlog.get_logger(__name__)

_INTERVAL_S = 5.0


class QueueWatch:
    """Moves what the queue holds to the gauges. Every replica does, so that any of them may die."""

    def __init__(self, inspector: QueueInspector, metrics: ConsumerMetrics) -> None:
        self._inspector = inspector
        self._gauges = metrics.queue

    async def run(self, stop: asyncio.Event) -> None:
        """Read until ``stop`` is set."""
        while not stop.is_set():
            try:
                await self.run_once()
            except QueueUnavailableError as e:
                log.debug("queue_not_read", reason=str(e))
            await wait_for(stop, _INTERVAL_S)

    async def run_once(self) -> None:
        """Read once; while Redis is away nothing is shown.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        try:
            stats = await self._inspector.read()
            letters = await self._inspector.count_letters()
        except QueueUnavailableError:
            self._gauges.clear()
            raise
        for lane in stats.lanes:
            name, oldest = lane.lane.name, lane.oldest_waiting or timedelta()
            self._gauges.waiting.labels(name).set(lane.waiting)
            self._gauges.oldest.labels(name).set(oldest.total_seconds())
            self._gauges.in_flight.labels(name).set(lane.in_flight)
            self._gauges.paused.labels(name).set(lane.lane in stats.dispatch.paused)
        self._gauges.retry.labels("no").set(stats.retry_scheduled)
        self._gauges.retry.labels("yes").set(stats.retry_due)
        self._gauges.letters.set(letters)
