"""From start to stop: signals set one event, loops end by it, resources close in reverse."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

import uvloop


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

    uvloop.run(run())


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def serve(loops: Sequence[Loop], stop: asyncio.Event) -> None:
    """Run loops until ``stop`` is set and each has ended.

    A loop that fails stops the others and its exception is raised: a process that does half its work is worse than one
    that is restarted.
    """
    async with asyncio.TaskGroup() as group:
        for loop in loops:
            group.create_task(loop.run(stop), name=type(loop).__name__)


async def wait_for(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait until an event is set, or a time has passed; whether it is set."""
    if event.is_set():
        return True
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    return True
