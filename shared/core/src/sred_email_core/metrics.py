"""What both services measure alike."""

import asyncio
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sred_email_core.encryption.key_ring_file import KeyRingFile
from sred_email_core.health import HealthWatch
from sred_email_core.lifecycle import wait_for

if TYPE_CHECKING:
    import asyncpg

CALL_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_LAG_INTERVAL = timedelta(milliseconds=250)


class CallMetrics:
    """What is counted of gRPC calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "sred_email_call_seconds",
            "Calls that were answered once, by method and status; those answered with a stream are not among them.",
            ["method", "code"],
            buckets=CALL_BUCKETS_S,
            registry=registry,
        )
        self.refused = Counter(
            "sred_email_calls_refused",
            "Calls refused with RESOURCE_EXHAUSTED before they were read: too many were in progress or waiting.",
            registry=registry,
        )
        self.denied = Counter(
            "sred_email_calls_denied",
            "Calls refused for their token before they were read: TOKEN_MISSING, TOKEN_UNKNOWN or SCOPE_MISSING.",
            ["reason"],
            registry=registry,
        )
        self.in_progress = Gauge("sred_email_calls_in_progress", "Calls and streams in progress.", registry=registry)


class LoopLag:
    """Measures how late the event loop comes to what is due: what one slow step costs all others."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "sred_email_event_loop_lag_seconds",
            "How late the event loop came to a timer, measured four times a second.",
            buckets=LAG_BUCKETS_S,
            registry=registry,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Measure until ``stop`` is set."""
        interval_s = _LAG_INTERVAL.total_seconds()
        due_s = time.perf_counter() + interval_s
        while not await wait_for(stop, interval_s):
            now_s = time.perf_counter()
            self._seconds.observe(max(0.0, now_s - due_s))
            due_s = time.perf_counter() + interval_s


class ServiceMetrics:
    """What a service says of itself, whichever it is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a series more for each counter, which nobody asks for
        ProcessCollector(registry=registry)
        self._registry = registry
        self.calls = CallMetrics(registry)
        self.loop_lag = LoopLag(registry)

    def watch(self, pool: "asyncpg.Pool[Any]", health: HealthWatch, keys: KeyRingFile) -> None:
        """Show the connections of a pool, what health knows, and the keys, as they are when somebody looks."""
        Gauge(
            "sred_email_encryption_keys_unusable",
            "1 while the file of encryption keys can't be used: the keys that were read before are.",
            registry=self._registry,
        ).set_function(lambda: keys.stale)
        self._registry.register(_PoolCollector(pool))
        self._registry.register(_HealthCollector(health))


class _PoolCollector(Collector):
    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    def collect(self) -> Iterable[GaugeMetricFamily]:
        idle = self._pool.get_idle_size()
        connections = GaugeMetricFamily(
            "sred_email_postgres_connections",
            "Connections of this process to PostgreSQL that are open, by state: in_use, idle.",
            labels=["state"],
        )
        connections.add_metric(["in_use"], self._pool.get_size() - idle)
        connections.add_metric(["idle"], idle)
        yield connections
        yield GaugeMetricFamily(
            "sred_email_postgres_connections_max",
            "The most connections that this process opens to PostgreSQL.",
            self._pool.get_max_size(),
        )


class _HealthCollector(Collector):
    def __init__(self, health: HealthWatch) -> None:
        self._health = health

    def collect(self) -> Iterable[GaugeMetricFamily]:
        yield GaugeMetricFamily("sred_email_ready", "1 while /readyz answers 200.", int(self._health.ready))
        up = GaugeMetricFamily(
            "sred_email_dependency_up",
            "1 while what the service depends on is as it should be; /readyz says why not.",
            labels=["dependency"],
        )
        for name, problem in self._health.answers.items():
            up.add_metric([name], int(problem is None))
        yield up
