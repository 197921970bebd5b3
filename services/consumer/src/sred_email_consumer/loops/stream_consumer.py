"""Pulls work when there is a free slot for it, and delivers it."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta

import structlog

from sred_email_consumer.delivery import EmailDelivery
from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_core.errors import QueueUnavailableError
from sred_email_core.lifecycle import wait_for
from sred_email_core.queue.doorbell import Doorbell
from sred_email_core.queue.scripts import QueueScripts, Taken

log = structlog.get_logger(__name__)

_LONGEST_WAIT_S = 1.0
"""Until the queue is asked again although nothing rang: bounds what a lost ring or a lifted hold costs."""


class EmailStreamConsumer:
    """Moves emails from the three streams, and sends that are due from the retry set, to the provider.

    Slots are requests in flight. Nothing is taken that can't be sent now: the backlog stays on the streams, in order,
    where every replica and the autoscaler see it.
    """

    def __init__(  # noqa: PLR0913 - the composition root names each
        self,
        name: str,
        scripts: QueueScripts,
        delivery: EmailDelivery,
        doorbell: Doorbell,
        metrics: ConsumerMetrics,
        *,
        slots: int,
        requests_per_second: float,
        claim_idle: timedelta,
        drain_timeout: timedelta,
    ) -> None:
        self._name = name
        self._scripts = scripts
        self._delivery = delivery
        self._doorbell = doorbell
        self._metrics = metrics
        self._slots = slots
        self._requests_per_second = requests_per_second
        self._claim_idle = claim_idle
        self._drain_timeout = drain_timeout
        self._in_flight: set[asyncio.Task[None]] = set()
        self._slot_freed = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Take and deliver until ``stop`` is set; then finish what is in flight."""
        while not stop.is_set():
            try:
                taken = await self.run_once()
            except QueueUnavailableError as e:
                log.debug("take_failed", reason=str(e))
                await wait_for(stop, 0.25)
                continue
            await self._pause(stop, taken)
        await self._drain()

    async def run_once(self) -> Taken | None:
        """Fill the free slots as far as there is work that may be sent now; None: there is no free slot.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        free = self._slots - len(self._in_flight)
        if free == 0:
            return None
        taken = await self._scripts.take(
            self._name, slots=free, requests_per_second=self._requests_per_second, claim_idle=self._claim_idle
        )
        for email_id in taken.repeats:
            self._start(self._delivery.deliver_repeat(email_id))
        for entry in taken.entries:
            self._start(self._delivery.deliver_entry(entry))
        return taken

    async def _pause(self, stop: asyncio.Event, taken: Taken | None) -> None:
        """Wait until asking again makes sense."""
        if taken is None:
            self._slot_freed.clear()
            if len(self._in_flight) >= self._slots:
                await _first_of(stop.wait(), self._slot_freed.wait())
            return
        if taken.repeats or taken.entries:
            return
        wait_s = _LONGEST_WAIT_S if taken.wait is None else min(taken.wait.total_seconds(), _LONGEST_WAIT_S)
        if taken.held:
            await wait_for(stop, wait_s)
        else:
            await _first_of(stop.wait(), self._doorbell.wait(wait_s))

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(self._guard(work))
        self._in_flight.add(task)
        self._metrics.in_flight.set(len(self._in_flight))
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._metrics.in_flight.set(len(self._in_flight))
        self._slot_freed.set()

    async def _guard(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except Exception:
            # A bug. The email stays where it is, pending or leased, and comes up again when that runs out.
            log.exception("delivery_failed")
            await asyncio.sleep(
                _LONGEST_WAIT_S
            )  # the slot stays taken: a bug must not swallow the backlog at full speed

    async def _drain(self) -> None:
        if not self._in_flight:
            return
        log.info("draining", sends=len(self._in_flight))
        _, late = await asyncio.wait(self._in_flight, timeout=self._drain_timeout.total_seconds())
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


async def _first_of(*waits: Coroutine[object, object, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
