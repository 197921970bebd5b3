"""From start to stop: signals set one event, loops end by it, resources close in reverse."""

import asyncio
import signal
from collections.abc import Sequence
from typing import Protocol


class Loop(Protocol):
    """Work that goes on until it is asked to stop, and then finishes what it holds."""

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until ``stop`` is set."""


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
