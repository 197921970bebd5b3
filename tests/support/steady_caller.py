"""A caller that sends emails at a steady rate and repeats each call, under its key, until it is answered OK."""

import asyncio
import itertools
from collections.abc import Sequence

import grpc

from support.world import Service, World, email_request

_AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
_PAUSE_S = 0.2


class SteadyCaller:
    """Calls whichever ingress there is.

    Args:
        world: Where it calls.
        ingresses: Any of them takes any call.
        rate: Emails a second.
    """

    def __init__(self, world: World, ingresses: Sequence[Service], *, rate: float) -> None:
        self.ingresses = list(ingresses)
        self.email_ids: dict[str, str] = {}
        self._world = world
        self._rate = rate
        self._stop = asyncio.Event()
        self._calling = asyncio.create_task(self._call_on())

    async def send(self, subject: str) -> None:
        """Send one email; returns when it was accepted."""
        for turn in itertools.count():
            ingress = self.ingresses[turn % len(self.ingresses)]
            try:
                answer = await self._world.dispatch(ingress).SendEmail(email_request(subject), timeout=10)
            except grpc.aio.AioRpcError as e:
                if e.code() not in _AGAIN:
                    raise
                await asyncio.sleep(_PAUSE_S)
            else:
                self.email_ids[subject] = answer.email_id
                return

    async def stop(self) -> None:
        """Begin no more calls; returns when each was answered OK."""
        self._stop.set()
        await self._calling

    async def assert_each_is_delivered_once(self, *, timeout_s: float) -> None:
        """Every email that was accepted ends as SUCCESS, and the provider sent it once."""
        for subject, email_id in self.email_ids.items():
            status = await self._world.wait_for(email_id, timeout_s=timeout_s)
            assert (subject, status) == (subject, "SUCCESS")
        delivered = {subject: self._world.deliveries(subject) for subject in self.email_ids}
        assert delivered == dict.fromkeys(self.email_ids, 1)

    async def _call_on(self) -> None:
        async with asyncio.TaskGroup() as calls:
            for number in itertools.count():
                if self._stop.is_set():
                    break
                calls.create_task(self.send(f"steady {number}"))
                await asyncio.sleep(1 / self._rate)
