"""Builds the consumer and runs it until it is asked to stop."""

import os
import secrets
import socket
from contextlib import AsyncExitStack
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry

from sred.email.v1 import operations_service_pb2, operations_service_pb2_grpc
from sred_email_consumer.composition import Connections, compose
from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_consumer.operations_api import EmailOperationsServicer
from sred_email_consumer.resend import ApiKey, open_resend
from sred_email_consumer.scopes import SCOPES
from sred_email_consumer.settings import ConsumerSettings
from sred_email_core.access.access import Access
from sred_email_core.email_send_log.schema_check import SchemaCheck
from sred_email_core.errors import QueueUnavailableError
from sred_email_core.grpc_server import running_grpc_server
from sred_email_core.health import Dependency, HealthWatch
from sred_email_core.health_service import HealthService
from sred_email_core.http_server import build_http_app, running_http_server
from sred_email_core.lifecycle import Following, Loop, serve_and_drain, stop_on_signals
from sred_email_core.metrics import ServiceMetrics
from sred_email_core.postgres import open_pool
from sred_email_core.postgres_connection import refuse_old_server
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.permissions import CONSUMER_COMMANDS
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.redis_fitness import open_fit_redis
from sred_email_core.tracing import running_tracing

log = structlog.get_logger(__name__)

_HAND_BACK = timedelta(seconds=5)
"""After the drain, for what is handed back; what has not ended by then is broken off, which is safe anywhere."""

SERVICE = operations_service_pb2.DESCRIPTOR.services_by_name["EmailOperationsService"].full_name


async def run(settings: ConsumerSettings) -> None:
    """Deliver until SIGTERM or SIGINT; what is in flight finishes first.

    Raises:
        OSError: An address can't be listened on.
        SystemExit: Redis can't be worked with as it is.
    """
    stop = stop_on_signals()
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"  # never used again by another start
    registry = CollectorRegistry()
    structlog.contextvars.bind_contextvars(consumer=name)  # whatever happens to an email, its line says where
    metrics, service = ConsumerMetrics(registry), ServiceMetrics(registry)
    access = Access(settings, registry)
    keys = QueueKeys(settings.redis_prefix)
    async with AsyncExitStack() as stack:
        tracing = await stack.enter_async_context(
            running_tracing(
                settings, service="sred-email-consumer", instance=name, stop=stop, grace=settings.drain_timeout
            )
        )
        pool = await stack.enter_async_context(open_pool(settings.postgres_dsn, max_size=10))
        await refuse_old_server(pool)
        redis, fitness = await stack.enter_async_context(
            open_fit_redis(settings, CONSUMER_COMMANDS, timeout=timedelta(seconds=5))
        )
        resend = await stack.enter_async_context(
            open_resend(
                settings.resend_base_url,
                ApiKey(settings.resend_api_key, settings.resend_api_key_file),
                timeout=settings.provider_timeout,
                connections=settings.consumer_slots,
                limited=settings.resend_requests_per_second > 0,
                tracing=tracing,
            )
        )
        parts = compose(name, settings, Connections(pool, redis, ScriptRunner(redis, keys), resend), metrics, tracing)
        health_service = HealthService(SERVICE)
        schema = SchemaCheck(pool)
        health = HealthWatch(
            [
                Dependency("PostgreSQL", schema),
                Dependency("Redis", redis.ping),
                Dependency("Redis fitness", fitness),
                Dependency("delivery", parts.dispatch),
            ],
            tell=health_service.tell,
        )
        service.watch(pool, health, parts.encryption_keys)
        await health.run_once()
        await stack.enter_async_context(
            running_http_server(
                build_http_app(health, registry, parts.dispatch.describe), settings.consumer_http_listen
            )
        )
        operations = EmailOperationsServicer(parts, requests_per_second=settings.resend_requests_per_second)
        await stack.enter_async_context(
            running_grpc_server(
                settings.consumer_grpc_listen,
                lambda server: operations_service_pb2_grpc.add_EmailOperationsServiceServicer_to_server(
                    operations, server
                ),
                service_names=[SERVICE],
                health=health_service,
                grace=timedelta(seconds=1),
                calls=service.calls,
                access=access,
                scopes=SCOPES,
                tracing=tracing,
                require=schema.require,
            )
        )
        log.info("consumer_started", grpc=str(settings.consumer_grpc_listen))
        watching = (health, access, service.loop_lag, parts.watch, parts.encryption_keys)
        working = (parts.consumer, parts.promoter, parts.reclaimer, parts.eraser, parts.retention, parts.minutes)
        loops: list[Loop] = [*watching, *(Following(schema.complete, loop) for loop in working)]
        await serve_and_drain(loops, stop, within=settings.drain_timeout + _HAND_BACK)
        try:
            await parts.scripts.leave(name)
        except QueueUnavailableError as e:
            log.warning("leave_failed", reason=str(e))
    log.info("consumer_stopped")
