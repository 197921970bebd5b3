"""Refuses new emails before the queue is full: the lowest lane first, with a reserve for HIGH."""

import asyncio
import time
from datetime import timedelta

import structlog

from sred_email_core.email_send_log.acceptance import AcceptanceLog
from sred_email_core.errors import LogUnavailableError, OverloadedError, QueueUnavailableError
from sred_email_core.lifecycle import wait_for
from sred_email_core.queue.capacity import QueueCapacity, QueueLoad
from sred_email_core.queue.keys import Lane
from sred_email_ingress.metrics import IngressMetrics

log = structlog.get_logger(__name__)

REFUSED_FROM = {Lane.LOW: 0.8, Lane.NORMAL: 0.9, Lane.HIGH: 1.0}
"""The pressure from which on new emails of a lane are refused."""

_INTERVAL_S = 0.5
_COUNT_EVERY_S = 3.0
_PATIENCE_S = 5.0
_LOG_EVERY_S = 10.0
_RETRY_AFTER = timedelta(seconds=5)
_UNPUBLISHED_SHARE = 0.01
"""Of the backlog: by so much may the open emails of the log exceed those in Redis before they count instead."""


class Backpressure:
    """Samples how full the queue is, and judges new emails by it.

    Pressure is the larger of two shares, each 1 at its limit: emails in flight, and Redis' memory. Emails that this
    process has accepted since the sample count as in flight, so that a burst between two samples stays within bounds.

    Redis tells what is in flight. What it can't know is counted in the log, no further than the limit, every few
    seconds: while Redis is away, and for as long as the log holds more than Redis does: Redis was flushed, or what was
    accepted while it was away, full or read-only is still being published.
    """

    def __init__(
        self,
        queue: QueueCapacity,
        acceptance_log: AcceptanceLog,
        metrics: IngressMetrics,
        *,
        max_backlog: int,
        max_redis_memory: float,
    ) -> None:
        """Prepare; until the first sample there is no pressure.

        Args:
            queue: What Redis holds.
            acceptance_log: What is open.
            metrics: Where to show the pressure.
            max_backlog: The most emails in flight.
            max_redis_memory: The most of Redis' maxmemory, as a share.
        """
        self._queue = queue
        self._log = acceptance_log
        self._metrics = metrics
        self._max_backlog = max_backlog
        self._max_redis_memory = max_redis_memory
        self._admitted = 0  # on their way into the log
        self._accepted = 0  # by this process, ever
        self._in_flight, self._in_flight_at = 0, 0  # what Redis said, and what had been accepted by then
        self._open: int | None = None  # what the log said; None: Redis knows better
        self._open_at = 0
        self._memory = 0.0
        self._in_doubt = True  # whether Redis knows all that is in flight: not yet known
        self._next_count_s = 0.0
        self._next_log_s = 0.0

    @property
    def pressure(self) -> float:
        """How full the queue is, 1 at its limit."""
        in_log = 0 if self._open is None else self._open + self._accepted - self._open_at + self._admitted
        return max(self.pressure_on_redis, in_log / self._max_backlog)

    @property
    def pressure_on_redis(self) -> float:
        """The same of what Redis holds alone: what waits in the log for room in Redis does not take it."""
        backlog = self._in_flight + self._accepted - self._in_flight_at + self._admitted
        return max(backlog / self._max_backlog, self._memory)

    def refuses(self, lane: Lane) -> bool:
        """Whether new emails of a lane are refused now."""
        return self.pressure >= REFUSED_FROM[lane]

    def admit(self, lane: Lane) -> OverloadedError | None:
        """Let a new email pass; it counts as in flight until it is settled.

        Returns:
            Why it can't pass now, and does not count; None: it can.
        """
        if self.refuses(lane):
            return OverloadedError(
                f"too much is in flight for more emails of priority {lane.name}: repeat the call later",
                retry_after=_RETRY_AFTER,
            )
        self._admitted += 1
        return None

    def settle(self, *, admitted: int, accepted: int) -> None:
        """Take note of what became of emails that were let pass: accepted, or their keys were held."""
        self._admitted -= admitted
        self._accepted += accepted

    def unpublished(self) -> None:
        """Take note that an accepted email could not be published: Redis does not know all that is in flight."""
        self._in_doubt = True

    async def run(self, stop: asyncio.Event) -> None:
        """Sample until ``stop`` is set."""
        while not stop.is_set():
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self.run_once()
            except TimeoutError:
                log.debug("sample_missed", reason="no answer in time")
            except Exception:
                log.exception("sampling_failed")  # a bug; what was known last holds on
            await wait_for(stop, _INTERVAL_S)

    async def run_once(self) -> None:
        """Take one sample; what can't be learned now stays as it was."""
        load = await self._sample()
        if self._in_doubt and time.monotonic() >= self._next_count_s:
            await self._count(load)
        self._metrics.pressure.set(self.pressure)
        self._tell()

    async def _sample(self) -> QueueLoad | None:
        accepted = self._accepted
        try:
            load = await self._queue.read()
        except QueueUnavailableError:
            self._in_doubt = True
            self._memory = 0.0  # what a Redis that is away would have room for holds nobody up
            return None
        if load.in_flight < self._in_flight / 2:
            self._in_doubt = True  # delivered, or forgotten
        self._in_flight, self._in_flight_at = load.in_flight, accepted
        self._memory = (load.memory or 0.0) / self._max_redis_memory
        return load

    async def _count(self, load: QueueLoad | None) -> None:
        self._next_count_s = time.monotonic() + _COUNT_EVERY_S
        accepted = self._accepted
        try:
            counted = await self._log.count_open(at_most=self._max_backlog)
        except LogUnavailableError:
            return
        if load is None:
            self._in_flight, self._in_flight_at = 0, accepted  # what Redis said is older than this
        self._in_doubt = load is None or counted - load.in_flight > self._max_backlog * _UNPUBLISHED_SHARE
        self._open, self._open_at = counted if self._in_doubt else None, accepted

    def _tell(self) -> None:
        refused = [lane.name for lane in Lane if self.refuses(lane)]
        if refused and time.monotonic() >= self._next_log_s:
            self._next_log_s = time.monotonic() + _LOG_EVERY_S
            log.warning("backpressure", refused=refused, pressure=round(self.pressure, 3))
