"""What is looked at for all who watch, once for all of them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from sred.email.v1.operations_service_pb2 import GetQueueStatsResponse
from sred_email_operator.console.services import CallFailedError

INTERVAL_S = 2.0


@dataclass(frozen=True, slots=True)
class Glance:
    """What was seen.

    Attributes:
        stats: As they were when they could be seen last; None: never.
        failure: Why they can't be seen now; None: they can.
    """

    stats: GetQueueStatsResponse | None
    failure: CallFailedError | None = None


class Feed:
    """Looks every few seconds while anybody watches; whoever comes in between sees what was seen last."""

    def __init__(self, look: Callable[[], Awaitable[GetQueueStatsResponse]], *, interval_s: float = INTERVAL_S) -> None:
        self._look = look
        self._interval_s = interval_s
        self.watchers = 0
        """Who watch now."""
        self._looking: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._stopped = False
        self._last = Glance(None)

    async def now(self) -> Glance:
        """What is to be seen now."""
        if self._looking is None or self._last.stats is None:
            await self._look_once()
        return self._last

    async def watch(self) -> AsyncGenerator[Glance, None]:
        """What is to be seen, again and again, until the console stops."""
        self.watchers += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._go_on())
        try:
            while not self._stopped:
                await self._news.wait()
                yield self._last
        finally:
            self.watchers -= 1
            if not self.watchers:
                await self._end()

    async def stop(self) -> None:
        """Let everybody who watches go."""
        self._stopped = True
        self._news.set()

    async def _go_on(self) -> None:
        while not self._stopped:
            await self._look_once()
            news, self._news = self._news, asyncio.Event()
            news.set()
            await asyncio.sleep(self._interval_s)

    async def _look_once(self) -> None:
        try:
            self._last = Glance(await self._look())
        except CallFailedError as error:
            self._last = Glance(self._last.stats, error)

    async def _end(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
