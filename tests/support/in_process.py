"""Both services inside the test: the product's own composition, on connections that count their steps."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast
from unittest import mock

import asyncpg
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from sred_email_consumer import composition as consumer_composition
from sred_email_consumer.composition import ConsumerParts
from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_consumer.resend import ResendClient
from sred_email_consumer.settings import ConsumerSettings
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.settings import ServiceSettings, load_settings
from sred_email_ingress import composition as ingress_composition
from sred_email_ingress.composition import IngressParts
from sred_email_ingress.metrics import IngressMetrics
from sred_email_ingress.reconciler import Reconciler
from sred_email_ingress.recovery.composition import build_reconciler
from sred_email_ingress.settings import IngressSettings
from support.counted import CountedPool, CountedRedis, CountedResend
from support.crash_steps import Engine, InProcess
from support.world import API_KEY

if TYPE_CHECKING:
    from typing import Any

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)

CLAIM_IDLE_S = 60
MAX_ATTEMPTS = 3
MAX_DELIVERIES = 5

ENVIRONMENT = {
    "SRED_EMAIL_AUTH": "off",
    "SRED_EMAIL_POSTGRES_DSN": "postgresql://not-used",
    "SRED_EMAIL_REDIS_URL": "redis://not-used",
    "RESEND_API_KEY": API_KEY,
    "SRED_EMAIL_DEFAULT_FROM": "Test <test@example.com>",
    "SRED_EMAIL_CLAIM_IDLE": str(CLAIM_IDLE_S),
    "SRED_EMAIL_PROVIDER_TIMEOUT": "5",
    "SRED_EMAIL_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
    "SRED_EMAIL_MAX_DELIVERIES": str(MAX_DELIVERIES),
    "SRED_EMAIL_RESEND_REQUESTS_PER_SECOND": "0",
    "SRED_EMAIL_DRAIN_TIMEOUT": "0.2",
}


_PATIENCE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Connections:
    """What the processes of one test share: the engines, and whether each answers."""

    pool: asyncpg.Pool
    redis: Redis
    resend: ResendClient
    keys: QueueKeys
    postgres_engine: Engine
    redis_engine: Engine
    provider_engine: Engine

    def pool_of(self, process: InProcess) -> "asyncpg.Pool[Any]":
        """PostgreSQL as a process sees it."""
        return cast("asyncpg.Pool[Any]", CountedPool(self.pool, self.postgres_engine, process))

    def redis_of(self, process: InProcess) -> Redis:
        """Redis as a process sees it."""
        return CountedRedis(self.redis, self.redis_engine, process)

    def resend_of(self, process: InProcess) -> ResendClient:
        """The provider as a process sees it."""
        return cast("ResendClient", CountedResend(self.resend, self.provider_engine, process))


@dataclass(frozen=True, slots=True)
class Ingress:
    """An ingress without its ports."""

    process: InProcess
    parts: IngressParts
    reconciler: Reconciler


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer without its ports."""

    process: InProcess
    parts: ConsumerParts


@functools.cache
def settings_of(kind: type[SettingsT], **environment: str) -> SettingsT:
    """Settings as a process reads them; read once, since processes are built by the hundred and settings are frozen."""
    with mock.patch.dict(os.environ, _environment(environment), clear=True):
        return load_settings(kind)


def build_ingress(connections: Connections, process: InProcess) -> Ingress:
    """An ingress as its main program composes it; calls have all the time that Redis takes."""
    redis, keys = connections.redis_of(process), connections.keys
    settings = settings_of(IngressSettings)
    metrics = IngressMetrics(CollectorRegistry())
    own = ingress_composition.Connections(connections.pool_of(process), redis, ScriptRunner(redis, keys))
    reconciler = build_reconciler(
        own.pool, own.runner, keys, metrics, interval=settings.reconcile_interval, after=settings.reconcile_after
    )
    return Ingress(process, ingress_composition.compose(settings, own, metrics, patience=_PATIENCE), reconciler)


def build_consumer(connections: Connections, process: InProcess, *, slots: int) -> Consumer:
    """A consumer as its main program composes it; with one slot, emails that wait share a request."""
    redis = connections.redis_of(process)
    own = consumer_composition.Connections(
        connections.pool_of(process), redis, ScriptRunner(redis, connections.keys), connections.resend_of(process)
    )
    settings = settings_of(ConsumerSettings, SRED_EMAIL_CONSUMER_SLOTS=str(slots))
    return Consumer(
        process, consumer_composition.compose(process.name, settings, own, ConsumerMetrics(CollectorRegistry()))
    )


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    others = {n: v for n, v in os.environ.items() if not n.startswith(("SRED_EMAIL_", "RESEND_"))}
    return {**others, **ENVIRONMENT, **environment}
