"""From start to stop: signals set one event, loops end by it, resources close in reverse."""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import Any, Protocol

import structlog
import uvloop

log = structlog.get_logger(__name__)

_LEFT_BEHIND: list[asyncio.Task[None]] = []
"""Loops that did not end in time: kept until the process ends."""


class StopEvent(asyncio.Event):
    """Set when the process is asked to stop; remembers since when."""

    _since_s: float | None = None

    def set(self) -> None:
        """Ask to stop; the first time counts."""
        if self._since_s is None:
            self._since_s = time.monotonic()
        super().set()

    def left_of(self, span: timedelta) -> timedelta:
        """What remains of a span that begins when it is set: all of it until then, and never less than nothing."""
        gone_s = time.monotonic() - self._since_s if self._since_s is not None else 0.0
        return max(span - timedelta(seconds=gone_s), timedelta())


class Loop(Protocol):
    """Work that goes on until it is asked to stop, and then finishes what it holds."""

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until ``stop`` is set."""


def run_to_the_end(service: Coroutine[Any, Any, None]) -> None:
    """Run a service; when it has ended well, the process ends right there, with exit code 0.

    A gRPC server that is stopped answers calls that wait in its queue with CANCELLED, which callers do not repeat; so
    it goes on refusing them with UNAVAILABLE until its connections close with the process.

    Raises:
        Exception: The service's own, if it failed.
    """

    async def run() -> None:
        await service
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    collect_rarely()
    uvloop.run(run())


def collect_rarely() -> None:
    """Let the collector look for circles of objects less often than after every 700 new ones.

    What is there when a service starts stays, and what comes is freed by its reference count: circles are few, and
    looking for them costs a call its share of every object that is alive.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def stop_on_signals() -> StopEvent:
    """An event that SIGTERM and SIGINT set."""
    stop = StopEvent()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


class Following:
    """A loop that begins once something has happened, and never if the process is asked to stop before."""

    def __init__(self, event: asyncio.Event, loop: Loop) -> None:
        self._event = event
        self._loop = loop

    async def run(self, stop: asyncio.Event) -> None:
        """Wait, then go on until ``stop`` is set."""
        waits = [asyncio.create_task(event.wait()) for event in (self._event, stop)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if self._event.is_set():
            await self._loop.run(stop)


async def serve(loops: Sequence[Loop], stop: asyncio.Event) -> None:
    """Run loops until ``stop`` is set and each has ended.

    A loop that fails stops the others and its exception is raised: a process that does half its work is worse than one
    that is restarted.
    """
    async with asyncio.TaskGroup() as group:
        for loop in loops:
            group.create_task(loop.run(stop), name=type(loop).__name__)


async def serve_and_drain(loops: Sequence[Loop], stop: StopEvent, *, within: timedelta) -> None:
    """The same, but loops that have not ended ``within`` that time of the stop are left behind.

    For loops whose work is safe to break off anywhere: a server that hangs must not hold up the end of the process.
    """
    serving = asyncio.create_task(serve(loops, stop))
    asked = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([serving, asked], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([serving], timeout=stop.left_of(within).total_seconds())
    finally:
        asked.cancel()
        serving.cancel()
    if serving.done():
        await serving
    else:
        _LEFT_BEHIND.append(serving)
        log.warning("loops_left_behind", reason="they did not end in time")


async def wait_for(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait until an event is set, or a time has passed; whether it is set."""
    if event.is_set():
        return True
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    return True
