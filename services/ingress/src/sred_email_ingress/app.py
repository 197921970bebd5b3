"""Builds the ingress and runs it until it is asked to stop."""

import asyncio
import os
import socket
from contextlib import AsyncExitStack
from datetime import timedelta

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from sred.email.v1 import dispatch_service_pb2, dispatch_service_pb2_grpc
from sred_email_core.access.access import Access
from sred_email_core.email_send_log.schema_check import SchemaCheck
from sred_email_core.grpc_server import running_grpc_server
from sred_email_core.health import Dependency, HealthWatch
from sred_email_core.health_service import HealthService
from sred_email_core.http_server import build_http_app, running_http_server
from sred_email_core.lifecycle import Following, Loop, StopEvent, serve_and_drain, stop_on_signals
from sred_email_core.metrics import ServiceMetrics
from sred_email_core.postgres import open_pool
from sred_email_core.postgres_connection import refuse_old_server
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.permissions import INGRESS_COMMANDS
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.redis_fitness import open_fit_redis
from sred_email_core.tracing import running_tracing
from sred_email_ingress.api import EmailDispatchServicer
from sred_email_ingress.composition import Connections, IngressParts, compose
from sred_email_ingress.metrics import IngressMetrics
from sred_email_ingress.recovery.composition import build_reconciler
from sred_email_ingress.scopes import SCOPES
from sred_email_ingress.settings import IngressSettings
from sred_email_ingress.webhooks.composition import Webhooks, build_webhooks
from sred_email_ingress.webhooks.receiver import MAX_BODY_BYTES

log = structlog.get_logger(__name__)

_CONNECTIONS = 12
"""To PostgreSQL."""

SERVICE = dispatch_service_pb2.DESCRIPTOR.services_by_name["EmailDispatchService"].full_name


async def run(settings: IngressSettings) -> None:
    """Serve until SIGTERM or SIGINT; calls in progress finish first, unless that takes longer than the drain timeout.

    Raises:
        OSError: An address can't be listened on, or a file can't be read any more.
        SystemExit: Redis can't be worked with as it is.
    """
    stop = stop_on_signals()
    registry = CollectorRegistry()
    metrics, service = IngressMetrics(registry), ServiceMetrics(registry)
    access = Access(settings, registry)
    async with AsyncExitStack() as stack:
        tracing = await stack.enter_async_context(
            running_tracing(
                settings,
                service="sred-email-ingress",
                instance=f"{socket.gethostname()}-{os.getpid()}",
                stop=stop,
                grace=settings.drain_timeout,
            )
        )
        pool = await stack.enter_async_context(open_pool(settings.postgres_dsn, max_size=_CONNECTIONS))
        redis, fitness = await stack.enter_async_context(
            open_fit_redis(settings, INGRESS_COMMANDS, timeout=timedelta(seconds=2))
        )
        keys = QueueKeys(settings.redis_prefix)
        runner = ScriptRunner(redis, keys)
        await refuse_old_server(pool)
        parts = compose(settings, Connections(pool, redis, runner), metrics, tracing=tracing)
        stack.push_async_callback(_drain, parts, stop, settings.drain_timeout)
        reconciler = build_reconciler(
            pool,
            runner,
            keys,
            metrics,
            interval=settings.reconcile_interval,
            after=settings.reconcile_after,
            pressure=lambda: parts.backpressure.pressure_on_redis,
        )
        webhooks: Webhooks | None = None
        if settings.resend_webhook_secret:
            webhooks = build_webhooks(settings.resend_webhook_secret, pool, runner, keys, registry, tracing)
        health_service = HealthService(SERVICE)
        schema = SchemaCheck(pool)
        health = HealthWatch(
            [
                Dependency("PostgreSQL", schema),
                Dependency("Redis", redis.ping, essential=False),
                Dependency("Redis fitness", fitness),
            ],
            tell=health_service.tell,
        )
        service.watch(pool, health, parts.encryption_keys)
        await health.run_once()
        await stack.enter_async_context(
            running_http_server(_http_app(health, registry, webhooks), settings.ingress_http_listen)
        )
        await stack.enter_async_context(
            running_grpc_server(
                settings.ingress_grpc_listen,
                lambda server: dispatch_service_pb2_grpc.add_EmailDispatchServiceServicer_to_server(
                    EmailDispatchServicer(parts), server
                ),
                service_names=[SERVICE],
                health=health_service,
                grace=settings.drain_timeout,
                stop=stop,
                calls=service.calls,
                access=access,
                scopes=SCOPES,
                tracing=tracing,
                require=schema.require,
            )
        )
        log.info("ingress_started", grpc=str(settings.ingress_grpc_listen), http=str(settings.ingress_http_listen))
        loops: list[Loop] = [
            health,
            access,
            service.loop_lag,
            parts.backpressure,
            parts.encryption_keys,
            Following(schema.complete, reconciler),
            *([Following(schema.complete, webhooks.worker)] if webhooks else []),
        ]
        await serve_and_drain(loops, stop, within=settings.drain_timeout)
        log.info("ingress_stopping")
    log.info("ingress_stopped")


def _http_app(health: HealthWatch, registry: CollectorRegistry, webhooks: Webhooks | None) -> web.Application:
    app = build_http_app(health, registry, max_body_bytes=MAX_BODY_BYTES)
    if webhooks is not None:
        app.add_routes([webhooks.receiver.route])
    return app


async def _drain(parts: IngressParts, stop: StopEvent, timeout: timedelta) -> None:
    """Let what was flushed end; what does not in time is settled by the reconciler, as after a crash."""
    try:
        async with asyncio.timeout(stop.left_of(timeout).total_seconds()):
            await parts.drain()
    except TimeoutError:
        log.warning("drain_broken_off", reason="the log or the queue does not answer in time")
