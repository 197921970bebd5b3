"""Processes that live inside the test: each step of their I/O is counted, and at any of them something can happen.

A process is a set of tasks. Its connections are adapters over the real ones: a step is one statement, one command or
one request. A process that is to die at a step dies before the step had its effect, or after it: nobody learns the
answer. From then on every step of it fails, and its tasks are cancelled. What an engine has received it carries out.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

T = TypeVar("T")

_LONGEST_S = 20.0
"""Nothing in a test takes this long unless it hangs."""

_process: contextvars.ContextVar["InProcess | None"] = contextvars.ContextVar("process", default=None)


class Crashed(BaseException):
    """The process is dead. No Exception: nothing in the product may catch it."""


class Stopped(Exception):  # noqa: N818 - as SIGSTOP: no error
    """The process was stopped, and what it was to do is under way."""


class Moment(StrEnum):
    """When, around the effect of a step."""

    BEFORE = "before"
    AFTER = "after"


class Fate(StrEnum):
    """What happens at a point."""

    DIES = "dies"
    STOPS = "is stopped"
    """As by SIGSTOP."""
    HEARS_AN_ERROR = "hears an error"
    """The engine is away for this one step, or its answer is lost."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where something happens to a process: at its n-th step, from 1, or at its first step of a name."""

    step: int | str
    moment: Moment
    fate: Fate = Fate.DIES


@dataclass(slots=True)
class Engine:
    """Something that processes speak to, and whether it answers.

    Attributes:
        error: What its driver raises when it does not.
        away: It does nothing of what it is asked.
        lost: So many answers are still to be lost of what it does.
    """

    error: Callable[[], Exception]
    away: bool = False
    lost: int = 0

    def heal(self) -> None:
        """It answers."""
        self.away, self.lost = False, 0


class InProcess:
    """One process of the system.

    Attributes:
        dead: It has no effect any more.
        steps: Names of those that it took.
        abandoned: What the engines do when they notice that it died.
    """

    def __init__(self, name: str, point: Point | None = None) -> None:
        self.name = name
        self.dead = False
        self.steps: list[str] = []
        self.abandoned: list[Callable[[], Awaitable[None]]] = []
        self._point = point
        self._halt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._effects: set[asyncio.Future[None]] = set()
        self._going = asyncio.Event()
        self._going.set()

    async def step(self, engine: Engine, name: str, effect: Callable[[], Awaitable[T]]) -> T:
        """Have one effect on an engine, unless the process dies of it."""
        await self._go_on()
        self.steps.append(name)
        number = len(self.steps)
        await self._meet(engine, number, name, Moment.BEFORE)
        if engine.away:
            raise engine.error()
        ended = asyncio.get_running_loop().create_future()
        self._effects.add(ended)
        try:
            answer = await effect()
        finally:
            ended.set_result(None)
            self._effects.discard(ended)
        await self._meet(engine, number, name, Moment.AFTER)
        if engine.lost:
            engine.lost -= 1
            raise engine.error()
        return answer

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something as a part of this process.

        Raises:
            Crashed: The process died of it.
            Stopped: It was stopped.
        """
        task = asyncio.get_running_loop().create_task(work, context=self._context())
        await self._wait_for(task)
        return task.result()

    async def settle(self, patience_s: float = _LONGEST_S) -> bool:
        """Wait until nothing of this process is under way; whether that came about in time.

        Raises:
            Crashed: The process died.
            Stopped: It was stopped.
        """
        try:
            async with asyncio.timeout(patience_s):
                while self._tasks:
                    await self._wait_for(*self._tasks)
        except TimeoutError:
            if patience_s == _LONGEST_S:
                raise
            return False
        return True

    async def kill(self) -> None:
        """End the process; returns when nothing of it has any further effect."""
        self._die()
        self._going.set()
        async with asyncio.timeout(_LONGEST_S):
            while self._effects:
                await asyncio.wait(self._effects)
            while self._tasks:
                for task in self._tasks:
                    task.cancel()
                await asyncio.wait(self._tasks)
        for clean_up in self.abandoned:
            await clean_up()
        self.abandoned.clear()

    def expect(self, steps: int, moment: Moment, fate: Fate) -> None:
        """Let something happen so many steps from now."""
        self._point = Point(len(self.steps) + steps, moment, fate)

    def spare(self) -> None:
        """Nothing is to happen to it any more."""
        self._point = None

    def stop(self) -> None:
        """SIGSTOP: it stays where its next step begins or ends."""
        self._going.clear()
        self._halted()

    def go_on(self) -> None:
        """SIGCONT."""
        if self.stopped:
            self._halt = asyncio.get_running_loop().create_future()
            self._going.set()

    @property
    def stopped(self) -> bool:
        """Whether it was stopped."""
        return not self._going.is_set()

    @property
    def busy(self) -> bool:
        """Whether anything of it is under way."""
        return bool(self._tasks)

    def adopt(self, task: "asyncio.Task[Any]") -> None:
        """Count a task as this process'."""
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for the task raises it; a dead process' tasks nobody waits for

    def _context(self) -> contextvars.Context:
        context = contextvars.copy_context()
        context.run(_process.set, self)
        return context

    async def _wait_for(self, *tasks: "asyncio.Task[Any]") -> None:
        """Wait until one of these has ended."""
        async with asyncio.timeout(_LONGEST_S):
            await asyncio.wait({*tasks, self._halt}, return_when=asyncio.FIRST_COMPLETED)
        if self.dead:
            await self.kill()
            raise Crashed(self.name)
        if not any(task.done() for task in tasks):
            raise Stopped(self.name)

    async def _go_on(self) -> None:
        await self._going.wait()
        if self.dead:
            raise Crashed(self.name)

    async def _meet(self, engine: Engine, number: int, name: str, moment: Moment) -> None:
        """What is to happen here, if anything."""
        point, fate = self._point, None
        if point is not None and point.moment is moment and point.step in {number, name}:
            self._point, fate = None, point.fate
        if fate is Fate.DIES:
            self._die()
        elif fate is Fate.STOPS:
            self.stop()
        await self._go_on()
        if fate is Fate.HEARS_AN_ERROR:
            raise engine.error()

    def _die(self) -> None:
        if not self.dead:
            self.dead = True
            self._halted()

    def _halted(self) -> None:
        if not self._halt.done():
            self._halt.set_result(None)


@contextmanager
def tasks_belong_to_processes() -> Iterator[None]:
    """While open, every task that a process starts is known as its own."""
    loop = asyncio.get_running_loop()

    def start(
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, T],
        *,
        context: contextvars.Context | None = None,
    ) -> "asyncio.Task[T]":
        task = asyncio.Task(work, loop=loop, context=context)
        process = context.get(_process) if context is not None else _process.get()
        if process is not None:
            process.adopt(task)
        return task

    before = loop.get_task_factory()
    loop.set_task_factory(start)  # type: ignore[arg-type]
    try:
        yield
    finally:
        loop.set_task_factory(before)
