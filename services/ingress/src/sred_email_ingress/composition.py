"""Builds the parts of the ingress that serve calls, on connections that are open."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
from redis.asyncio import Redis

from sred_email_core.email_send_log.acceptance import AcceptanceLog
from sred_email_core.email_send_log.events import EventLog
from sred_email_core.email_send_log.listing import EmailList
from sred_email_core.encryption.key_ring_file import KeyRingFile
from sred_email_core.queue.capacity import QueueCapacity
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.scripts import QueueScripts
from sred_email_core.tracing import Tracing
from sred_email_ingress.backpressure import Backpressure
from sred_email_ingress.cancellation import EmailCancellation
from sred_email_ingress.contents import ContentComposer, templates_of
from sred_email_ingress.dispatch import RedisStreamEmailDispatchService
from sred_email_ingress.expiry import ExpiryPolicy
from sred_email_ingress.listing import EmailListing
from sred_email_ingress.metrics import IngressMetrics
from sred_email_ingress.producer import RedisEmailStreamProducer
from sred_email_ingress.senders import SenderPolicy
from sred_email_ingress.settings import IngressSettings
from sred_email_ingress.spans import AcceptanceSpans
from sred_email_ingress.watching import EmailWatch

REDIS_PATIENCE = timedelta(milliseconds=250)
"""How long a call waits for Redis: the email is safe in the log, and its caller should not feel a queue that hangs."""
WATCH_INTERVAL = timedelta(milliseconds=200)
"""Between looks for events while somebody watches: how late they are told at the most, when nothing holds them up."""


@dataclass(frozen=True, slots=True)
class Connections:
    """What an ingress works with: the log, the queue and its scripts' runner."""

    pool: "asyncpg.Pool[Any]"
    redis: Redis
    runner: ScriptRunner


@dataclass(frozen=True, slots=True)
class IngressParts:
    """What serves calls; the loops of ``backpressure`` and ``encryption_keys`` have not been started."""

    dispatch: RedisStreamEmailDispatchService
    cancellation: EmailCancellation
    backpressure: Backpressure
    encryption_keys: KeyRingFile
    listing: EmailListing
    watch: EmailWatch

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        await self.dispatch.drain()
        await self.cancellation.drain()
        await self.watch.close()


def compose(
    settings: IngressSettings,
    connections: Connections,
    metrics: IngressMetrics,
    *,
    patience: timedelta = REDIS_PATIENCE,
    tracing: Tracing | None = None,
) -> IngressParts:
    """Build one ingress.

    Args:
        settings: Of the process.
        connections: Open while the parts are in use.
        metrics: Where they count.
        patience: How long a call waits for Redis.
        tracing: Makes spans of what is accepted; None: nobody does.

    Raises:
        BrokenTemplatesError: A template of the settings' folder is broken.
        KeyRingError: The encryption keys can't be read.
    """
    keys = QueueKeys(settings.redis_prefix)
    scripts = QueueScripts(connections.runner, keys)
    acceptance_log = AcceptanceLog(connections.pool)
    backpressure = Backpressure(
        QueueCapacity(connections.redis, keys),
        acceptance_log,
        metrics,
        max_backlog=settings.max_backlog,
        max_redis_memory=settings.max_redis_memory,
    )
    encryption_keys = KeyRingFile(settings.encryption_keys_file)
    dispatch = RedisStreamEmailDispatchService(
        acceptance_log,
        RedisEmailStreamProducer(scripts, metrics, patience=patience),
        metrics,
        ContentComposer(
            SenderPolicy(settings.default_from, settings.allowed_from_domains),
            templates_of(settings.product, settings.templates_dir),
            encryption_keys,
        ),
        ExpiryPolicy(settings.default_expiry),
        backpressure,
        AcceptanceSpans(tracing or Tracing(), keys),
    )
    return IngressParts(
        dispatch=dispatch,
        cancellation=EmailCancellation(acceptance_log, scripts, metrics, patience=patience),
        backpressure=backpressure,
        encryption_keys=encryption_keys,
        listing=EmailListing(EmailList(connections.pool)),
        watch=EmailWatch(EventLog(connections.pool), interval=WATCH_INTERVAL),
    )
