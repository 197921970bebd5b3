"""Wakes watchers when there is something to tell them: one look at the log for all of this process."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import structlog

from sred_email_core.email_send_log.events import EventLog
from sred_email_core.errors import LogUnavailableError

log = structlog.get_logger(__name__)

_NEVER = 1 << 62
"""A place that no transaction has: a look from there on only tells up to where events can be told."""


class Waiter:
    """One watcher that waits; it is woken at its beginning, and now and then for nothing."""

    def __init__(self, email_ids: Sequence[uuid.UUID] | None) -> None:
        self.email_ids = email_ids
        self._rung = asyncio.Event()
        self._failure: LogUnavailableError | None = None

    def ring(self, failure: LogUnavailableError | None = None) -> None:
        """Wake it, to read or to fail."""
        self._failure = self._failure or failure
        self._rung.set()

    async def wait(self) -> None:
        """Wait until there may be something.

        Raises:
            LogUnavailableError: PostgreSQL does not answer.
        """
        await self._rung.wait()
        self._rung.clear()
        if self._failure is not None:
            raise self._failure


class EventBell:
    """Looks at the log each interval, while somebody waits.

    Acceptance pays nothing for it: nobody is notified with a commit. An idle look is one small statement, however many
    wait; those that wait for named emails cost a second one, when anything happened.
    """

    def __init__(self, event_log: EventLog, *, interval: timedelta) -> None:
        self._log = event_log
        self._interval_s = interval.total_seconds()
        self._of_all: set[Waiter] = set()
        self._by_email: defaultdict[uuid.UUID, set[Waiter]] = defaultdict(set)
        self._new: set[Waiter] = set()
        self._looking: asyncio.Task[None] | None = None

    @property
    def looking(self) -> bool:
        """Whether anybody has it look."""
        return self._looking is not None

    @property
    def watched(self) -> int:
        """How many emails are waited for by name."""
        return len(self._by_email)

    @contextmanager
    def waiting(self, email_ids: Sequence[uuid.UUID] | None) -> Iterator[Waiter]:
        """Wait in this context for events of these emails; None: of all."""
        waiter = Waiter(email_ids)
        if email_ids is None:
            self._of_all.add(waiter)
        for email_id in email_ids or ():
            self._by_email[email_id].add(waiter)
        self._new.add(waiter)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="EventBell")
        try:
            yield waiter
        finally:
            self._forget(waiter)

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    def _forget(self, waiter: Waiter) -> None:
        self._of_all.discard(waiter)
        self._new.discard(waiter)
        for email_id in waiter.email_ids or ():
            self._by_email[email_id].discard(waiter)
            if not self._by_email[email_id]:
                del self._by_email[email_id]

    async def _look(self) -> None:
        since = _NEVER
        try:
            while self._of_all or self._by_email:
                # Who comes during the look may have read before it and not be asked for by it: woken at the next one.
                new, self._new = self._new, set()
                since = await self._look_once(since)
                for waiter in new:
                    waiter.ring()
                await asyncio.sleep(self._interval_s)
        except LogUnavailableError as e:
            self._ring_all(e)
        except Exception:
            log.exception("watch_failed")  # a bug; who watches is told to come again
            self._ring_all(LogUnavailableError("events can't be read now"))
        finally:
            self._looking = None

    async def _look_once(self, since: int) -> int:
        settled, anything = await self._log.settled(since)
        if anything:
            for waiter in self._of_all:
                waiter.ring()
            if self._by_email:
                for email_id in await self._log.touched(list(self._by_email), since=since, until=settled):
                    for waiter in self._by_email.get(email_id, ()):
                        waiter.ring()
        return settled

    def _ring_all(self, failure: LogUnavailableError) -> None:
        for waiter in {*self._of_all, *(w for waiters in self._by_email.values() for w in waiters)}:
            waiter.ring(failure)
