"""Shows in the metrics whether what is in flight is where it should be."""

import time

from sred_email_core.email_send_log.recovery import RecoveryLog
from sred_email_core.email_send_log.schedule import ScheduleLog
from sred_email_core.queue.recovery_scripts import RecoveryScripts
from sred_email_ingress.metrics import IngressMetrics
from sred_email_ingress.recovery.emails import EmailPass

_COUNTING_SHARE = 0.01
"""Of the time: the most that counting open emails may take PostgreSQL, however many there are."""


class ConsistencyCheck:
    """Sets the gauges, in the one process that reconciles."""

    def __init__(
        self,
        recovery_log: RecoveryLog,
        schedule: ScheduleLog,
        queue: RecoveryScripts,
        emails: EmailPass,
        metrics: IngressMetrics,
    ) -> None:
        self._log = recovery_log
        self._schedule = schedule
        self._queue = queue
        self._emails = emails
        self._metrics = metrics
        self._next_count_s = 0.0

    async def run_once(self) -> None:
        """Count.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
            QueueUnavailableError: Redis does not answer.
        """
        in_flight = self._metrics.in_flight
        self._metrics.inconsistent.set(self._emails.inconsistent)
        queue = await self._queue.count()
        in_flight.labels("places").set(queue.places)
        in_flight.labels("streams").set(queue.entries)
        in_flight.labels("parked").set(queue.parked)
        in_flight.labels("sends").set(max(0, queue.retry - queue.parked))
        began_s = time.monotonic()
        if began_s >= self._next_count_s:
            in_flight.labels("log").set(await self._log.count_open())
            in_flight.labels("scheduled").set(await self._schedule.count())
            now_s = time.monotonic()
            self._next_count_s = now_s + (now_s - began_s) / _COUNTING_SHARE

    def leave(self) -> None:
        """Show nothing: another process knows."""
        self._metrics.in_flight.clear()
        self._metrics.inconsistent.set(0)
        self._next_count_s = 0.0
