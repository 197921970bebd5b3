"""A situation, what a process does in it, and how it must end."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from crash.points.checks import AtRest
from crash.points.system import System
from support.crash_steps import InProcess, Point
from support.in_process import Consumer, Ingress


class Dying:
    """The process that something is to happen to, once it is started.

    Attributes:
        process: The process; None: it has not been started.
        consumer: If that is what it is.
    """

    def __init__(self, system: System, point: Point | None) -> None:
        self._system = system
        self._point = point
        self.process: InProcess | None = None
        self.consumer: Consumer | None = None

    def start_ingress(self) -> Ingress:
        """It is an ingress."""
        ingress = self._system.ingress(self._point)
        self.process = ingress.process
        return ingress

    def start_consumer(self, *, slots: int = 4) -> Consumer:
        """It is a consumer."""
        self.consumer = self._system.consumer(self._point, slots=slots)
        self.process = self.consumer.process
        return self.consumer


Situation = Callable[[System], Awaitable[None]]
Deed = Callable[[System, Dying], Awaitable[None]]


async def nothing(_: System) -> None:
    """Nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A situation, what a process does in it, and how it must end wherever that process dies.

    Attributes:
        before: Brings the situation about.
        during: What the process does that dies.
        after: What others do then, before all comes to rest.
        ends: What becomes of each email, by subject, where nothing happens to the process; then what else may where
            something does.
        optional: Emails that may not be in the log in the end: nobody was told that they were accepted.
        reconciled: The reconciler works in any case: PostgreSQL alone knows of what is scheduled for later.
        mended: Where something happens to the process, the reconciler mends it; else consumers put it right alone.
    """

    name: str
    during: Deed
    before: Situation = nothing
    after: Situation = nothing
    ends: Mapping[str, tuple[AtRest, ...]] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    reconciled: bool = False
    mended: bool = False
