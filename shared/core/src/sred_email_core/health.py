"""Whether a service can do its work now: what it depends on is asked over and over, and changes are logged once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from sred_email_core.lifecycle import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

log = structlog.get_logger(__name__)

_CHECK_TIMEOUT_S = 2.0


@dataclass(slots=True)
class Dependency:
    """Something outside the process that it needs.

    Attributes:
        name: For people.
        check: Returns if it answers; raises, with the reason, if not.
        essential: Without it the service is not ready; else it is only degraded.
        problem: Why it does not answer; None: it does. Before the first check: not asked yet.
    """

    name: str
    check: Callable[[], Awaitable[object]]
    essential: bool = True
    problem: str | None = "not asked yet"


class Tell(Protocol):
    """Tells others whether the service is ready; at once, whoever listens."""

    def __call__(self, *, ready: bool) -> None:
        """Tell."""


class HealthWatch:
    """Asks each dependency every second; moves the answers to ``ready``, to gRPC health and to the log."""

    def __init__(
        self,
        dependencies: "Sequence[Dependency]",
        *,
        tell: Tell,
        interval_s: float = 1.0,
    ) -> None:
        self._dependencies = dependencies
        self._tell = tell
        self._interval_s = interval_s
        self._draining = False

    @property
    def ready(self) -> bool:
        """Whether every essential dependency answered last time."""
        return not self._draining and not any(d.problem for d in self._dependencies if d.essential)

    @property
    def problems(self) -> dict[str, str]:
        """Why each dependency that does not answer doesn't."""
        problems = {d.name: d.problem for d in self._dependencies if d.problem}
        return {"shutdown": "draining", **problems} if self._draining else problems

    @property
    def answers(self) -> dict[str, str | None]:
        """Each dependency, and why it does not answer; None: it does."""
        return {d.name: d.problem for d in self._dependencies}

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until ``stop`` is set; from then on the service is not ready."""
        while not stop.is_set():
            await self.run_once()
            await wait_for(stop, self._interval_s)
        self._draining = True
        self._tell(ready=self.ready)

    async def run_once(self) -> None:
        """Ask each dependency once."""
        await asyncio.gather(*(self._ask(d) for d in self._dependencies))
        self._tell(ready=self.ready)

    async def _ask(self, dependency: Dependency) -> None:
        problem: str | None = None
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                await dependency.check()
        except TimeoutError:
            problem = "no answer in time"
        except Exception as e:  # noqa: BLE001 - whatever it is, the dependency can't be used
            problem = str(e) or type(e).__name__
        if (problem is None) != (dependency.problem is None) or (dependency.problem == "not asked yet" and problem):
            if problem is None:
                log.info("dependency_available", dependency=dependency.name)
            else:
                log.warning("dependency_unavailable", dependency=dependency.name, reason=problem)
        dependency.problem = problem
