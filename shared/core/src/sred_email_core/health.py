"""Whether a service can do its work now: what it depends on is asked over and over, and changes are logged once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as grpc_health

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


class HealthWatch:
    """Asks each dependency every second; moves the answers to ``ready``, to gRPC health and to the log."""

    def __init__(
        self,
        dependencies: "Sequence[Dependency]",
        *,
        grpc_health_servicer: grpc_health.HealthServicer,
        grpc_service: str,
        interval_s: float = 1.0,
    ) -> None:
        self._dependencies = dependencies
        self._servicer = grpc_health_servicer
        self._grpc_service = grpc_service
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
        await self._tell_grpc()

    async def run_once(self) -> None:
        """Ask each dependency once."""
        await asyncio.gather(*(self._ask(d) for d in self._dependencies))
        await self._tell_grpc()

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

    async def _tell_grpc(self) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if self.ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", self._grpc_service):
            await self._servicer.set(service, status)
