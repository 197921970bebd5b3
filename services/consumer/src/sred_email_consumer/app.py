"""Builds the consumer and runs it until it is asked to stop."""

import os
import secrets
import socket
from contextlib import AsyncExitStack
from datetime import timedelta

import structlog
from grpc_health.v1.health import aio as grpc_health
from prometheus_client import CollectorRegistry

from sred.email.v1 import operations_service_pb2, operations_service_pb2_grpc
from sred_email_consumer.dead_letters import DeadLetterService
from sred_email_consumer.delivery import DeliverySettings, EmailDelivery
from sred_email_consumer.loops.promoter import RetryPromoter
from sred_email_consumer.loops.reclaimer import Reclaimer
from sred_email_consumer.loops.stream_consumer import EmailStreamConsumer
from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_consumer.operations import EmailOperations
from sred_email_consumer.operations_api import EmailOperationsServicer
from sred_email_consumer.resend import ApiKey, open_resend
from sred_email_consumer.retry_policy import RetryPolicy
from sred_email_consumer.retry_service import RedisEmailRetryService
from sred_email_consumer.settings import ConsumerSettings
from sred_email_core.email_send_log.dead_letters import DeadLetterLog
from sred_email_core.email_send_log.delivery import DeliveryLog
from sred_email_core.email_send_log.migrate import SchemaCheck
from sred_email_core.errors import QueueUnavailableError
from sred_email_core.grpc_server import running_grpc_server
from sred_email_core.health import Dependency, HealthWatch
from sred_email_core.http_server import build_http_app, running_http_server
from sred_email_core.lifecycle import serve, stop_on_signals
from sred_email_core.postgres import open_pool
from sred_email_core.queue.doorbell import Doorbell
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.scripts import QueueScripts
from sred_email_core.queue.stats import QueueInspector
from sred_email_core.redis_connection import open_redis

log = structlog.get_logger(__name__)

SERVICE = operations_service_pb2.DESCRIPTOR.services_by_name["EmailOperationsService"].full_name


async def run(settings: ConsumerSettings) -> None:
    """Deliver until SIGTERM or SIGINT; what is in flight finishes first.

    Raises:
        OSError: An address can't be listened on.
    """
    stop = stop_on_signals()
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"  # never used again by another start
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry)
    keys = QueueKeys(settings.redis_prefix)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(settings.postgres_dsn, max_size=10))
        redis = await stack.enter_async_context(open_redis(settings.redis_url, timeout=timedelta(seconds=5)))
        resend = await stack.enter_async_context(
            open_resend(
                settings.resend_base_url,
                ApiKey(settings.resend_api_key, settings.resend_api_key_file),
                timeout=settings.provider_timeout,
                connections=settings.consumer_slots,
            )
        )
        scripts = QueueScripts(redis, keys)
        delivery_log = DeliveryLog(pool, owner=name, lease=settings.claim_idle, horizon=settings.retry_horizon)
        letters = DeadLetterLog(pool, horizon=settings.retry_horizon)
        retries = RedisEmailRetryService(scripts, name)
        dead_letters = DeadLetterService(letters, delivery_log, scripts, metrics, name, keys)
        delivery = EmailDelivery(
            delivery_log,
            retries,
            dead_letters,
            scripts,
            resend,
            RetryPolicy(
                max_attempts=settings.max_attempts,
                base_delay=settings.retry_base_delay,
                max_delay=settings.retry_max_delay,
                probe_interval=settings.probe_interval,
            ),
            DeliverySettings(settings.claim_idle, settings.provider_timeout, settings.redirect_all_to),
            metrics,
        )
        consumer = EmailStreamConsumer(
            name,
            scripts,
            delivery,
            Doorbell(redis, keys),
            metrics,
            slots=settings.consumer_slots,
            requests_per_second=settings.resend_requests_per_second,
            claim_idle=settings.claim_idle,
            drain_timeout=settings.drain_timeout,
        )
        inspector = QueueInspector(redis, keys)
        servicer = grpc_health.HealthServicer()
        health = HealthWatch(
            [Dependency("PostgreSQL", SchemaCheck(pool)), Dependency("Redis", redis.ping)],
            grpc_health_servicer=servicer,
            grpc_service=SERVICE,
        )
        await health.run_once()
        await stack.enter_async_context(
            running_http_server(build_http_app(health, registry), settings.consumer_http_listen)
        )
        operations = EmailOperationsServicer(
            EmailOperations(inspector, letters, dead_letters),
            requests_per_second=settings.resend_requests_per_second,
        )
        await stack.enter_async_context(
            running_grpc_server(
                settings.consumer_grpc_listen,
                lambda server: operations_service_pb2_grpc.add_EmailOperationsServiceServicer_to_server(
                    operations, server
                ),
                service_names=[SERVICE],
                health=servicer,
                grace=timedelta(seconds=1),
            )
        )
        log.info("consumer_started", consumer=name, grpc=str(settings.consumer_grpc_listen))
        reclaimer = Reclaimer(name, scripts, claim_idle=settings.claim_idle)
        await serve([health, consumer, RetryPromoter(retries), reclaimer], stop)
        try:
            await scripts.leave(name)
        except QueueUnavailableError as e:
            log.warning("leave_failed", reason=str(e))
    log.info("consumer_stopped", consumer=name)
