"""A process inside the test that can be held, cut off or killed at a step that a test names."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from fnmatch import fnmatchcase
from typing import TypeVar

from support.crash_steps import Engine, InProcess, Moment

T = TypeVar("T")


class _Happening(Enum):
    HELD = auto()
    ANSWER_LOST = auto()


@dataclass(slots=True)
class Trap:
    """Something that happens to a process when it comes to a step.

    Attributes:
        reached: It has happened.
        gone_on: The process that was held may go on.
    """

    step: str
    moment: Moment
    happening: _Happening
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    gone_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_reached(self) -> None:
        """Wait until the process has come there."""
        async with asyncio.timeout(10):
            await self.reached.wait()

    def go_on(self) -> None:
        """SIGCONT."""
        self.gone_on.set()


class Steps(InProcess):
    """A process whose steps have names: `claim_sends.sql`, `take.lua`, `POST /emails`; `*` stands for anything."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._traps: list[Trap] = []

    def stop_before(self, step: str) -> Trap:
        """SIGSTOP it right before its next step of this name."""
        return self._lay(step, Moment.BEFORE, _Happening.HELD)

    def stop_after(self, step: str) -> Trap:
        """SIGSTOP it when its next step of this name has had its effect, before it learns the answer."""
        return self._lay(step, Moment.AFTER, _Happening.HELD)

    def lose_answer(self, step: str) -> Trap:
        """Let its next step of this name have its effect, and cut the connection before the answer."""
        return self._lay(step, Moment.AFTER, _Happening.ANSWER_LOST)

    async def step(self, engine: Engine, name: str, effect: Callable[[], Awaitable[T]]) -> T:
        """Have one effect, and meet the traps around it."""
        await self._spring(engine, name, Moment.BEFORE)
        answer = await super().step(engine, name, effect)
        await self._spring(engine, name, Moment.AFTER)
        return answer

    def _lay(self, step: str, moment: Moment, happening: _Happening) -> Trap:
        trap = Trap(step, moment, happening)
        self._traps.append(trap)
        return trap

    async def _spring(self, engine: Engine, name: str, moment: Moment) -> None:
        trap = next((t for t in self._traps if t.moment is moment and fnmatchcase(name, t.step)), None)
        if trap is None:
            return
        self._traps.remove(trap)
        trap.reached.set()
        if trap.happening is _Happening.ANSWER_LOST:
            raise engine.error()
        await trap.gone_on.wait()
