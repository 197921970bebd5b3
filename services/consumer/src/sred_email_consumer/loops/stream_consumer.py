"""Pulls work when there is a free slot for it, and delivers it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from sred_email_consumer.delivery import EmailDelivery
from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_consumer.sends import StoppingError, Turn
from sred_email_consumer.weather import ProviderWeather
from sred_email_core.errors import QueueUnavailableError, RetryLaterError
from sred_email_core.lifecycle import wait_for
from sred_email_core.queue.doorbell import Doorbell
from sred_email_core.queue.keys import Lane
from sred_email_core.queue.scripts import Entry, QueueScripts, Taken, Wish

log = structlog.get_logger(__name__)

_LONGEST_WAIT_S = 1.0
"""Until the queue is asked again although nothing rang: bounds what a lost ring or a lifted hold costs."""
_SUSPECT_DEATHS = 2
_RECHECK_S = 5.0
"""Between looks at what is pending for this consumer: an answer of take that was lost left entries there."""


class EmailStreamConsumer:
    """Moves emails from the three streams, and sends that are due from the retry set, to the provider.

    Slots are requests in flight. Nothing is taken that can't be sent now: the backlog stays on the streams, in order,
    where every replica and the autoscaler see it.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the composition root names each
        self,
        name: str,
        scripts: QueueScripts,
        delivery: EmailDelivery,
        doorbell: Doorbell,
        weather: ProviderWeather,
        restore_pauses: Callable[[], Awaitable[object]],
        metrics: ConsumerMetrics,
        *,
        wish: Wish,
        drain_timeout_s: float,
    ) -> None:
        """Prepare.

        Args:
            name: In the group; never used again by another start.
            scripts: The queue.
            delivery: What carries one request to its outcome.
            doorbell: What to wait on while there is nothing to do.
            weather: What is known of the provider.
            restore_pauses: Copies the pauses of the log to Redis; RetryLaterError: one of them does not answer.
            metrics: Where to count.
            wish: What this consumer could send while nothing is in flight.
            drain_timeout_s: How long requests in flight may take after the stop.
        """
        self._name = name
        self._scripts = scripts
        self._delivery = delivery
        self._doorbell = doorbell
        self._weather = weather
        self._restore_pauses = restore_pauses
        self._metrics = metrics
        self._wish = wish
        self._drain_timeout_s = drain_timeout_s
        self._in_flight: dict[asyncio.Task[None], Sequence[Entry]] = {}
        metrics.in_flight.set_function(lambda: len(self._in_flight))
        self._slot_freed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._recheck_at_s = 0.0
        self._succeeded = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Take and deliver until ``stop`` is set; then finish what is being sent, and hand the rest back."""
        while not stop.is_set():
            try:
                await self.recover_lost()
                taken = await self.run_once()
            except RetryLaterError as e:
                log.debug("take_failed", reason=str(e))
                self._recheck_at_s = 0.0  # what it took may be ours without our knowing
                await wait_for(stop, 0.25)
                continue
            await self._pause(stop, taken)
        await self.drain()

    async def run_once(self) -> Taken | None:
        """Fill the free slots as far as there is work that may be sent now; None: there is no free slot.

        Raises:
            QueueUnavailableError: Redis does not answer.
            LogUnavailableError: Redis has no copy of the pauses, and PostgreSQL does not answer.
        """
        free = self._wish.slots - len(self._in_flight)
        if free == 0:
            return None
        suspect = not any(e.deaths >= _SUSPECT_DEATHS for entries in self._in_flight.values() for e in entries)
        wish = replace(self._wish, slots=free, suspect=suspect, accepted=self._weather.fetch_accepted())
        try:
            taken = await self._scripts.take(self._name, wish)
            if taken.pauses_missing:
                await self._restore_pauses()
                taken = await self._scripts.take(self._name, wish)
        except RetryLaterError:
            if wish.accepted:
                self._weather.keep_accepted()
            raise
        self._weather.seen(taken)
        turns = self._weather.turns_of(taken)
        for email_id, turn in zip(taken.repeats, turns, strict=False):
            work = self._deliver_repeat(email_id, taken.alive, turn)
            self._start(self._probing(taken.probe, email_id, work) if taken.probe else work, ())
        for entries, turn in zip(taken.requests, turns, strict=False):
            work = self._delivery.deliver_request(entries, self._stopping, turn)
            if taken.probe:
                email_id = entries[0].fields.get(b"email_id", b"").decode("utf-8", "replace")
                work = self._probing(taken.probe, email_id, work)
            self._start(work, entries)
        return taken

    async def recover_lost(self) -> int:
        """Hand back what is pending for this consumer without its knowing, every few seconds; how many entries.

        Raises:
            QueueUnavailableError: Redis does not answer.
        """
        now_s = time.monotonic()
        if now_s < self._recheck_at_s:
            return 0
        lost = await self._scripts.own_pending(self._name) - self._held()
        if lost:
            log.warning("entries_found", entries=len(lost), meaning="an answer of Redis was lost")
            await self._scripts.hand_back(self._name, sorted(lost))
        self._recheck_at_s = now_s + _RECHECK_S
        return len(lost)

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    async def drain(self) -> None:
        """Hand back what was not begun, finish what is being sent."""
        self._stopping.set()
        await self._hand_back_rest()
        if self._in_flight:
            log.info("draining", sends=len(self._in_flight))
            _, late = await asyncio.wait(self._in_flight, timeout=self._drain_timeout_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
            await self._hand_back_rest()

    async def _pause(self, stop: asyncio.Event, taken: Taken | None) -> None:
        """Wait until asking again makes sense."""
        if taken is None:
            self._slot_freed.clear()
            if len(self._in_flight) >= self._wish.slots:
                await _first_of(stop.wait(), self._slot_freed.wait())
            return
        if taken.repeats or taken.requests:
            return
        wait_s = _LONGEST_WAIT_S if taken.wait is None else min(taken.wait.total_seconds(), _LONGEST_WAIT_S)
        if taken.held:
            began_s = time.monotonic()
            await wait_for(stop, wait_s)
            self._metrics.held_seconds.inc(time.monotonic() - began_s)
        else:
            await _first_of(stop.wait(), self._doorbell.wait(wait_s))

    async def _probing(self, probe: int, first_email_id: str, work: Coroutine[object, object, None]) -> None:
        """Let work be a probe."""
        self._weather.probe_begins(probe, first_email_id)
        try:
            await work
        finally:
            try:
                await self._weather.probe_ends(probe, first_email_id)
            except QueueUnavailableError as e:
                log.debug("probe_not_ended", reason=str(e))  # another is tried after a while

    async def _deliver_repeat(self, first_email_id: str, alive: frozenset[str], turn: Turn) -> None:
        try:
            await self._delivery.deliver_repeat(first_email_id, alive, self._stopping, turn)
        except StoppingError:
            try:
                await self._scripts.postpone(first_email_id, timedelta())  # another may repeat it at once
            except QueueUnavailableError as e:
                log.debug("postpone_failed", reason=str(e))  # it is due again after the claim idle time

    def _held(self) -> set[tuple[Lane, str]]:
        return {(entry.lane, entry.entry_id) for entries in self._in_flight.values() for entry in entries}

    def _start(self, work: Coroutine[object, object, None], entries: Sequence[Entry]) -> None:
        task = asyncio.create_task(self._guard(work, entries))
        self._in_flight[task] = entries
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._in_flight.pop(task, None)
        self._slot_freed.set()

    async def _guard(self, work: Coroutine[object, object, None], entries: Sequence[Entry]) -> None:
        try:
            await work
        except StoppingError:
            await self._hand_back(entries, died=False)
        except Exception:
            # A bug. The slot stays taken for a while, so that it can't swallow the backlog at full speed. While others
            # succeed it counts as a death: an entry that no consumer can deal with ends as a dead letter.
            log.exception("delivery_failed")
            succeeded = self._succeeded
            await wait_for(self._stopping, _LONGEST_WAIT_S)
            await self._hand_back(entries, died=self._succeeded > succeeded)
        else:
            self._succeeded += 1

    async def _hand_back_rest(self) -> None:
        try:
            lost = await self._scripts.own_pending(self._name) - self._held()
            await self._scripts.hand_back(self._name, sorted(lost))
        except QueueUnavailableError as e:
            log.warning("hand_back_failed", reason=str(e), meaning="others take it when the claim idle time is over")

    async def _hand_back(self, entries: Sequence[Entry], *, died: bool) -> None:
        try:
            await self._scripts.hand_back(self._name, [(e.lane, e.entry_id) for e in entries], died=died)
        except QueueUnavailableError as e:
            log.debug("hand_back_failed", reason=str(e))  # found again as pending for this consumer


async def _first_of(*waits: Coroutine[object, object, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
