"""Builds the consumer's parts on connections that are open."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
from redis.asyncio import Redis

from sred_email_consumer.content_reader import ContentReader
from sred_email_consumer.dead_letters import DeadLetterService
from sred_email_consumer.delivery import DeliverySettings, EmailDelivery
from sred_email_consumer.delivery_control import DeliveryControl
from sred_email_consumer.dispatch_watch import DispatchWatch
from sred_email_consumer.erasure import RecipientErasure
from sred_email_consumer.key_hold import KeyHold
from sred_email_consumer.letter_count import LetterCount
from sred_email_consumer.letter_handling import LetterHandling
from sred_email_consumer.loops.eraser import Eraser
from sred_email_consumer.loops.minute_counter import MinuteCounter
from sred_email_consumer.loops.promoter import RetryPromoter
from sred_email_consumer.loops.queue_watch import QueueWatch
from sred_email_consumer.loops.reclaimer import Reclaimer
from sred_email_consumer.loops.retention import Retention
from sred_email_consumer.loops.stream_consumer import EmailStreamConsumer
from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_consumer.operations import EmailOperations
from sred_email_consumer.overview import Overview
from sred_email_consumer.resend import ResendClient
from sred_email_consumer.retry_policy import RetryPolicy
from sred_email_consumer.retry_service import RedisEmailRetryService
from sred_email_consumer.settings import ConsumerSettings
from sred_email_consumer.settlement import Settlement
from sred_email_consumer.spans import DeliverySpans
from sred_email_consumer.suppression import RecipientScreen
from sred_email_consumer.suppression_list import SuppressionList
from sred_email_consumer.timeline import EmailTimeline
from sred_email_consumer.unsubscribe import serialize
from sred_email_consumer.weather import ProviderWeather
from sred_email_core.email_send_log.audit import AuditLog
from sred_email_core.email_send_log.dead_letters import DeadLetterLog
from sred_email_core.email_send_log.delivery import DeliveryLog
from sred_email_core.email_send_log.erasure import ErasureLog
from sred_email_core.email_send_log.events import EventLog
from sred_email_core.email_send_log.handled_letters import HandledLetterLog
from sred_email_core.email_send_log.key_use import KeyNeed
from sred_email_core.email_send_log.leases import Lease
from sred_email_core.email_send_log.minutes import MinuteLog
from sred_email_core.email_send_log.pauses import PauseLog
from sred_email_core.email_send_log.retention import RetentionLog
from sred_email_core.email_send_log.suppressions import SuppressionLog
from sred_email_core.encryption.key_ring_file import KeyRingFile
from sred_email_core.queue.dispatch_scripts import DispatchScripts
from sred_email_core.queue.doorbell import Doorbell
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.pause_copy import PauseCopy
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.scripts import QueueScripts, Wish
from sred_email_core.queue.stats import QueueInspector
from sred_email_core.queue.suppression_copy import SuppressionCopy
from sred_email_core.tracing import Tracing

_RETENTION_LEASE = timedelta(minutes=3)
"""After which another replica goes on, where the one that had begun died."""


@dataclass(frozen=True, slots=True)
class Connections:
    """What a consumer works with: the log, the queue (and its scripts' runner), the provider."""

    pool: "asyncpg.Pool[Any]"
    redis: Redis
    runner: ScriptRunner
    resend: ResendClient


@dataclass(frozen=True, slots=True)
class ConsumerParts:
    """A consumer whose loops have not been started."""

    scripts: QueueScripts
    consumer: EmailStreamConsumer
    promoter: RetryPromoter
    reclaimer: Reclaimer
    operations: EmailOperations
    control: DeliveryControl
    suppressions: SuppressionList
    timeline: EmailTimeline
    handling: LetterHandling
    erasure: RecipientErasure
    audit: AuditLog
    eraser: Eraser
    retention: Retention
    minutes: MinuteCounter
    dispatch: DispatchWatch
    watch: QueueWatch
    encryption_keys: KeyRingFile


def compose(
    name: str,
    settings: ConsumerSettings,
    connections: Connections,
    metrics: ConsumerMetrics,
    tracing: Tracing | None = None,
) -> ConsumerParts:
    """Build one consumer.

    Args:
        name: In the group; never used again by another start.
        settings: Of the process.
        connections: Open while the consumer is in use.
        metrics: Where it counts.
        tracing: Makes spans of what is sent; None: nobody does.

    Raises:
        KeyRingError: The encryption keys can't be read.
    """
    keys = QueueKeys(settings.redis_prefix)
    scripts = QueueScripts(connections.runner, keys)
    delivery_log = DeliveryLog(connections.pool, owner=name, lease=settings.claim_idle, horizon=settings.retry_horizon)
    letters = DeadLetterLog(connections.pool, horizon=settings.retry_horizon)
    retries = RedisEmailRetryService(scripts, name)
    dead_letters = DeadLetterService(letters, delivery_log, scripts, metrics, name, keys)
    policy = RetryPolicy(
        max_attempts=settings.max_attempts,
        base_delay=settings.retry_base_delay,
        max_delay=settings.retry_max_delay,
        probe_interval=settings.probe_interval,
    )
    dispatch_scripts = DispatchScripts(connections.runner, keys)
    weather = ProviderWeather(dispatch_scripts, policy, breaker_failures=settings.breaker_failures)
    encryption_keys = KeyRingFile(settings.encryption_keys_file)
    pause_log = PauseLog(connections.pool)
    minute_log = MinuteLog(connections.pool)
    pause_copy = PauseCopy(pause_log, dispatch_scripts)
    suppression_log = SuppressionLog(connections.pool)
    suppression_copy = SuppressionCopy(suppression_log, connections.runner, keys)
    inspector = QueueInspector(connections.redis, keys)
    delivery = EmailDelivery(
        delivery_log,
        retries,
        dead_letters,
        connections.resend,
        Settlement(delivery_log, retries, dead_letters, policy, weather, metrics),
        ContentReader(delivery_log, encryption_keys),
        KeyHold(encryption_keys, KeyNeed(connections.pool), weather, policy, name),
        RecipientScreen(suppression_copy),
        weather,
        DeliverySettings(
            lease=settings.claim_idle,
            attempt=settings.provider_timeout,
            redirect_to=settings.redirect_all_to,
            configured_headers=serialize(settings.unsubscribe_url) if settings.unsubscribe_url else None,
            max_deliveries=settings.max_deliveries,
        ),
        metrics,
        DeliverySpans(tracing or Tracing(), keys, name),
    )
    wish = Wish(
        slots=settings.consumer_slots,
        requests_per_second=settings.resend_requests_per_second,
        claim_idle=settings.claim_idle,
        batch_size=settings.resend_batch_size,
        low_share=settings.low_share,
        probe_interval=settings.probe_interval,
        probe_patience=settings.provider_timeout + timedelta(seconds=1),
    )
    erasure = RecipientErasure(
        ErasureLog(connections.pool, encryption_keys, horizon=settings.retry_horizon), dead_letters, scripts
    )
    return ConsumerParts(
        scripts=scripts,
        consumer=EmailStreamConsumer(
            name,
            scripts,
            delivery,
            Doorbell(connections.redis, keys),
            weather,
            pause_copy.renew,
            metrics,
            wish=wish,
            drain_timeout_s=settings.drain_timeout.total_seconds(),
        ),
        promoter=RetryPromoter(retries),
        reclaimer=Reclaimer(name, scripts, claim_idle=settings.claim_idle),
        operations=EmailOperations(
            Overview(inspector, LetterCount(letters.count), pause_log, minute_log), letters, dead_letters
        ),
        control=DeliveryControl(pause_log, pause_copy, dispatch_scripts),
        suppressions=SuppressionList(suppression_log, suppression_copy),
        timeline=EmailTimeline(EventLog(connections.pool)),
        handling=LetterHandling(
            HandledLetterLog(connections.pool, horizon=settings.retry_horizon), letters, dead_letters
        ),
        erasure=erasure,
        audit=AuditLog(connections.pool),
        eraser=Eraser(erasure),
        retention=Retention(
            RetentionLog(connections.pool),
            dead_letters,
            Lease(connections.pool, "retention", span=_RETENTION_LEASE),
            metrics,
            kept=settings.retention_days,
        ),
        minutes=MinuteCounter(minute_log),
        dispatch=DispatchWatch(inspector, metrics),
        watch=QueueWatch(inspector, metrics),
        encryption_keys=encryption_keys,
    )
